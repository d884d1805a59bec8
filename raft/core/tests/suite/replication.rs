//! Replication: entries in order, at a majority's disks before they count, and every accident of the network.

use bytes::Bytes;
use raft_core::{Body, Index, Limit, Message, NodeId, Payload, ProgressKind, ProposeError, Stamp, Term};

use crate::cluster::{Cluster, Weather};
use crate::rig::*;

fn appends(messages: &[Message]) -> Vec<(u64, u64, usize)> {
    let append = |message: &Message| match &message.body {
        Body::AppendEntries { prev, entries, .. } => Some((message.to.0, prev.index.0, entries.len())),
        _ => None,
    };
    messages.iter().filter_map(append).collect()
}

fn commands(count: usize) -> Vec<Bytes> {
    vec![Bytes::from_static(b"x"); count]
}

fn command(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

#[test]
fn ten_commands_commit_in_order_at_the_indexes_given_with_at_most_forty_two_requests() {
    let mut cluster = Cluster::new(3, 1);
    cluster.weather.heartbeat_ms = 100;
    let leader = cluster.settle();
    cluster.run(200);
    cluster.requests = 0;
    for number in 0..10 {
        let id = cluster.put(leader, &format!("{number}"));
        assert_eq!(id.index, Index(2 + number));
        assert!(cluster.run_until(100, |cluster| cluster.status(leader).applied_index == id.index));
    }
    assert!(cluster.requests <= 42, "{}", cluster.requests);
    cluster.wait_applied(Index(11));
}

#[test]
fn ten_large_commands_cross_the_network_once_for_each_server() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.settle();
    cluster.bytes = 0;
    for _ in 0..10 {
        let last = cluster.put(leader, &"x".repeat(5000)).index;
        cluster.wait_applied(last);
    }
    assert!(cluster.bytes <= 3 * 50_000 + 50_000, "{}", cluster.bytes);
    assert!(cluster.bytes <= 2 * 50_000 + 15_000, "two followers, once each: {}", cluster.bytes);
}

#[test]
fn with_a_follower_down_agreement_goes_on_and_with_two_down_nothing_commits() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.settle();
    let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != leader).collect();
    cluster.crash(others[0]);
    let one_down = cluster.put(leader, "one down").index;
    cluster.wait_applied(one_down);
    cluster.crash(others[1]);
    cluster.put(leader, "two down");
    cluster.run(2000);
    assert_eq!(cluster.status(leader).commit_index, one_down);
    others.iter().for_each(|id| cluster.start(*id));
    let leader = cluster.settle();
    let last = cluster.put(leader, "back").index;
    cluster.wait_applied(last);
}

#[test]
fn a_cut_leaders_uncommitted_entries_are_overwritten_when_it_returns() {
    let mut cluster = Cluster::new(5, 4);
    let old = cluster.settle();
    cluster.isolate(old);
    for number in 0..50 {
        cluster.put(old, &format!("lost {number}"));
    }
    cluster.run(1500);
    let new = cluster.leader().expect("the majority has one");
    for number in 0..50 {
        cluster.put(new, &format!("kept {number}"));
    }
    let last = cluster.put(new, "the last").index;
    cluster.run(200);
    cluster.trace = Some(Vec::new());
    cluster.heal();
    cluster.wait_applied(last);
    cluster.check_log_matching();
    let sent = cluster.trace.take().unwrap();
    let appends = appends(&sent).into_iter().filter(|(to, ..)| *to == old.0).count();
    assert!(appends <= 4, "not one by one: {appends}");
}

/// Both logs conflict over fifty entries; a refusal skips a whole term, so a handful of messages finds the place.
#[test]
fn fifty_conflicting_entries_are_backed_out_in_a_handful_of_messages() {
    let common = entries(1, 1..=10);
    let cases = [(vec![2; 50], 59), ((2..52).collect::<Vec<u64>>(), 59), ((4..54).collect(), 3)];
    for (follower_terms, leader_term) in cases {
        let theirs = follower_terms.iter().zip(11..).map(|(term, index)| entry(*term, index));
        let mut follower = restarted(60, common.iter().cloned().chain(theirs).collect());
        let mut leader = restarted(60, common.iter().cloned().chain(entries(leader_term, 11..=60)).collect());
        elect(&mut leader);
        let mut exchanged = 0;
        let mut from_leader = drain(&mut leader);
        while follower.status().last != leader.status().last {
            from_leader.retain(|message| message.to == NodeId(2));
            assert_eq!(from_leader.len(), 1, "one probe at a time");
            let probe = from_leader.pop().unwrap();
            follower.step(Message { to: ME, from: NodeId(2), ..probe });
            for answer in drain(&mut follower) {
                leader.step(Message { to: ME, from: NodeId(2), ..answer });
            }
            from_leader = drain(&mut leader);
            exchanged += 1;
            assert!(exchanged <= 4, "a handful");
        }
        for index in 1..=60 {
            assert_eq!(follower.term_at(Index(index)), leader.term_at(Index(index)));
        }
    }
}

