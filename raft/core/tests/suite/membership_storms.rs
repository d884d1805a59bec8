//! Raft's promises while members change at random: whatever is added, removed or replaced, by whichever leaders, under
//! crashes, partitions, losses and transfers, no two lead a term and nothing committed is lost. In the end all agree.

use raft_core::{Membership, NodeId};
use rand::RngExt;

use crate::cluster::{Cluster, Weather};
use crate::membership::members;

/// The nodes there are, members or not.
const POOL: u64 = 7;

/// Longer than a node stays silent that was told of its removal, in milliseconds.
const PATIENCE_MS: u64 = 120_000;

/// One run: faults and changes for a while, then calm, then three members that agree.
fn storm(seed: u64) {
    let size = [1, 3, 3, 5, 2][(seed % 5) as usize];
    let mut cluster = Cluster::with_config(size, seed, |config| {
        config.trailing_entries = seed % 7;
        config.append_bytes_max = [300, 1 << 20][(seed % 2) as usize];
    });
    (size + 1..=POOL).map(NodeId).for_each(|id| cluster.join(id));
    cluster.weather = Weather::stormy();
    cluster.weather.lost_percent = (seed % 4) as u32 * 7;
    cluster.weather.delay_ms_max = [3, 20, 60][(seed % 3) as usize];
    cluster.weather.disk_ms_max = [0, 5, 40][(seed / 3 % 3) as usize];
    for round in 0..300 {
        fault(&mut cluster);
        change(&mut cluster);
        traffic(&mut cluster, round);
        let ms = cluster.rng.random_range(1..60);
        cluster.run(ms);
        if round % 50 == 0 {
            cluster.check_log_matching();
        }
    }
    converge(&mut cluster, seed);
}

fn fault(cluster: &mut Cluster) {
    let id = NodeId(cluster.rng.random_range(1..=POOL));
    match cluster.rng.random_range(0..60) {
        0..3 if cluster.is_up(id) => cluster.crash(id),
        3..20 if !cluster.is_up(id) => cluster.start(id),
        20 => cluster.isolate(id),
        21 => {
            if let Some(leader) = cluster.leader() {
                cluster.crash(leader);
            }
        }
        22..25 => cluster.heal(),
        25..28 => {
            cluster.nodes.get_mut(&id).expect("of the pool").snapshot();
        }
        28 => {
            if let Some(leader) = cluster.leader() {
                let _ = cluster.hand_over(leader, id);
            }
        }
        _ => {}
    }
}

/// Any members at all may be wanted; who has not listened becomes a learner first.
fn change(cluster: &mut Cluster) {
    let Some(leader) = cluster.leader() else { return };
    if !cluster.percent(25) {
        return;
    }
    let now = cluster.status(leader).membership;
    let (mut voters, mut learners) = (Vec::new(), Vec::new());
    for id in 1..=POOL {
        let wanted = cluster.rng.random_range(0..10);
        match (wanted, now.contains(NodeId(id))) {
            (0..6, true) => voters.push(id),
            (0..8, _) => learners.push(id),
            _ => {}
        }
    }
    let _ = cluster.change(leader, members(voters, learners));
}

fn traffic(cluster: &mut Cluster, round: u64) {
    for id in (1..=POOL).map(NodeId).filter(|id| id.0 % 3 == round % 3) {
        if cluster.is_up(id) {
            let _ = cluster.propose(id, vec![format!("{round} by {id}").into()]);
            cluster.read(id);
        }
    }
}

fn converge(cluster: &mut Cluster, seed: u64) {
    cluster.heal();
    cluster.weather = Weather::calm();
    for id in (1..=POOL).map(NodeId) {
        if !cluster.is_up(id) {
            cluster.start(id);
        }
    }
    cluster.settle_within(PATIENCE_MS);
    let three = (0..3).map(|place| 1 + (seed + 2 * place) % POOL);
    let target = members(three, []);
    let is_at_rest = |cluster: &Cluster| {
        let leader = cluster.leader().map(|leader| cluster.status(leader));
        leader.is_some_and(|leader| !leader.is_changing && leader.commit_index == leader.last.index)
    };
    assert!(cluster.run_until(PATIENCE_MS, is_at_rest), "the change under way ends by itself");
    let leader = cluster.leader().expect("just seen");
    let voters = cluster.status(leader).membership.voters;
    let learners = (1..=POOL).map(NodeId).filter(|node| !voters.contains(node));
    let listening = Membership::new(voters.iter().copied()).with_learners(learners);
    cluster.change_until_done(&listening, PATIENCE_MS);
    cluster.change_until_done(&target, PATIENCE_MS);
    let leader = cluster.settle_within(PATIENCE_MS);
    let last = cluster.put(leader, "after the storm").index;
    cluster.wait_applied(last);
    assert!(cluster.read(leader));
    cluster.run(100);
    assert_eq!(cluster.status(leader).reads_pending, 0, "seed {seed}");
    cluster.check_log_matching();
}

#[test]
fn no_promise_is_broken_while_members_change_in_any_of_a_hundred_storms() {
    (0..100).for_each(storm);
}

/// The erratum of 2015: a leader begins a change that only a few hear of; another, elected without them, begins another;
/// then the first few come back while some of the others are away.
fn leaders_in_a_row(seed: u64, first: &Membership, second: &Membership) {
    let mut cluster = Cluster::new(4, seed);
    [5, 6].map(NodeId).into_iter().for_each(|id| cluster.join(id));
    cluster.settle();
    cluster.change_until_done(&members(1..=4, [5, 6]), 5000);
    let one = cluster.settle();
    cluster.run(500);
    cluster.weather = Weather::unreliable();
    // The leader and whoever joins with it are cut off, and it begins its change.
    let mut few = vec![one, NodeId(5)];
    if cluster.percent(30) {
        few.push(NodeId(6));
    }
    for id in (1..=6).map(NodeId).filter(|id| !few.contains(id)) {
        few.iter().for_each(|one| cluster.cut_pair(*one, id));
    }
    cluster.change(one, first.clone()).expect("it leads and all have caught up");
    let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|leader| leader != one);
    assert!(cluster.run_until(20_000, replaced), "three of four elect another");
    for round in 0..60 {
        if let Some(leader) = cluster.leader() {
            let target = if leader == one { first } else { second };
            let _ = cluster.change(leader, target.clone());
            let _ = cluster.propose(leader, vec![format!("{round}").into()]);
        }
        let (id, other) = (cluster.rng.random_range(1..=6), cluster.rng.random_range(1..=6));
        match cluster.rng.random_range(0..8) {
            0 => cluster.heal(),
            1 | 2 if id != other => cluster.cut_pair(NodeId(id), NodeId(other)),
            3 => cluster.rejoin(NodeId(id)),
            _ => {}
        }
        let ms = cluster.rng.random_range(1..400);
        cluster.run(ms);
    }
    cluster.heal();
    cluster.weather = Weather::calm();
    let leader = cluster.settle_within(PATIENCE_MS);
    let last = cluster.put(leader, "in the end").index;
    cluster.wait_applied(last);
    cluster.check_log_matching();
}

#[test]
fn two_leaders_in_a_row_that_change_the_same_members_never_make_two() {
    let add = |node| members((1..=4).chain([node]), [11 - node]);
    let remove = |node| members((1..=4).filter(|voter| *voter != node), [5, 6]);
    for seed in 0..24 {
        leaders_in_a_row(seed, &add(5), &add(6));
        leaders_in_a_row(seed, &add(5), &remove(1 + seed % 4));
        leaders_in_a_row(seed, &remove(1 + seed % 4), &remove(1 + (seed + 1) % 4));
    }
}
