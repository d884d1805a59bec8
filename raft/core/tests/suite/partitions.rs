//! Partial partitions: some pairs of nodes cannot talk, yet each node hears somebody. After things have settled the term
//! changes once at most.

use raft_core::NodeId;

use crate::cluster::Cluster;

#[test]
fn two_followers_cut_from_each_other_do_not_shake_the_leader_both_see() {
    let mut cluster = Cluster::new(3, 6);
    let leader = cluster.settle();
    let term = cluster.status(leader).term;
    let followers: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != leader).collect();
    cluster.cut_pair(followers[0], followers[1]);
    cluster.run(5000);
    assert_eq!((cluster.leader(), cluster.status(leader).term), (Some(leader), term));
}

#[test]
fn a_leader_that_one_of_two_followers_cannot_see_costs_at_most_one_change_of_term() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, 200 + seed);
        let leader = cluster.settle();
        let blind = NodeId(leader.0 % 3 + 1);
        cluster.cut_pair(leader, blind);
        cluster.run(2000);
        let highest = |cluster: &Cluster| cluster.statuses().map(|status| status.term).max().unwrap();
        let before = highest(&cluster);
        cluster.run(5000);
        let after = highest(&cluster);
        assert!(after.0 <= before.0 + 1, "seed {seed}: {before} to {after}");
        assert!(cluster.leader().is_some(), "seed {seed}");
    }
}

#[test]
fn in_a_ring_of_five_a_leader_stays_or_nobody_raises_the_term_for_ever() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, 100 + seed);
        cluster.settle();
        for (one, other) in [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)] {
            cluster.cut_pair(NodeId(one), NodeId(other));
        }
        cluster.run(3000);
        let before = cluster.statuses().map(|status| status.term).max().unwrap();
        cluster.run(5000);
        let after = cluster.statuses().map(|status| status.term).max().unwrap();
        assert!(after.0 <= before.0 + 1, "seed {seed}: {before} to {after}");
        assert!(cluster.leader().is_some(), "seed {seed}: each node sees three of five, a majority");
    }
}

/// A leader that only a minority sees cannot commit: it steps down, and one whom a majority sees leads instead.
#[test]
fn a_leader_that_a_minority_sees_makes_room_with_one_change_of_term() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, 300 + seed);
        let leader = cluster.settle();
        let others: Vec<NodeId> = (1..=5).map(NodeId).filter(|id| *id != leader).collect();
        others[1..].iter().for_each(|other| cluster.cut_pair(leader, *other));
        cluster.run(3000);
        let new = cluster.leader().expect("four of five see each other");
        assert_ne!(new, leader, "seed {seed}");
        let term = cluster.status(new).term;
        let last = cluster.put(new, "goes on").index;
        cluster.run(5000);
        assert!(cluster.status(new).commit_index >= last, "seed {seed}");
        let after = cluster.statuses().map(|status| status.term).max().unwrap();
        assert!(after.0 <= term.0 + 1, "seed {seed}: {term} to {after}");
    }
}

/// The side without a majority has the leader at first: it may neither commit nor confirm, and nothing it took on is
/// left hanging.
#[test]
fn the_majority_serves_the_minority_does_not_and_both_do_soon_after_healing() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, 400 + seed);
        let old = cluster.settle();
        cluster.run(100);
        let others: Vec<NodeId> = (1..=5).map(NodeId).filter(|id| *id != old).collect();
        for one in [old, others[0]] {
            others[1..].iter().for_each(|other| cluster.cut_pair(one, *other));
        }
        let before = cluster.status(old).commit_index;
        cluster.put(old, "on the smaller side");
        assert!(cluster.read(old));
        cluster.run(2000);
        assert_eq!(cluster.status(old).commit_index, before);
        assert_eq!((cluster.promises.reads_confirmed, cluster.promises.reads_refused), (0, 1));
        let new = cluster.leader().expect("three of five see each other");
        let last = cluster.put(new, "on the larger side").index;
        assert!(cluster.read(new));
        cluster.run(100);
        assert!(cluster.status(new).applied_index >= last);
        assert_eq!(cluster.promises.reads_confirmed, 1);
        cluster.heal();
        let everywhere = |cluster: &Cluster| cluster.statuses().all(|status| status.applied_index >= last);
        assert!(cluster.run_until(3000, everywhere), "seed {seed}");
        let leader = cluster.leader().expect("one leads");
        assert!(cluster.read(leader));
        cluster.run(100);
        assert_eq!(cluster.promises.reads_confirmed, 2, "seed {seed}");
    }
}
