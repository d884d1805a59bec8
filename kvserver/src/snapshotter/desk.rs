//! The snapshotter's desk: where the other threads leave what concerns snapshots, without waiting for any of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{EntryId, NodeId, SnapshotMeta, Term};
use raft::net::{ChunkAnswer, SnapshotReceiver};
use raft::storage::disk::{Disk, list_files};
use raft::storage::snapshot_file::{SnapshotError, SnapshotReader, snapshot_id, snapshot_name};
use raft::storage::wal::SparePlan;
use raft::sync::{LockQueue, PopTimeout, locked};

use crate::state_machine::{Frozen, Restore, RestoreError, StateMachine};

/// Tasks that may wait. More would mean that a peer sends chunks without waiting for answers: they are refused.
const TASKS_MAX: usize = 256;

/// Chunks of peers may fill this much of it.
const CHUNKS_MAX: usize = 192;

/// One thing to do.
pub enum Task {
    /// Write the snapshot of a frozen instant, after the entry `last`.
    Write {
        /// The instant.
        frozen: Frozen,
        /// The last entry applied before it.
        last: EntryId,
    },
    /// Send the newest snapshot to a peer that cannot be caught up from the log.
    Send {
        /// The peer.
        to: NodeId,
        /// The leader's term, in which it is sent.
        term: Term,
    },
    /// A peer's answer to a chunk.
    Answered {
        /// The peer.
        to: NodeId,
        /// The number of the sending that the chunk was part of.
        number: u64,
        /// The answer; None when it is lost.
        answer: Option<InstallSnapshotResponse>,
    },
    /// A chunk that the leader sent.
    Receive {
        /// The leader.
        from: NodeId,
        /// The chunk.
        request: InstallSnapshotRequest,
        /// Where the answer goes.
        answer: ChunkAnswer,
    },
    /// Make a file for a later segment of the log.
    Spare(SparePlan),
}

/// Why a snapshot file did not become a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read or is damaged.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// Its bytes are not a state.
    #[error(transparent)]
    State(#[from] RestoreError),
}

/// The desk.
pub struct SnapshotDesk {
    tasks: Arc<LockQueue<Task>>,
    is_writing: AtomicBool,
    newest_bytes: AtomicU64,
    /// The state of a received snapshot, until the apply-loop takes it.
    received: Mutex<Option<(EntryId, StateMachine)>>,
    open_disk: Box<dyn Fn() -> Box<dyn Disk> + Send + Sync>,
}

impl SnapshotDesk {
    /// An empty desk; `open_disk` opens the data directory once more, for whoever loads a snapshot.
    pub fn new(open_disk: impl Fn() -> Box<dyn Disk> + Send + Sync + 'static) -> SnapshotDesk {
        SnapshotDesk {
            tasks: Arc::new(LockQueue::new(TASKS_MAX)),
            is_writing: AtomicBool::new(false),
            newest_bytes: AtomicU64::new(0),
            received: Mutex::default(),
            open_disk: Box::new(open_disk),
        }
    }

    /// Whether a snapshot is being written: another is not begun before it is done.
    pub fn is_writing(&self) -> bool {
        self.is_writing.load(Ordering::Acquire)
    }

    /// The size of the newest snapshot's file.
    pub fn newest_bytes(&self) -> u64 {
        self.newest_bytes.load(Ordering::Relaxed)
    }

    /// Asks for the snapshot of `frozen` to be written. Not before the last one is done.
    ///
    /// # Errors
    /// When the desk is full; the instant is given up.
    pub fn write(&self, frozen: Frozen, last: EntryId) -> Result<(), DeskFull> {
        let was_writing = self.is_writing.swap(true, Ordering::AcqRel);
        assert!(!was_writing, "one snapshot is written at a time");
        let left = self.leave(Task::Write { frozen, last });
        if left.is_err() {
            self.is_writing.store(false, Ordering::Release);
        }
        left
    }

    /// Asks for the newest snapshot to be sent. If the desk is full, the leader asks again when the peer answers it.
    pub fn send(&self, to: NodeId, term: Term) -> Result<(), DeskFull> {
        self.leave(Task::Send { to, term })
    }

    /// Asks for a spare segment. If the desk is full, the log writer makes one itself when it needs it.
    pub fn prepare_spare(&self, plan: SparePlan) -> Result<(), DeskFull> {
        self.leave(Task::Spare(plan))
    }

    /// The state of the snapshot file of `meta`. Unless it was received just now this reads the whole file: the apply-loop's
    /// right, which waits for it.
    ///
    /// # Errors
    /// When the file is damaged or is no state.
    pub fn load(&self, meta: &SnapshotMeta) -> Result<StateMachine, LoadError> {
        let received = locked(&self.received).take();
        match received.filter(|(last, _)| *last == meta.last) {
            Some((_, machine)) => Ok(machine),
            None => load(&mut *(self.open_disk)(), meta.last),
        }
    }

    /// The state of the snapshot that is the newest by its name, if it is sound, and its last entry. For a start, while another
    /// thread finds out which one counts.
    pub fn load_newest(&self) -> Option<(EntryId, StateMachine)> {
        let mut disk = (self.open_disk)();
        let files = list_files(&mut *disk).ok()?;
        let last = files.iter().filter_map(|entry| snapshot_id(&entry.file)).max()?;
        Some((last, load(&mut *disk, last).ok()?))
    }

    /// No more tasks are done; whoever waits for an answer learns that it is lost.
    pub fn close(&self) {
        self.tasks.close();
    }

    /// The next task; waits for one as long as `patience` says.
    pub fn wait(&self, patience: Option<Duration>) -> PopTimeout<Task> {
        match patience {
            Some(patience) => self.tasks.pop_timeout(patience),
            None => self.tasks.pop().map_or(PopTimeout::Closed, PopTimeout::Item),
        }
    }

    /// Whether no task waits. Already history when the caller reads it.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn leave(&self, task: Task) -> Result<(), DeskFull> {
        self.tasks.try_push(task).map_err(|_| DeskFull)
    }

    /// Keeps the state of a received snapshot for whoever loads it next.
    pub(super) fn keep_received(&self, last: EntryId, machine: StateMachine) {
        let before = locked(&self.received).replace((last, machine));
        drop(before);
    }

    /// Nobody will load what is kept.
    pub(super) fn forget_received(&self) {
        let received = locked(&self.received).take();
        drop(received);
    }

    pub(super) fn note_newest_bytes(&self, bytes: u64) {
        self.newest_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn note_written(&self) {
        self.is_writing.store(false, Ordering::Release);
    }
}

/// The desk takes no more tasks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TASKS_MAX} tasks of the snapshotter wait already, or it has stopped")]
pub struct DeskFull;

impl SnapshotReceiver for SnapshotDesk {
    fn chunk(&self, from: NodeId, request: InstallSnapshotRequest, answer: ChunkAnswer) {
        // A chunk that finds no room is lost: its answer is dropped, and the sender begins again later. Chunks leave
        // room for what this node asks of itself.
        if self.tasks.len() < CHUNKS_MAX {
            let _ = self.leave(Task::Receive { from, request, answer });
        }
    }
}

fn load(disk: &mut dyn Disk, last: EntryId) -> Result<StateMachine, LoadError> {
    let mut reader = SnapshotReader::open(disk, snapshot_name(last))?;
    let mut restore = Restore::new();
    while let Some(piece) = reader.next_piece(disk)? {
        restore.feed(&piece)?;
    }
    Ok(restore.finish()?)
}