#[test]
fn an_entry_of_an_earlier_term_commits_only_under_one_of_the_leaders_own() {
    let mut core = restarted(2, entries(2, 1..=3));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, accepted(3)));
    core.step(to_me(3, term, accepted(3)));
    assert_eq!(core.status().commit_index, Index(0), "a majority has 3, but it is of term 2");
    core.step(to_me(3, term, accepted(4)));
    assert_eq!(core.status().commit_index, Index(4));
    assert_eq!(core.ready().committed.len(), 4);
}

#[test]
fn a_new_leader_begins_with_a_no_op_that_goes_to_everyone_at_once() {
    let mut core = restarted(2, entries(2, 1..=3));
    let term = elect(&mut core);
    let ready = core.ready();
    let persist = ready.persist.unwrap();
    assert_eq!(persist.entries.len(), 1);
    assert_eq!((persist.entries[0].term, &persist.entries[0].payload), (term, &Payload::Noop));
    assert_eq!(appends(&ready.messages), [(2, 3, 1), (3, 3, 1)]);
}

#[test]
fn a_turn_of_many_proposals_is_one_append_to_each_peer() {
    let mut core = restarted(1, vec![]);
    elect_and_commit(&mut core);
    for batch in 0..100 {
        let proposed = core.propose(commands(3)).unwrap();
        assert_eq!((proposed.first, proposed.count), (Index(2 + 3 * batch), 3));
    }
    let ready = core.ready();
    assert_eq!(appends(&ready.messages), [(2, 1, 300), (3, 1, 300)]);
    assert_eq!(ready.persist.unwrap().entries.len(), 300);
    assert!(!core.has_ready());
}

#[test]
fn what_is_more_than_a_message_holds_goes_in_several_and_the_window_bounds_them() {
    let mut config = config(3);
    config.append_bytes_max = 400;
    config.inflight_messages_max = 3;
    let mut core = node_with(config, raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    let weight = 136 + raft_core::ENTRY_OVERHEAD_BYTES;
    assert_eq!(weight, 200);
    core.propose(vec![Bytes::from(vec![0; 136]); 20]).unwrap();
    let sent = appends(&drain(&mut core));
    assert_eq!(
        sent[..3],
        [(2, 1, 2), (2, 3, 2), (2, 5, 2)],
        "three messages of two entries, then the window is full"
    );
    assert_eq!(core.status().peers[0].inflight_bytes, 1200);
    core.step(to_me(2, term, accepted(5)));
    assert_eq!(appends(&drain(&mut core)), [(2, 7, 2), (2, 9, 2)], "two were answered, two more fly");
}

#[test]
fn the_bytes_in_flight_are_bounded() {
    let mut config = config(3);
    config.append_bytes_max = 200;
    config.inflight_bytes_max = 500;
    let mut core = node_with(config, raft_core::Restored::default());
    elect_and_commit(&mut core);
    core.propose(vec![Bytes::from(vec![0; 136]); 20]).unwrap();
    assert_eq!(appends(&drain(&mut core)).len(), 6, "three of 200 bytes for each: the third passes 500");
}

#[test]
fn a_lost_append_falls_back_to_probing_and_resumes_without_a_storm() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    for _ in 0..10 {
        core.propose(command("x")).unwrap();
        drain(&mut core);
    }
    // The first of ten was lost: the nine behind it are refused, all with the same hint.
    for prev_index in 2..=10 {
        core.step(to_me(2, term, rejected(prev_index, id(term, 1))));
    }
    assert_eq!(appends(&drain(&mut core)), [(2, 1, 10)], "one message repairs it");
    assert_eq!(core.status().peers[0].progress, ProgressKind::Probe);
    core.step(to_me(2, term, accepted(11)));
    core.propose(command("y")).unwrap();
    assert_eq!(appends(&drain(&mut core)).iter().filter(|sent| sent.0 == 2).count(), 1);
    assert_eq!(core.status().peers[0].progress, ProgressKind::Replicate);
}

