//! Snapshots under way: what is spoilt on its way in is refused, and neither a slow disk nor a lock holds anybody up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use raft::storage::disk::DiskOp;

use crate::client::{Client, Wish, carry_out, finish};
use crate::cluster::{Cluster, STEP_US, settings};
use crate::virtual_node::Settings;

/// Bytes of a value of which some dozen make a snapshot of several chunks.
const VALUE_BYTES: usize = 100 << 10;

/// How much of a snapshot is sent in one message.
const SEND_BYTES: usize = 1 << 20;

/// Far beyond what any lock is waited for: it only ends a test that would hang.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

fn large_settings(seed: u64) -> Settings {
    Settings { snapshot_log_bytes: 2 << 20, segment_bytes: 1 << 20, ..settings(3, seed) }
}

/// A cluster whose others have let go of all that the last, which is down, has yet to get: who leads, and who is down.
fn one_behind_a_snapshot(settings: Settings) -> (Cluster, u64, u64) {
    let mut cluster = Cluster::start(settings);
    let leader = cluster.wait_for_leader();
    let behind = (leader + 1) % 3;
    cluster.crash(behind);
    // A leader keeps what a follower lacks for as long as it takes it for alive.
    cluster.pass(1_000_000);
    write_until_snapshots(&mut cluster, leader, &[leader, (leader + 2) % 3]);
    (cluster, leader, behind)
}

fn write_until_snapshots(cluster: &mut Cluster, leader: u64, nodes: &[u64]) {
    let mut client = Client::new(0, vec![leader]);
    let mut number = 0;
    while nodes.iter().any(|id| cluster.status(*id).unwrap().snapshot_index.0 == 0) {
        number += 1;
        let value = "v".repeat(VALUE_BYTES);
        carry_out(cluster, &mut client, Wish::Put(format!("large {number}"), value));
        assert!(number < 100, "a snapshot is taken when the log is long enough");
    }
}

fn wait_until_caught_up(cluster: &mut Cluster, behind: u64, leader: u64) {
    cluster.until(20_000_000, "the one that was down has caught up", |cluster| {
        let (own, other) = (cluster.status(behind), cluster.status(leader));
        own.zip(other).is_some_and(|(own, other)| own.applied_index == other.applied_index)
    });
    let hash = |id| cluster.node(id).unwrap().parts.state.read().state_hash();
    assert_eq!(hash(behind), hash(leader));
}

#[test]
fn a_chunk_that_was_spoilt_on_its_way_is_refused_and_sent_again() {
    let mut spoilt = 0;
    for seed in 80..84 {
        let (mut cluster, leader, behind) = one_behind_a_snapshot(large_settings(seed));
        // The network asserts that none of them is accepted.
        cluster.spoilt_permille = 600;
        cluster.restart(behind);
        wait_until_caught_up(&mut cluster, behind, leader);
        assert!(cluster.status(behind).unwrap().snapshot_index.0 > 0, "it got the snapshot all the same");
        spoilt += cluster.spoilt;
    }
    assert!(spoilt > 0, "something was spoilt");
}

#[test]
fn nodes_take_their_snapshots_behind_the_same_entries() {
    // Far enough apart that none is still being written when the next is due: that one would be taken later.
    let mut cluster = Cluster::start(Settings { snapshot_log_bytes: 16_000, ..settings(3, 86) });
    let leader = cluster.wait_for_leader();
    let paused = (leader + 1) % 3;
    let mut clients: Vec<Client> = (0..4).map(|number| Client::new(number, vec![leader])).collect();
    let mut seen: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for number in 0..220 {
        for (client, key) in clients.iter_mut().zip(["a", "b", "c", "d"]) {
            client.begin(Wish::Put(key.to_owned(), "v".repeat(number % 50)), &cluster);
        }
        // One that is behind applies much at once, though not so much that two fall due together.
        if number % 20 == 0 {
            cluster.until(5_000_000, "who was behind is not", |cluster| {
                let applied = |id| cluster.status(id).unwrap().applied_index;
                applied(paused) == applied(leader)
            });
        }
        cluster.pause(paused, number % 20 < 10);
        finish(&mut cluster, &mut clients, 5_000_000, "four writes");
        for id in cluster.ids() {
            let index = cluster.status(id).unwrap().snapshot_index.0;
            seen.entry(id).or_default().insert(index);
        }
    }
    cluster.pause(paused, false);
    cluster.pass(1_000_000);
    let all = &seen[&leader];
    assert!(all.len() > 3, "several snapshots: {all:?}");
    assert!(seen.values().all(|indexes| indexes.is_subset(all)), "{seen:?}");
}

#[test]
fn a_transfer_goes_on_under_another_leader_that_has_the_same_snapshot() {
    let (mut cluster, leader, behind) =
        one_behind_a_snapshot(Settings { snapshot_log_bytes: 6 << 20, ..large_settings(87) });
    let next = (leader + 2) % 3;
    cluster.snapshotter_waits_us = 50_000;
    cluster.restart(behind);
    let has = |cluster: &Cluster, from| cluster.chunk_bytes.get(&from).copied().unwrap_or(0);
    let bytes = usize::try_from(cluster.node(leader).unwrap().desk.newest_bytes()).unwrap();
    cluster.until(5_000_000, "half of it has come", |cluster| has(cluster, leader) > bytes / 2);
    assert!(!is_caught_up(&cluster, behind));
    cluster.crash(leader);
    wait_until_caught_up(&mut cluster, behind, next);
    // Besides what was missing, the first chunk, whose answer says how much is there.
    let sent = has(&cluster, next);
    assert!(sent > 0 && sent < bytes * 3 / 4, "{sent} of {bytes} once more");
}

