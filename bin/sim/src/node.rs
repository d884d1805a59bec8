//! One node: the shipped rooms, put together as the server does it, but for threads, sockets and a real disk.
//!
//! Each room has a step; who calls it, when, is the simulation's. Nothing here decides anything that a node decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clerk::Request;
use kvserver::state_machine::StateMachine;
use kvserver::{ApplyLoop, Parts, ServerConfig, SharedState, SnapshotDesk, Snapshotter, tick_times};
use proto::raft_rpc::InstallSnapshotRequest;
use raft::core::{Message, NodeId, RawNode, Restored};
use raft::driver::{ApplyMsg, LogItem, LogWriter, Taken, Ticker};
use raft::net::{Inbox, SnapshotReceiver};
use raft::storage::disk::{Completion, Disk, DiskOp, OpId};
use raft::storage::memory::{MemoryDisk, MemoryFiles};
use raft::storage::{Identity, Recovery, WalConfig, recover};
use raft::sync::{PopTimeout, StopSignal};

use crate::dice::generator;
use crate::local_clock::Shown;
use crate::plan::Plan;
use crate::service::Service;
use crate::tap::{Attempt, ChunkTap, Mailroom, Tap};

/// The first port of the nodes' made-up addresses.
const PORT_FIRST: u64 = 10_000;

/// The name of the cluster.
pub(crate) const CLUSTER: &str = "virtual";

/// The concern of a node's own randomness; its id and life are added.
const CONCERN: u64 = 1 << 32;

/// The address by which clients know a node.
pub(crate) fn address(node: u64) -> String {
    format!("node:{}", PORT_FIRST + node)
}

/// The node of an address.
pub(crate) fn node_at(address: &str) -> Option<usize> {
    let port: u64 = address.rsplit_once(':')?.1.parse().ok()?;
    usize::try_from(port.checked_sub(PORT_FIRST)?).ok()
}

/// The log writer's disk, whose operations the simulation carries out one by one.
#[derive(Clone)]
struct SharedDisk(Arc<Mutex<MemoryDisk>>);

impl SharedDisk {
    fn open(&self) -> MutexGuard<'_, MemoryDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SharedDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        self.open().submit(op)
    }

    fn complete(&mut self) -> Option<Completion> {
        self.open().complete()
    }

    fn wait(&mut self) -> Completion {
        self.open().wait()
    }
}

/// One life of a node.
pub(crate) struct VirtualNode {
    pub(crate) parts: Parts,
    pub(crate) state: Arc<SharedState>,
    pub(crate) mailroom: Mailroom,
    /// Taken out of the log writer's list to be looked at; given back before its turn.
    pub(crate) staged: Vec<LogItem>,
    /// How many of `staged` the checkers have seen.
    pub(crate) staged_seen: usize,
    service: Service,
    apply_loop: ApplyLoop,
    writer: LogWriter,
    log_disk: SharedDisk,
    snapshotter: Snapshotter,
    pub(crate) desk: Arc<SnapshotDesk>,
    election_ticker: Ticker,
    heartbeat_ticker: Ticker,
}

/// What a node is started with.
pub(crate) struct Birth<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) id: u64,
    pub(crate) life: u32,
    pub(crate) identity: &'a Identity,
    /// Whether a node has begun its log there.
    pub(crate) has_log: bool,
    pub(crate) files: &'a MemoryFiles,
    pub(crate) clock: Shown,
}

/// A node that has come up.
pub(crate) struct Started {
    pub(crate) node: VirtualNode,
    /// What it found.
    pub(crate) restored: Restored,
    /// It lacks something that it had acknowledged.
    pub(crate) is_convalescent: bool,
}

