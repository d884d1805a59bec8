//! Snapshots: what they replace, what they must not take back, and followers that need one.

use bytes::Bytes;
use raft_core::{
    Body, ChunkVerdict, Config, HardState, Index, InstallVerdict, Membership, NodeId, ProgressKind, RawNode,
    Restored, RoleKind, SnapshotMeta, SnapshotOutcome, Stamp, Term,
};

use crate::cluster::{Cluster, Weather};
use crate::rig::*;

fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last: id(term, index), membership: Membership::new((1..=3).map(NodeId)) }
}

/// A follower of node 2 in term 5 with `count` entries of term 4, `committed` of them committed.
fn follower(count: u64, committed: u64) -> RawNode {
    let mut core = restarted(5, entries(4, 1..=count));
    core.step(to_me(2, 5, append(id(4, count), vec![], committed)));
    drain(&mut core);
    core
}

#[test]
fn a_snapshot_older_than_what_is_applied_is_ignored() {
    let mut core = follower(10, 8);
    for index in [3, 8] {
        assert_eq!(core.chunk_seen(Term(5), NodeId(2), id(4, index)), ChunkVerdict::NotNeeded);
        assert_eq!(core.install_snapshot(meta(4, index)), InstallVerdict::NotNeeded);
    }
    assert!(!core.has_ready());
    assert_eq!(core.status().snapshot_index, Index(0));
}

#[test]
fn a_snapshot_that_is_a_true_prefix_keeps_the_logs_suffix() {
    let mut core = follower(10, 3);
    assert_eq!(core.install_snapshot(meta(4, 6)), InstallVerdict::Installed);
    let ready = core.ready();
    assert_eq!(ready.restore, Some(meta(4, 6)));
    assert_eq!(ready.persist.unwrap().snapshot, Some(meta(4, 6)));
    let status = core.status();
    assert_eq!((status.first_index, status.last), (Index(7), id(4, 10)));
    assert_eq!((status.commit_index, status.persisted_index), (Index(6), Index(10)));
}

#[test]
fn any_other_snapshot_drops_the_log_whole() {
    for last in [id(5, 6), id(5, 50)] {
        let mut core = follower(10, 3);
        let snapshot = SnapshotMeta { last, ..meta(0, 0) };
        assert_eq!(core.install_snapshot(snapshot.clone()), InstallVerdict::Installed);
        let status = core.status();
        assert_eq!((status.first_index, status.last), (last.index.next(), last));
        assert_eq!((status.commit_index, status.persisted_index), (last.index, last.index));
        assert_eq!(core.ready().restore, Some(snapshot));
    }
}

#[test]
fn what_follows_a_restore_comes_after_it_and_begins_behind_it() {
    let mut core = follower(10, 3);
    let _ = core.install_snapshot(meta(5, 20));
    core.step(to_me(2, 5, append(id(5, 20), entries(5, 21..=23), 22)));
    let ready = core.ready();
    assert!(ready.restore.is_some() && ready.committed.is_empty());
    let persist = ready.persist.unwrap();
    assert_eq!((persist.snapshot, persist.entries.len()), (Some(meta(5, 20)), 3));
    core.snapshot_installed(&meta(5, 20));
    core.persisted(id(5, 23));
    let committed = core.ready().committed;
    assert_eq!((committed[0].id(), committed.len()), (id(5, 21), 2));
    assert_eq!(core.status().applied_index, Index(3), "until the state machine has restored it");
    core.applied(Index(20));
    core.applied(Index(22));
}

#[test]
fn an_acknowledgement_of_what_a_snapshot_replaced_counts_for_nothing() {
    let mut core = follower(3, 3);
    core.step(to_me(2, 5, append(id(4, 3), entries(5, 4..=30), 3)));
    let _ = core.ready();
    assert_eq!(core.chunk_seen(Term(6), NodeId(2), id(6, 20)), ChunkVerdict::Wanted);
    let _ = core.install_snapshot(SnapshotMeta { last: id(6, 20), ..meta(0, 0) });
    core.step(to_me(2, 6, append(id(6, 20), entries(6, 21..=30), 20)));
    let _ = core.ready();
    core.persisted(id(5, 30));
    assert_eq!(core.status().persisted_index, Index(20));
}

