//! How the machine finds the leader, and how gently: hints, elections, dead and silent nodes, on a virtual clock.

mod world;

use std::time::Duration;

use clerk::{Answer, ClerkConfig, ClerkError, Consistency, Operation, Refusal, Request, Verdict};
use world::{World, broken_connection, get, lead, ms, not_leader, put, refused_connection};

const HOP: Duration = Duration::from_micros(200);

#[test]
fn a_write_opens_a_session_follows_the_hint_and_stays_with_the_leader() {
    let mut world = World::new(|sent| {
        Some((HOP, if sent.node == "c:3" { lead(&sent.request, 5) } else { not_leader(Some("c:3")) }))
    });
    world.start(1, put("x"));
    world.run();
    assert_eq!(world.end_of(1).result, Ok(Answer::Written { version: 8 }));
    assert_eq!(world.end_of(1).at, HOP * 3, "refusal, session, write: no wait in between");
    world.start(2, get("x"));
    world.run();
    assert_eq!(world.sent.len(), 4, "the next operation goes straight to the leader");
    assert!(matches!(world.end_of(2).result, Ok(Answer::Value { version: 7, .. })));
}

#[test]
fn after_the_leader_dies_the_next_one_is_found_within_20_ms_of_its_election() {
    let (death, election) = (ms(10), ms(410));
    let mut world = World::new(move |sent| {
        let verdict = match sent.node.as_str() {
            "a:1" if sent.at < death => lead(&sent.request, 5),
            "a:1" => refused_connection(),
            "b:2" if sent.at >= election => lead(&sent.request, 5),
            // Followers go on naming the dead leader until the election.
            _ => not_leader(Some(if sent.at >= election { "b:2" } else { "a:1" })),
        };
        Some((HOP, verdict))
    });
    world.start(0, put("x"));
    world.run_until(ms(9));
    for operation in 1..=100 {
        world.start_at(ms(10), operation, put("x"));
    }
    world.run();
    for operation in 1..=100 {
        let end = world.end_of(operation);
        assert_eq!(end.result, Ok(Answer::Written { version: 8 }));
        assert!(end.at <= election + ms(21), "operation {operation} ended only at {:?}", end.at);
    }
    let searching = world.sent.iter().filter(|sent| sent.at >= death && sent.at < election).count();
    assert!(searching < 500, "one scout looks for all hundred: {searching} attempts");
}

#[test]
fn a_clerk_without_a_limit_of_its_own_for_attempts_goes_on_when_a_server_gives_one_up() {
    let unlimited = Duration::MAX;
    let config = ClerkConfig {
        attempt_timeout: unlimited,
        silent_node_pause: unlimited,
        broken_node_pause: unlimited,
        ..ClerkConfig::default()
    };
    let mut world = World::with(config, &["a:1", "b:2", "c:3"], |sent| {
        let verdict = match sent.node.as_str() {
            "a:1" => Verdict::NoReply { may_have_run: true },
            "b:2" => refused_connection(),
            _ => lead(&sent.request, 5),
        };
        Some((HOP, verdict))
    });
    for operation in 1..=3 {
        world.start(operation, if operation == 2 { put("x") } else { get("x") });
        world.run();
        assert!(world.end_of(operation).result.is_ok());
    }
}

#[test]
fn no_hot_spin_while_nobody_leads() {
    let mut world = World::new(|_| Some((Duration::from_micros(50), not_leader(None))));
    world.start(1, get("x"));
    world.run();
    let end = world.end_of(1);
    let Err(ClerkError::Timeout { may_have_run: false, last, timeout_ms: 5000 }) = &end.result else {
        panic!("{end:?}");
    };
    assert!(last.ends_with("does not lead and knows no leader"), "{last}");
    assert!(end.at > ms(4998) && end.at <= ms(5000), "{:?}", end.at);
    assert!(world.timers_max <= 2, "timers do not pile up: {}", world.timers_max);
    for second in 0..5 {
        let in_second = world.sent.iter().filter(|sent| sent.at.as_secs() == second).count();
        assert!((20..=120).contains(&in_second), "{in_second} attempts in second {second}");
    }
}

