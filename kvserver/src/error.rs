//! Why a node does not start. Each is one sentence that names what to change.

use std::path::PathBuf;

use raft::core::Index;
use raft::storage::{IdentityError, StorageError};

use crate::snapshotter::LoadError;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The data directory is another node's, in use, or not to be opened.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What is on disk cannot be used.
    #[error("the data in {}: {error}", path.display())]
    Storage {
        /// The data directory.
        path: PathBuf,
        /// What is wrong with it.
        error: StorageError,
    },
    /// The newest snapshot is no state.
    #[error("the snapshot of index {index} in {}: {error}", path.display())]
    State {
        /// The data directory.
        path: PathBuf,
        /// The last entry of the snapshot.
        index: Index,
        /// What is wrong with it.
        error: LoadError,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Random(rand::rngs::SysError),
    /// The address cannot be listened on, or no reactor could be made.
    #[error(transparent)]
    Rpc(#[from] rpc::RpcError),
    /// The system has no room for another thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}
