//! A cluster in one thread: the shipped rooms of every node, over disks in memory and a network that is a list.
//!
//! One step is one turn of one room of one node, or one message delivered, chosen by a seed. Nothing of the logic is
//! written here: what runs are the turns that the threads run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kvserver::{ApplyLoop, Parts, ServerConfig, SharedState, SnapshotDesk, Snapshotter};
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{Message, NodeId, RawNode};
use raft::driver::{LogWriter, Transport};
use raft::net::{ChunkSender, Inbox, SnapshotReceiver};
use raft::storage::disk::{Completion, Disk, DiskOp, OpId};
use raft::storage::memory::{MemoryDisk, MemoryFiles};
use raft::storage::{Recovery, WalConfig, recover};
use raft::sync::{PopTimeout, StopSignal};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// How many nodes there are.
pub(crate) const NODES: u64 = 3;

/// Small, so that snapshots are taken and sent all the time.
const SNAPSHOT_LOG_BYTES: u64 = 1_500;

/// Few, so that a follower that is behind needs a snapshot.
const TRAILING_ENTRIES: u64 = 4;

/// Small, so that the log is rotated all the time.
const SEGMENT_BYTES: u64 = 1 << 10;

type ChunkDone = Box<dyn FnOnce(Option<InstallSnapshotResponse>) + Send>;

/// Something on its way.
enum Parcel {
    Raft(Message),
    Chunk { from: NodeId, to: NodeId, request: InstallSnapshotRequest, done: ChunkDone },
    ChunkAnswer { done: ChunkDone, answer: InstallSnapshotResponse },
}

/// What is on its way, in the order it was sent.
type Network = Arc<Mutex<Vec<Parcel>>>;

struct VirtualTransport {
    from: NodeId,
    network: Network,
}

impl Transport for VirtualTransport {
    fn queue(&self, messages: Vec<Message>) {
        self.network.lock().unwrap().extend(messages.into_iter().map(Parcel::Raft));
    }

    fn flush(&self) {}
}

impl ChunkSender for VirtualTransport {
    fn send_chunk(&self, to: NodeId, request: InstallSnapshotRequest, done: ChunkDone) {
        self.network.lock().unwrap().push(Parcel::Chunk { from: self.from, to, request, done });
    }
}

/// The log writer's disk, which the cluster makes carry out its operations one by one.
#[derive(Clone)]
struct SharedDisk(Arc<Mutex<MemoryDisk>>);

impl Disk for SharedDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        self.0.lock().unwrap().submit(op)
    }

    fn complete(&mut self) -> Option<Completion> {
        self.0.lock().unwrap().complete()
    }

    fn wait(&mut self) -> Completion {
        self.0.lock().unwrap().wait()
    }
}

/// One node's rooms.
pub(crate) struct VirtualNode {
    pub(crate) parts: Parts,
    apply_loop: ApplyLoop,
    writer: LogWriter,
    log_disk: SharedDisk,
    snapshotter: Snapshotter,
    desk: Arc<SnapshotDesk>,
}

impl VirtualNode {
    fn start(id: u64, files: &MemoryFiles, network: &Network, seed: u64) -> VirtualNode {
        let members: Vec<_> = (0..NODES).map(|id| (id, format!("node:{id}"))).collect();
        let mut config = ServerConfig::new(id, "virtual", members, "", "unused".into());
        config.snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
        config.trailing_entries = TRAILING_ENTRIES;
        (config.election_min_ms, config.election_max_ms) = (50, 100);
        let mut log_disk = SharedDisk(Arc::new(Mutex::new(MemoryDisk::held(files))));
        let wal_config = WalConfig { segment_bytes: SEGMENT_BYTES, ..WalConfig::new(id) };
        let Recovery { wal, restored, snapshots, .. } =
            recover(&mut log_disk, wal_config, false).expect("what was synced is recovered");
        let desk_files = files.clone();
        let desk = Arc::new(SnapshotDesk::new(move || Box::new(MemoryDisk::new(&desk_files))));
        let machine =
            restored.snapshot.as_ref().map(|meta| desk.load(meta).expect("a durable snapshot loads"));
        let state = Arc::new(SharedState::new(machine.unwrap_or_default()));
        let random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(NODES).wrapping_add(id));
        let stop = Arc::new(StopSignal::new());
        let (parts, apply_loop) = Parts::join(&config, restored, &state, &desk, &stop, random).unwrap();
        let transport = Arc::new(VirtualTransport { from: NodeId(id), network: Arc::clone(network) });
        parts.connect(Arc::clone(&transport) as _);
        let disk = Box::new(MemoryDisk::new(files));
        let node = Arc::clone(&parts.node);
        let snapshotter = Snapshotter::new(node, Arc::clone(&desk), state, disk, snapshots, transport as _);
        let spare_desk = Arc::clone(&desk);
        let writer = LogWriter::new(wal, Box::new(log_disk.clone()), move |plan| {
            spare_desk.prepare_spare(plan).is_ok()
        });
        VirtualNode { parts, apply_loop, writer, log_disk, snapshotter, desk }
    }

    /// One turn of the log writer: the disk's next answer if one is due, else the next batch.
    fn step_writer(&mut self) {
        if self.log_disk.0.lock().unwrap().carry_out_next() {
            let completion = self.log_disk.complete().expect("an operation was just carried out");
            self.writer.completed(completion, &self.parts.node).expect("no fault was planned");
        } else {
            self.writer.turn(&self.parts.node);
        }
    }

    fn step_apply_loop(&mut self) {
        if let PopTimeout::Item(message) = self.parts.queue.pop_timeout(std::time::Duration::ZERO) {
            self.apply_loop.turn([message].into_iter());
        }
    }

    fn step_snapshotter(&mut self) {
        let task = match self.desk.wait(Some(std::time::Duration::ZERO)) {
            PopTimeout::Item(task) => Some(task),
            _ => None,
        };
        self.snapshotter.turn(task).expect("no fault was planned");
    }
}

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
        let nodes = files.iter().map(|(id, files)| (*id, VirtualNode::start(*id, files, &network, seed)));
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
                    network.lock().unwrap().push(Parcel::ChunkAnswer { done, answer });
                });
                self.nodes[&to.0].desk.chunk(from, request, answer);
            }
            Parcel::ChunkAnswer { done, answer } => done(Some(answer)),
        }
    }
}
