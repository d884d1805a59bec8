//! The snapshotter: all file work with snapshots, on a thread of its own.
//!
//! Others leave tasks at the [`SnapshotDesk`] and go on. A turn does one task or one step of the snapshot being
//! written, so that writing stops neither sending nor receiving, and none of them stops reads or writes of the store
//! for longer than one chunk takes to be read.

mod desk;
mod receiving;
mod sending;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use raft::driver::{LogItem, RaftNode};
use raft::net::ChunkSender;
use raft::storage::disk::{Disk, DiskError};
use raft::storage::snapshot_file::SnapshotError;
use raft::storage::snapshot_store::{PinnedSnapshot, SnapshotStore};
use raft::sync::PopTimeout;

pub use desk::{DeskFull, LoadError, SnapshotDesk, Task};

use crate::shared_state::SharedState;
use crate::state_machine::Restore;
use receiving::Received;
use sending::Sendings;
use writing::{Compaction, PutOff, Writing};

/// How long the snapshotter waits before it tries again to shorten a log that is not on disk yet.
const COMPACTION_PAUSE: Duration = Duration::from_millis(10);

/// How much of a snapshot is handled at once, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    /// Read from the store under one read lock: entries wait no longer than this takes to be copied.
    pub read: usize,
    /// Of the file, sent to a follower in one message.
    pub send: usize,
}

impl Default for ChunkSizes {
    fn default() -> ChunkSizes {
        ChunkSizes { read: 256 << 10, send: 1 << 20 }
    }
}

/// The snapshotter's own state.
pub struct Snapshotter {
    node: Arc<RaftNode>,
    desk: Arc<SnapshotDesk>,
    state: Arc<SharedState>,
    disk: Box<dyn Disk>,
    files: SnapshotStore,
    chunks: Arc<dyn ChunkSender>,
    sizes: ChunkSizes,
    writing: Option<Writing>,
    /// A snapshot that found no room and is to be tried again.
    put_off: Option<PutOff>,
    compaction: Option<Compaction>,
    sendings: Sendings,
    /// A snapshot that has come whole and is to be installed in the next turn.
    received: Option<Received>,
    /// The state of the snapshot that is being received, as far as that was read back; None when it is none, or not wanted.
    restore: Option<Restore>,
    /// Received snapshots that the apply-loop has not loaded yet.
    restoring: Vec<PinnedSnapshot>,
}

/// Why the snapshotter cannot go on: the disk broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// While it worked on snapshots.
    #[error("its snapshots: {0}")]
    Snapshots(#[from] SnapshotError),
    /// While it made a file for the log.
    #[error("its log: {0}")]
    Log(DiskError),
}

impl From<DiskError> for Broken {
    fn from(error: DiskError) -> Broken {
        Broken::Snapshots(SnapshotError::Disk(error))
    }
}

impl Snapshotter {
    /// A snapshotter over the snapshots of `disk`'s directory.
    pub fn new(
        node: Arc<RaftNode>,
        desk: Arc<SnapshotDesk>,
        state: Arc<SharedState>,
        disk: Box<dyn Disk>,
        files: SnapshotStore,
        chunks: Arc<dyn ChunkSender>,
    ) -> Snapshotter {
        desk.note_newest_bytes(files.newest_bytes());
        let (sizes, writing, put_off, compaction, sendings) = Default::default();
        let (received, restore, restoring) = Default::default();
        Snapshotter {
            node,
            desk,
            state,
            disk,
            files,
            chunks,
            sizes,
            writing,
            put_off,
            compaction,
            sendings,
            received,
            restore,
            restoring,
        }
    }

    /// Has it work in chunks of other sizes than the default.
    #[must_use]
    pub fn with_chunk_sizes(self, sizes: ChunkSizes) -> Snapshotter {
        Snapshotter { sizes, ..self }
    }

    /// The `snapshotter` thread: turns until the desk is closed.
    pub fn run(&mut self) {
        loop {
            let task = match self.desk.wait(self.patience()) {
                PopTimeout::Item(task) => Some(task),
                PopTimeout::TimedOut => None,
                PopTimeout::Closed => return,
            };
            if let Err(error) = self.turn(task) {
                return self.node.fail(&error.to_string());
            }
        }
    }

    /// How long to wait for a task before the next turn; None: until one comes.
    pub fn patience(&self) -> Option<Duration> {
        if self.writing.is_some() || self.received.is_some() {
            return Some(Duration::ZERO);
        }
        if self.compaction.is_some() {
            return Some(COMPACTION_PAUSE);
        }
        self.put_off.as_ref().map(PutOff::pause)
    }

    /// Does `task`, or what is done when none came for as long as there was patience, and the next step of what is being
    /// written.
    ///
    /// # Errors
    /// When the disk breaks.
    pub fn turn(&mut self, task: Option<Task>) -> Result<(), Broken> {
        // Before another chunk may begin another file.
        self.finish_receiving()?;
        match task {
            Some(Task::Write { frozen, last }) => self.begin_writing(frozen, last)?,
            Some(Task::Send { to, term }) => self.begin_sending(to, term)?,
            Some(Task::Answered { to, number, answer }) => self.go_on_sending(to, number, answer)?,
            Some(Task::Receive { from, request, answer }) => self.receive(from, request, answer)?,
            Some(Task::Spare(plan)) => {
                let spare = plan.prepare(&mut *self.disk).map_err(Broken::Log)?;
                self.node.log_work().append(LogItem::Spare(spare));
                self.node.log_work().announce();
            }
            None => self.begin_again()?,
        }
        // Also after a task: many of them must not keep the log from being shortened.
        self.write_on()?;
        self.compact();
        self.unpin_restored();
        Ok(())
    }
}
