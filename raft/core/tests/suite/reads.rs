//! ReadIndex: what a linearizable read must wait for, and that each read ends once.

use raft_core::{
    Body, Index, Limit, Message, NodeId, ReadError, ReadOutcome, ReadState, RoleKind, Stamp, Term,
};

use crate::cluster::Cluster;
use crate::rig::*;

fn rounds(messages: &[Message]) -> Vec<(u64, u64)> {
    let round = |message: &Message| match message.body {
        Body::Heartbeat { read_context, .. } => Some((message.to.0, read_context)),
        _ => None,
    };
    messages.iter().filter_map(round).collect()
}

fn confirmed(context: u64, index: u64) -> ReadState {
    ReadState { context, outcome: ReadOutcome::Confirmed(Index(index)) }
}

fn answer(round: u64) -> Body {
    Body::HeartbeatReply { read_context: round, stamp: Stamp::default() }
}

#[test]
fn reads_of_one_turn_share_one_round_and_are_confirmed_by_a_majority() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    for context in [11, 12, 13] {
        core.read_index(context).unwrap();
    }
    let ready = core.ready();
    assert_eq!(rounds(&ready.messages), [(2, 1), (3, 1)]);
    assert_eq!(ready.read_states, []);
    assert_eq!(ready.persist, None, "no log entry, no write");
    core.step(to_me(3, term, answer(1)));
    assert_eq!(core.ready().read_states, [confirmed(11, 1), confirmed(12, 1), confirmed(13, 1)]);
    core.step(to_me(2, term, answer(1)));
    assert!(!core.has_ready(), "each read ends once");
}

#[test]
fn a_round_begun_before_a_read_arrived_proves_nothing_for_it() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.read_index(1).unwrap();
    drain(&mut core);
    core.read_index(2).unwrap();
    core.read_index(3).unwrap();
    assert_eq!(rounds(&drain(&mut core)), [], "one round flies at a time");
    core.step(to_me(2, term, answer(1)));
    let ready = core.ready();
    assert_eq!(ready.read_states, [confirmed(1, 1)]);
    assert_eq!(
        rounds(&ready.messages),
        [(2, 2), (3, 2)],
        "the next begins the moment the first is confirmed"
    );
    core.step(to_me(3, term, answer(1)));
    assert!(!core.has_ready(), "a late answer to the first round");
    core.step(to_me(3, term, answer(2)));
    assert_eq!(core.ready().read_states, [confirmed(2, 1), confirmed(3, 1)]);
}

#[test]
fn a_heartbeat_sent_before_the_round_does_not_count_for_it() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.tick_heartbeat();
    drain(&mut core);
    core.read_index(1).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, answer(0)));
    core.step(to_me(3, term, answer(0)));
    assert!(!core.has_ready());
}

#[test]
fn one_follower_of_four_is_no_majority_however_often_it_answers() {
    let mut core = node_with(config(5), raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.read_index(1).unwrap();
    drain(&mut core);
    for _ in 0..5 {
        core.step(to_me(2, term, answer(1)));
        core.step(to_me(9, term, answer(1)));
    }
    assert_eq!(core.ready().read_states, []);
    core.step(to_me(5, term, answer(1)));
    assert_eq!(core.ready().read_states, [confirmed(1, 1)]);
}

#[test]
fn reads_wait_for_the_first_commit_of_the_own_term_and_are_not_refused() {
    let mut core = restarted(2, entries(2, 1..=3));
    let term = elect(&mut core).0;
    core.read_index(1).unwrap();
    assert_eq!(rounds(&drain(&mut core)), [], "what is committed is not known yet");
    core.tick_heartbeat();
    assert_eq!(rounds(&drain(&mut core)), [(2, 0), (3, 0)]);
    core.step(to_me(2, term, accepted(4)));
    assert_eq!(rounds(&drain(&mut core)), [(2, 1), (3, 1)]);
    core.step(to_me(2, term, answer(1)));
    assert_eq!(core.ready().read_states, [confirmed(1, 4)]);
}

#[test]
fn a_lost_round_is_repeated_by_the_heartbeat_tick() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.read_index(1).unwrap();
    drain(&mut core);
    core.read_index(2).unwrap();
    core.tick_heartbeat();
    assert_eq!(rounds(&drain(&mut core)), [(2, 1), (3, 1)], "the newest round, not a further one");
    core.step(to_me(2, term, answer(1)));
    assert_eq!(core.ready().read_states, [confirmed(1, 1)]);
}

