//! Snapshots, as far as consensus sees them: an id, a membership, and what they do to the log.
//!
//! The files, their chunks and their checksums are others' work. Here it is decided whether a snapshot is wanted, what
//! of the log it replaces, and what is sent after it. A snapshot must never take back what was already applied, and a
//! follower's acknowledgement of one is never counted as an acknowledgement of entries: it is probed first.

use crate::entry::Entry;
use crate::membership::Membership;
use crate::raft::{Raft, Role};
use crate::status::Reason;
use crate::types::{EntryId, Index, NodeId, Term};

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry it contains.
    pub last: EntryId,
    /// The membership as of that entry.
    pub membership: Membership,
}

/// What to do with a chunk of a snapshot that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkVerdict {
    /// Store it.
    Wanted,
    /// Its sender is not the leader any more; tell it this term.
    StaleTerm(Term),
    /// This node has everything in it; answer as if it had been installed.
    NotNeeded,
}

/// What became of a received snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallVerdict {
    /// It is the log's base now; the next Ready carries the marker and the restore.
    Installed,
    /// This node has everything in it already; the file may go.
    NotNeeded,
}

/// What the sender of a snapshot reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The peer has installed, or did not need, a snapshot that ends here.
    Installed(Index),
    /// It did not arrive; it is tried again once the peer answers a later heartbeat.
    Failed,
    /// The peer's disk has no room for it; it is tried again ever more rarely.
    NoRoom,
}

/// A follower without room is offered a snapshot again after at most two to the power of this many heartbeat intervals.
const SNAPSHOT_PAUSE_DOUBLINGS: u32 = 6;

impl Raft {
    /// A chunk of a snapshot that ends at `last` came from a leader of `term`.
    pub(crate) fn chunk_seen(&mut self, term: Term, from: NodeId, last: EntryId) -> ChunkVerdict {
        if term < self.state.term {
            return ChunkVerdict::StaleTerm(self.state.term);
        }
        if term > self.state.term {
            self.become_follower(term, Some(from), Reason::LaterTerm { from });
        }
        if let Role::Leader(_) = self.role {
            log::error!("node {from} also claims to lead term {term}; its snapshot is ignored");
            return ChunkVerdict::NotNeeded;
        }
        self.heed_leader(from);
        let log = &mut self.state.log;
        if log.contains(last) {
            // What is in a snapshot is committed, and this log holds all of it.
            log.commit_to(last.index);
        }
        match last.index <= log.committed() {
            true => ChunkVerdict::NotNeeded,
            false => ChunkVerdict::Wanted,
        }
    }

    /// A received snapshot is complete and its file durable.
    pub(crate) fn install_snapshot(&mut self, meta: SnapshotMeta) -> InstallVerdict {
        let is_leader = matches!(self.role, Role::Leader(_));
        if is_leader || meta.last.index <= self.state.log.delivered() {
            return InstallVerdict::NotNeeded;
        }
        log::info!("node {} installs a snapshot up to {}", self.state.id(), meta.last);
        if let Role::PreCandidate(_) | Role::Candidate(_) = self.role {
            // It asked on behalf of another log, and of other members.
            self.become_follower(self.state.term, None, Reason::SnapshotInstalled);
        }
        self.state.log.install(meta.clone());
        self.state.out.installed = Some(meta);
        InstallVerdict::Installed
    }

    /// A local snapshot is durable. Entries it contains may go, but not all at once: followers a little behind are
    /// served from the log, and so is what follows a snapshot that is being sent, else sending it would never end.
    /// Returns whether it was taken into account; not while the log on disk has yet to reach it.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta) -> bool {
        let log = &self.state.log;
        if meta.last.index <= log.snapshot().last.index {
            return true;
        }
        if meta.last.index > log.persisted() {
            return false;
        }
        let keep_after = self.keep_after(meta.last.index);
        self.state.log.compact_to(meta, keep_after);
        true
    }

    /// The log on disk reaches back further than the entries kept in memory behind a snapshot: those would count
    /// against `log_bytes_max` until the next one.
    pub(crate) fn trim_restored(&mut self) {
        let meta = self.state.log.snapshot().clone();
        let keep_after = self.keep_after(meta.last.index);
        self.state.log.compact_to(meta, keep_after);
    }

    /// The last entry that nobody needs, given a snapshot up to `snapshot`.
    fn keep_after(&self, snapshot: Index) -> Index {
        let (log, config) = (&self.state.log, &self.state.config);
        let mut keep_after = snapshot.saturating_minus(config.trailing_entries);
        if log.bytes_between(keep_after, snapshot) > config.trailing_bytes_max {
            keep_after = log.cut_for_bytes(snapshot, config.trailing_bytes_max);
        }
        let Role::Leader(leader) = &self.role else { return keep_after };
        let timeout = config.election_ticks_max;
        let live = leader.peers.iter().filter(|peer| peer.progress.is_active(leader.ticks, timeout));
        let needed_after = live.map(|peer| peer.progress.needs_after()).min().unwrap_or(snapshot);
        match log.bytes_after(needed_after) <= config.log_bytes_max / 2 {
            true => keep_after.min(needed_after),
            false => keep_after,
        }
    }

    /// What became of a snapshot that this leader sent in `term`.
    pub(crate) fn snapshot_report(&mut self, to: NodeId, term: Term, outcome: SnapshotOutcome) {
        let current = term == self.state.term;
        let Role::Leader(leader) = &mut self.role else { return };
        let (now, beat) = (leader.ticks, leader.beats);
        let Some(peer) = leader.peer(to).filter(|_| current) else { return };
        let crate::progress::ProgressState::Snapshot { .. } = peer.progress.state() else {
            return log::trace!("node {to} needs no snapshot any more: {outcome:?}");
        };
        match outcome {
            SnapshotOutcome::Installed(index) => {
                peer.progress.heard(now);
                peer.progress.probe(index.next());
            }
            SnapshotOutcome::Failed => peer.progress.probe_later(beat),
            SnapshotOutcome::NoRoom => {
                let next = peer.progress.match_index().next();
                peer.lacks_room(next, beat, SNAPSHOT_PAUSE_DOUBLINGS);
            }
        }
    }
}

/// What recovery found on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last durable term and vote; default on an empty disk.
    pub hard_state: crate::entry::HardState,
    /// The newest snapshot, whose contents the state machine starts from.
    pub snapshot: Option<SnapshotMeta>,
    /// Consecutive entries; the first may be at or below the snapshot's last, or follow it.
    pub entries: Vec<Entry>,
}
