//! What a node says about itself, and why it last changed.
//!
//! For people and tests: nothing decides by it. A change of role, term or leader is one line in the log, with its
//! reason; an undisturbed cluster writes none.

use std::fmt;

use crate::membership::Membership;
use crate::progress::{Progress, ProgressState};
use crate::raft::{Raft, Role};
use crate::ready::SoftState;
use crate::types::{EntryId, Index, NodeId, Term};

/// The four roles (§5.1, and the pre-candidate of dissertation §9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RoleKind::Follower => "follower",
            RoleKind::PreCandidate => "pre-candidate",
            RoleKind::Candidate => "candidate",
            RoleKind::Leader => "leader",
        })
    }
}

/// Why a role, a term or a leader changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The node has just started.
    Started,
    /// No leader was heard for an election timeout.
    TimedOut,
    /// The leader's process is gone; nothing was waited for.
    LeaderGone {
        /// Who led.
        leader: NodeId,
    },
    /// A majority would vote for it.
    Campaigns,
    /// There is nobody else to ask.
    OnlyVoter,
    /// A majority voted for it.
    ElectionWon,
    /// So many refused that no majority was left.
    ElectionLost,
    /// It gave its vote to another.
    VotedFor {
        /// To whom.
        candidate: NodeId,
    },
    /// A leader of its term was heard.
    LeaderHeard {
        /// Which.
        leader: NodeId,
    },
    /// A message of a later term came.
    LaterTerm {
        /// From whom.
        from: NodeId,
    },
    /// As leader it heard no majority for an election timeout.
    QuorumLost,
    /// The leader's own disk did not move for two election timeouts.
    DiskStalled,
    /// The leader handed its office to this node.
    Transferred {
        /// Who led.
        from: NodeId,
    },
    /// As a candidate it was given a snapshot, so that its log is not the one it had asked with.
    SnapshotInstalled,
    /// As leader it has carried out a change after which it has no vote.
    NotAVoter,
    /// Another node says that this one is no member any more.
    Removed {
        /// Who says so.
        by: NodeId,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Started => write!(f, "it has just started"),
            Reason::LeaderGone { leader } => write!(f, "the process of node {leader}, which led, is gone"),
            Reason::TimedOut => write!(f, "no leader was heard for an election timeout"),
            Reason::Campaigns => write!(f, "a majority would vote for it"),
            Reason::OnlyVoter => write!(f, "it is the only voter"),
            Reason::ElectionWon => write!(f, "a majority voted for it"),
            Reason::ElectionLost => write!(f, "a majority refused it"),
            Reason::VotedFor { candidate } => write!(f, "it voted for node {candidate}"),
            Reason::LeaderHeard { leader } => write!(f, "node {leader} leads"),
            Reason::LaterTerm { from } => write!(f, "node {from} is in a later term"),
            Reason::SnapshotInstalled => write!(f, "its log was replaced by a snapshot"),
            Reason::Transferred { from } => write!(f, "node {from} handed leadership to it"),
            Reason::NotAVoter => write!(f, "it is not a voter any more"),
            Reason::Removed { by } => write!(f, "node {by} says that it was removed from the cluster"),
            Reason::DiskStalled => write!(f, "its disk has not moved for two election timeouts"),
            Reason::QuorumLost => write!(f, "no majority answered for an election timeout"),
        }
    }
}

/// How a follower is being served; the names are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressKind {
    /// The place where the logs meet is being looked for.
    Probe,
    /// Entries are streamed.
    Replicate,
    /// It is given a snapshot.
    Snapshot,
}

impl fmt::Display for ProgressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProgressKind::Probe => "probe",
            ProgressKind::Replicate => "replicate",
            ProgressKind::Snapshot => "snapshot",
        })
    }
}

/// One follower, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// How it is served.
    pub progress: ProgressKind,
    /// What it has acknowledged as durable.
    pub match_index: Index,
    /// What it is sent next.
    pub next_index: Index,
    /// Unanswered messages with entries.
    pub inflight_messages: usize,
    /// Their bytes.
    pub inflight_bytes: u64,
    /// Whether it was heard within the longest election timeout.
    pub active: bool,
    /// What it waits for.
    pub waits_for: WaitsFor,
}

/// What keeps a follower from having all that its leader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// It has everything.
    Nothing,
    /// It has not been heard for an election timeout: it is stopped, cut off, or too busy to answer.
    Contact,
    /// Its answer to a question: where the logs meet is being looked for.
    ProbeAnswer,
    /// A snapshot, since the log no longer has what it lacks.
    Snapshot {
        /// The last entry that the snapshot brings.
        up_to: Index,
    },
    /// Its answers to what was sent: it is writing, or the network is slow.
    Answers,
    /// The same, and as much is unanswered as may be: the rest is held back.
    Window,
    /// Its disk is full.
    Room,
    /// What it had acknowledged and lost; it counts for nothing meanwhile.
    Repair,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Nothing => write!(f, "nothing"),
            WaitsFor::Contact => write!(f, "a sign of life, for an election timeout or longer"),
            WaitsFor::ProbeAnswer => write!(f, "its answer to where the logs meet"),
            WaitsFor::Snapshot { up_to } => write!(f, "a snapshot up to {up_to}"),
            WaitsFor::Answers => write!(f, "acknowledgements of what was sent"),
            WaitsFor::Repair => write!(f, "the repair of what was damaged; it does not count meanwhile"),
            WaitsFor::Room => write!(f, "room: its disk is full"),
            WaitsFor::Window => write!(f, "acknowledgements; its window is full, and the rest is held back"),
        }
    }
}

