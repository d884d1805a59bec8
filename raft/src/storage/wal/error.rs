//! What can go wrong with the log on disk, each with the file it is about.
//!
//! All of these stop the node: the disk is broken, or the files are not ours to use. None is ever retried.

use thiserror::Error;

use super::super::disk::{DiskError, FileName};

/// Why the log cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WalError {
    /// A disk operation failed.
    #[error("the log cannot go on: {0}")]
    Disk(#[from] DiskError),
    /// A place that had been acknowledged as durable does not read back. The node must not vote or answer from here.
    #[error("{file} is damaged at byte {offset}, in a part that had been acknowledged: {reason}")]
    Damaged {
        /// The segment.
        file: FileName,
        /// The first byte that makes no sense.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment before or behind another is not there.
    #[error(
        "{file} is missing although {told_by} shows that it was part of the log; put it back as the node left it"
    )]
    MissingSegment {
        /// The name it should have.
        file: FileName,
        /// A segment that stands on it, or that says that the log goes on in it.
        told_by: FileName,
    },
    /// No segment is there where one must be.
    #[error(
        "the log is missing: there is no file wal-*.log although this directory has been in use; put the log back as the node left it"
    )]
    NoSegments,
    /// A segment of a format this version does not read.
    #[error("{file} has log format version {version}; this program reads version {known}")]
    UnknownVersion {
        /// The segment.
        file: FileName,
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// A record of a kind this version does not know; a newer one wrote it.
    #[error("{file} holds a record of unknown kind {kind} at byte {offset}; a newer program wrote it")]
    UnknownRecord {
        /// The segment.
        file: FileName,
        /// Where the record begins.
        offset: u64,
        /// Its kind.
        kind: u8,
    },
    /// A segment which another data directory's log was written with.
    #[error("{file} belongs to the log of another data directory")]
    Foreign {
        /// The segment.
        file: FileName,
    },
}
