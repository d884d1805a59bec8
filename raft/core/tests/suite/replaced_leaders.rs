//! Leaders that are replaced before an election timeout, or make room by themselves: a process that is gone, a disk
//! that does not move.

use raft_core::{Body, NodeId, Reason, Restored, RoleKind, Stamp};

use crate::cluster::{Cluster, TICK_MS};
use crate::rig::*;

#[test]
fn the_end_of_a_process_that_does_not_lead_changes_nothing() {
    let mut core = restarted(5, vec![]);
    core.step(to_me(2, 5, append(id(0, 0), vec![], 0)));
    core.peer_gone(NodeId(3));
    (0..29).for_each(|_| core.tick_election());
    assert_eq!((core.status().role, core.status().leader), (RoleKind::Follower, Some(NodeId(2))));
}

#[test]
fn when_the_leaders_process_is_gone_its_followers_elect_another_within_a_few_ticks() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, 100 + seed);
        let old = cluster.settle();
        cluster.crash(old);
        // What it had said arrives before a fresh connection to it can be refused.
        cluster.run(2);
        for id in (1..=3).map(NodeId).filter(|id| *id != old) {
            cluster.tell_gone(id, old);
        }
        let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|leader| leader != old);
        assert!(
            cluster.run_until(15 * TICK_MS, replaced),
            "seed {seed}: {:?}",
            cluster.statuses().collect::<Vec<_>>()
        );
    }
}

#[test]
fn who_wrongly_takes_the_leader_for_gone_disturbs_nobody() {
    let mut cluster = Cluster::new(3, 7);
    let leader = cluster.settle();
    let term = cluster.status(leader).term;
    let wrong = (1..=3).map(NodeId).find(|id| *id != leader).unwrap();
    cluster.tell_gone(wrong, leader);
    cluster.run(1000);
    assert!(cluster.statuses().all(|status| status.term == term && status.leader == Some(leader)));
}

#[test]
fn a_leader_whose_disk_does_not_move_makes_room_for_another() {
    let mut core = node_with(config(3), Restored::default());
    let term = elect_and_commit(&mut core);
    for tick in 0..200u64 {
        // Its followers' disks are well: they acknowledge everything, and it goes on being heard.
        let _ = core.propose(vec![bytes::Bytes::from_static(b"x")]);
        while core.has_ready() {
            let ready = core.ready();
            if let Some(last) = ready.committed.last() {
                core.applied(last.index);
            }
        }
        let last = core.status().last.index.0;
        for peer in [2, 3] {
            core.step(to_me(peer, term.0, accepted(last)));
        }
        core.tick_election();
        if core.status().role != RoleKind::Leader {
            assert_eq!(core.status().reason, Reason::DiskStalled);
            assert!(tick >= 99, "two election timeouts of patience");
            return;
        }
    }
    panic!("it still leads");
}

#[test]
fn a_leader_without_work_for_its_disk_stays() {
    let mut core = node_with(config(3), Restored::default());
    let term = elect_and_commit(&mut core);
    for _ in 0..500 {
        core.tick_election();
        for peer in [2, 3] {
            core.step(to_me(peer, term.0, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        }
        drain(&mut core);
    }
    assert_eq!(core.status().role, RoleKind::Leader);
}
