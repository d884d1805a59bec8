//! Histories of clients while everything goes wrong that can: each must be linearizable, and no client may see an error,
//! since a majority is always there.
//!
//! The tests run one short history. For long ones: `HISTORIES=50 HISTORY_SECONDS=30 cargo test --release -p raft-kv
//! --test processes histories -- --nocapture`; each says its seed first, and `HISTORY_SEED` names the first of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerk::{Clerk, Consistency};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::history::History;
use crate::support::linearizability;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, until};

const NODES: usize = 3;
const CLERKS: usize = 8;
const KEYS: u64 = 40;
/// Operations that succeed under each fault, and after it.
const OPERATIONS: u64 = 150;
/// After each fault of a history that is told how long to be: its clients are to be busy for most of the time.
const OPERATIONS_BETWEEN: u64 = 6_000;
/// Faults of a history that is not told how long to be.
const FAULTS: u64 = 9;

/// The gets that must see every write answered before.
const GETS: [Consistency; 3] = [Consistency::Linearizable, Consistency::Lease, Consistency::Follower];

struct Load {
    history: History,
    done: AtomicU64,
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    fn wait_for_operations(&self, what: &str) {
        self.wait_for(OPERATIONS, what);
    }

    fn wait_for(&self, operations: u64, what: &str) {
        let enough = self.done.load(Ordering::Acquire) + operations;
        until(&format!("operations {what}"), LONG, || self.done.load(Ordering::Acquire) >= enough);
    }

    /// One clerk's work until the load is over.
    fn work(&self, number: usize, clerk: &Clerk, mut rng: ChaCha8Rng) {
        for turn in 0_u64.. {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let key = format!("k{}", rng.random_range(0..KEYS));
            let token = Bytes::from(format!("[{number}.{turn}]"));
            let is_done = match rng.random_range(0..11_usize) {
                0..4 => self.history.put(clerk, &key, token).is_ok(),
                4 => self.history.append(clerk, &key, token).is_ok(),
                kind => {
                    let consistency = GETS[kind % GETS.len()];
                    self.history.try_get(clerk, &key, consistency).is_ok()
                }
            };
            let count = if is_done { &self.done } else { &self.failed };
            count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// One thing goes wrong and is mended; a majority stays together and awake.
fn fault(cluster: &mut Cluster, load: &Load, rng: &mut ChaCha8Rng) {
    let leader = cluster.leader();
    let victim = if rng.random_bool(0.6) { leader } else { rng.random_range(0..NODES) };
    let others = cluster.others(victim);
    match rng.random_range(0..7) {
        0 => {
            cluster.kill_node(victim);
            load.wait_for_operations("without a killed node");
            cluster.start_node(victim);
        }
        1 => {
            cluster.stop_node(victim);
            load.wait_for_operations("without a stopped node");
            cluster.start_node(victim);
        }
        2 => {
            cluster.put_to_sleep(victim);
            load.wait_for_operations("without a sleeping node");
            cluster.signal(victim, Signal::CONT);
        }
        3 => {
            cluster.network().isolate(victim);
            load.wait_for_operations("without a node that is cut off");
        }
        4 => {
            others.iter().for_each(|other| cluster.network().cut_way(victim, *other));
            load.wait_for_operations("while nobody hears a node");
        }
        5 => {
            others.iter().for_each(|other| cluster.network().cut_way(*other, victim));
            load.wait_for_operations("while a node hears nobody");
        }
        _ => {
            cluster.network().cut(others[0], others[1]);
            let mut order = clerk();
            order.arg("-f").arg(cluster.file()).args(["transfer-leader", &victim.to_string()]);
            // Refused if the node is behind, or leads already.
            run(order, LONG);
            load.wait_for_operations("while two cannot reach each other");
        }
    }
    cluster.network().mend();
}

/// Returns how many operations there were.
fn history(seed: u64, lasts: Option<Duration>) -> usize {
    eprintln!("history of seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let settings = if seed % 2 == 1 { "lease_reads=1\n" } else { "" };
    let mut cluster = Cluster::start_on_network(NODES, settings);
    let load = Load {
        history: History::start(),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let clerks: Vec<Clerk> = (0..CLERKS).map(|_| cluster.clerk()).collect();
    let between = if lasts.is_some() { OPERATIONS_BETWEEN } else { OPERATIONS };
    thread::scope(|scope| {
        for (number, clerk) in clerks.iter().enumerate() {
            let (load, rng) = (&load, ChaCha8Rng::seed_from_u64(seed ^ (number as u64 + 1) << 32));
            scope.spawn(move || load.work(number, clerk, rng));
        }
        let _stop = StopOnDrop(&load.is_over);
        let began = Instant::now();
        for done in 0_u64.. {
            if lasts.map_or(done == FAULTS, |lasts| began.elapsed() >= lasts) {
                break;
            }
            fault(&mut cluster, &load, &mut rng);
            load.wait_for(between, "after a fault");
        }
    });
    assert_eq!(load.failed.into_inner(), 0, "a majority was always there, seed {seed}");
    let operations = load.history.operations();
    assert_eq!(linearizability::check(&operations), Ok(()), "seed {seed}");
    operations.len()
}

/// Ends the load also when the test fails, or its threads would never be joined.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn every_history_under_kills_sleep_and_partitions_is_linearizable() {
    let first = number("HISTORY_SEED").unwrap_or(1);
    let lasts = number("HISTORY_SECONDS").map(Duration::from_secs);
    for seed in first..first + number("HISTORIES").unwrap_or(1) {
        let began = Instant::now();
        let operations = history(seed, lasts);
        let rate = operations as f64 / began.elapsed().as_secs_f64();
        eprintln!("{operations} operations, {rate:.0} a second, linearizable");
    }
}
