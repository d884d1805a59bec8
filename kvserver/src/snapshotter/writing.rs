//! Writing a snapshot of this node's own state: one chunk a turn, read at the frozen version while entries go on
//! being applied; then the log before it may go.

use std::time::Duration;

use log::{debug, info, warn};
use raft::core::{EntryId, Index, SnapshotMeta};
use raft::driver::LogItem;
use raft::storage::disk::DiskError;
use raft::storage::snapshot_file::SnapshotWriter;

use super::{Broken, Snapshotter};
use crate::state_machine::{Cursor, Frozen};

/// Versions freed under one write lock, of those that only the snapshot needed.
const VERSIONS_PER_LOCK: usize = 256;

/// How long a snapshot that found no room is put off at first, and with each time in a row twice as long, up to the most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A snapshot on its way to the disk.
pub(super) struct Writing {
    frozen: Frozen,
    /// How long it is put off if it finds no room.
    pause: Duration,
    cursor: Cursor,
    file: SnapshotWriter,
}

/// A snapshot that found no room on the disk. Its instant stays frozen, and it is begun anew later.
pub(super) struct PutOff {
    frozen: Frozen,
    last: EntryId,
    pause: Duration,
}

impl PutOff {
    /// How long to wait before it is tried again.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}

/// A durable snapshot whose log may go once it is on disk itself: a leader applies what its followers have on
/// theirs, so its own log may be behind its state.
pub(super) struct Compaction {
    meta: SnapshotMeta,
}

impl Snapshotter {
    pub(super) fn begin_writing(&mut self, frozen: Frozen, last: EntryId) -> Result<(), Broken> {
        assert!(self.writing.is_none() && self.put_off.is_none(), "one snapshot is written at a time");
        self.begin(frozen, last, PAUSE_FIRST)
    }

    /// Begins a snapshot anew that was put off.
    pub(super) fn begin_again(&mut self) -> Result<(), Broken> {
        match self.put_off.take() {
            Some(PutOff { frozen, last, pause }) => self.begin(frozen, last, (2 * pause).min(PAUSE_MAX)),
            None => Ok(()),
        }
    }

    fn begin(&mut self, frozen: Frozen, last: EntryId, pause: Duration) -> Result<(), Broken> {
        let membership = self.node.with_core(|core| core.membership_at(last.index).cloned());
        let Ok(Some(membership)) = membership else {
            // The node has stopped, or a received snapshot is about to replace what was frozen.
            self.note_written();
            return Ok(());
        };
        match self.files.begin_write(&mut *self.disk, SnapshotMeta { last, membership }) {
            Ok(file) => self.writing = Some(Writing { frozen, pause, cursor: Cursor::start(), file }),
            Err(DiskError::Full { .. }) => self.put_off(frozen, last, pause),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Another may be begun.
    fn note_written(&self) {
        self.desk.note_written();
        self.node.snapshot_done();
    }

    fn put_off(&mut self, frozen: Frozen, last: EntryId, pause: Duration) {
        let index = last.index;
        match pause == PAUSE_FIRST {
            true => warn!(
                "the disk is full: the snapshot up to index {index} is put off, and the log grows meanwhile"
            ),
            false => debug!("the snapshot up to index {index} is put off again, for {pause:?}"),
        }
        self.put_off = Some(PutOff { frozen, last, pause });
    }

    /// Writes the next chunk, or makes the file durable after the last.
    pub(super) fn write_on(&mut self) -> Result<(), Broken> {
        let Some(Writing { frozen, pause, cursor, mut file }) = self.writing.take() else { return Ok(()) };
        let chunk = self.state.read().snapshot_chunk(&frozen, &cursor, self.sizes.read);
        let Ok((bytes, next)) = chunk else {
            warn!("a snapshot is given up: the state was replaced by a received one meanwhile");
            self.note_written();
            return Ok(self.files.abort_write(&mut *self.disk, file)?);
        };
        let last = file.meta().last;
        match file.write(&mut *self.disk, &bytes) {
            Ok(()) => {}
            Err(DiskError::Full { .. }) => {
                self.files.abort_write(&mut *self.disk, file)?;
                self.put_off(frozen, last, pause);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        match next {
            Some(cursor) => self.writing = Some(Writing { frozen, pause, cursor, file }),
            None => match self.files.finish_write(&mut *self.disk, file) {
                Ok(meta) => self.written(frozen, meta),
                Err(DiskError::Full { .. }) => self.put_off(frozen, last, pause),
                Err(error) => return Err(error.into()),
            },
        }
        Ok(())
    }

    fn written(&mut self, frozen: Frozen, meta: SnapshotMeta) {
        self.state.write().unpin(frozen);
        while self.state.write().reclaim(VERSIONS_PER_LOCK) {}
        self.desk.note_newest_bytes(self.files.newest_bytes());
        self.note_written();
        info!("a snapshot up to index {} is on disk, {} bytes", meta.last.index, self.files.newest_bytes());
        self.compaction = Some(Compaction { meta });
    }

    /// Lets the log before the newest own snapshot go, once the log itself is on disk as far as that.
    pub(super) fn compact(&mut self) {
        let Some(Compaction { meta }) = self.compaction.take() else { return };
        let Ok(is_compacted) = self.node.with_core(|core| core.compact(meta.clone())) else { return };
        match is_compacted {
            true => self.let_log_go(),
            false => self.compaction = Some(Compaction { meta }),
        }
    }

    /// Segments go that no kept snapshot needs.
    pub(super) fn let_log_go(&self) {
        if let Some(Index(up_to)) = self.files.log_needed_after() {
            self.node.log_work().append(LogItem::Compact(Index(up_to)));
            self.node.log_work().announce();
        }
    }
}
