//! How old a state is at most: what is proved is true, however late messages come, and what is not is not claimed.

use std::time::Duration;

use raft_core::{Body, Fresh, Index, NodeId, RawNode, Restored, Stamp};
use rand::RngExt;

use crate::cluster::{Cluster, Weather};
use crate::rig::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn heartbeat(fresh: Option<Fresh>) -> Body {
    Body::Heartbeat { leader_commit: Index(0), read_context: 1, fresh }
}

/// The stamp of the answer to a heartbeat at this moment.
fn stamp_at(core: &mut RawNode, moment: u64) -> u64 {
    core.time_is(ms(moment));
    core.step(to_me(2, 3, heartbeat(None)));
    let answer = drain(core).pop().expect("heartbeats are answered");
    let Body::HeartbeatReply { stamp: Stamp { at, .. }, .. } = answer.body else { panic!("{answer}") };
    at
}

#[test]
fn a_followers_age_counts_from_its_own_answer_that_came_back() {
    let mut core = restarted(3, vec![]);
    let stamp = stamp_at(&mut core, 5_000);
    assert_eq!(core.freshness(), None, "hearing a leader proves nothing");
    core.time_is(ms(5_030));
    core.step(to_me(2, 3, heartbeat(Some(Fresh { stamp, index: Index(4) }))));
    core.time_is(ms(5_075));
    let fresh = core.freshness().expect("proved");
    assert_eq!((fresh.age, fresh.index), (ms(75), Index(4)));
    core.step(to_me(2, 3, heartbeat(Some(Fresh { stamp: stamp - 1_000, index: Index(3) }))));
    assert_eq!(core.freshness(), Some(fresh), "an older proof takes nothing back");
}

#[test]
fn a_stamp_of_an_earlier_life_or_of_none_proves_nothing() {
    let mut core = restarted(3, vec![]);
    let stamp = stamp_at(&mut core, 5_000);
    let mut again = RawNode::new(config(3), Restored::default(), rand::SeedableRng::seed_from_u64(99));
    again.time_is(ms(6_000));
    for stamp in [stamp, 1, u64::MAX] {
        again.step(to_me(2, 3, heartbeat(Some(Fresh { stamp, index: Index(4) }))));
        assert_eq!(again.freshness(), None);
    }
}

#[test]
fn a_leader_proves_by_rounds_what_its_followers_had_answered_before_they_began() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.time_is(ms(1_000));
    let answered =
        |round, at| Body::HeartbeatReply { read_context: round, stamp: Stamp { at, keeps_lease: false } };
    let mut told = Vec::new();
    for round in 1..=3_u64 {
        core.time_is(ms(1_000 + round * 25));
        core.tick_heartbeat();
        told.push(drain(&mut core).into_iter().filter_map(|message| match message.body {
            Body::Heartbeat { fresh, .. } if message.to == NodeId(2) => Some(fresh.map(|fresh| fresh.stamp)),
            _ => None,
        }));
        core.step(to_me(2, term, answered(round, 100 + round)));
    }
    let told: Vec<_> = told.into_iter().flatten().collect();
    assert_eq!(told, [None, None, Some(101)], "first a stamp, then a round after it, then the proof");
    core.time_is(ms(1_100));
    assert_eq!(core.freshness().map(|fresh| fresh.age), Some(ms(25)), "its own since the round began");
}

#[test]
fn a_cut_off_node_knows_that_it_grows_old_and_a_healthy_one_stays_young() {
    let mut cluster = Cluster::new(3, 6);
    let leader = cluster.settle();
    cluster.run(500);
    let follower = NodeId(leader.0 % 3 + 1);
    for id in [leader, follower] {
        let age = cluster.freshness(id).expect("proved").age;
        assert!(age < ms(100), "{id}: {age:?}");
    }
    cluster.isolate(follower);
    cluster.run(2_000);
    assert!(cluster.freshness(follower).expect("it was").age > ms(1_900));
}

/// Whatever a node claims is checked against what was applied anywhere, and when.
#[test]
fn what_is_claimed_is_true_in_storms() {
    let mut claims = 0;
    for seed in 0..40 {
        let size = 3 + seed % 3;
        let mut cluster = Cluster::new(size, seed);
        cluster.weather = Weather::stormy();
        cluster.weather.late_answers_percent = 10;
        // The index that had been applied somewhere by each moment.
        let mut applied_by: Vec<(u64, Index)> = Vec::new();
        for round in 0..300 {
            let id = NodeId(cluster.rng.random_range(1..=size));
            match cluster.rng.random_range(0..40) {
                0 if cluster.is_up(id) => cluster.crash(id),
                1..8 if !cluster.is_up(id) => cluster.start(id),
                8 | 9 => cluster.isolate(id),
                10 => cluster.put_to_sleep(id),
                11..16 => cluster.heal(),
                16..22 => (1..=size).for_each(|id| cluster.wake(NodeId(id))),
                _ => {}
            }
            if let Some(leader) = cluster.leader().filter(|leader| cluster.is_awake(*leader)) {
                let _ = cluster.propose(leader, vec![format!("{round}").into()]);
            }
            let ms = cluster.rng.random_range(1..30);
            cluster.run(ms);
            let newest = cluster.promises.history.keys().next_back().copied().unwrap_or(Index::ZERO);
            applied_by.push((cluster.now, newest));
            for id in (1..=size).map(NodeId).filter(|id| cluster.is_awake(*id)) {
                let Some(fresh) = cluster.freshness(id) else { continue };
                claims += 1;
                // Clocks that are up to 4 % slow show less than has passed.
                let age_ms = u64::try_from(fresh.age.as_millis()).expect("short") * 105 / 100 + 2;
                let then = cluster.now.saturating_sub(age_ms);
                let known = applied_by.iter().rev().find(|(at, _)| *at <= then);
                let must_have = known.map_or(Index::ZERO, |(_, index)| *index);
                assert!(fresh.index >= must_have, "seed {seed}, node {id}: {fresh:?}, not {must_have}");
            }
        }
    }
    assert!(claims > 10_000, "{claims}");
}