impl VirtualNode {
    /// Opens the directory and puts the rooms together. The error is the refusal's text.
    pub(crate) fn start(birth: &Birth<'_>) -> Result<Started, String> {
        let Birth { plan, id, life, identity, has_log, files, clock } = *birth;
        let config = server_config(plan, id, identity);
        let settings = &plan.settings[id as usize];
        let mut log_disk = SharedDisk(Arc::new(Mutex::new(MemoryDisk::held(files))));
        let shipped = WalConfig::new(identity.incarnation);
        let reserve_segments = if settings.has_reserve() { shipped.reserve_segments } else { 0 };
        let (segment_bytes, repairs) = (settings.segment_bytes, plan.repairs);
        let wal_config = WalConfig { segment_bytes, reserve_segments, repairs, ..shipped };
        let recovery = recover(&mut log_disk, wal_config, has_log).map_err(|error| error.to_string())?;
        let Recovery { wal, restored, snapshots, is_convalescent, .. } = recovery;
        let desk_files = files.clone();
        let desk = Arc::new(SnapshotDesk::new(move || Box::new(MemoryDisk::new(&desk_files))));
        let machine = match &restored.snapshot {
            None => StateMachine::new(),
            Some(meta) => desk.load(meta).map_err(|error| error.to_string())?,
        };
        let state = Arc::new(SharedState::new(machine));
        let random = generator(plan.seed, CONCERN + (id << 16) + u64::from(life));
        let stop = Arc::new(StopSignal::new());
        let (parts, apply_loop) = Parts::join(&config, restored.clone(), &state, &desk, &stop, random)
            .map_err(|error| error.to_string())?;
        let mailroom = Mailroom::default();
        let tap = Arc::new(Tap {
            mailroom: mailroom.clone(),
            application: Arc::clone(&parts.application),
            book: parts.book.clone(),
        });
        parts.node.connect(Arc::clone(&tap) as _, tap as _);
        if is_convalescent {
            parts.convalesce();
        }
        let snapshotter = Snapshotter::new(
            Arc::clone(&parts.node),
            Arc::clone(&desk),
            Arc::clone(&state),
            Box::new(MemoryDisk::new(files)),
            snapshots,
            Arc::new(ChunkTap(mailroom.clone())),
        )
        .with_chunk_sizes(settings.chunks);
        let spare_desk = Arc::clone(&desk);
        let prepare_spare = move |plan| spare_desk.prepare_spare(plan).is_ok();
        let mut writer = LogWriter::new(wal, Box::new(log_disk.clone()), prepare_spare);
        writer.tell_room(&parts.node);
        let (staged, staged_seen) = Default::default();
        let times = tick_times(&config);
        let node = VirtualNode {
            parts,
            state,
            mailroom,
            staged,
            staged_seen,
            service: Service::new(&config),
            apply_loop,
            writer,
            log_disk,
            snapshotter,
            desk,
            election_ticker: Ticker::new(&clock, times.election_tick, RawNode::tick_election),
            heartbeat_ticker: Ticker::new(&clock, times.heartbeat, RawNode::tick_heartbeat),
        };
        Ok(Started { node, restored, is_convalescent })
    }

    /// A peer's message comes in; the core sees it at its next visit.
    pub(crate) fn receive(&self, message: Message) {
        self.parts.node.receive(message);
    }

    /// A chunk of a snapshot comes in.
    pub(crate) fn receive_chunk(&self, from: NodeId, number: u64, request: InstallSnapshotRequest) {
        let mailroom = self.mailroom.clone();
        let answer = move |answer| mailroom.open().chunk_answers.push((number, answer));
        self.desk.chunk(from, request, Box::new(answer));
    }

    /// A client's request comes in.
    pub(crate) fn receive_request(&self, attempt: Attempt, request: &Request) {
        self.service.receive(&self.parts.intake, &self.mailroom, attempt, request);
    }

    /// The end of a poll turn.
    pub(crate) fn end_of_turn(&self) {
        self.parts.intake.end_of_turn();
    }

    /// A turn of the election ticker; how long it waits for the next, or None when the node has stopped.
    pub(crate) fn turn_election_ticker(&mut self, clock: Shown) -> Option<Duration> {
        self.election_ticker.turn(&clock, &self.parts.node).ok()
    }

    pub(crate) fn turn_heartbeat_ticker(&mut self, clock: Shown) -> Option<Duration> {
        self.heartbeat_ticker.turn(&clock, &self.parts.node).ok()
    }

    /// Time rushes: more ticks at once than the ticker would ever hand over.
    pub(crate) fn rush(&self, ticks: u64) {
        for _ in 0..ticks {
            // A stopped node has no time.
            let _ = self.parts.node.with_core(RawNode::tick_election);
        }
    }

    /// Whether the log writer has something to take.
    pub(crate) fn has_log_work(&self) -> bool {
        !self.staged.is_empty() || !self.parts.node.log_work().is_empty()
    }

    /// How long the log writer waits for that, if it does: not before its disk is done with everything.
    pub(crate) fn writer_patience(&self) -> Option<Duration> {
        let waits = self.held_operations() == 0 && !self.has_log_work();
        waits.then(|| self.writer.patience()).flatten()
    }

