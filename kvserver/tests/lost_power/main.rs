//! Every node loses its power at the same moment, with everything that was not synced, at every single step of a run:
//! whatever a client was told is done is there afterwards, once, on the shipped turns over disks in memory.
//!
//! `kill -9` cannot show this, since it spares the page cache.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test prints its seed and stops where it fails"
)]

mod clients;
mod cluster;
#[path = "../virtual_node/mod.rs"]
mod virtual_node;

use std::collections::BTreeMap;

use clients::{Appender, read_all};
use cluster::{Cluster, NODES};
use raft::storage::memory::{MemoryFiles, Unsynced};
use virtual_node::of_this_pass;

/// Steps of the run whose every step is a power failure.
const STEPS: u64 = 4_000;

/// Steps in which a cluster must be up again, elect, and answer reads.
const RECOVERY_STEPS_MAX: u64 = 60_000;

/// Clients that append at the same time, each to its own key.
const CLIENTS: u64 = 3;

fn fresh_files() -> BTreeMap<u64, MemoryFiles> {
    (0..NODES).map(|id| (id, MemoryFiles::new())).collect()
}

/// Loses the power of all nodes, starts them again, and checks what each client was told.
fn survive(files: BTreeMap<u64, MemoryFiles>, unsynced: Unsynced, seed: u64, clients: &[Appender]) {
    for (id, files) in &files {
        files.lose_power(unsynced, seed.wrapping_add(*id));
    }
    let mut cluster = Cluster::start(files, seed);
    let keys: Vec<String> = clients.iter().map(Appender::key).collect();
    let values = read_all(&mut cluster, &keys, RECOVERY_STEPS_MAX);
    for (client, value) in clients.iter().zip(values) {
        client.check(value.as_deref());
    }
}

fn run(seed: u64, unsynced: Unsynced, fail_every: u64) {
    let seed = of_this_pass(seed);
    println!("seed {seed}");
    let mut cluster = Cluster::start(fresh_files(), seed);
    let mut clients: Vec<Appender> = (0..CLIENTS).map(Appender::new).collect();
    for step in 0..STEPS {
        cluster.step();
        for client in &mut clients {
            client.act(&mut cluster);
        }
        if step % fail_every == 0 {
            survive(cluster.fork_files(), unsynced, seed ^ step, &clients);
        }
    }
    let acknowledged: u64 = clients.iter().map(Appender::acknowledged).sum();
    let status = cluster.nodes[&0].parts.node.with_core(|core| core.status()).expect("the node runs");
    println!("seed {seed}: {acknowledged} appends acknowledged, snapshot at {}", status.snapshot_index);
    assert!(acknowledged > 10, "the run does something");
    assert!(status.snapshot_index.0 > 0, "the run is long enough for snapshots");
}

#[test]
fn power_lost_at_every_step_loses_nothing_acknowledged() {
    run(1, Unsynced::Lost, 1);
}

#[test]
fn power_lost_with_any_part_of_the_unsynced_kept_loses_nothing_acknowledged() {
    for seed in 2..8 {
        run(seed, Unsynced::Torn, 10);
    }
}