#[test]
fn a_chunk_feeds_the_election_timer_and_raises_the_term() {
    let mut core = restarted(3, vec![]);
    for _ in 0..20 {
        (0..29).for_each(|_| core.tick_election());
        assert_eq!(core.chunk_seen(Term(4), NodeId(2), id(2, 9)), ChunkVerdict::Wanted);
    }
    assert_eq!((core.status().role, core.status().term), (RoleKind::Follower, Term(4)));
    assert_eq!(core.status().leader, Some(NodeId(2)));
    assert_eq!(core.chunk_seen(Term(3), NodeId(3), id(2, 9)), ChunkVerdict::StaleTerm(Term(4)));
}

#[test]
fn a_chunk_whose_snapshot_the_log_already_holds_is_not_needed_but_shows_what_is_committed() {
    let mut core = follower(10, 3);
    assert_eq!(core.chunk_seen(Term(5), NodeId(2), id(4, 7)), ChunkVerdict::NotNeeded);
    assert_eq!(core.status().commit_index, Index(7));
    assert_eq!(core.ready().committed.len(), 4);
}

/// A leader of three with `count` commands applied and a snapshot of all of them.
fn compacted_leader(count: usize, trailing: u64) -> (RawNode, u64) {
    let mut config = config(3);
    config.trailing_entries = trailing;
    compacted(config, count, count as u64 + 1)
}

/// The same with these settings, when node 3 has acknowledged no more than `slow`.
fn compacted(config: Config, count: usize, slow: u64) -> (RawNode, u64) {
    let mut core = node_with(config, Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from_static(b"x"); count]).expect("it leads");
    drain(&mut core);
    let last = core.status().last;
    core.step(to_me(2, term, accepted(last.index.0)));
    core.step(to_me(3, term, accepted(slow)));
    drain(&mut core);
    assert!(core.compact(SnapshotMeta { last, ..meta(0, 0) }));
    (core, term)
}

/// What an entry of [`compacted`] counts.
const ENTRY_BYTES: u64 = 1 + raft_core::ENTRY_OVERHEAD_BYTES;

#[test]
fn trailing_entries_are_bounded_by_their_bytes_too() {
    let mut config = config(3);
    (config.trailing_entries, config.trailing_bytes_max) = (1000, 10 * ENTRY_BYTES);
    let (core, _) = compacted(config, 99, 100);
    assert_eq!(core.status().first_index, Index(91));
}

#[test]
fn a_slow_follower_holds_back_no_more_than_half_of_what_the_log_may_have() {
    for (slow, first_index) in [(60, 61), (40, 101)] {
        let mut config = config(3);
        (config.trailing_entries, config.trailing_bytes_max) = (0, ENTRY_BYTES);
        config.log_bytes_max = 100 * ENTRY_BYTES;
        let (core, _) = compacted(config, 99, slow);
        assert_eq!(core.status().first_index, Index(first_index), "{slow} of 100 acknowledged");
    }
}

#[test]
fn compaction_keeps_trailing_entries_and_never_what_is_not_applied() {
    let (core, term) = compacted_leader(99, 30);
    let status = core.status();
    assert_eq!((status.first_index, status.last), (Index(71), id(term, 100)));
    assert_eq!(status.snapshot_index, Index(100));
}

#[test]
fn compaction_keeps_what_a_live_follower_has_yet_to_acknowledge() {
    let mut config = config(3);
    config.trailing_entries = 0;
    let (core, _) = compacted(config, 99, 40);
    assert_eq!(core.status().first_index, Index(41));
}

#[test]
fn a_snapshot_ahead_of_the_own_disk_is_not_taken_into_account_yet() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = core.ready();
    for peer in [2, 3] {
        core.step(to_me(peer, term, accepted(2)));
    }
    let _ = core.ready();
    core.applied(Index(2));
    assert!(!core.compact(meta(term, 2)), "the leader applied it before its own disk had it");
    core.persisted(id(term, 2));
    assert!(core.compact(meta(term, 2)));
}

