//! A cluster in one thread, over disks in memory and a network that is a list.
//!
//! One step is one turn of one room of one node, or one message delivered, chosen by a seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::core::RawNode;
use raft::net::Inbox;
use raft::storage::memory::MemoryFiles;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::virtual_node::{Network, Parcel, Settings, VirtualClock, VirtualNode};

/// How many nodes there are.
pub(crate) const NODES: u64 = 3;

/// Small, so that snapshots are taken and sent all the time.
const SNAPSHOT_LOG_BYTES: u64 = 1_500;

/// Few, so that a follower that is behind needs a snapshot.
const TRAILING_ENTRIES: u64 = 4;

/// Small, so that the log is rotated all the time.
const SEGMENT_BYTES: u64 = 1 << 10;

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, VirtualNode>,
    files: BTreeMap<u64, MemoryFiles>,
    network: Network,
    random: ChaCha8Rng,
}

impl Cluster {
    /// A cluster that comes up on these files.
    pub(crate) fn start(files: BTreeMap<u64, MemoryFiles>, seed: u64) -> Cluster {
        let network = Network::default();
        let settings = Settings {
            nodes: NODES,
            snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
            trailing_entries: TRAILING_ENTRIES,
            segment_bytes: SEGMENT_BYTES,
            election_ms: (50, 100),
            lease_reads: false,
            clock: VirtualClock::default(),
            seed,
        };
        let start = |id, files| VirtualNode::start(id, 0, &settings, files, &network);
        let nodes = files.iter().map(|(id, files)| (*id, start(*id, files)));
        let nodes = nodes.collect();
        Cluster { nodes, files, network, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Copies of all disks as they are now.
    pub(crate) fn fork_files(&self) -> BTreeMap<u64, MemoryFiles> {
        self.files.iter().map(|(id, files)| (*id, files.fork())).collect()
    }

    /// One step of something, drawn by the seed. Messages are delivered in any order; time passes now and then.
    pub(crate) fn step(&mut self) {
        let id = self.random.random_range(0..NODES);
        let choice = self.random.random_range(0..100);
        match choice {
            0..40 => self.deliver(),
            40..60 => self.node(id).step_writer(),
            60..75 => self.node(id).step_apply_loop(),
            75..90 => self.node(id).step_snapshotter(),
            90..95 => drop(self.node(id).parts.node.with_core(RawNode::tick_election)),
            _ => drop(self.node(id).parts.node.with_core(RawNode::tick_heartbeat)),
        }
    }

    /// A node's intake at the end of a poll turn.
    pub(crate) fn end_of_turn(&mut self, id: u64) {
        self.node(id).parts.intake.end_of_turn();
    }

    fn node(&mut self, id: u64) -> &mut VirtualNode {
        self.nodes.get_mut(&id).expect("every id has its node")
    }

    /// Takes any parcel out of the network and hands it over.
    fn deliver(&mut self) {
        let parcel = {
            let mut network = self.network.lock().unwrap();
            if network.is_empty() {
                return;
            }
            let place = self.random.random_range(0..network.len());
            network.remove(place)
        };
        match parcel {
            Parcel::Raft(message) => {
                let node = Arc::clone(&self.nodes[&message.to.0].parts.node);
                node.receive(message);
                node.visit_if_spoken_to();
            }
            Parcel::Chunk { from, to, request, done } => {
                let network = Arc::clone(&self.network);
                let answer = Box::new(move |answer| {
                    let parcel = Parcel::ChunkAnswer { from: to, to: from, done, answer };
                    network.lock().unwrap().push(parcel);
                });
                self.nodes[&to.0].receive_chunk(from, request, answer);
            }
            Parcel::ChunkAnswer { done, answer, .. } => done(Some(answer)),
        }
    }
}