#[test]
fn hints_that_point_in_a_circle_do_not_make_it_spin() {
    let mut world = World::new(|sent| {
        let next = match sent.node.as_str() {
            "a:1" => "b:2",
            "b:2" => "c:3",
            _ => "a:1",
        };
        Some((Duration::from_micros(50), not_leader(Some(next))))
    });
    world.start(1, get("x"));
    world.run();
    assert!(matches!(world.end_of(1).result, Err(ClerkError::Timeout { .. })));
    for second in 0..5 {
        let in_second = world.sent.iter().filter(|sent| sent.at.as_secs() == second).count();
        assert!(
            in_second <= 400,
            "{in_second} attempts in second {second}: four for each wait of 10 ms or more"
        );
    }
}

#[test]
fn a_cluster_that_is_away_is_asked_softly_and_the_error_names_it() {
    let mut world = World::new(|_| Some((Duration::from_micros(50), refused_connection())));
    world.start(1, put("x"));
    world.start(2, get("x"));
    world.run();
    for operation in [1, 2] {
        let Err(error @ ClerkError::Unavailable { .. }) = &world.end_of(operation).result else {
            panic!("{:?}", world.end_of(operation));
        };
        let text = error.to_string();
        assert!(text.starts_with("no node of a:1,b:2,c:3 answered within 5000 ms: "), "{text}");
        assert!(text.ends_with("connection refused"), "{text}");
    }
    assert!(world.sent.len() < 300, "{} attempts in five seconds", world.sent.len());
    assert_eq!(world.machine.pending(), 0);
}

#[test]
fn a_silent_leader_is_left_for_another_node_with_the_same_seq() {
    // The leader a:1 is paused at 10 ms; b:2 names it until its own election at 400 ms.
    let mut world = World::new(|sent| {
        let verdict = match sent.node.as_str() {
            "a:1" if sent.at >= ms(10) => return None,
            "a:1" => lead(&sent.request, 5),
            "b:2" if sent.at >= ms(400) => lead(&sent.request, 6),
            _ => not_leader(Some("a:1")),
        };
        Some((HOP, verdict))
    });
    world.start(1, put("x"));
    world.run_until(ms(10));
    world.start(2, put("x"));
    world.run();
    let end = world.end_of(2);
    assert_eq!(end.result, Ok(Answer::Written { version: 8 }));
    assert!(end.at <= ms(1015), "one attempt's time, then the next node: {:?}", end.at);
    let stamps = world.stamps();
    let (first, last) = (stamps[1], stamps[stamps.len() - 1]);
    assert_eq!((first.client_id, first.seq), (last.client_id, last.seq));
}

#[test]
fn a_silent_cluster_is_not_flooded_with_repeats() {
    let mut world = World::new(|_| None);
    world.start(1, get("x"));
    world.run();
    assert!(world.sent.len() <= 5, "attempts get longer: {}", world.sent.len());
    let Err(ClerkError::Timeout { last, .. }) = &world.end_of(1).result else {
        panic!("{:?}", world.end_of(1));
    };
    assert!(last.ends_with("did not reply in time"), "{last}");
}

#[test]
fn a_busy_leader_is_asked_again_after_growing_waits_and_no_other_node_is() {
    let mut world = World::new(|sent| {
        let busy = Verdict::Busy { may_have_run: false, text: "too much uncommitted".to_string() };
        Some((HOP, if sent.at < ms(1000) { busy } else { lead(&sent.request, 5) }))
    });
    world.start(1, get("x"));
    world.run();
    assert!(world.end_of(1).result.is_ok());
    assert!(world.sent.iter().all(|sent| sent.node == "a:1"));
    assert!(world.sent.len() <= 40, "{} attempts in a second", world.sent.len());
}