/// A node, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which node.
    pub node: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Who leads, if it is known.
    pub leader: Option<NodeId>,
    /// Why role, term or leader last changed.
    pub reason: Reason,
    /// Why this node last began an election, won or not; `None` if it has not since its start.
    pub election_reason: Option<Reason>,
    /// The first entry that is kept.
    pub first_index: Index,
    /// The last entry of the log.
    pub last: EntryId,
    /// The last that is known to be committed.
    pub commit_index: Index,
    /// The last that was reported as applied.
    pub applied_index: Index,
    /// The last that is on this node's disk.
    pub persisted_index: Index,
    /// The last of the newest snapshot.
    pub snapshot_index: Index,
    /// Bytes of the log in memory.
    pub log_bytes: u64,
    /// Bytes that the log still finds on this node's disk, if that is known; what entries may cost is counted, which is
    /// more than they have.
    pub room_bytes: Option<u64>,
    /// Whether this node has lost what it had acknowledged, and neither votes nor counts until it is repaired.
    pub is_convalescent: bool,
    /// Whether this node's disk gives the log no more room.
    pub disk_is_full: bool,
    /// Reads that wait to be confirmed.
    pub reads_pending: usize,
    /// Whether this leader serves reads by its lease at the moment.
    pub has_lease: bool,
    /// The members, as of the last entry.
    pub membership: Membership,
    /// Whether a change of them is under way: the last one is not committed, or has two majorities.
    pub is_changing: bool,
    /// To whom this leader hands leadership, if it does.
    pub transfer_to: Option<NodeId>,
    /// The other members, when this node leads; else empty.
    pub peers: Vec<PeerStatus>,
}

impl Raft {
    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { role: self.role_kind(), term: self.state.term, leader: self.leader() }
    }

    /// Remembers why something changed, and says so. A node without a majority tries for ever: it says so ever more
    /// rarely.
    pub(crate) fn note_change(&mut self, reason: Reason) {
        self.state.reason = reason;
        let (node, term, role) = (self.state.id(), self.state.term, self.role_kind());
        if let Some(leader) = self.leader() {
            self.state.elections_in_vain = 0;
            return log::info!("node {node}: {role} in term {term} under node {leader}: {reason}");
        }
        if let Role::PreCandidate(_) = self.role {
            self.state.elections_in_vain = self.state.elections_in_vain.saturating_add(1);
        }
        let times = self.state.elections_in_vain;
        let level = if times < 4 || times.is_power_of_two() { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "node {node}: {role} in term {term}, no leader known: {reason}");
    }

    pub(crate) fn status(&self) -> Status {
        let (state, log) = (&self.state, &self.state.log);
        Status {
            node: state.id(),
            role: self.role_kind(),
            term: state.term,
            vote: state.vote,
            leader: self.leader(),
            reason: state.reason,
            election_reason: state.election_reason,
            first_index: log.first_index(),
            last: log.last(),
            commit_index: log.committed(),
            applied_index: log.applied(),
            persisted_index: log.persisted(),
            snapshot_index: log.snapshot().last.index,
            log_bytes: log.bytes(),
            room_bytes: state.room.left(log),
            is_convalescent: state.is_convalescent(),
            disk_is_full: state.room.is_full(),
            reads_pending: match &self.role {
                Role::Leader(leader) => leader.reads.pending(),
                Role::Follower(follower) => follower.questions.pending(),
                Role::PreCandidate(_) | Role::Candidate(_) => 0,
            },
            has_lease: self.lease_holds(),
            membership: log.membership().clone(),
            is_changing: log.membership().is_joint() || log.membership_index() > log.committed(),
            transfer_to: match &self.role {
                Role::Leader(leader) => leader.transfer_to(),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
            },
            peers: self.peer_statuses(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let (timeout, last_index) = (self.state.config.election_ticks_max, self.state.log.last_index());
        let peers = leader.peers.iter().map(|peer| {
            let progress = &peer.progress;
            let active = progress.is_active(leader.ticks, timeout);
            PeerStatus {
                node: peer.id,
                progress: match progress.state() {
                    ProgressState::Probe { .. } => ProgressKind::Probe,
                    ProgressState::Replicate => ProgressKind::Replicate,
                    ProgressState::Snapshot { .. } => ProgressKind::Snapshot,
                },
                match_index: progress.match_index(),
                next_index: progress.next_index(),
                inflight_messages: progress.inflights().count(),
                inflight_bytes: progress.inflights().bytes(),
                active,
                waits_for: match active {
                    true if peer.is_convalescent() => WaitsFor::Repair,
                    true => waits_for(progress, last_index),
                    false => WaitsFor::Contact,
                },
            }
        });
        peers.collect()
    }
}

/// What a follower that answers waits for, in a log that ends at `last_index`.
fn waits_for(progress: &Progress, last_index: Index) -> WaitsFor {
    match progress.state() {
        _ if progress.lacks_room() => WaitsFor::Room,
        ProgressState::Snapshot { pending, .. } => WaitsFor::Snapshot { up_to: pending },
        ProgressState::Probe { .. } => WaitsFor::ProbeAnswer,
        ProgressState::Replicate if progress.match_index() >= last_index => WaitsFor::Nothing,
        ProgressState::Replicate if progress.inflights().is_full() => WaitsFor::Window,
        ProgressState::Replicate => WaitsFor::Answers,
    }
}
