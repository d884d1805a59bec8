//! What the node must remember through a crash: the log, the snapshots, its identity; and the disk under them.
//!
//! ```text
//! identity                        whose directory this is (`identity`)
//! wal-<number>.log                the log's segments, in order of their numbers (`wal`)
//! spare-<number>.log              files waiting to become segments; content without meaning
//! snapshot-<index>-<term>.snap    whole snapshots, two as a rule (`snapshot_file`, `snapshot_store`)
//! snapshot-<number>.tmp           one that is being written or received; removed at the next start
//! ```
//!
//! The byte layouts stand at the top of `identity`, `wal/segment`, `wal/record` and `snapshot_format`; each file begins
//! with a magic and a version, and an unknown version is refused by name. Everything but the identity goes through the
//! `Disk` trait: `real_disk` ships, `memory` is for tests and the simulator.
//!
//! `inspect` shows what is in a directory, and what a start would make of it, without changing a byte.
//!
//! What holds for all of it: nothing is promised before it is durable; nothing is repaired that had been promised, it
//! is refused with the file's name and the place; a failed write or sync is never tried again.

pub mod collection;
pub mod directory_lock;
pub mod disk;
pub mod identity;
pub mod inspect;
pub mod memory;
mod memory_state;
pub mod real_disk;
pub mod recovery;
pub mod snapshot_file;
mod snapshot_format;
pub mod snapshot_store;
mod snapshot_stream;
pub mod sync_times;
pub mod wal;

pub use collection::{Collection, Contradiction};
pub use directory_lock::DirectoryLock;
pub use disk::{Disk, DiskError, DiskOp, FileName};
pub use identity::{DataDirectory, Identity, IdentityError};
pub use inspect::{Inspection, SnapshotReport, inspect};
pub use memory::{MemoryDisk, MemoryFiles};
pub use real_disk::RealDisk;
pub use recovery::{Examined, Recovery, Remark, StorageError, examine, recover};
pub use snapshot_file::{SnapshotError, SnapshotReader, SnapshotWriter};
pub use snapshot_store::{PinnedSnapshot, SnapshotStore};
pub use sync_times::{SyncFigures, SyncTimes};
pub use wal::{Wal, WalConfig, WalError};