#[test]
fn a_single_node_that_restarts_is_found_again() {
    let config = ClerkConfig::default();
    let mut world = World::with(config, &["a:1"], |sent| {
        let verdict = match sent.at {
            at if at < ms(10) => lead(&sent.request, 5),
            at if at == ms(10) => broken_connection(),
            at if at < ms(2000) => refused_connection(),
            _ => lead(&sent.request, 5),
        };
        Some((HOP, verdict))
    });
    world.start(1, put("x"));
    world.start_at(ms(10), 2, put("x"));
    world.run();
    assert!(world.end_of(2).result.is_ok());
    assert!(world.end_of(2).at < ms(2102), "{:?}", world.end_of(2).at);
}

#[test]
fn the_scouts_own_end_makes_the_next_in_line_look() {
    let config = ClerkConfig { operation_timeout: ms(1000), ..ClerkConfig::default() };
    let mut world = World::with(config, &["a:1", "b:2"], |sent| {
        let verdict = if sent.at < ms(1500) { not_leader(None) } else { lead(&sent.request, 5) };
        Some((HOP, verdict))
    });
    world.start(1, get("x"));
    world.start_at(ms(800), 2, get("x"));
    world.start_at(ms(900), 3, put("y"));
    world.run();
    assert!(matches!(world.end_of(1).result, Err(ClerkError::Timeout { .. })));
    assert!(world.end_of(2).result.is_ok() && world.end_of(3).result.is_ok());
    assert!(world.end_of(3).at < ms(1525), "{:?}", world.end_of(3).at);
    assert!(world.sent.iter().any(|sent| sent.request == Request::OpenSession));
}

/// A leader that needs 700 ms for everything, longer than a first attempt may take.
#[test]
fn a_leader_that_is_slower_than_an_attempt_opens_sessions_too() {
    let config = ClerkConfig { operation_timeout: ms(15_000), ..ClerkConfig::default() };
    let mut world = World::with(config, &["a:1", "b:2", "c:3"], |sent| match sent.node.as_str() {
        "a:1" => Some((ms(700), lead(&sent.request, 5))),
        _ => Some((HOP, not_leader(Some("a:1")))),
    });
    for operation in 0..20 {
        world.start(operation, if operation % 2 == 0 { put("x") } else { get("x") });
    }
    world.run();
    for operation in 0..20 {
        assert!(world.end_of(operation).result.is_ok(), "{:?}", world.end_of(operation));
    }
}

/// The leader a:1 falls silent with fifty writes under way, and c:3 is silent, too; b:2 leads from 500 ms on.
#[test]
fn who_looks_for_others_leaves_a_silent_node_as_soon_as_a_first_attempt_would() {
    let mut world = World::new(|sent| {
        let verdict = match sent.node.as_str() {
            "a:1" if sent.at < ms(10) => lead(&sent.request, 5),
            "b:2" if sent.at >= ms(500) => lead(&sent.request, 5),
            "b:2" => not_leader(Some("a:1")),
            _ => return None,
        };
        Some((HOP, verdict))
    });
    world.start(0, put("x"));
    for operation in 1..=50 {
        world.start_at(ms(10), operation, put("x"));
    }
    world.run();
    let last = (1..=50).map(|operation| world.end_of(operation).at).max().unwrap();
    // In vain an attempt at the old leader, one at the other silent node, and one more at the old leader.
    assert!(last <= ms(10 + 3 * 400 + 30), "{last:?}");
}

fn get_with(consistency: Consistency) -> Operation {
    Operation::Get { key: "x".into(), consistency }
}

fn nodes_asked(world: &World) -> Vec<&str> {
    world.sent.iter().map(|sent| sent.node.as_str()).collect()
}

