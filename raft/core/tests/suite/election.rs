//! Elections: who may win one, who may vote, and what leaves a live leader alone.

use std::collections::BTreeSet;

use raft_core::{Body, HardState, Message, NodeId, Reason, Restored, RoleKind, Stamp, Status, Term};
use rand::RngExt;

use crate::cluster::{Cluster, TICK_MS, Weather, of_this_pass};
use crate::rig::*;

/// The longest election timeout of the default settings, in milliseconds.
const TIMEOUT_MS: u64 = 50 * TICK_MS;

fn votes(messages: &[Message]) -> Vec<(u64, bool, bool, Term)> {
    let reply = |message: &Message| match message.body {
        Body::RequestVoteReply { pre_vote, granted } => Some((message.to.0, pre_vote, granted, message.term)),
        _ => None,
    };
    messages.iter().filter_map(reply).collect()
}

#[test]
fn one_of_three_leads_and_the_term_stays_through_two_quiet_seconds() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.settle();
    let term = cluster.status(leader).term;
    cluster.run(2000);
    assert!(cluster.statuses().all(|status| status.term == term && status.leader == Some(leader)));
}

#[test]
fn when_the_leader_is_cut_off_another_leads_and_the_old_one_rejoins_as_a_follower() {
    let mut cluster = Cluster::new(3, 2);
    let old = cluster.settle();
    cluster.isolate(old);
    let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|leader| leader != old);
    assert!(cluster.run_until(3 * TIMEOUT_MS, replaced));
    cluster.run(TIMEOUT_MS + 100);
    assert_ne!(cluster.status(old).role, RoleKind::Leader, "it stepped down by itself");
    let (new, term) = (cluster.leader(), cluster.status(cluster.leader().unwrap()).term);
    cluster.rejoin(old);
    cluster.run(1000);
    assert_eq!((cluster.leader(), cluster.status(old).term), (new, term), "its return disturbs nobody");
    assert_eq!(cluster.status(old).role, RoleKind::Follower);
}

#[test]
fn without_a_quorum_nobody_leads_and_with_it_somebody_does() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.settle();
    let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != leader).collect();
    cluster.isolate(leader);
    cluster.isolate(others[0]);
    cluster.run(3 * TIMEOUT_MS);
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.status(others[0]).term, cluster.status(others[1]).term, "pre-votes raise no term");
    cluster.rejoin(others[0]);
    cluster.isolate(leader);
    assert!(cluster.run_until(5 * TIMEOUT_MS, |cluster| cluster.leader().is_some()));
    cluster.heal();
    cluster.settle();
}

#[test]
fn seven_servers_with_three_cut_at_random_each_round_always_have_a_leader_soon() {
    let mut cluster = Cluster::new(7, 4);
    cluster.settle();
    for round in 0..9 {
        let mut cut = BTreeSet::new();
        while cut.len() < 3 {
            cut.insert(NodeId(cluster.rng.random_range(1..=7)));
        }
        cut.iter().for_each(|id| cluster.isolate(*id));
        let led = |cluster: &Cluster| {
            let leader = cluster.leader().filter(|leader| !cut.contains(leader));
            leader.is_some_and(|leader| {
                let follows = |status: &Status| status.leader == Some(leader) && !cut.contains(&status.node);
                cluster.statuses().filter(follows).count() == 4
            })
        };
        assert!(cluster.run_until(5 * TIMEOUT_MS, led), "round {round}");
        cluster.heal();
    }
}

#[test]
fn a_cluster_of_one_elects_itself_at_the_first_tick() {
    let mut core = node_with(config(1), Restored::default());
    core.tick_election();
    assert_eq!((core.status().role, core.status().term), (RoleKind::Leader, Term(1)));
    assert_eq!(drain(&mut core), []);
    assert_eq!(core.status().commit_index.0, 1, "its no-op");
}

#[test]
fn a_pre_vote_raises_no_term_anywhere_and_is_no_vote() {
    let mut core = restarted(4, entries(4, 1..=3));
    time_out(&mut core);
    let asked = drain(&mut core);
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|message| message.term == Term(5)), "the term it would campaign in");
    assert_eq!(
        (core.status().role, core.status().term, core.status().vote),
        (RoleKind::PreCandidate, Term(4), None)
    );

    let ask = Body::RequestVote { pre_vote: true, transfer: false, last: id(4, 3) };
    core.step(to_me(2, 9, ask.clone()));
    core.step(to_me(3, 9, ask));
    assert_eq!(
        votes(&drain(&mut core)),
        [(2, true, true, Term(9)), (3, true, true, Term(9))],
        "both: it binds nobody"
    );
    assert_eq!((core.status().term, core.status().vote), (Term(4), None));
}

