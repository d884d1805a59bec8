//! What one operation costs in time, and how little the log and the snapshots may grow.

use std::collections::BTreeSet;

use crate::client::{Client, Mailbox, Wish, carry_out};
use crate::cluster::{Cluster, STEP_US, settings};
use crate::virtual_node::Settings;

/// The course's bound for one operation.
const COURSE_BOUND_US: u64 = 33_000;

#[test]
fn a_thousand_operations_in_a_row_take_far_less_than_the_courses_bound_each() {
    let mut cluster = Cluster::start(settings(3, 20));
    cluster.wait_for_leader();
    let mut client = Client::new(0, cluster.ids());
    carry_out(&mut cluster, &mut client, Wish::Put("k".to_owned(), String::new()));
    let begun = cluster.now_us();
    for number in 0..500 {
        carry_out(&mut cluster, &mut client, Wish::Append("k".to_owned(), format!("{number};")));
        carry_out(&mut cluster, &mut client, Wish::Get("k".to_owned()));
    }
    let longest = client.done[1..].iter().map(|done| done.ended_us - done.begun_us).max().unwrap();
    let average = (cluster.now_us() - begun) / 1_000;
    assert!(average < COURSE_BOUND_US / 10, "{average} µs on average");
    assert!(longest < COURSE_BOUND_US / 2, "{longest} µs at the longest");
}

#[test]
fn an_operation_waits_for_no_tick_of_any_kind() {
    let mut cluster = Cluster::start(settings(3, 21));
    cluster.wait_for_leader();
    let mut client = Client::new(0, cluster.ids());
    carry_out(&mut cluster, &mut client, Wish::Put("k".to_owned(), "0;".to_owned()));
    cluster.ticks = false;
    for number in 1..20 {
        let put = carry_out(&mut cluster, &mut client, Wish::Append("k".to_owned(), format!("{number};")));
        let get = carry_out(&mut cluster, &mut client, Wish::Get("k".to_owned()));
        assert_eq!(get.value.unwrap().matches(';').count(), number + 1);
        // Two ways over the network and the turns in between.
        assert!(put.ended_us - put.begun_us < 20 * STEP_US, "{put:?}");
    }
}

#[test]
fn the_log_stays_bounded_while_a_minority_is_down_and_snapshots_of_few_keys_stay_small() {
    // Well above what the versions that stay readable take: a snapshot holds them, too.
    let threshold = 64 << 10;
    let segment_bytes = 16 << 10;
    let settings = Settings { snapshot_log_bytes: threshold, segment_bytes, ..settings(3, 22) };
    let mut cluster = Cluster::start(settings);
    let leader = cluster.wait_for_leader();
    let down = (leader + 1) % 3;
    cluster.crash(down);
    let mut client = Client::new(0, vec![leader]);
    let (mut number, mut snapshots_seen) = (0, BTreeSet::new());
    while snapshots_seen.len() < 12 {
        number += 1;
        carry_out(&mut cluster, &mut client, Wish::Put(format!("key {}", number % 4), format!("{number}")));
        snapshots_seen.insert(cluster.status(leader).unwrap().snapshot_index);
        for id in [leader, (leader + 2) % 3] {
            let in_memory = cluster.status(id).unwrap().log_bytes;
            assert!(in_memory <= 8 * threshold, "node {id} holds {in_memory} bytes of log");
            let on_disk = cluster.disk_bytes(id, "wal-");
            assert!(on_disk <= 8 * threshold, "node {id}: {on_disk} bytes on disk");
            let snapshots = cluster.disk_bytes(id, "snapshot-");
            assert!(snapshots <= 2 * threshold, "node {id}: two snapshots of {snapshots} bytes");
        }
    }
    // Who was away gets what the log no longer has.
    cluster.restart(down);
    cluster.until(5_000_000, "the one that was down has caught up", |cluster| {
        let (own, other) = (cluster.status(down), cluster.status(leader));
        own.zip(other).is_some_and(|(own, other)| own.applied_index == other.applied_index)
    });
    assert!(cluster.status(down).unwrap().snapshot_index.0 > 0);
    let hash = |id| cluster.node(id).unwrap().parts.state.read().state_hash();
    assert_eq!(hash(down), hash(leader));
}

#[test]
fn a_thousand_writes_at_once_are_one_turns_work_and_all_answered() {
    let mut cluster = Cluster::start(settings(3, 24));
    let leader = cluster.wait_for_leader();
    let intake = cluster.intake(leader).unwrap();
    let boxes: Vec<Mailbox> = (0..1_000).map(|_| Mailbox::default()).collect();
    for mailbox in &boxes {
        let command = kvserver::state_machine::Command::OpenSession.encode();
        intake.write(command, Box::new(mailbox.clone()));
    }
    cluster.pass(20 * STEP_US);
    assert!(boxes.iter().all(|mailbox| mailbox.outcome().is_some()), "all in a few turns");
}