    /// Operations that the log writer's disk has yet to carry out.
    pub(crate) fn held_operations(&self) -> usize {
        self.log_disk.open().held_operations()
    }

    /// The log writer takes what there is.
    pub(crate) fn step_writer(&mut self, now: Duration) {
        for item in self.staged.drain(..) {
            self.parts.node.log_work().append(item);
        }
        self.staged_seen = 0;
        self.writer.go_on(Taken::Work, &self.parts.node, now);
    }

    /// The log writer has waited in vain.
    pub(crate) fn idle_writer(&mut self, now: Duration) {
        self.writer.go_on(Taken::Idle, &self.parts.node, now);
    }

    /// Carries one operation of the log writer's disk out, and tells the writer.
    pub(crate) fn step_log_disk(&mut self) {
        if self.log_disk.open().carry_out_next()
            && let Some(completion) = self.log_disk.complete()
            && let Err(error) = self.writer.completed(completion, &self.parts.node)
        {
            self.parts.node.fail(&format!("its log: {error}"));
        }
    }

    /// One message for the state machine, or None when there is none.
    pub(crate) fn next_to_apply(&self) -> Option<ApplyMsg> {
        let queue = &self.parts.queue;
        if queue.is_empty() {
            return None;
        }
        match queue.pop_timeout(Duration::ZERO) {
            PopTimeout::Item(message) => Some(message),
            _ => None,
        }
    }

    pub(crate) fn step_apply_loop(&mut self, messages: Vec<ApplyMsg>) {
        self.apply_loop.turn(messages.into_iter());
    }

    /// Whether the snapshotter has something to do.
    pub(crate) fn has_snapshot_work(&self) -> bool {
        !self.desk.is_empty() || self.snapshotter.patience() == Some(Duration::ZERO)
    }

    /// How long the snapshotter waits for that, if it does.
    pub(crate) fn snapshotter_patience(&self) -> Option<Duration> {
        (!self.has_snapshot_work()).then(|| self.snapshotter.patience()).flatten()
    }

    /// The snapshotter does a task, or goes on without one.
    pub(crate) fn step_snapshotter(&mut self) {
        let task = match self.desk.is_empty() {
            true => None,
            false => match self.desk.wait(Some(Duration::ZERO)) {
                PopTimeout::Item(task) => Some(task),
                _ => None,
            },
        };
        if let Err(error) = self.snapshotter.turn(task) {
            self.parts.node.fail(&error.to_string());
        }
    }

    /// The power goes off while the disk works on everything it was given.
    pub(crate) fn begin_held(&mut self) {
        self.log_disk.open().begin_held();
    }

    /// The log as a writer leaves it that was told to stop: all of it durable, and said to be.
    pub(crate) fn finish_log(&mut self, now: Duration) {
        while self.held_operations() > 0 && !self.parts.node.is_stopped() {
            self.step_log_disk();
        }
        self.writer.go_on(Taken::Closed, &self.parts.node, now);
        while self.held_operations() > 0 && !self.parts.node.is_stopped() {
            self.step_log_disk();
        }
    }
}

fn server_config(plan: &Plan, id: u64, identity: &Identity) -> ServerConfig {
    let members: Vec<_> = (0..plan.nodes).map(|id| (id, address(id))).collect();
    let mut config = ServerConfig::new(id, CLUSTER, members, "", "unused".into());
    config.joins = id >= plan.founders;
    config.founders = identity.founders();
    config.lease_reads = plan.settings[id as usize].lease_reads;
    config.heartbeat_ms = plan.heartbeat_ms;
    config.election_min_ms = plan.election_min_ms;
    config.election_max_ms = plan.election_max_ms;
    let settings = &plan.settings[id as usize];
    config.snapshot_log_bytes = settings.snapshot_log_bytes;
    config.trailing_entries = settings.trailing_entries;
    config.trailing_bytes_max = settings.trailing_bytes_max;
    config.log_bytes_max = settings.log_bytes_max;
    config.apply_queue_batches = settings.apply_queue_batches;
    config.uncommitted_bytes_max = settings.uncommitted_bytes_max;
    config.unpersisted_bytes_max = settings.unpersisted_bytes_max;
    config.unapplied_bytes_max = settings.unapplied_bytes_max;
    config.append_bytes_max = settings.append_bytes_max;
    config.inflight_messages_max = settings.inflight_messages_max;
    config.inflight_bytes_max = settings.inflight_bytes_max;
    config.snapshot_patience_ms = settings.snapshot_patience_ms;
    config
}