#[test]
fn a_follower_that_needs_dropped_entries_is_sent_a_snapshot_then_probed_behind_it() {
    let (mut core, term) = compacted_leader(99, 0);
    core.step(to_me(3, term + 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(100, id(0, 0))));
    let ready = core.ready();
    assert_eq!(ready.send_snapshots, [(NodeId(2), Term(term))]);
    assert_eq!(core.status().peers[0].progress, ProgressKind::Snapshot);
    core.propose(vec![Bytes::from_static(b"y")]).unwrap();
    core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    assert!(drain(&mut core).iter().all(|message| message.to != NodeId(2)), "nothing is sent meanwhile");

    core.snapshot_report(NodeId(2), Term(term - 1), SnapshotOutcome::Installed(Index(100)));
    assert_eq!(core.status().peers[0].progress, ProgressKind::Snapshot, "a report of another term");
    core.snapshot_report(NodeId(2), Term(term), SnapshotOutcome::Installed(Index(100)));
    assert_eq!(
        core.status().peers[0].match_index,
        Index(0),
        "what it installed is not counted as acknowledged"
    );
    let sent = drain(&mut core);
    assert_eq!(sent.len(), 1);
    core.step(to_me(2, term, accepted(102)));
    assert_eq!(core.status().peers[0].progress, ProgressKind::Replicate);
}

#[test]
fn a_failed_snapshot_is_tried_again_when_the_follower_answers() {
    let (mut core, term) = compacted_leader(99, 0);
    core.step(to_me(3, term + 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(100, id(0, 0))));
    let _ = core.ready();
    core.snapshot_report(NodeId(2), Term(term), SnapshotOutcome::Failed);
    assert!(!core.has_ready(), "not at once, or a dead follower would be sent it for ever");
    core.tick_heartbeat();
    drain(&mut core);
    core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    assert_eq!(core.ready().send_snapshots, [(NodeId(2), Term(term))]);
}

#[test]
fn a_snapshot_that_is_never_reported_is_asked_for_again_by_and_by() {
    let (mut core, _) = compacted_leader(99, 0);
    let later = core.status().term.0 + 1;
    core.step(to_me(3, later, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(100, id(0, 0))));
    assert_eq!(core.ready().send_snapshots.len(), 1);
    let mut asked_after = 0;
    for tick in 1..=6100 {
        core.tick_election();
        core.tick_heartbeat();
        core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        if !core.ready().send_snapshots.is_empty() {
            asked_after = tick;
            break;
        }
    }
    assert_eq!(asked_after, 6001, "sixty seconds of ticks, and one heartbeat");
}

#[test]
fn the_membership_comes_back_from_the_snapshot() {
    let voters = Membership::new([1, 2, 7].map(NodeId));
    let snapshot = SnapshotMeta { last: id(3, 9), membership: voters.clone() };
    let restored = Restored { hard_state: HardState::default(), snapshot: Some(snapshot), entries: vec![] };
    let mut core = node_with(config(3), restored);
    assert_eq!(*core.membership(), voters);
    time_out(&mut core);
    let asked: Vec<u64> = drain(&mut core).iter().map(|message| message.to.0).collect();
    assert_eq!(asked, [2, 7]);
}

#[test]
fn who_is_a_learner_by_its_snapshot_asks_for_no_votes_not_even_when_told_to() {
    let membership = Membership::new([2, 3].map(NodeId)).with_learners([ME]);
    let snapshot = SnapshotMeta { last: id(3, 9), membership };
    let restored = Restored { snapshot: Some(snapshot), ..Restored::default() };
    let mut core = node_with(config(3), restored);
    (0..200).for_each(|_| core.tick_election());
    core.step(to_me(2, 4, Body::TimeoutNow));
    assert_eq!(drain(&mut core), []);
    assert_eq!((core.status().role, core.status().term), (RoleKind::Follower, Term(4)));
}

#[test]
fn a_follower_that_missed_the_log_gets_the_snapshot_on_a_bad_network_too() {
    for seed in 0..8 {
        let mut cluster = Cluster::with_config(3, seed, |config| config.trailing_entries = 5);
        let leader = cluster.settle();
        let away = NodeId(leader.0 % 3 + 1);
        cluster.crash(away);
        for number in 0..40 {
            cluster.put(leader, &format!("{number}"));
            cluster.run(30);
            if number % 10 == 9 {
                cluster.run(600);
                assert!(cluster.nodes.get_mut(&leader).unwrap().snapshot());
                assert!(cluster.status(leader).first_index >= Index(5), "the log stays bounded");
            }
        }
        cluster.weather = Weather { lost_percent: 20, ..Weather::stormy() };
        cluster.start(away);
        let caught_up = |cluster: &Cluster| cluster.status(away).applied_index >= Index(41);
        assert!(cluster.run_until(20_000, caught_up), "seed {seed}");
        assert!(cluster.status(away).snapshot_index >= Index(36));
    }
}