#[test]
fn a_partitioned_node_that_comes_back_has_raised_no_term() {
    let mut cluster = Cluster::new(5, 5);
    let leader = cluster.settle();
    let term = cluster.status(leader).term;
    let lonely = NodeId(leader.0 % 5 + 1);
    cluster.isolate(lonely);
    cluster.run(10 * TIMEOUT_MS);
    assert_eq!(cluster.status(lonely).term, term);
    cluster.heal();
    cluster.run(1000);
    assert!(cluster.statuses().all(|status| status.term == term && status.leader == Some(leader)));
}

#[test]
fn votes_are_ignored_while_a_leader_is_alive_unless_it_asked_for_the_election_itself() {
    let mut core = restarted(3, entries(3, 1..=3));
    core.step(to_me(
        2,
        3,
        Body::Heartbeat { leader_commit: raft_core::Index(0), read_context: 0, fresh: None },
    ));
    drain(&mut core);
    for pre_vote in [true, false] {
        core.step(to_me(3, 9, Body::RequestVote { pre_vote, transfer: false, last: id(8, 8) }));
        assert_eq!(votes(&drain(&mut core)), [(3, pre_vote, false, Term(3))], "refused in the own term");
        assert_eq!((core.status().term, core.status().leader), (Term(3), Some(NodeId(2))));
    }
    core.step(to_me(3, 9, Body::RequestVote { pre_vote: false, transfer: true, last: id(8, 8) }));
    assert_eq!(votes(&drain(&mut core)), [(3, false, true, Term(9))]);
}

#[test]
fn after_the_shortest_timeout_without_a_leader_votes_are_given_again() {
    let mut core = restarted(3, entries(3, 1..=3));
    core.step(to_me(
        2,
        3,
        Body::Heartbeat { leader_commit: raft_core::Index(0), read_context: 0, fresh: None },
    ));
    (0..29).for_each(|_| core.tick_election());
    core.step(to_me(3, 4, vote_request(id(3, 3))));
    assert!(!votes(&drain(&mut core))[0].2);
    core.tick_election();
    core.step(to_me(3, 4, vote_request(id(3, 3))));
    assert!(votes(&drain(&mut core)).last().unwrap().2);
}

#[test]
fn a_leader_that_hears_a_majority_only_ask_for_votes_steps_down() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core);
    drain(&mut core);
    let ask = Body::RequestVote { pre_vote: true, transfer: false, last: id(term.0, 1) };
    for _ in 0..50 {
        core.step(to_me(2, term.0 + 1, ask.clone()));
        core.step(to_me(3, term.0 + 1, ask.clone()));
        core.tick_election();
        drain(&mut core);
    }
    assert_eq!(
        core.status().role,
        RoleKind::Follower,
        "they do not hear it: it may be in the way of another"
    );
}

#[test]
fn a_leader_that_hears_no_majority_for_an_election_timeout_steps_down() {
    let mut core = restarted(1, vec![]);
    elect_and_commit(&mut core);
    for _ in 0..49 {
        core.tick_election();
    }
    assert_eq!(core.status().role, RoleKind::Leader);
    core.tick_election();
    assert_eq!((core.status().role, core.status().reason), (RoleKind::Follower, Reason::QuorumLost));
    assert_eq!(core.status().leader, None);
}

#[test]
fn one_follower_of_two_is_enough_to_stay_leader() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core);
    for _ in 0..500 {
        core.tick_election();
        core.step(to_me(3, term.0, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    }
    assert_eq!(core.status().role, RoleKind::Leader);
    let active: Vec<bool> = core.status().peers.iter().map(|peer| peer.active).collect();
    assert_eq!(active, [false, true]);
}

#[test]
fn a_later_term_in_any_message_but_a_pre_vote_makes_a_follower_of_any_role() {
    let heartbeat = Body::Heartbeat { leader_commit: raft_core::Index(0), read_context: 0, fresh: None };
    let bodies = [
        heartbeat,
        append(id(0, 0), vec![], 0),
        accepted(0),
        rejected(5, id(1, 1)),
        Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() },
        Body::RequestVoteReply { pre_vote: false, granted: false },
        Body::RequestVoteReply { pre_vote: true, granted: false },
    ];
    for body in bodies {
        for role in [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader] {
            let mut core = in_role(role);
            core.step(to_me(2, 40, body.clone()));
            assert_eq!(
                (core.status().role, core.status().term),
                (RoleKind::Follower, Term(40)),
                "{role}: {body}"
            );
            assert_eq!(core.status().vote, None);
        }
    }
    for role in [RoleKind::PreCandidate, RoleKind::Leader] {
        let mut core = in_role(role);
        let before = core.status().term;
        core.step(to_me(2, 40, Body::RequestVoteReply { pre_vote: true, granted: true }));
        core.step(to_me(2, 40, Body::RequestVote { pre_vote: true, transfer: false, last: id(0, 0) }));
        assert_eq!((core.status().role, core.status().term), (role, before));
    }
}