#[test]
fn two_chunks_are_under_way_to_a_peer_so_that_the_next_is_there_when_one_is_stored() {
    let (mut cluster, leader, behind) =
        one_behind_a_snapshot(Settings { snapshot_log_bytes: 6 << 20, ..large_settings(88) });
    let bytes = usize::try_from(cluster.node(leader).unwrap().desk.newest_bytes()).unwrap();
    let has = |cluster: &Cluster| cluster.chunk_bytes.get(&leader).copied().unwrap_or(0);
    // Whoever is behind stores nothing: the first comes alone, since its answer says what is there.
    cluster.snapshotter_waits_us = 1_000_000;
    cluster.restart(behind);
    cluster.until(5_000_000, "the first has come", |cluster| has(cluster) > 0);
    assert_eq!(has(&cluster), SEND_BYTES);
    cluster.until(5_000_000, "the next have come", |cluster| has(cluster) > SEND_BYTES);
    cluster.pass(500_000);
    assert_eq!(has(&cluster), 3 * SEND_BYTES, "not one more before one of them is answered");
    cluster.snapshotter_waits_us = 0;
    wait_until_caught_up(&mut cluster, behind, leader);
    assert_eq!(has(&cluster), bytes, "and nothing twice");
}

#[test]
fn writing_sending_and_receiving_a_snapshot_on_slow_disks_delays_no_operation_of_the_others() {
    let (mut cluster, leader, behind) = one_behind_a_snapshot(large_settings(84));
    let mut client = Client::new(0, vec![leader]);
    carry_out(&mut cluster, &mut client, Wish::Put("k".to_owned(), String::new()));
    cluster.snapshotter_waits_us = 50_000;
    cluster.restart(behind);
    let mut number = 0;
    let (mut while_sent, mut while_written) = (0, 0);
    while while_sent < 50 || while_written < 50 {
        // Enough at a time that another snapshot falls due.
        let filler = if number % 4 == 0 { "v".repeat(VALUE_BYTES) } else { String::new() };
        number += 1;
        assert!(number < 2_000, "{while_sent} while one was sent, {while_written} while one was written");
        carry_out(&mut cluster, &mut client, Wish::Put(format!("filler {}", number % 40), filler));
        let is_sent = !is_caught_up(&cluster, behind);
        let is_written = cluster.node(leader).unwrap().desk.is_writing();
        let append = carry_out(&mut cluster, &mut client, Wish::Append("k".to_owned(), format!("{number};")));
        let get = carry_out(&mut cluster, &mut client, Wish::Get("k".to_owned()));
        for done in [append, get] {
            assert!(done.ended_us - done.begun_us < 20 * STEP_US, "{done:?}");
        }
        while_sent += usize::from(is_sent);
        while_written += usize::from(is_written);
    }
    wait_until_caught_up(&mut cluster, behind, leader);
}

fn is_caught_up(cluster: &Cluster, behind: u64) -> bool {
    cluster.status(behind).is_some_and(|status| status.snapshot_index.0 > 0)
}

/// What the virtual clock cannot show, since it runs all of a node in one thread: each operation of the snapshotter's disk
/// may take as long as it likes, because another thread gets the core's lock and the state's meanwhile.
#[test]
fn no_lock_is_held_while_a_snapshotters_disk_works() {
    let mut cluster = Cluster::start(large_settings(85));
    let leader = cluster.wait_for_leader();
    let behind = (leader + 1) % 3;
    cluster.crash(behind);
    cluster.pass(1_000_000);
    let watched = watch_locks(&cluster, leader);
    write_until_snapshots(&mut cluster, leader, &[leader, (leader + 2) % 3]);
    assert!(watched.load(Ordering::Relaxed) > 10, "it wrote a snapshot");
    cluster.restart(behind);
    let received = watch_locks(&cluster, behind);
    wait_until_caught_up(&mut cluster, behind, leader);
    assert!(received.load(Ordering::Relaxed) > 5, "it received one");
}

/// Has another thread take both locks of this node at each operation of its snapshotter's disk; counts those operations.
fn watch_locks(cluster: &Cluster, id: u64) -> Arc<AtomicUsize> {
    let node = cluster.node(id).unwrap();
    let (raft, state) = (Arc::clone(&node.parts.node), Arc::clone(&node.parts.state));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let watch = move |op: &DiskOp| {
        let (raft, state) = (Arc::clone(&raft), Arc::clone(&state));
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            raft.with_core(|core| core.status()).expect("the node runs");
            drop(state.write());
            done.send(())
        });
        is_done.recv_timeout(LOCK_PATIENCE).unwrap_or_else(|_| panic!("a lock is held during {}", op.name()));
        counted.fetch_add(1, Ordering::Relaxed);
    };
    *node.snapshot_disk_watch.lock().unwrap() = Some(Box::new(watch));
    count
}
