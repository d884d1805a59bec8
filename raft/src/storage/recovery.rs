//! Putting log and snapshots together after a start: what the node may believe of itself, or why it must not start.
//!
//! The newest whole snapshot counts, whether the log has a marker for it or not: a snapshot is of committed entries
//! only. Of the log that is kept which follows the snapshot: all of it if the snapshot's last entry is in the log,
//! nothing if another stands in its place. If the log knows of a newer snapshot than there is a whole file of, the
//! node starts from an older one only if the log leads from there to where the lost one ended. A hole is never bridged: where
//! others can give back what is missing, the log behind it and the damaged snapshots are set aside, as what cannot be used
//! of a damaged log is, and the node starts from what lies before it; else it refuses.

use log::Level;
use raft_core::{EntryId, HardState, Index, Persist, Restored, SnapshotMeta};
use thiserror::Error;

use super::collection::Contradiction;
use super::disk::{Disk, DiskError, FileName};
use super::snapshot_file::{SnapshotError, snapshot_name};
use super::snapshot_store::SnapshotStore;
use super::wal::{Found, LogBuilder, Recovered, Wal, WalConfig, WalError};

/// Why a node cannot start on, or go on with, its files.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A disk operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log cannot be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Logs of which one was to be put together are not of one cluster.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The log stands on a snapshot which is gone or damaged, and does not reach back behind it.
    #[error(
        "the log stands on {file}, and entries {first_missing} to {last_missing} are nowhere else: {cause}; put the \
         file back, any copy of it will do, since a snapshot never changes once it has its name"
    )]
    SnapshotLost {
        /// The file.
        file: FileName,
        /// Where it is damaged, or that it is not there.
        cause: SnapshotError,
        /// The first entry that cannot be had.
        first_missing: Index,
        /// The last entry that cannot be had.
        last_missing: Index,
    },
    /// The log begins later than the snapshot ends.
    #[error(
        "entries {first_missing} to {last_missing} are neither in a snapshot nor in the log; put the missing files \
         back as the node left them, since an older log has forgotten promises"
    )]
    Gap {
        /// The first entry that cannot be had.
        first_missing: Index,
        /// The last entry that cannot be had.
        last_missing: Index,
    },
}

/// Something that was found at the start and does not stop the node, in words for its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// How much it concerns whoever reads the log.
    pub level: Level,
    /// What it is.
    pub text: String,
}

/// What a node is that has lost a part of its log.
const CONVALESCENT: &str = "this node lacks something that it had acknowledged: it neither votes nor counts until the others \
     have given back what is missing";

/// What a node starts from.
#[derive(Debug)]
pub struct Recovery {
    /// The log, open for appending.
    pub wal: Wal,
    /// What the core starts from. The content of `restored.snapshot` is in `snapshots`.
    pub restored: Restored,
    /// The snapshots.
    pub snapshots: SnapshotStore,
    /// What was cut or passed over.
    pub remarks: Vec<Remark>,
    /// The log lacks something that was acknowledged: the node counts for nothing until others have given it back
    /// (`RawNode::convalesce`).
    pub is_convalescent: bool,
}

/// What a node would start from, found out without changing anything.
#[derive(Debug)]
pub struct Examined {
    /// What the core would start from.
    pub restored: Restored,
    /// What would be cut or passed over.
    pub remarks: Vec<Remark>,
    /// Whether the log lacks something that was acknowledged, and what could not be used of it was set aside.
    pub is_convalescent: bool,
    /// Whether the log has no marker for the snapshot that counts, and is in need of one.
    lacks_marker: bool,
}

/// Recovers the data directory of `disk`, waiting; everything it returns is durable. `log_must_exist` says that the
/// node has taken part with this directory before, so that a missing log is a loss and not a beginning.
///
/// # Errors
/// When something acknowledged is damaged or missing. Nothing has been changed then that a repair would need.
pub fn recover(
    disk: &mut dyn Disk,
    config: WalConfig,
    log_must_exist: bool,
) -> Result<Recovery, StorageError> {
    let snapshots = SnapshotStore::open(disk)?;
    let config = requiring(config, log_must_exist, &snapshots);
    let (found, hole) = find(disk, &config, &snapshots)?;
    let (mut wal, recovered) = found.open(disk, config)?;
    let Examined { restored, remarks, is_convalescent, lacks_marker } = conclude(recovered, hole, &snapshots);
    if lacks_marker {
        let hard_state = Some(restored.hard_state);
        wal.append(&Persist { hard_state, snapshot: restored.snapshot.clone(), entries: Vec::new() });
        wal.submit(disk).expect("a hard state was staged");
        wal.finish(disk)?;
        wal.seal(disk);
        wal.finish(disk)?;
    }
    Ok(Recovery { wal, restored, snapshots, remarks, is_convalescent })
}

/// What [`recover`] would find, or why it would refuse, changing nothing.
///
/// # Errors
/// As `recover`.
pub fn examine(
    disk: &mut dyn Disk,
    config: WalConfig,
    log_must_exist: bool,
) -> Result<Examined, StorageError> {
    let snapshots = SnapshotStore::look(disk)?;
    let (found, hole) = find(disk, &requiring(config, log_must_exist, &snapshots), &snapshots)?;
    Ok(conclude(found.recovered(), hole, &snapshots))
}