fn in_role(role: RoleKind) -> raft_core::RawNode {
    let mut core = restarted(1, vec![]);
    match role {
        RoleKind::Follower => {}
        RoleKind::PreCandidate => time_out(&mut core),
        RoleKind::Candidate => {
            time_out(&mut core);
            core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
        }
        RoleKind::Leader => {
            elect(&mut core);
        }
    }
    drain(&mut core);
    assert_eq!(core.status().role, role);
    core
}

#[test]
fn a_request_of_an_earlier_term_is_refused_with_the_later_one_and_its_token() {
    let mut core = restarted(5, entries(5, 1..=2));
    core.step(to_me(2, 4, vote_request(id(9, 9))));
    core.step(to_me(2, 4, append(id(4, 2), vec![], 2)));
    core.step(to_me(
        2,
        4,
        Body::Heartbeat { leader_commit: raft_core::Index(2), read_context: 8, fresh: None },
    ));
    let answers = drain(&mut core);
    assert_eq!(answers.len(), 3, "each request gets one answer");
    assert!(answers.iter().all(|answer| answer.term == Term(5) && answer.token.0 == 102));
    assert_eq!(core.status().commit_index.0, 0, "and has no effect");
    assert_eq!(core.status().leader, None);
}

#[test]
fn the_log_that_is_behind_gets_no_vote_term_first_then_length() {
    for (last, granted) in [((2, 9), false), ((3, 2), false), ((3, 3), true), ((3, 4), true), ((4, 1), true)]
    {
        let mut core = restarted(5, entries(3, 1..=3));
        core.step(to_me(2, 6, vote_request(id(last.0, last.1))));
        assert_eq!(votes(&drain(&mut core)), [(2, false, granted, Term(6))], "{last:?}");
        assert_eq!(core.status().term, Term(6), "the term is taken over either way");
    }
}

#[test]
fn one_vote_a_term_also_across_a_crash_and_only_when_it_is_durable() {
    let mut core = restarted(5, vec![]);
    core.step(to_me(2, 6, vote_request(id(0, 0))));
    let ready = core.ready();
    assert_eq!(ready.messages, [], "no vote before the disk has it");
    assert_eq!(votes(&ready.messages_after_persist), [(2, false, true, Term(6))]);
    let hard_state = ready.persist.unwrap().hard_state.unwrap();
    assert_eq!(hard_state, HardState { term: Term(6), vote: Some(NodeId(2)) });

    let mut core = node_with(config(3), Restored { hard_state, ..Restored::default() });
    core.step(to_me(3, 6, vote_request(id(5, 9))));
    core.step(to_me(2, 6, vote_request(id(0, 0))));
    assert_eq!(votes(&drain(&mut core)), [(3, false, false, Term(6)), (2, false, true, Term(6))]);
}

#[test]
fn a_refused_vote_resets_no_timer_and_a_granted_one_does() {
    let mut quiet = restarted(5, entries(3, 1..=3));
    let mut asked = restarted(5, entries(3, 1..=3));
    let mut granting = restarted(5, entries(3, 1..=3));
    for tick in 0..29 {
        for core in [&mut quiet, &mut asked, &mut granting] {
            core.tick_election();
        }
        asked.step(to_me(2, 6 + tick, vote_request(id(2, 9))));
    }
    granting.step(to_me(2, 6, vote_request(id(3, 3))));
    let ticks_left = |core: &mut raft_core::RawNode| {
        let mut ticks = 0;
        while core.status().role == RoleKind::Follower {
            core.tick_election();
            ticks += 1;
        }
        ticks
    };
    let expected = ticks_left(&mut quiet);
    assert_eq!(ticks_left(&mut asked), expected);
    assert!(ticks_left(&mut granting) >= 30);
}

