//! Reads that say what they must see: of followers, by leases, stale ones with and without a bound on their age.

use std::time::Duration;

use bytes::Bytes;
use kvserver::{Consistency, Outcome, Refusal};

use crate::client::{Client, Mailbox, Wish, carry_out};
use crate::cluster::{Cluster, settings};
use crate::virtual_node::Settings;

const STALE: Consistency = Consistency::Stale { max_age: None };

fn no_older_than(ms: u64) -> Consistency {
    Consistency::Stale { max_age: Some(Duration::from_millis(ms)) }
}

/// Leaves a read of the key `k` with a node.
fn ask(cluster: &Cluster, id: u64, consistency: Consistency) -> Mailbox {
    let mailbox = Mailbox::default();
    let intake = cluster.intake(id).unwrap();
    intake.read_with(Bytes::from_static(b"k"), consistency, Box::new(mailbox.clone()));
    mailbox
}

/// What a node answers to a read of the key `k`, waited for.
fn read(cluster: &mut Cluster, id: u64, consistency: Consistency) -> Outcome {
    let mailbox = ask(cluster, id, consistency);
    cluster.until(2_000_000, "an answer", |_| mailbox.outcome().is_some());
    mailbox.outcome().unwrap()
}

fn is_value(outcome: &Outcome, expected: &str) -> bool {
    matches!(outcome, Outcome::Found { value, .. } if value == expected)
}

fn put(cluster: &mut Cluster, client: &mut Client, value: &str) {
    carry_out(cluster, client, Wish::Put("k".to_owned(), value.to_owned()));
}

#[test]
fn every_node_serves_a_follower_read_that_sees_the_last_write() {
    let mut cluster = Cluster::start(settings(3, 50));
    cluster.wait_for_leader();
    let mut client = Client::new(0, cluster.ids());
    for number in 0..20 {
        let value = number.to_string();
        put(&mut cluster, &mut client, &value);
        for id in cluster.ids() {
            let seen = read(&mut cluster, id, Consistency::Follower);
            assert!(is_value(&seen, &value), "node {id} shows {seen:?}, not {value}");
        }
    }
}

#[test]
fn a_follower_that_is_cut_off_refuses_what_it_cannot_prove_and_serves_what_may_be_old() {
    let mut cluster = Cluster::start(settings(3, 51));
    let leader = cluster.wait_for_leader();
    let follower = (leader + 1) % 3;
    let mut client = Client::new(0, vec![leader]);
    put(&mut cluster, &mut client, "old");
    cluster.pass(200_000);
    assert!(is_value(&read(&mut cluster, follower, no_older_than(200)), "old"), "it is up to date");
    assert!(is_value(&read(&mut cluster, leader, no_older_than(200)), "old"), "so is the leader");
    cluster.partition(&[follower]);
    put(&mut cluster, &mut client, "new");
    cluster.pass(300_000);
    let refused = read(&mut cluster, follower, Consistency::Follower);
    assert!(matches!(refused, Outcome::Refused(Refusal::NotLeader { .. })), "{refused:?}");
    assert!(is_value(&read(&mut cluster, follower, STALE), "old"));
    assert!(is_value(&read(&mut cluster, follower, no_older_than(60_000)), "old"));
    let Outcome::Refused(Refusal::TooStale { age: Some(age), max_age }) =
        read(&mut cluster, follower, no_older_than(200))
    else {
        panic!("what is new is not there")
    };
    assert!(age > Duration::from_millis(300) && max_age == Duration::from_millis(200), "{age:?}");
    cluster.heal();
    cluster.pass(1_000_000);
    for consistency in [Consistency::Follower, no_older_than(200), STALE] {
        assert!(is_value(&read(&mut cluster, follower, consistency), "new"));
    }
}

/// Every get with a bound is checked against what had been written so long before.
#[test]
fn a_bounded_stale_read_sees_all_that_was_written_longer_ago_than_its_bound() {
    for seed in 52..60 {
        let mut cluster = Cluster::start(settings(3, seed));
        let leader = cluster.wait_for_leader();
        let mut client = Client::new(0, cluster.ids());
        let mut written: Vec<(u64, u64)> = Vec::new();
        let mut served = 0;
        for number in 0..60 {
            put(&mut cluster, &mut client, &number.to_string());
            written.push((cluster.now_us(), number));
            if number % 15 == 5 {
                cluster.partition(&[(leader + 1 + number / 15) % 3]);
            }
            if number % 15 == 12 {
                cluster.heal();
            }
            cluster.pass(20_000);
            for id in cluster.ids() {
                let asked = cluster.now_us();
                let Outcome::Found { value, .. } = read(&mut cluster, id, no_older_than(150)) else {
                    continue;
                };
                served += 1;
                let seen: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
                let old = written.iter().rev().find(|(at, _)| at + 150_000 <= asked);
                assert!(old.is_none_or(|(_, number)| *number <= seen), "seed {seed}: {seen} for {old:?}");
            }
        }
        assert!(served > 60, "seed {seed}: {served}");
    }
}

fn with_leases(seed: u64) -> Cluster {
    Cluster::start(Settings { lease_reads: true, ..settings(3, seed) })
}

#[test]
fn a_leader_serves_by_its_lease_without_hearing_anybody_and_not_beyond_it() {
    let mut cluster = with_leases(61);
    let leader = cluster.wait_for_leader();
    let mut client = Client::new(0, vec![leader]);
    put(&mut cluster, &mut client, "old");
    cluster.pass(200_000);
    cluster.partition(&[leader]);
    let by_lease = ask(&cluster, leader, Consistency::Lease);
    let by_round = ask(&cluster, leader, Consistency::Linearizable);
    cluster.pass(20_000);
    assert!(is_value(&by_lease.outcome().unwrap(), "old"));
    assert_eq!(by_round.outcome(), None, "the others cannot be asked");
    cluster.pass(130_000);
    let too_late = ask(&cluster, leader, Consistency::Lease);
    cluster.pass(1_000);
    assert_eq!(too_late.outcome(), None, "150 ms after the last answer another may lead");
}

#[test]
fn a_leader_that_slept_past_its_reign_serves_nothing_stale_by_its_lease() {
    for seed in 62..72 {
        let mut cluster = with_leases(seed);
        let leader = cluster.wait_for_leader();
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let mut client = Client::new(0, cluster.ids());
        put(&mut cluster, &mut client, "old");
        cluster.pass(100_000);
        cluster.pause(leader, true);
        let mut served = Client::new(0, others);
        put(&mut cluster, &mut served, "new");
        let reads: Vec<Mailbox> = (0..5).map(|_| ask(&cluster, leader, Consistency::Lease)).collect();
        if seed % 2 == 0 {
            // It wakes before it hears of the other leader.
            cluster.partition(&[leader]);
        }
        cluster.pause(leader, false);
        cluster.pass(1_000_000);
        for read in &reads {
            let outcome = read.outcome();
            let is_old = outcome.as_ref().is_some_and(|outcome| is_value(outcome, "old"));
            assert!(outcome.is_some() && !is_old, "seed {seed}: {outcome:?}");
        }
    }
}