#[test]
fn one_refusal_goes_straight_to_where_the_follower_says_the_logs_meet() {
    let mut core = restarted(1, entries(1, 1..=50));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(50, id(1, 20))));
    assert_eq!(appends(&drain(&mut core)), [(2, 20, 31)]);
    core.step(to_me(2, term, rejected(50, id(1, 10))));
    assert_eq!(appends(&drain(&mut core)), [], "a doubled answer to the probe before");
}

#[test]
fn a_message_no_working_node_sends_is_ignored() {
    let mut core = restarted(2, entries(1, 1..=3));
    core.step(to_me(2, 2, append(id(1, 3), entries(1, 5..=6), 0)));
    core.step(to_me(2, 2, append(id(1, 3), entries(9, 4..=4), 0)));
    core.step(to_me(2, 2, append(id(9, 3), vec![], 0)));
    assert!(!core.has_ready());
    core.step(to_me(2, 2, Body::Heartbeat { leader_commit: Index(99), read_context: 0, fresh: None }));
    assert_eq!(core.status().commit_index, Index(3), "never beyond the log");
    core.step(to_me(2, 2, append(id(1, u64::MAX), vec![], 0)));
    let term = elect(&mut core).0;
    core.step(to_me(2, term, rejected(u64::MAX, id(1, u64::MAX))));
}

#[test]
fn a_lost_last_append_is_noticed_by_the_heartbeats_after_it() {
    let mut cluster = Cluster::new(3, 5);
    let leader = cluster.settle();
    cluster.run(200);
    let other = NodeId(leader.0 % 3 + 1);
    cluster.cut_way(leader, other);
    let last = cluster.put(leader, "lost on its way").index;
    cluster.run(2);
    cluster.heal();
    let arrives = |cluster: &Cluster| cluster.status(other).last.index == last;
    assert!(cluster.run_until(110, arrives), "within three or four heartbeats of 25 ms");
}

#[test]
fn duplicated_reordered_and_stale_answers_change_nothing() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(commands(5)).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, accepted(6)));
    let settled = (core.status().peers, core.status().commit_index);
    drain(&mut core);
    for body in [accepted(6), accepted(3), rejected(3, id(1, 1)), rejected(6, id(0, 0)), accepted(99)] {
        core.step(to_me(2, term, body));
        core.step(to_me(2, term - 1, accepted(6)));
        assert_eq!((core.status().peers, core.status().commit_index), settled);
        assert!(!core.has_ready());
    }
}

#[test]
fn a_stale_append_cuts_nothing_off() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=8), 0)));
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=3), 0)));
    core.step(to_me(2, 1, append(id(1, 2), vec![], 0)));
    assert_eq!(core.status().last, id(1, 8));
    let answers: Vec<Body> = drain(&mut core).into_iter().map(|message| message.body).collect();
    assert_eq!(answers, [accepted(8), accepted(3), accepted(2)], "each says what it proves, no more");
}

#[test]
fn the_commit_index_never_passes_what_the_message_proves() {
    let mut core = restarted(1, entries(1, 1..=5));
    core.step(to_me(2, 2, append(id(1, 1), entries(1, 2..=3), 9)));
    assert_eq!(core.status().commit_index, Index(3), "entries 4 and 5 may still be replaced");
    core.step(to_me(2, 2, append(id(1, 3), entries(2, 4..=4), 9)));
    assert_eq!((core.status().commit_index, core.status().last), (Index(4), id(2, 4)));
}

#[test]
fn entries_at_or_below_the_commit_index_are_skipped_not_compared() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=5), 4)));
    drain(&mut core);
    core.step(to_me(2, 1, append(id(1, 1), entries(1, 2..=7), 4)));
    core.step(to_me(2, 1, append(id(1, 1), entries(1, 2..=3), 4)));
    let answers: Vec<Body> = drain(&mut core).into_iter().map(|message| message.body).collect();
    assert_eq!(answers, [accepted(7), accepted(4)]);
}

#[test]
fn a_follower_that_was_away_catches_up_without_waiting_for_a_client() {
    let mut cluster = Cluster::new(3, 6);
    let leader = cluster.settle();
    let away = NodeId(leader.0 % 3 + 1);
    cluster.crash(away);
    for number in 0..500 {
        cluster.put(leader, &format!("{number}"));
    }
    cluster.run(1000);
    cluster.start(away);
    assert!(cluster.run_until(300, |cluster| cluster.status(away).applied_index == Index(501)));
}