#[test]
fn timeouts_are_spread_over_the_whole_range_and_rarely_collide() {
    let mut seen = BTreeSet::new();
    let mut collisions = 0;
    for seed in 0..400 {
        let mut pair = [1, 2].map(|node| {
            let config = raft_core::Config { node_id: NodeId(node), ..config(3) };
            let rng = rand::SeedableRng::seed_from_u64(of_this_pass(seed * 2 + node));
            raft_core::RawNode::new(config, Restored::default(), rng)
        });
        let ticks = pair.each_mut().map(|core| {
            (1..).find(|_| {
                core.tick_election();
                core.status().role != RoleKind::Follower
            })
        });
        let ticks = ticks.map(|ticks: Option<u32>| ticks.unwrap());
        seen.extend(ticks);
        collisions += u32::from(ticks[0] == ticks[1]);
    }
    assert_eq!(seen, (30..=50).collect(), "uniform over [min, max], both ends in it");
    assert!(collisions < 40, "1 in 21 is expected: {collisions} of 400");
}

#[test]
fn a_candidate_refused_by_a_majority_gives_up_and_one_that_hears_a_leader_follows() {
    let mut core = in_role(RoleKind::Candidate);
    core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: false, granted: false }));
    core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: false, granted: false }));
    assert_eq!(core.status().role, RoleKind::Candidate, "one voter counts once");
    core.step(to_me(3, 2, Body::RequestVoteReply { pre_vote: false, granted: false }));
    assert_eq!((core.status().role, core.status().reason), (RoleKind::Follower, Reason::ElectionLost));

    let mut core = in_role(RoleKind::Candidate);
    core.step(to_me(3, 2, append(id(0, 0), entries(2, 1..=1), 0)));
    assert_eq!((core.status().role, core.status().leader), (RoleKind::Follower, Some(NodeId(3))));
    assert_eq!(core.status().last, id(2, 1));
}

#[test]
fn who_was_only_asking_around_gives_its_vote_and_stops_asking() {
    let mut core = in_role(RoleKind::PreCandidate);
    core.step(to_me(3, 1, vote_request(id(0, 0))));
    assert_eq!(votes(&drain(&mut core)), [(3, false, true, Term(1))]);
    assert_eq!((core.status().role, core.status().vote), (RoleKind::Follower, Some(NodeId(3))));
    core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
    assert_eq!(
        (core.status().role, core.status().term),
        (RoleKind::Follower, Term(1)),
        "it does not disturb the winner"
    );
}

#[test]
fn votes_of_the_other_round_of_other_terms_and_of_strangers_do_not_count() {
    let mut core = in_role(RoleKind::PreCandidate);
    core.step(to_me(2, 1, Body::RequestVoteReply { pre_vote: false, granted: true }));
    core.step(to_me(2, 7, Body::RequestVoteReply { pre_vote: true, granted: true }));
    core.step(to_me(9, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
    assert_eq!(core.status().role, RoleKind::PreCandidate);
    core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
    assert_eq!(core.status().role, RoleKind::Candidate);
    core.step(to_me(3, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
    core.step(to_me(9, 2, Body::RequestVoteReply { pre_vote: false, granted: true }));
    assert_eq!(core.status().role, RoleKind::Candidate);
}

#[test]
fn the_first_election_takes_at_most_thirty_requests() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, seed);
        cluster.weather.heartbeat_ms = 100;
        cluster.settle();
        assert!(cluster.requests <= 30, "{} with seed {seed}", cluster.requests);
    }
}

/// The course counts requests, at its own heartbeat of 100 ms; at 25 ms the same second takes 80.
#[test]
fn an_idle_second_takes_at_most_sixty_requests_at_the_courses_heartbeat() {
    for (heartbeat_ms, most) in [(100, 20), (25, 80)] {
        let mut cluster = Cluster::new(3, 9);
        cluster.weather = Weather { heartbeat_ms, ..Weather::calm() };
        cluster.settle();
        cluster.run(200);
        cluster.requests = 0;
        cluster.run(1000);
        assert_eq!(cluster.requests, most);
    }
}

#[test]
fn who_knows_the_leader_of_its_term_votes_for_nobody_in_it_though_the_leader_is_silent() {
    let mut core = restarted(5, vec![]);
    // The shortest timeout passes, and its own, drawn anew with every message, is longer.
    let mut is_patient = || {
        core.step(to_me(2, 6, append(id(0, 0), vec![], 0)));
        (0..30).for_each(|_| core.tick_election());
        core.status().role == RoleKind::Follower
    };
    assert!((0..100).any(|_| is_patient()));
    drain(&mut core);
    core.step(to_me(3, 6, vote_request(id(5, 9))));
    let answers: Vec<Body> = drain(&mut core).into_iter().map(|message| message.body).collect();
    assert_eq!(answers, [Body::RequestVoteReply { pre_vote: false, granted: false }]);
}