#[test]
fn every_read_dropped_by_a_step_down_leaves_as_refused_and_a_confirmed_one_survives() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.read_index(1).unwrap();
    drain(&mut core);
    core.read_index(2).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, answer(1)));
    let waiting_for_ready = core.status().reads_pending;
    assert_eq!(waiting_for_ready, 1);
    core.step(to_me(3, term + 1, append(id(0, 0), vec![], 0)));
    let refused = ReadOutcome::Refused { leader: Some(NodeId(3)) };
    assert_eq!(core.status().role, RoleKind::Follower);
    assert_eq!(core.ready().read_states, [confirmed(1, 1), ReadState { context: 2, outcome: refused }]);
}

#[test]
fn reads_in_a_round_are_refused_when_the_quorum_is_lost() {
    let mut core = restarted(1, vec![]);
    elect_and_commit(&mut core);
    core.read_index(1).unwrap();
    drain(&mut core);
    core.read_index(2).unwrap();
    (0..50).for_each(|_| core.tick_election());
    let outcome = ReadOutcome::Refused { leader: None };
    let refused = [1, 2].map(|context| ReadState { context, outcome });
    assert_eq!(core.ready().read_states, refused);
}

#[test]
fn a_cluster_of_one_confirms_at_once_after_its_no_op() {
    let mut core = node_with(config(1), raft_core::Restored::default());
    core.tick_election();
    core.read_index(1).unwrap();
    let ready = core.ready();
    assert_eq!(ready.read_states, [], "its no-op is not durable yet");
    core.persisted(id(1, 1));
    assert_eq!(core.ready().read_states, [confirmed(1, 1)]);
    core.read_index(2).unwrap();
    assert_eq!(core.ready().read_states, [confirmed(2, 1)]);
}

#[test]
fn waiting_reads_are_bounded() {
    let mut config = config(3);
    config.reads_pending_max = 3;
    let mut core = node_with(config, raft_core::Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.read_index(1).unwrap();
    core.read_index(2).unwrap();
    drain(&mut core);
    core.read_index(3).unwrap();
    assert_eq!(core.read_index(4), Err(ReadError::Busy { limit: Limit::PendingReads }));
    core.step(to_me(2, term, answer(1)));
    assert!(core.read_index(4).is_ok());
}

#[test]
fn a_cut_off_leader_confirms_no_read() {
    let mut cluster = Cluster::new(3, 1);
    let old = cluster.settle();
    cluster.isolate(old);
    assert!(cluster.read(old));
    let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|leader| leader != old);
    assert!(cluster.run_until(2000, replaced));
    let new = cluster.leader().unwrap();
    cluster.put(new, "what the old one does not know");
    cluster.run(1000);
    assert_eq!((cluster.promises.reads_confirmed, cluster.promises.reads_refused), (0, 1));
    assert!(cluster.read(new));
    cluster.run(100);
    assert_eq!(cluster.promises.reads_confirmed, 1);
}

#[test]
fn reads_go_on_while_the_followers_disks_are_slow() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.settle();
    cluster.run(100);
    let followers = (1..=3).map(NodeId).filter(|id| *id != leader);
    cluster.weather.own_disk_ms = followers.map(|id| (id, 5000)).collect();
    let mut last = Index(0);
    for _ in 0..10 {
        last = cluster.put(leader, "stuck on some disk").index;
        assert!(cluster.read(leader));
        cluster.run(20);
    }
    assert!(cluster.status(leader).commit_index < last, "both are slow");
    assert_eq!(cluster.promises.reads_confirmed, 10);
    cluster.run(3000);
    assert_eq!(
        (cluster.leader(), cluster.status(leader).term),
        (Some(leader), Term(1)),
        "nor is the leader deposed"
    );
}
