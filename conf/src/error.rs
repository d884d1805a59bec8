//! Why a configuration cannot be used, as one sentence for the person who wrote it.
//!
//! Programs print the `Display` text as it is and leave with exit code 2. It must never need the source of the
//! error, a debug format or knowledge of this program's inside to be understood.

use std::io;
use std::path::PathBuf;

/// What is wrong with the configuration: which file, which line, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfError {
    /// The file cannot be read; whether it is simply not there is told by [`ConfError::is_not_found`].
    #[error("{} cannot be read: {reason}", file.display())]
    Read {
        /// The file that was asked for.
        file: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {reason}", file.display())]
    Write {
        /// The file that was to be written.
        file: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// A line is wrong.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The name of the file, as the caller gave it.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what to write instead.
        what: String,
    },
    /// The file as a whole is wrong, no single line is to blame.
    #[error("{file}: {what}")]
    Whole {
        /// The name of the file, as the caller gave it.
        file: String,
        /// What is wrong and what to write instead.
        what: String,
    },
}

impl ConfError {
    /// Whether the file does not exist, which a launcher may answer by writing one.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ConfError::Read { reason, .. } if reason.kind() == io::ErrorKind::NotFound)
    }
}
