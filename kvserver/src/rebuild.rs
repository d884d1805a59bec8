//! A lost quorum: what is left in one node's directory becomes the beginning of a new cluster.
//!
//! Everything in that directory counts, committed or not: nobody is left who knows better. The state that its snapshot and
//! its log amount to is written into a new directory as a snapshot whose only member is that node, under a new name of the
//! cluster and with a new incarnation. So nothing of the old cluster can take part in the new one: its nodes carry
//! another name in every message and on their disks. The old directory is only read.

use std::path::Path;

use raft::core::{EntryId, Membership, Payload, Restored, SnapshotMeta};
use raft::storage::recovery::examine;
use raft::storage::{DataDirectory, Identity, RealDisk, SnapshotStore, StorageError, WalConfig, recover};

use crate::error::StartError;
use crate::snapshotter::{ChunkSizes, SnapshotDesk};
use crate::state_machine::{Cursor, StateMachine};

/// What one directory of a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Whose it is.
    pub identity: Identity,
    /// What a node would start from.
    pub restored: Restored,
}

impl Remains {
    /// Reads the directory `path`, in which nothing may move meanwhile (`raft::storage::lock_to_look`), and changes nothing.
    ///
    /// # Errors
    /// When it is no node's, or damaged.
    pub fn read(path: &Path) -> Result<Remains, StartError> {
        let Some(identity) = Identity::read(path)? else {
            return Err(StartError::Config(format!("{} is no data directory of a node", path.display())));
        };
        let mut disk = RealDisk::read_only(path);
        let config = WalConfig::new(identity.incarnation);
        let examined = examine(&mut disk, config, identity.admitted);
        let restored = examined.map_err(|error| storage_error(path, error))?.restored;
        Ok(Remains { identity, restored })
    }

    /// The last entry it holds.
    pub fn last(&self) -> EntryId {
        let of_snapshot = self.restored.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        self.restored.entries.last().map_or(of_snapshot, |entry| entry.id().max(of_snapshot))
    }

    /// The last entry that is known to be committed: that of its snapshot.
    pub fn surely_committed(&self) -> EntryId {
        self.restored.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last)
    }

    /// The members as of its last entry, if its log says who they are.
    pub fn members(&self) -> Option<&Membership> {
        let in_log = self.restored.entries.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some(&**membership),
            Payload::Noop | Payload::Command(_) => None,
        });
        in_log.or(self.restored.snapshot.as_ref().map(|meta| &meta.membership))
    }
}

/// Makes of what remains in `from` the directory `to`, which is new, of a cluster named `cluster_id` with one member. Returns
/// the last entry of its state.
///
/// # Errors
/// When a file of `from` cannot be used, or `to` cannot be written; what was made of `to` then is of no use.
pub fn rebuild(remains: &Remains, from: &Path, to: &Path, cluster_id: &str) -> Result<EntryId, StartError> {
    let node_id = remains.identity.node_id;
    let (last, machine) = (remains.last(), state(remains, from)?);
    let mut directory = DataDirectory::open(to, cluster_id, node_id)?;
    let incarnation = directory.identity().incarnation;
    write(to, incarnation, machine, SnapshotMeta { last, membership: Membership::new([node_id]) })
        .map_err(|error| storage_error(to, error))?;
    directory.admit(&[])?;
    Ok(last)
}

/// The state after the last entry of `remains`.
fn state(remains: &Remains, from: &Path) -> Result<StateMachine, StartError> {
    let path = from.to_owned();
    let desk = SnapshotDesk::new(move || Box::new(RealDisk::read_only(&path)));
    let Restored { snapshot, entries, .. } = &remains.restored;
    let mut machine = match snapshot {
        None => StateMachine::new(),
        Some(meta) => desk.load(meta).map_err(|error| StartError::State {
            path: from.to_owned(),
            index: meta.last.index,
            error,
        })?,
    };
    for entry in entries.iter().filter(|entry| entry.index.0 > machine.applied()).collect::<Vec<_>>() {
        match &entry.payload {
            Payload::Command(command) => drop(machine.apply(entry.index.0, command)),
            Payload::Noop | Payload::Membership(_) => machine.apply_noop(entry.index.0),
        }
    }
    Ok(machine)
}

/// Writes a log that begins behind a snapshot of `machine`.
fn write(
    to: &Path,
    incarnation: u64,
    mut machine: StateMachine,
    meta: SnapshotMeta,
) -> Result<(), StorageError> {
    let mut disk = RealDisk::new(to);
    let config = WalConfig::new(incarnation);
    drop(recover(&mut disk, config.clone(), false)?);
    let mut snapshots = SnapshotStore::open(&mut disk)?;
    let EntryId { index, term } = meta.last;
    let mut file = snapshots.begin_write(&mut disk, meta)?;
    let frozen = machine.freeze(index.0, term.0).expect("a state that nobody else has has no pins");
    let mut cursor = Some(Cursor::start());
    while let Some(at) = cursor {
        let chunk = machine.snapshot_chunk(&frozen, &at, ChunkSizes::default().read);
        let (bytes, next) = chunk.expect("nothing replaces this state");
        file.write(&mut disk, &bytes)?;
        cursor = next;
    }
    snapshots.finish_write(&mut disk, file)?;
    // The snapshot's marker joins the log.
    drop(recover(&mut disk, config, true)?);
    Ok(())
}

fn storage_error(path: &Path, error: StorageError) -> StartError {
    StartError::Storage { path: path.to_owned(), error }
}
