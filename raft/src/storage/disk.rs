//! What the log and the snapshots need of a disk, as a trait: operations go in, completions come out in the same order.
//!
//! Everything durable goes through here, so that a test can stop, tear, fail or forget at every single operation
//! (`super::memory`) while the shipped code runs unchanged on files (`super::real_disk`). Submitting and completing are
//! two calls, because a turn of the log writer must never wait; `run` is for those who may.
//!
//! A `Disk` is one data directory seen by one thread. File names are relative to it and contain no separators. A disk
//! must never answer out of order, never retry a failed write or sync, and after such a failure must refuse everything:
//! what the page cache holds then is not known. That a new file or a growing one finds no room is no such failure.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

/// The name of a file in the data directory. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

impl FileName {
    /// A name; it must not be empty and must not lead out of the data directory.
    pub fn new(name: &str) -> FileName {
        assert!(!name.is_empty(), "a file needs a name");
        assert!(
            !name.contains('/') && name != "." && name != "..",
            "a file lives directly in the data directory"
        );
        FileName(Arc::from(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One thing to do on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// Makes a new file full of zeros. Fails when the file exists. Neither content nor name is durable yet. Where there is
    /// no room for all of it nothing is left of it.
    Create {
        /// The new file.
        file: FileName,
        /// Its size; zeros are really written, so that later writes change no metadata.
        zero_filled_bytes: u64,
    },
    /// Makes a new file that reads as zeros and whose room on the disk is its own from here on, without writing it: the
    /// quick way to have room. A write into it cannot find the disk full, but syncs more slowly at first. Fails as `Create`.
    Reserve {
        /// The new file.
        file: FileName,
        /// Its size.
        bytes: u64,
    },
    /// Writes into an existing file, growing it where needed.
    Write {
        /// The file.
        file: FileName,
        /// Where the first byte goes.
        offset: u64,
        /// What is written; comes back in `Outcome::Written` to be used again.
        bytes: Vec<u8>,
        /// Whether everything written to this file so far must be durable before the completion.
        sync: bool,
    },
    /// Reads from a file; less than asked for only where the file ends.
    Read {
        /// The file.
        file: FileName,
        /// The first byte.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// Makes the content of a file durable (not its name).
    Sync {
        /// The file.
        file: FileName,
    },
    /// Lets go of what is kept in memory of a file's beginning, as far as it is durable: it is not needed soon. Changes nothing.
    Forget {
        /// The file.
        file: FileName,
        /// How much of it, in bytes.
        bytes: u64,
    },
    /// Cuts a file to a size.
    Truncate {
        /// The file.
        file: FileName,
        /// The new size, not above the old one.
        bytes: u64,
    },
    /// Renames a file, replacing one of the new name. Not durable before `SyncDirectory`.
    Rename {
        /// The old name.
        from: FileName,
        /// The new name.
        to: FileName,
    },
    /// Removes a file. Not durable before `SyncDirectory`.
    Remove {
        /// The file.
        file: FileName,
    },
    /// Lists all files, by name.
    List,
    /// Makes every creation, rename and removal so far durable.
    SyncDirectory,
}

impl DiskOp {
    /// The name of the operation, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            DiskOp::Create { .. } => "create",
            DiskOp::Reserve { .. } => "reserve",
            DiskOp::Write { .. } => "write",
            DiskOp::Read { .. } => "read",
            DiskOp::Sync { .. } => "sync",
            DiskOp::Forget { .. } => "forget",
            DiskOp::Truncate { .. } => "truncate",
            DiskOp::Rename { .. } => "rename",
            DiskOp::Remove { .. } => "remove",
            DiskOp::List => "list",
            DiskOp::SyncDirectory => "sync directory",
        }
    }

    /// The file it is about, if it is about one; the old name of a rename.
    pub fn file(&self) -> Option<&FileName> {
        match self {
            DiskOp::Create { file, .. }
            | DiskOp::Reserve { file, .. }
            | DiskOp::Write { file, .. }
            | DiskOp::Read { file, .. }
            | DiskOp::Sync { file }
            | DiskOp::Forget { file, .. }
            | DiskOp::Truncate { file, .. }
            | DiskOp::Rename { from: file, .. }
            | DiskOp::Remove { file } => Some(file),
            DiskOp::List | DiskOp::SyncDirectory => None,
        }
    }

    /// Whether the operation changes the disk. A failure of one that does poisons the disk, unless [`DiskOp::survives`] says
    /// otherwise.
    pub fn changes(&self) -> bool {
        !matches!(self, DiskOp::Read { .. } | DiskOp::Forget { .. } | DiskOp::List)
    }

    /// Whether the disk goes on when this operation finds it full: what was there before is as it was. A synced write is
    /// part of a chain, and what was submitted behind it must not be done without it.
    pub fn survives(&self) -> bool {
        matches!(self, DiskOp::Create { .. } | DiskOp::Reserve { .. } | DiskOp::Write { sync: false, .. })
    }
}

/// What a completed operation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, nothing to hand out.
    Done,
    /// A write is done; its buffer, to be used again.
    Written(Vec<u8>),
    /// What was read.
    Read(Bytes),
    /// The files there are, in order of their names.
    Files(Vec<FileEntry>),
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// The name.
    pub file: FileName,
    /// The size.
    pub bytes: u64,
}

/// Names one submitted operation on one `Disk`. Rising by one with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// What became of one submitted operation.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub id: OpId,
    /// What became of it.
    pub result: Result<Outcome, DiskError>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file does not exist. Only reading operations fail this way without poisoning the disk.
    #[error("{operation} of {file}: there is no such file")]
    NotFound {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: FileName,
    },
    /// The disk is full, or the quota used up: a file was not made, or a write into one that grows was not done, or in part.
    /// Poisons the disk only where [`DiskOp::survives`] says so. A sync never fails this way.
    #[error("{operation} of {file}: no space left on the disk")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: FileName,
    },
    /// The operating system reported an error.
    #[error("{operation} of {file}: {text}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file, or "the data directory".
        file: String,
        /// The system's words.
        text: String,
    },
    /// An earlier change failed, so nothing is known about the disk and nothing is done on it any more.
    #[error("the disk is given up after an earlier failure ({first})")]
    Poisoned {
        /// The first failure, in words.
        first: Arc<str>,
    },
}