/// Reads the log, and gives up what is left of it if it does not lead on from the newest whole snapshot.
fn find(
    disk: &mut dyn Disk,
    config: &WalConfig,
    snapshots: &SnapshotStore,
) -> Result<(Found, Option<Hole>), StorageError> {
    let mut found = Wal::find(disk, config)?;
    let hole = Hole::between(last_index(snapshots.newest()), found.log());
    match &hole {
        Some(hole) if !found.is_repairable() => return Err(hole.refusal(snapshots.damaged())),
        Some(_) => found.give_up(snapshots.damaged().iter().filter_map(damaged_file).cloned()),
        None => {}
    }
    Ok((found, hole))
}

/// Where there is a snapshot there must be a log.
fn requiring(config: WalConfig, log_must_exist: bool, snapshots: &SnapshotStore) -> WalConfig {
    let has_snapshots = snapshots.newest().is_some() || !snapshots.damaged().is_empty();
    WalConfig { must_exist: config.must_exist || log_must_exist || has_snapshots, ..config }
}

/// Puts log and snapshots together.
fn conclude(recovered: Recovered, hole: Option<Hole>, snapshots: &SnapshotStore) -> Examined {
    let mut remarks: Vec<Remark> =
        snapshots.damaged().iter().map(|error| warning(error.to_string())).collect();
    remarks.extend(recovered.torn_tail.clone());
    if recovered.is_convalescent {
        remarks.push(warning(match (&hole, &recovered.damage) {
            (Some(Hole { first_missing, last_missing, .. }), _) => format!(
                "entries {first_missing} to {last_missing} are neither in a whole snapshot nor in the log; what there is of the \
                 log behind them is set aside; {CONVALESCENT}"
            ),
            (None, Some(error)) => {
                format!("{error}; the log ends there for now, and what follows is set aside; {CONVALESCENT}")
            }
            (None, None) => CONVALESCENT.to_owned(),
        }));
    }
    let newest = snapshots.newest().cloned();
    let (marker, is_convalescent) = (recovered.snapshot.clone(), recovered.is_convalescent);
    let is_marked = newest.as_ref().map(|meta| meta.last) == marker.as_ref().map(|meta| meta.last);
    let restored = combine(recovered, newest);
    let lost = marker.filter(|marker| last_index(restored.snapshot.as_ref()) < marker.last.index);
    if let Some(marker) = &lost {
        remarks.push(warning(format!(
            "the snapshot of entry {} is missing or damaged; the node starts from an older state and the log",
            marker.last
        )));
    }
    Examined { restored, remarks, is_convalescent, lacks_marker: lost.is_none() && !is_marked }
}

/// What the log amounts to on top of the newest whole snapshot, from which it leads on.
fn combine(recovered: Recovered, newest: Option<SnapshotMeta>) -> Restored {
    let Recovered { hard_state, snapshot, entries, before_first, .. } = recovered;
    let mut log = LogBuilder { hard_state, snapshot, entries, before_first };
    if let Some(newest) = &newest {
        log.apply_snapshot(newest.clone());
    }
    Restored { hard_state: raised(log.hard_state, newest.as_ref()), snapshot: newest, entries: log.entries }
}

/// Entries that are neither in a whole snapshot nor in the log although the log goes on behind them.
#[derive(Debug)]
struct Hole {
    first_missing: Index,
    last_missing: Index,
    /// The snapshot they were in, if the log says so.
    lost: Option<EntryId>,
}

impl Hole {
    /// What is missing between the newest whole snapshot, which ends at `base`, and the log. If the log knows of a newer
    /// snapshot, it must lead to that one's last entry.
    fn between(base: Index, log: &LogBuilder) -> Option<Hole> {
        let marked = log.snapshot.as_ref().map(|meta| meta.last);
        let lost = marked.filter(|marked| marked.index > base);
        let last_missing = match lost {
            Some(lost) if log.entry(lost.index).is_none_or(|entry| entry.term != lost.term) => lost.index,
            _ => log.before_first,
        };
        (last_missing > base).then(|| Hole { first_missing: base.next(), last_missing, lost })
    }

    /// Why the node does not start.
    fn refusal(&self, damaged: &[SnapshotError]) -> StorageError {
        let Hole { first_missing, last_missing, lost } = *self;
        let Some(lost) = lost else { return StorageError::Gap { first_missing, last_missing } };
        let file = snapshot_name(lost);
        let cause = damaged.iter().find(|error| damaged_file(error) == Some(&file));
        let cause = cause.cloned().unwrap_or(SnapshotError::NotThere(lost));
        StorageError::SnapshotLost { file, cause, first_missing, last_missing }
    }
}

/// The file that did not read back.
fn damaged_file(error: &SnapshotError) -> Option<&FileName> {
    match error {
        SnapshotError::Damaged { file, .. } => Some(file),
        _ => None,
    }
}

/// A snapshot of a later term can have been received before that term was recorded. The term counts; no vote was
/// given in it, or it would have been recorded.
fn raised(hard_state: HardState, snapshot: Option<&SnapshotMeta>) -> HardState {
    match snapshot {
        Some(meta) if meta.last.term > hard_state.term => HardState { term: meta.last.term, vote: None },
        _ => hard_state,
    }
}

fn warning(text: String) -> Remark {
    Remark { level: Level::Warn, text }
}

fn last_index(snapshot: Option<&SnapshotMeta>) -> Index {
    snapshot.map_or(Index::ZERO, |meta| meta.last.index)
}
