//! The data directory, opened: identity, log, snapshots and the state they amount to, before any of the node's threads exists.

use std::sync::Arc;
use std::thread;

use log::{info, log};
use raft::core::NodeId;
use raft::storage::{
    DataDirectory, Disk, RealDisk, Recovery, SnapshotStore, SyncTimes, Wal, WalConfig, recover,
};
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{Rng, SeedableRng};

use crate::config::ServerConfig;
use crate::error::StartError;
use crate::file_system::file_system;
use crate::shared_state::SharedState;
use crate::snapshotter::SnapshotDesk;
use crate::state_machine::StateMachine;

/// What a node starts from.
pub(crate) struct Opened {
    pub(crate) directory: DataDirectory,
    pub(crate) wal: Wal,
    /// The log writer's.
    pub(crate) log_disk: Box<dyn Disk>,
    /// The snapshotter's.
    pub(crate) snapshot_disk: Box<dyn Disk>,
    pub(crate) sync_times: Arc<SyncTimes>,
    pub(crate) log: raft::core::Restored,
    /// The log lacks something that was acknowledged.
    pub(crate) is_convalescent: bool,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) state: Arc<SharedState>,
    pub(crate) desk: Arc<SnapshotDesk>,
    pub(crate) file_system: String,
    /// Seeded by the system: election timeouts of different nodes must differ.
    pub(crate) random: ChaCha8Rng,
    /// A number that no other start of any node has.
    pub(crate) start_number: u64,
}

/// What a command has in the log beside its key and value, at most.
const COMMAND_FRAME_BYTES: u64 = 1 << 20;

/// The log's settings: the largest command finds its place in a segment, so that room can be reserved for it.
fn wal_config(config: &ServerConfig, seed: u64) -> WalConfig {
    let shipped = WalConfig::new(seed);
    let largest = (config.key_bytes_max + config.value_bytes_max) as u64 + COMMAND_FRAME_BYTES;
    // What one node has lost, others give back.
    let repairs = config.members.len() > 1;
    WalConfig { segment_bytes: shipped.segment_bytes.max(largest), repairs, ..shipped }
}

impl Opened {
    /// Opens the data directory of `config` and recovers what is in it.
    pub(crate) fn open(config: &ServerConfig) -> Result<Opened, StartError> {
        let path = &config.data_dir;
        let directory = DataDirectory::open(path, &config.cluster_id, NodeId(config.node_id))?;
        let mut log_disk = RealDisk::new(path);
        let wal_config = wal_config(config, directory.identity().incarnation);
        let storage_error = |error| StartError::Storage { path: path.clone(), error };
        let desk = Arc::new(SnapshotDesk::new({
            let path = path.clone();
            move || Box::new(RealDisk::new(&path))
        }));
        // The log and the state of a large store take a second each to be read.
        let (recovery, loaded) = thread::scope(|scope| {
            let loader = thread::Builder::new().name("state-loader".to_owned());
            let loader = loader.spawn_scoped(scope, || desk.load_newest())?;
            let recovery = recover(&mut log_disk, wal_config, !directory.is_fresh()).map_err(storage_error);
            let loaded = loader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            recovery.map(|recovery| (recovery, loaded))
        })?;
        let Recovery { wal, restored, snapshots, remarks, is_convalescent } = recovery;
        for remark in remarks {
            log!(remark.level, "{}", remark.text);
        }
        let machine = match (&restored.snapshot, loaded) {
            (None, _) => StateMachine::new(),
            (Some(meta), Some((last, machine))) if last == meta.last => machine,
            (Some(meta), _) => desk.load(meta).map_err(|error| StartError::State {
                path: path.clone(),
                index: meta.last.index,
                error,
            })?,
        };
        info!(
            "{}: the state is of index {}, the log goes on for {} entries",
            path.display(),
            machine.applied(),
            restored.entries.len()
        );
        let mut random = ChaCha8Rng::try_from_rng(&mut SysRng).map_err(StartError::Random)?;
        let start_number = random.next_u64();
        Ok(Opened {
            directory,
            wal,
            sync_times: log_disk.sync_times(),
            log_disk: Box::new(log_disk),
            snapshot_disk: Box::new(RealDisk::new(path)),
            log: restored,
            is_convalescent,
            snapshots,
            state: Arc::new(SharedState::new(machine)),
            desk,
            file_system: file_system(path),
            random,
            start_number,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::core::{Entry, Index, Payload, Persist, Term};
    use raft::storage::memory::{MemoryDisk, MemoryFiles};

    use super::*;
    use crate::state_machine::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

    #[test]
    fn the_largest_write_that_may_be_allowed_finds_its_place_in_the_reserve() {
        for value_bytes_max in [1, 8 << 20, VALUE_BYTES_MAX] {
            let shipped = ServerConfig::new(0, "", Vec::new(), "", "".into());
            let config = ServerConfig { key_bytes_max: KEY_BYTES_MAX, value_bytes_max, ..shipped };
            let files = MemoryFiles::new();
            let (wal, _) = Wal::open(&mut MemoryDisk::new(&files), wal_config(&config, 1)).unwrap();
            let command = Bytes::from(vec![0; KEY_BYTES_MAX + value_bytes_max + 1_000]);
            let entry = Entry { term: Term(1), index: Index(1), payload: Payload::Command(command) };
            assert!(entry.weight_bytes() <= wal.batch_bytes_max());
            let persist = Persist { hard_state: None, snapshot: None, entries: vec![entry] };
            assert!(persist.charge_bytes() <= wal.whole_room_bytes());
        }
    }
}