#[test]
fn an_unreachable_peer_is_probed_once_it_answers_again() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(command("x")).unwrap();
    drain(&mut core);
    core.unreachable(NodeId(2));
    core.propose(command("y")).unwrap();
    assert!(appends(&drain(&mut core)).iter().all(|sent| sent.0 == 3), "nothing is thrown at it meanwhile");
    core.tick_heartbeat();
    drain(&mut core);
    core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    assert_eq!(appends(&drain(&mut core)), [(2, 1, 0)]);
    core.step(to_me(2, term, accepted(1)));
    assert_eq!(appends(&drain(&mut core)), [(2, 1, 2)]);
}

#[test]
fn each_bound_turns_a_whole_batch_away_and_says_which_it_was() {
    let busy = |limit| Err(ProposeError::Busy { limit });
    let mut config = config(3);
    config.uncommitted_bytes_max = 1000;
    let mut core = node_with(config.clone(), raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from(vec![0; 5000])]).expect("alone, even a larger one passes");
    drain(&mut core);
    assert_eq!(core.propose(commands(2)), busy(Limit::UncommittedBytes));
    assert_eq!(core.status().last, id(term, 2), "nothing of it was appended");
    core.step(to_me(2, term, accepted(2)));
    assert!(core.propose(command("x")).is_ok());

    config.uncommitted_bytes_max = 1 << 30;
    config.unpersisted_bytes_max = 1000;
    let mut core = node_with(config.clone(), raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from(vec![0; 900])]).unwrap();
    let _ = core.ready();
    for peer in [2, 3] {
        core.step(to_me(peer, term, accepted(2)));
    }
    assert_eq!(core.status().commit_index, Index(2));
    assert_eq!(
        core.propose(command("x")),
        busy(Limit::UnpersistedBytes),
        "the others have it, the own disk stalls"
    );

    config.unpersisted_bytes_max = 1 << 30;
    config.unapplied_bytes_max = 1000;
    let mut core = node_with(config.clone(), raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from(vec![0; 1900])]).unwrap();
    let ready = core.ready();
    persist(&mut core, ready);
    core.step(to_me(2, term, accepted(2)));
    assert_eq!(core.propose(command("x")), busy(Limit::UnappliedBytes));
    assert_eq!(core.ready().committed.len(), 1);
    core.applied(Index(2));
    assert!(core.propose(command("x")).is_ok());

    config.unapplied_bytes_max = 1 << 30;
    (config.log_bytes_max, config.trailing_bytes_max) = (1000, 500);
    let mut core = node_with(config, raft_core::Restored::default());
    elect_and_commit(&mut core);
    assert_eq!(core.propose(commands(20)), busy(Limit::LogBytes));
}

#[test]
fn who_does_not_lead_turns_proposals_and_reads_away_with_a_hint() {
    let mut core = restarted(1, vec![]);
    assert_eq!(core.propose(command("x")), Err(ProposeError::NotLeader { leader: None }));
    core.step(to_me(3, 1, append(id(0, 0), vec![], 0)));
    let hint = Some(NodeId(3));
    assert_eq!(core.propose(command("x")), Err(ProposeError::NotLeader { leader: hint }));
    assert_eq!(core.read_index(1), Err(raft_core::ReadError::NotLeader { leader: hint }));
}

#[test]
fn pipelined_appends_survive_a_bad_network() {
    let mut cluster = Cluster::with_config(3, 7, |config| config.inflight_messages_max = 4);
    cluster.settle();
    cluster.weather = Weather { lost_percent: 20, doubled_percent: 20, delay_ms_max: 40, ..Weather::calm() };
    let mut last = Index(0);
    for number in 0..300 {
        if let Some(leader) = cluster.leader() {
            last = cluster.put(leader, &format!("{number}")).index.max(last);
        }
        cluster.run(5);
    }
    cluster.weather = Weather::calm();
    let leader = cluster.settle();
    let last = cluster.put(leader, "last").index;
    cluster.wait_applied(last);
    assert!(cluster.promises.history.len() > 100 && cluster.status(leader).term >= Term(1));
}

#[test]
fn a_refusal_that_points_at_the_refused_place_itself_still_moves_the_probe_back() {
    let mut core = restarted(1, entries(1, 1..=9));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(9, id(1, 9))));
    let probes = drain(&mut core).into_iter().map(|message| match message.body {
        Body::AppendEntries { prev, .. } => prev,
        other => panic!("{other}"),
    });
    assert_eq!(probes.collect::<Vec<_>>(), [id(1, 8)], "and not the same question again for ever");
}
