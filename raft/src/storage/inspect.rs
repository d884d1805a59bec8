//! A look at a data directory that changes nothing: every file for itself, and what a start would make of them all.
//!
//! The records and pieces are read by the code that opens a log and loads a snapshot, and the verdict is that of the
//! recovery itself (`super::recovery::examine`). A directory that a node uses moves under the reader's hands: whoever
//! wants a verdict holds a `DirectoryLock` meanwhile.

use raft_core::{EntryId, SnapshotMeta};

use super::disk::{Disk, DiskError, FileEntry, FileName, list_files};
use super::identity::IDENTITY_FILE;
use super::recovery::{Examined, StorageError, examine};
use super::snapshot_file::{SnapshotError, snapshot_id};
use super::snapshot_store::{is_temporary, verify};
use super::wal::{
    HeaderRead, PROMISES_FILE, Record, RecordPlace, SegmentReport, WalConfig, WalError, inspect_segments,
    is_set_aside, segment_sequence, spare_number,
};

/// What is in a data directory.
#[derive(Debug)]
pub struct Inspection {
    /// The segments of the log, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The snapshots that have their names, oldest first.
    pub snapshots: Vec<SnapshotReport>,
    /// Files without meaning: spares, and snapshots that were never finished. The next start removes them.
    pub leftovers: Vec<FileEntry>,
    /// What was set aside of a log and of snapshots that were found damaged, and is let go when they are repaired.
    pub set_aside: Vec<FileEntry>,
    /// Files that nobody here has written, in order of their names. They are left alone.
    pub foreign: Vec<FileEntry>,
    /// What a node would start from, or why it would refuse to.
    pub verdict: Result<Examined, StorageError>,
}

/// What one snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Its file.
    pub file: FileName,
    /// The size of the file.
    pub file_bytes: u64,
    /// How many pieces of it have sound checksums, from the first on.
    pub pieces: u64,
    /// The content of these, in bytes.
    pub content_bytes: u64,
    /// What it stands for if all of it is sound; else where it is damaged.
    pub meta: Result<SnapshotMeta, SnapshotError>,
}

/// Looks at the directory of `disk` and shows `visit` every record of its log in the order of the segments. `seed` is the
/// directory's own number, its incarnation; where it is not known, the log's first readable header names it.
/// `log_must_exist` says that the node has taken part, so that no log is a loss.
///
/// # Errors
/// When the disk cannot be read. Damage is no error here: it is the verdict.
pub fn inspect(
    disk: &mut dyn Disk,
    seed: Option<u64>,
    log_must_exist: bool,
    visit: &mut dyn FnMut(RecordPlace<'_>, &Record),
) -> Result<Inspection, DiskError> {
    let segments = inspect_segments(disk, seed, visit)?;
    let (mut snapshots, mut leftovers, mut set_aside, mut foreign) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for entry in list_files(disk)? {
        let is_identity = [IDENTITY_FILE, PROMISES_FILE].contains(&entry.file.as_str());
        if let Some(last) = snapshot_id(&entry.file) {
            snapshots.push(inspect_snapshot(disk, entry, last)?);
        } else if is_temporary(&entry.file) || spare_number(&entry.file).is_some() {
            leftovers.push(entry);
        } else if is_set_aside(&entry.file) {
            set_aside.push(entry);
        } else if segment_sequence(&entry.file).is_none() && !is_identity {
            foreign.push(entry);
        }
    }
    let first_header = segments.iter().find_map(|segment| match segment.header {
        HeaderRead::Header(header) => Some(header.seed),
        HeaderRead::UnknownVersion(_) | HeaderRead::Unreadable => None,
    });
    let config = WalConfig::new(seed.or(first_header).unwrap_or_default());
    let verdict = match examine(disk, config, log_must_exist) {
        Err(
            StorageError::Disk(error)
            | StorageError::Wal(WalError::Disk(error))
            | StorageError::Snapshot(SnapshotError::Disk(error)),
        ) => return Err(error),
        verdict => verdict,
    };
    Ok(Inspection { segments, snapshots, leftovers, set_aside, foreign, verdict })
}

fn inspect_snapshot(
    disk: &mut dyn Disk,
    entry: FileEntry,
    last: EntryId,
) -> Result<SnapshotReport, DiskError> {
    let (mut pieces, mut content_bytes) = (0, 0);
    let meta = verify(disk, &entry.file, last, |piece| {
        pieces += 1;
        content_bytes += piece.len() as u64;
    });
    match meta {
        Err(SnapshotError::Disk(error)) => Err(error),
        meta => Ok(SnapshotReport { file: entry.file, file_bytes: entry.bytes, pieces, content_bytes, meta }),
    }
}
