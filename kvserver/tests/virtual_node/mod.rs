//! One node: the shipped rooms put together as the server does it, over a disk in memory and a network that is a list.
//!
//! Nothing of the logic is written here: what runs are the turns that the threads run. Who calls them, when, is the
//! clusters' (`lost_power`, `store_cases`).

#![allow(dead_code, reason = "each test uses its part of this")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvserver::{ApplyLoop, Parts, ServerConfig, SharedState, SnapshotDesk, Snapshotter};
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{Message, NodeId};
use raft::driver::{Clock, LogWriter, Transport};
use raft::net::{ChunkSender, SnapshotReceiver};
use raft::storage::disk::{Completion, Disk, DiskOp, OpId};
use raft::storage::memory::{MemoryDisk, MemoryFiles};
use raft::storage::{Recovery, WalConfig, recover};
use raft::sync::{PopTimeout, StopSignal};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// What the nodes of a cluster are started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many nodes there are.
    pub(crate) nodes: u64,
    /// Bytes of log after which a snapshot is taken.
    pub(crate) snapshot_log_bytes: u64,
    /// Entries kept behind a snapshot.
    pub(crate) trailing_entries: u64,
    /// Size of a log segment.
    pub(crate) segment_bytes: u64,
    /// The shortest and the longest election timeout.
    pub(crate) election_ms: (u64, u64),
    /// Whether leaders serve reads by leases.
    pub(crate) lease_reads: bool,
    /// What all nodes take for the time.
    pub(crate) clock: VirtualClock,
    /// Where all chance comes from.
    pub(crate) seed: u64,
}

/// A clock that shows what it is set to, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    pub(crate) fn set_us(&self, us: u64) {
        self.0.store(us, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Of a series of runs of the tests, each called `PASS=n`, every one has its own seeds; without a name it is the first.
pub(crate) fn of_this_pass(seed: u64) -> u64 {
    let pass = std::env::var("PASS").map_or(0, |pass| pass.parse().expect("PASS is a number"));
    seed + 1_000_003 * pass
}

/// The address that hints name.
pub(crate) fn address(id: u64) -> String {
    format!("node:{id}")
}

pub(crate) type ChunkDone = Box<dyn FnOnce(Option<InstallSnapshotResponse>) + Send>;

/// Something on its way.
pub(crate) enum Parcel {
    Raft(Message),
    Chunk { from: NodeId, to: NodeId, request: InstallSnapshotRequest, done: ChunkDone },
    ChunkAnswer { from: NodeId, to: NodeId, done: ChunkDone, answer: InstallSnapshotResponse },
}

/// What is on its way, in the order it was sent.
pub(crate) type Network = Arc<Mutex<Vec<Parcel>>>;

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

/// What is to happen at each operation of a snapshotter's disk, if anything is.
pub(crate) type DiskWatch = Arc<Mutex<Option<Box<dyn FnMut(&DiskOp) + Send>>>>;

/// The snapshotter's disk, which can be watched.
struct WatchedDisk {
    disk: MemoryDisk,
    watch: DiskWatch,
}

impl Disk for WatchedDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        if let Some(watch) = &mut *self.watch.lock().unwrap() {
            watch(&op);
        }
        self.disk.submit(op)
    }

    fn complete(&mut self) -> Option<Completion> {
        self.disk.complete()
    }

    fn wait(&mut self) -> Completion {
        self.disk.wait()
    }
}

/// One node's rooms.
pub(crate) struct VirtualNode {
    pub(crate) parts: Parts,
    apply_loop: ApplyLoop,
    writer: LogWriter,
    log_disk: SharedDisk,
    snapshotter: Snapshotter,
    pub(crate) snapshot_disk_watch: DiskWatch,
    pub(crate) desk: Arc<SnapshotDesk>,
}

