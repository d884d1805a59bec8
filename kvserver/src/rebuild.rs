//! A lost quorum: what is left in one node's directory becomes the beginning of a new cluster, or what is put together from
//! several that are all damaged.
//!
//! Everything in that directory counts, committed or not: nobody is left who knows better. The state that snapshot and
//! log amount to is written into a new directory as a snapshot whose only member is that node, under a new name of the
//! cluster and with a new incarnation. So nothing of the old cluster can take part in the new one: its nodes carry
//! another name in every message and on their disks. The old directories are only read.

use std::path::{Path, PathBuf};

use raft::core::{EntryId, HardState, Membership, Payload, Restored, SnapshotMeta};
use raft::storage::recovery::examine;
use raft::storage::{
    Collection, DataDirectory, Identity, RealDisk, SnapshotStore, StorageError, WalConfig, recover,
};

use crate::error::StartError;
use crate::snapshotter::{ChunkSizes, SnapshotDesk};
use crate::state_machine::{Cursor, StateMachine};

/// What one directory of a node holds, or several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Whose it is; of several, the first one's.
    pub identity: Identity,
    /// What a node would start from.
    pub restored: Restored,
    /// Whether there was more, which is damaged.
    pub is_damaged: bool,
    /// The directory that has the snapshot.
    snapshot_in: PathBuf,
}

/// What several directories hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// A log without a gap, from the newest whole snapshot on.
    pub remains: Remains,
    /// The newest entry that can be read, if there is no way to it: some before it can be read nowhere.
    pub beyond: Option<EntryId>,
}

impl Remains {
    /// Reads the directory `path`, in which nothing may move meanwhile (`raft::storage::DirectoryLock`), and changes nothing.
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
        let examined = examined.map_err(|error| storage_error(path, error))?;
        let (restored, is_damaged) = (examined.restored, examined.is_convalescent);
        Ok(Remains { identity, restored, is_damaged, snapshot_in: path.to_owned() })
    }

    /// Reads directories of one cluster, each damaged or not, in which nothing may move meanwhile, and puts together what
    /// they hold. None if nothing of it can be used.
    ///
    /// # Errors
    /// When one cannot be read at all, or they contradict each other.
    pub fn collect(directories: &[PathBuf]) -> Result<Option<Collected>, StartError> {
        let mut collection = Collection::new();
        let (mut first, mut newest): (Option<Identity>, Option<(SnapshotMeta, &Path)>) = (None, None);
        for path in directories {
            let Some(identity) = Identity::read(path)? else { continue };
            let snapshot = collection.add_directory(&mut RealDisk::read_only(path), identity.incarnation);
            let snapshot = snapshot.map_err(|error| storage_error(path, error))?;
            let is_newer =
                |meta: &SnapshotMeta| newest.as_ref().is_none_or(|(other, _)| meta.last > other.last);
            if let Some(meta) = snapshot.filter(is_newer) {
                newest = Some((meta, path));
            }
            first.get_or_insert(identity);
        }
        let Some(identity) = first else { return Ok(None) };
        let base = newest.as_ref().map_or(EntryId::ZERO, |(meta, _)| meta.last);
        let entries = collection.log_behind(base);
        let last = entries.last().map_or(base, |entry| entry.id());
        let snapshot_in = newest.as_ref().map_or(Path::new(""), |(_, path)| path).to_owned();
        let hard_state = HardState { term: last.term, vote: None };
        let restored = Restored { hard_state, snapshot: newest.map(|(meta, _)| meta), entries };
        let beyond = collection.newest().filter(|newest| *newest > last);
        let remains = Remains { identity, restored, is_damaged: beyond.is_some(), snapshot_in };
        Ok((last > EntryId::ZERO).then_some(Collected { remains, beyond }))
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

/// Makes of what remains the directory `to`, which is new, of a cluster named `cluster_id` with one member. Returns the last
/// entry of its state.
///
/// # Errors
/// When the snapshot cannot be used, or `to` cannot be written; what was made of `to` then is of no use.
pub fn rebuild(remains: &Remains, to: &Path, cluster_id: &str) -> Result<EntryId, StartError> {
    let node_id = remains.identity.node_id;
    let (last, machine) = (remains.last(), state(remains)?);
    let mut directory = DataDirectory::open(to, cluster_id, node_id)?;
    let incarnation = directory.identity().incarnation;
    write(to, incarnation, machine, SnapshotMeta { last, membership: Membership::new([node_id]) })
        .map_err(|error| storage_error(to, error))?;
    directory.admit(&[])?;
    Ok(last)
}

/// The state after the last entry of `remains`.
fn state(remains: &Remains) -> Result<StateMachine, StartError> {
    let path = remains.snapshot_in.clone();
    let desk = SnapshotDesk::new(move || Box::new(RealDisk::read_only(&path)));
    let Restored { snapshot, entries, .. } = &remains.restored;
    let mut machine = match snapshot {
        None => StateMachine::new(),
        Some(meta) => desk.load(meta).map_err(|error| StartError::State {
            path: remains.snapshot_in.clone(),
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