#[test]
fn gets_that_any_node_may_serve_go_to_all_in_turn_and_say_nothing_about_who_leads() {
    let mut world = World::new(|sent| Some((HOP, lead(&sent.request, 5))));
    let leader = world.machine.current_node();
    for operation in 0..6 {
        world.start(operation, get_with(Consistency::Follower));
        world.run();
    }
    let mut asked = nodes_asked(&world);
    assert_eq!(asked[..3], asked[3..], "each in its turn");
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, ["a:1", "b:2", "c:3"]);
    assert_eq!(world.machine.current_node(), leader);
}

#[test]
fn a_node_that_cannot_say_what_a_get_must_see_is_left_out_for_a_while() {
    // b:2 hears its leader and is not heard until 350 ms.
    let mut world = World::new(|sent| {
        let is_mute = sent.node == "b:2" && sent.at < ms(350);
        Some((HOP, if is_mute { not_leader(Some("a:1")) } else { lead(&sent.request, 5) }))
    });
    for operation in 0..500_u32 {
        world.start_at(ms(operation.into()), operation, get_with(Consistency::Follower));
    }
    world.run();
    for operation in 0..500_u32 {
        let end = world.end_of(operation);
        assert!(end.result.is_ok() && end.at <= ms(operation.into()) + 2 * HOP, "{end:?}");
    }
    let asked = |from, to| {
        let of_mute = world.sent.iter().filter(|sent| sent.node == "b:2");
        of_mute.filter(|sent| (ms(from)..ms(to)).contains(&sent.at)).count()
    };
    assert_eq!((asked(0, 3), asked(3, 100)), (1, 0), "one try");
    assert!((3..=4).contains(&asked(0, 350)), "one in 100 ms: {}", asked(0, 350));
    assert!(asked(450, 500) >= 15, "in its turn again: {}", asked(450, 500));
}

#[test]
fn a_silent_node_costs_gets_that_others_may_serve_a_tenth_of_their_time() {
    let mut world = World::new(|sent| (sent.node != "b:2").then(|| (ms(10), lead(&sent.request, 5))));
    for operation in 0.. {
        world.start(operation, get_with(Consistency::Follower));
        world.run();
        let end = world.end_of(operation);
        assert!(end.result.is_ok(), "{end:?}");
        if end.at > ms(20_000) {
            break;
        }
    }
    let silent = world.sent.iter().filter(|sent| sent.node == "b:2").count();
    assert!((4..=5).contains(&silent), "{silent} attempts of 400 ms in 20 s");
}

#[test]
fn a_get_that_all_nodes_are_too_old_for_ends_at_once_with_what_the_last_one_said() {
    let text = "what this node has may be 900 ms old, 100 ms are allowed";
    let mut world = World::new(move |_| Some((HOP, Verdict::TooStale { text: text.to_owned() })));
    world.start(1, get_with(Consistency::Stale { max_age: Some(ms(100)) }));
    world.run();
    assert_eq!(world.sent.len(), 3, "each node is asked once");
    let Err(ClerkError::Refused { reason: Refusal::TooStale, text: said, .. }) = &world.end_of(1).result
    else {
        panic!("{:?}", world.end_of(1))
    };
    assert!(said.ends_with(text), "{said}");
}

#[test]
fn a_get_for_any_node_is_served_though_nobody_can_say_who_leads_for_a_while() {
    let mut world = World::new(|sent| {
        let verdict = if sent.at < ms(200) { not_leader(None) } else { lead(&sent.request, 5) };
        Some((HOP, verdict))
    });
    // A scout that others wait for does not hold it up, nor does it look for a leader itself.
    world.start(1, get("x"));
    world.start(2, get_with(Consistency::Follower));
    world.run();
    let end = world.end_of(2);
    assert!(end.result.is_ok() && end.at < ms(230), "{end:?}");
    assert!(world.sent.len() < 200, "it waits between its rounds: {}", world.sent.len());
}