impl VirtualNode {
    /// A node that opens its directory and takes part. `life` counts its starts.
    pub(crate) fn start(
        id: u64,
        life: u64,
        settings: &Settings,
        files: &MemoryFiles,
        network: &Network,
    ) -> VirtualNode {
        let members: Vec<_> = (0..settings.nodes).map(|id| (id, address(id))).collect();
        let mut config = ServerConfig::new(id, "virtual", members, "", "unused".into());
        config.snapshot_log_bytes = settings.snapshot_log_bytes;
        config.trailing_entries = settings.trailing_entries;
        (config.election_min_ms, config.election_max_ms) = settings.election_ms;
        config.lease_reads = settings.lease_reads;
        let mut log_disk = SharedDisk(Arc::new(Mutex::new(MemoryDisk::held(files))));
        let wal_config = WalConfig { segment_bytes: settings.segment_bytes, ..WalConfig::new(id) };
        let Recovery { wal, restored, snapshots, .. } =
            recover(&mut log_disk, wal_config, false).expect("what was synced is recovered");
        let desk_files = files.clone();
        let desk = Arc::new(SnapshotDesk::new(move || Box::new(MemoryDisk::new(&desk_files))));
        let machine =
            restored.snapshot.as_ref().map(|meta| desk.load(meta).expect("a durable snapshot loads"));
        let state = Arc::new(SharedState::new(machine.unwrap_or_default()));
        let random = ChaCha8Rng::seed_from_u64(settings.seed ^ (life << 32) ^ (id << 16));
        let stop = Arc::new(StopSignal::new());
        let (parts, apply_loop) = Parts::join(&config, restored, &state, &desk, &stop, random).unwrap();
        let transport = Arc::new(VirtualTransport { from: NodeId(id), network: Arc::clone(network) });
        parts.connect(Arc::clone(&transport) as _);
        parts.node.keep_time(Arc::new(settings.clock.clone()));
        let snapshot_disk_watch = DiskWatch::default();
        let watch = Arc::clone(&snapshot_disk_watch);
        let disk = Box::new(WatchedDisk { disk: MemoryDisk::new(files), watch });
        let node = Arc::clone(&parts.node);
        let snapshotter = Snapshotter::new(node, Arc::clone(&desk), state, disk, snapshots, transport as _);
        let spare_desk = Arc::clone(&desk);
        let writer = LogWriter::new(wal, Box::new(log_disk.clone()), move |plan| {
            spare_desk.prepare_spare(plan).is_ok()
        });
        VirtualNode { parts, apply_loop, writer, log_disk, snapshotter, snapshot_disk_watch, desk }
    }

    /// One turn of the log writer: the disk's next answer if one is due, else the next batch.
    pub(crate) fn step_writer(&mut self) {
        if self.log_disk.0.lock().unwrap().carry_out_next() {
            let completion = self.log_disk.complete().expect("an operation was just carried out");
            self.writer.completed(completion, &self.parts.node).expect("no fault was planned");
        } else {
            self.writer.turn(&self.parts.node);
        }
    }

    /// A chunk of a snapshot comes in.
    pub(crate) fn receive_chunk(
        &self,
        from: NodeId,
        request: InstallSnapshotRequest,
        answer: Box<dyn FnOnce(InstallSnapshotResponse) + Send>,
    ) {
        self.desk.chunk(from, request, answer);
    }

    pub(crate) fn step_apply_loop(&mut self) {
        if self.parts.queue.is_empty() {
            return;
        }
        if let PopTimeout::Item(message) = self.parts.queue.pop_timeout(std::time::Duration::ZERO) {
            self.apply_loop.turn([message].into_iter());
        }
    }

    pub(crate) fn step_snapshotter(&mut self) {
        let task = match self.desk.is_empty() {
            true => PopTimeout::TimedOut,
            false => self.desk.wait(Some(std::time::Duration::ZERO)),
        };
        let task = if let PopTimeout::Item(task) = task { Some(task) } else { None };
        self.snapshotter.turn(task).expect("no fault was planned");
    }
}