/// One data directory, as one thread sees it.
pub trait Disk: Send {
    /// Takes an operation. Operations take effect and are answered in the order they were submitted. A disk may work on
    /// several writes at once, but begins a `SyncDirectory` only when everything before it is done, and nothing
    /// behind it before that is done.
    fn submit(&mut self, op: DiskOp) -> OpId;

    /// The next completion, in the order of submission, if it is there.
    fn complete(&mut self) -> Option<Completion>;

    /// The next completion, waiting for it. Only when an operation is unanswered, and never in a turn.
    fn wait(&mut self) -> Completion {
        self.complete().expect("a disk whose operations take time brings its own `wait`")
    }

    /// Submits `op` and waits for it. Only when no earlier operation is unanswered, and never in a turn.
    fn run(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        let id = self.submit(op);
        let completion = self.wait();
        assert_eq!(completion.id, id, "run was called while earlier operations were unanswered");
        completion.result
    }
}

/// Lists the files of the data directory, waiting.
pub fn list_files(disk: &mut dyn Disk) -> Result<Vec<FileEntry>, DiskError> {
    match disk.run(DiskOp::List)? {
        Outcome::Files(files) => Ok(files),
        other => unreachable!("a listing was answered with {other:?}"),
    }
}

/// Reads up to `bytes` bytes of `file` from `offset` on, waiting; fewer only where the file ends.
pub fn read_file(
    disk: &mut dyn Disk,
    file: &FileName,
    offset: u64,
    bytes: usize,
) -> Result<Bytes, DiskError> {
    match disk.run(DiskOp::Read { file: file.clone(), offset, bytes })? {
        Outcome::Read(bytes) => Ok(bytes),
        other => unreachable!("a read was answered with {other:?}"),
    }
}
