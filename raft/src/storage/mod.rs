//! What the node must remember through a crash: the log, the snapshots, its identity; and the disk under them.

pub mod disk;
pub mod identity;
pub mod memory;
mod memory_state;
pub mod real_disk;
pub mod recovery;
pub mod snapshot_file;
pub mod snapshot_store;
pub mod sync_times;
pub mod wal;

pub use disk::{Disk, DiskError, DiskOp, FileName};
pub use identity::{DataDirectory, Identity, IdentityError};
pub use memory::{MemoryDisk, MemoryFiles};
pub use real_disk::RealDisk;
pub use recovery::{Recovery, StorageError, recover};
pub use snapshot_file::{SnapshotError, SnapshotReader, SnapshotWriter};
pub use snapshot_store::{PinnedSnapshot, SnapshotStore};
pub use sync_times::SyncTimes;
pub use wal::{Wal, WalConfig, WalError};
