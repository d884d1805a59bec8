//! A data directory whose files are read without being copied, so that a flip of every single byte can be tried: the
//! byte is changed in place, the shipped recovery runs, and the byte is changed back.

#![allow(dead_code, reason = "the tests and the complete run each use their part of this")]
#![allow(clippy::unwrap_used, reason = "test code")]

mod places;
mod written;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use raft::storage::disk::{Completion, Disk, DiskError, DiskOp, FileEntry, FileName, OpId, Outcome};
use raft::storage::{MemoryFiles, SnapshotError, StorageError, WalError, examine, recover};

pub(crate) use places::{Part, parts};
pub(crate) use written::Written;

/// Of the flips one in this many is looked at without a start first: the verdict must be the same.
const LOOKED_AT: u64 = 7;

/// What becomes of one flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// The node starts, with exactly what was written.
    Recovered,
    /// The node does not start, and says which file is damaged where.
    Refused,
}

/// The files of a data directory that was written, as they lie on the platters.
#[derive(Debug)]
pub(crate) struct Files(BTreeMap<FileName, Bytes>);

impl Files {
    /// Copies of all that is in `files`.
    pub(crate) fn of(files: &MemoryFiles) -> Files {
        Files(files.contents().into_iter().map(|(file, content)| (file, Bytes::from(content))).collect())
    }

    /// Copies that share no memory, for another thread.
    pub(crate) fn copy(&self) -> Files {
        let copy = |(file, content): (&FileName, &Bytes)| (file.clone(), Bytes::copy_from_slice(content));
        Files(self.0.iter().map(copy).collect())
    }

    /// The files whose names begin like this, each with its size.
    pub(crate) fn named(&self, beginning: &str) -> Vec<(FileName, u64)> {
        let named = self.0.iter().filter(|(file, _)| file.as_str().starts_with(beginning));
        named.map(|(file, content)| (file.clone(), content.len() as u64)).collect()
    }

    /// What is in a file.
    pub(crate) fn content(&self, file: &FileName) -> &[u8] {
        &self.0[file]
    }

    /// Changes the bits of `mask` in one byte, in place. No disk of these files may be alive.
    pub(crate) fn flip(&mut self, file: &FileName, offset: u64, mask: u8) {
        let content = self.0.get_mut(file).unwrap();
        let mut bytes: BytesMut = std::mem::take(content).try_into_mut().expect("nobody reads");
        bytes[offset as usize] ^= mask;
        *content = bytes.freeze();
    }

    /// A disk on these files; what it changes stays its own.
    pub(crate) fn disk(&self) -> FlipDisk {
        FlipDisk { files: self.0.clone(), completions: VecDeque::new(), next_id: 0, changes: 0 }
    }

    /// Flips, starts a node as it ships, looks at what comes of it, and flips back. Panics at a wrong answer: a node
    /// that starts must have exactly what was written, one that does not must name this file and no place behind the
    /// flip.
    pub(crate) fn try_flip(&mut self, written: &Written, file: &FileName, offset: u64, mask: u8) -> Verdict {
        self.flip(file, offset, mask);
        let mut disk = self.disk();
        let looked = offset.is_multiple_of(LOOKED_AT).then(|| examine(&mut disk, written.config(), true));
        assert_eq!(disk.changes, 0, "looking changed a file");
        let looked = looked.map(|looked| looked.map(|examined| examined.restored));
        let verdict = match recover(&mut disk, written.config(), true) {
            Ok(recovery) => {
                assert!(looked.is_none_or(|looked| looked.as_ref() == Ok(&recovery.restored)));
                written.check(&recovery, &mut disk, file);
                Verdict::Recovered
            }
            Err(error) => {
                assert!(looked.is_none_or(|looked| looked.as_ref() == Err(&error)));
                let named = place_named(&error);
                let is_named = named.is_some_and(|(named, at)| named == *file && at <= offset);
                assert!(is_named, "{file}, byte {offset}, mask {mask:02x}: {error}");
                if disk.changes > 0 {
                    // With the byte as it was the node starts: nothing was changed that a repair would need.
                    disk.flip(file, offset, mask);
                    let recovery = recover(&mut disk, written.config(), true).unwrap();
                    written.check(&recovery, &mut disk, file);
                }
                Verdict::Refused
            }
        };
        drop(disk);
        self.flip(file, offset, mask);
        verdict
    }
}

/// The file and the byte in it that a refusal names.
fn place_named(error: &StorageError) -> Option<(FileName, u64)> {
    match error {
        StorageError::Wal(
            WalError::Damaged { file, offset, .. } | WalError::UnknownRecord { file, offset, .. },
        )
        | StorageError::Snapshot(SnapshotError::Damaged { file, offset, .. })
        | StorageError::SnapshotLost { cause: SnapshotError::Damaged { file, offset, .. }, .. } => {
            Some((file.clone(), *offset))
        }
        _ => None,
    }
}

/// One process's view of `Files`: reads share their memory, what is changed is copied first.
pub(crate) struct FlipDisk {
    files: BTreeMap<FileName, Bytes>,
    completions: VecDeque<Completion>,
    next_id: u64,
    /// How many operations changed a file or a name.
    changes: u64,
}

impl FlipDisk {
    fn flip(&mut self, file: &FileName, offset: u64, mask: u8) {
        let content = self.files.get_mut(file).unwrap();
        let mut bytes = BytesMut::from(&content[..]);
        bytes[offset as usize] ^= mask;
        *content = bytes.freeze();
    }

    fn carry_out(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        let not_found =
            |file: &FileName| DiskError::NotFound { operation: "an operation", file: file.clone() };
        self.changes += u64::from(op.changes() && op != DiskOp::SyncDirectory);
        match op {
            DiskOp::Read { file, offset, bytes } => {
                let content = self.files.get(&file).ok_or_else(|| not_found(&file))?;
                let start = (offset as usize).min(content.len());
                return Ok(Outcome::Read(
                    content.slice(start..start.saturating_add(bytes).min(content.len())),
                ));
            }
            DiskOp::List => {
                let entry = |(file, content): (&FileName, &Bytes)| FileEntry {
                    file: file.clone(),
                    bytes: content.len() as u64,
                };
                return Ok(Outcome::Files(self.files.iter().map(entry).collect()));
            }
            DiskOp::Write { file, offset, bytes, .. } => {
                let content = self.files.get_mut(&file).ok_or_else(|| not_found(&file))?;
                let mut changed = Vec::from(&content[..]);
                let end = offset as usize + bytes.len();
                changed.resize(changed.len().max(end), 0);
                changed[offset as usize..end].copy_from_slice(&bytes);
                *content = Bytes::from(changed);
                return Ok(Outcome::Written(bytes));
            }
            DiskOp::Create { file, zero_filled_bytes: bytes } | DiskOp::Reserve { file, bytes } => {
                self.files.insert(file, Bytes::from(vec![0; bytes as usize]));
            }
            DiskOp::Rename { from, to } => {
                let content = self.files.remove(&from).ok_or_else(|| not_found(&from))?;
                self.files.insert(to, content);
            }
            DiskOp::Remove { file } => {
                self.files.remove(&file).ok_or_else(|| not_found(&file))?;
            }
            DiskOp::Truncate { file, bytes } => {
                self.files.get_mut(&file).ok_or_else(|| not_found(&file))?.truncate(bytes as usize);
            }
            DiskOp::Sync { .. } | DiskOp::Forget { .. } | DiskOp::SyncDirectory => {}
        }
        Ok(Outcome::Done)
    }
}

impl Disk for FlipDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        let result = self.carry_out(op);
        self.completions.push_back(Completion { id, result });
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}
