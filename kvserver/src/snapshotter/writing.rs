//! Writing a snapshot of this node's own state: one chunk a turn, read at the frozen version while entries go on
//! being applied; then the log before it may go.

use log::{info, warn};
use raft::core::{EntryId, Index, SnapshotMeta};
use raft::driver::LogItem;
use raft::storage::snapshot_file::SnapshotWriter;

use super::{Broken, Snapshotter};
use crate::state_machine::{Cursor, Frozen};

/// Versions freed under one write lock, of those that only the snapshot needed.
const VERSIONS_PER_LOCK: usize = 256;

/// A snapshot on its way to the disk.
pub(super) struct Writing {
    frozen: Frozen,
    cursor: Cursor,
    file: SnapshotWriter,
}

/// A durable snapshot whose log may go once it is on disk itself: a leader applies what its followers have on
/// theirs, so its own log may be behind its state.
pub(super) struct Compaction {
    meta: SnapshotMeta,
}

impl Snapshotter {
    pub(super) fn begin_writing(&mut self, frozen: Frozen, last: EntryId) -> Result<(), Broken> {
        assert!(self.writing.is_none(), "one snapshot is written at a time");
        let membership = self.node.with_core(|core| core.membership_at(last.index).cloned());
        let Ok(Some(membership)) = membership else {
            // The node has stopped, or a received snapshot is about to replace what was frozen.
            self.desk.note_written();
            return Ok(());
        };
        let file = self.files.begin_write(&mut *self.disk, SnapshotMeta { last, membership })?;
        self.writing = Some(Writing { frozen, cursor: Cursor::start(), file });
        Ok(())
    }

    /// Writes the next chunk, or makes the file durable after the last.
    pub(super) fn write_on(&mut self) -> Result<(), Broken> {
        let Some(Writing { frozen, cursor, mut file }) = self.writing.take() else { return Ok(()) };
        let chunk = self.state.read().snapshot_chunk(&frozen, &cursor, self.sizes.read);
        let Ok((bytes, next)) = chunk else {
            warn!("a snapshot is given up: the state was replaced by a received one meanwhile");
            self.desk.note_written();
            return Ok(self.files.abort_write(&mut *self.disk, file)?);
        };
        file.write(&mut *self.disk, &bytes)?;
        match next {
            Some(cursor) => self.writing = Some(Writing { frozen, cursor, file }),
            None => {
                let meta = file.meta().clone();
                self.files.finish_write(&mut *self.disk, file)?;
                self.state.write().unpin(frozen);
                while self.state.write().reclaim(VERSIONS_PER_LOCK) {}
                self.desk.note_newest_bytes(self.files.newest_bytes());
                self.desk.note_written();
                info!(
                    "a snapshot up to index {} is on disk, {} bytes",
                    meta.last.index,
                    self.files.newest_bytes()
                );
                self.compaction = Some(Compaction { meta });
            }
        }
        Ok(())
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