#[test]
fn with_a_snapshot_every_ten_entries_the_log_stays_short_though_a_minority_is_down() {
    let mut cluster = Cluster::with_config(5, 4, |config| config.trailing_entries = 5);
    let leader = cluster.settle();
    let away = [1, 2].map(|step| NodeId((leader.0 + step - 1) % 5 + 1));
    away.iter().for_each(|id| cluster.crash(*id));
    // The leader keeps what they need for as long as it takes them for alive.
    cluster.run(600);
    for number in 0..300 {
        cluster.put(leader, &format!("{number}"));
        cluster.run(10);
        for node in cluster.nodes.values_mut().filter(|node| node.core.is_some()) {
            if node.machine.last.index.distance_from(node.disk.snapshot_index()) >= 10 {
                assert!(node.snapshot());
            }
        }
        for status in cluster.statuses() {
            let kept = status.last.index.distance_from(status.first_index.previous());
            assert!(kept <= 8 * 10, "node {} keeps {kept} entries", status.node);
        }
    }
    away.iter().for_each(|id| cluster.start(*id));
    cluster.wait_applied(Index(301));
}

/// A cluster of three in which node `away` was down while the others compacted all that it lacks.
fn one_behind_a_snapshot(seed: u64) -> (Cluster, NodeId, NodeId) {
    let mut cluster = Cluster::with_config(3, seed, |config| config.trailing_entries = 0);
    let leader = cluster.settle();
    let away = NodeId(leader.0 % 3 + 1);
    cluster.crash(away);
    for number in 0..20 {
        cluster.put(leader, &format!("{number}"));
    }
    cluster.run(800);
    for node in cluster.nodes.values_mut().filter(|node| node.core.is_some()) {
        assert!(node.snapshot());
    }
    cluster.put(leader, "behind the snapshot");
    cluster.run(100);
    cluster.start(away);
    (cluster, leader, away)
}

#[test]
fn a_crash_of_either_end_at_any_moment_of_a_snapshot_only_delays_it() {
    for moment in 0..150 {
        for receiver in [true, false] {
            let (mut cluster, leader, away) = one_behind_a_snapshot(moment);
            cluster.weather.disk_ms_max = 10;
            cluster.run(moment);
            let crashed = if receiver { away } else { leader };
            cluster.crash(crashed);
            cluster.run(30);
            cluster.start(crashed);
            let leader = cluster.settle();
            let last = cluster.put(leader, "after the crash").index;
            cluster.wait_applied(last);
            assert!(cluster.status(away).snapshot_index >= Index(21), "at {moment}");
            cluster.check_log_matching();
        }
    }
}

#[test]
fn reads_and_writes_of_the_others_go_on_while_one_receives_a_snapshot() {
    let (mut cluster, leader, away) = one_behind_a_snapshot(3);
    let is_given_one = |cluster: &Cluster| {
        cluster.status(leader).peers.iter().any(|peer| peer.progress == ProgressKind::Snapshot)
    };
    assert!(cluster.run_until(1000, is_given_one));
    // Its disk takes so long that the snapshot is under way all the time.
    cluster.weather.own_disk_ms.insert(away, 20_000);
    for number in 0..50 {
        let index = cluster.put(leader, &format!("meanwhile {number}")).index;
        assert!(cluster.read(leader));
        cluster.run(20);
        assert_eq!(cluster.status(leader).applied_index, index);
        assert_eq!(cluster.promises.reads_confirmed, number + 1);
    }
    assert!(is_given_one(&cluster), "it is still under way");
}

#[test]
fn restarts_of_all_of_the_leader_and_of_the_followers_lose_nothing() {
    let mut cluster = Cluster::new(3, 9);
    let mut last = Index(0);
    for rotation in 0..5_u64 {
        let leader = cluster.settle();
        let id = cluster.put(leader, &format!("rotation {rotation}"));
        assert!(id.index > last, "indexes never fall");
        last = id.index;
        cluster.wait_applied(last);
        if rotation % 2 == 1 {
            cluster.nodes.get_mut(&leader).unwrap().snapshot();
        }
        let all: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let crashed: Vec<NodeId> = match rotation % 3 {
            0 => all,
            1 => vec![leader],
            _ => all.into_iter().filter(|id| *id != leader).collect(),
        };
        crashed.iter().for_each(|id| cluster.crash(*id));
        cluster.run(50);
        crashed.iter().for_each(|id| cluster.start(*id));
    }
    let leader = cluster.settle();
    let last = cluster.put(leader, "the end").index;
    cluster.wait_applied(last);
}
