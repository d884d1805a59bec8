//! The face: what may be asked of a node, and when it wants something done.
//!
//! Every call is quick, takes effect at once, and leaves its consequences for the next [`Ready`]. Calls may come in any
//! order, as many between two Readys as there are; the more, the fewer messages. One caller at a time.
//!
//! Each call is checked against the state before it ([`crate::invariants`]); a violated invariant panics.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::config::Config;
use crate::entry::HardState;
use crate::error::{ChangeError, ProposeError, ReadError, TransferError};
use crate::follower::Follower;
use crate::freshness::Freshness;
use crate::invariants::{self, Digest};
use crate::log::Log;
use crate::membership::Membership;
use crate::message::Message;
use crate::planted;
use crate::raft::{Raft, Role, State};
use crate::read_index::Asker;
use crate::ready::{Outbox, Persist, Ready, SoftState};
use crate::room::{LogRoom, Room};
use crate::snapshot::{ChunkVerdict, InstallVerdict, Restored, SnapshotMeta, SnapshotOutcome};
use crate::status::{Reason, Status};
use crate::types::{EntryId, Index, NodeId, Term};

/// The entries that a batch of commands became: consecutive, of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The term of all of them.
    pub term: Term,
    /// The place of the first command.
    pub first: Index,
    /// How many there are.
    pub count: u64,
}

impl Proposed {
    /// The id of each command's entry, in the order of the batch.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = EntryId> + use<> {
        let (term, first) = (self.term, self.first);
        let count = usize::try_from(self.count).expect("a batch was in memory, so its length fits");
        (0..count).map(move |offset| EntryId { term, index: first.plus(offset as u64) })
    }
}

/// A number that another start, with another generator, does not have. It comes from another stream, so that what is drawn
/// for elections does not depend on it.
fn number_of_this_life(rng: &ChaCha8Rng) -> u64 {
    let mut own_stream = ChaCha8Rng::from_seed(rng.get_seed());
    own_stream.set_stream(rng.get_stream().wrapping_add(1));
    own_stream.random()
}

/// One node's consensus, driven by its owner.
#[derive(Debug)]
pub struct RawNode {
    raft: Raft,
    /// What the last Ready said, so that only changes are said again.
    told_hard_state: HardState,
    told_soft_state: SoftState,
    told_memberships: u64,
}

impl RawNode {
    /// A node as it comes up with what its disk holds. It is a follower, knows no leader, and takes everything up to
    /// the snapshot for applied. A received snapshot's file may have become durable before the term it came in did; the
    /// term is made up for then.
    ///
    /// # Panics
    /// If `config` is not valid ([`Config::validate`]), or the entries have a gap or do not follow the snapshot.
    pub fn new(config: Config, restored: Restored, rng: ChaCha8Rng) -> RawNode {
        if let Err(error) = config.validate() {
            panic!("the configuration is checked before a core is made: {error}");
        }
        let Restored { hard_state, snapshot, entries } = restored;
        let as_configured = || Membership::new(config.voters.iter().copied());
        let snapshot =
            snapshot.unwrap_or_else(|| SnapshotMeta { last: EntryId::ZERO, membership: as_configured() });
        let log = Log::new(snapshot, entries);
        let known = log.last().term;
        let HardState { term, vote } = match hard_state.term >= known {
            true if planted::is("vote-forgotten-at-a-restart") => HardState { vote: None, ..hard_state },
            true => hard_state,
            false => HardState { term: known, vote: None },
        };
        let life = number_of_this_life(&rng);
        let silent_ticks = match planted::is("vote-granted-right-after-a-restart-under-lease") {
            true => u32::MAX,
            false => 0,
        };
        let mut state = State {
            config,
            rng,
            term,
            vote,
            log,
            election_elapsed: 0,
            election_timeout: 0,
            timeout_reason: Reason::TimedOut,
            silent_ticks,
            now: None,
            ticked_at: None,
            life,
            questions: life,
            fresh: None,
            election_reason: None,
            elections_in_vain: 0,
            is_removed: false,
            reason: Reason::Started,
            room: Room::default(),
            convalescence: None,
            losses_heard: 0,
            out: Outbox::default(),
        };
        state.reset_election_timer();
        let mut raft = Raft { state, role: Role::Follower(Follower::of(None)) };
        raft.trim_restored();
        invariants::check(&raft);
        let told_soft_state = raft.soft_state();
        let told_memberships = raft.state.log.membership_changes();
        RawNode { raft, told_hard_state: hard_state, told_soft_state, told_memberships }
    }

    /// This node has lost a part of its log that it had acknowledged, though not its term and vote; to be called before
    /// anything else. It neither votes nor counts until a leader has given it everything back, which
    /// [`Ready::healed`] says.
    ///
    /// # Panics
    /// If the node has already done something.
    pub fn convalesce(&mut self) {
        assert_eq!(self.raft.state.reason, Reason::Started, "a node is convalescent from its start");
        self.checked(Raft::convalesce);
    }

    /// Does one thing, and checks it.
    fn checked<R>(&mut self, act: impl FnOnce(&mut Raft) -> R) -> R {
        let before = Digest::of(&self.raft);
        let result = act(&mut self.raft);
        invariants::check_step(&before, &self.raft);
        result
    }

    /// A message from another node. It cannot fail; what makes no sense is ignored. A request is answered at most once,
    /// with its token.
    pub fn step(&mut self, message: Message) {
        debug_assert_eq!(
            message.to,
            self.raft.state.id(),
            "the border delivers only what is addressed to this node"
        );
        self.checked(|raft| raft.step(message));
    }

    /// One tick of the election timer has passed.
    pub fn tick_election(&mut self) {
        self.checked(Raft::tick_election);
    }

    /// One heartbeat interval has passed. Does nothing unless this node leads.
    pub fn tick_heartbeat(&mut self) {
        self.checked(Raft::tick_heartbeat);
    }

    /// Appends a batch of commands, whole or not at all, and says which entries they became. That they are committed is
    /// seen when entries of these ids come out of [`Ready::committed`]; an entry of another term at one of the indexes
    /// means that the command is lost.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::Busy`] with the limit that is reached, or [`ProposeError::NoSpace`].
    pub fn propose(&mut self, commands: Vec<Bytes>) -> Result<Proposed, ProposeError> {
        self.checked(|raft| raft.propose(commands))
    }

    /// How many of these commands, from the first on, [`RawNode::propose`] would find room for on the disk.
    pub fn fitting(&self, commands: &[Bytes]) -> usize {
        self.raft.fitting(commands)
    }

    /// Says what the disk has room for, from whoever writes the log. Until it is said nothing is refused for want of room.
    pub fn log_room(&mut self, room: LogRoom) {
        self.checked(|raft| raft.state.room.learn(room));
    }

    /// Begins to change the voters, learners and context to those of `target`; its `outgoing` is not looked at. The change
    /// is through when a membership that is not joint is committed at or behind the returned entry. None: the members are
    /// as wanted already.
    ///
    /// # Errors
    /// [`ChangeError`]: what would have to be otherwise.
    pub fn change_membership(&mut self, target: Membership) -> Result<Option<EntryId>, ChangeError> {
        self.checked(|raft| raft.change_membership(target))
    }

    /// Begins to hand leadership to `to`: proposals are refused until it leads, or an election timeout is over. To this
    /// node itself: nothing is to be done. Another transfer replaces the one under way.
    ///
    /// # Errors
    /// [`TransferError`]: this node does not lead, or `to` cannot.
    pub fn transfer_leadership(&mut self, to: NodeId) -> Result<(), TransferError> {
        self.checked(|raft| raft.transfer_leadership(to))
    }

    /// Begins to hand leadership to the voter that is furthest, as [`RawNode::transfer_leadership`] does. Returns to whom;
    /// none if this node does not lead or no other voter answers.
    pub fn hand_over(&mut self) -> Option<NodeId> {
        self.checked(Raft::hand_over)
    }

    /// Asks for the index that a linearizable read must wait for. The outcome comes as a
    /// [`crate::ReadState`] with the same `context`, exactly once.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`], or [`ReadError::Busy`] with the limit that is reached.
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        self.checked(|raft| raft.read_index(Asker::Own { context }))
    }

    /// The same, but without a round while the leader's lease holds. Whether it does is decided by what
    /// [`RawNode::time_is`] was told last, which must be later than the read's arrival.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`], or [`ReadError::Busy`] with the limit that is reached.
    pub fn lease_read(&mut self, context: u64) -> Result<(), ReadError> {
        self.checked(|raft| raft.lease_read(context))
    }

    /// The same on any node: one that follows asks its leader.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`] if no leader is known, or [`ReadError::Busy`] with the limit that is reached.
    pub fn follower_read(&mut self, context: u64) -> Result<(), ReadError> {
        self.checked(|raft| raft.follower_read(context))
    }

    /// What is proved about the age of this node's state, by what [`RawNode::time_is`] was told last; none before the first
    /// proof, or without a clock.
    pub fn freshness(&self) -> Option<Freshness> {
        self.raft.freshness()
    }

    /// What the driver's clock shows, since any fixed moment, for leases and the age of the state. It must count while the
    /// machine sleeps. To be told at the beginning of each visit; a driver without such a clock never does.
    pub fn time_is(&mut self, now: Duration) {
        let state = &mut self.raft.state;
        state.now = state.now.max(Some(now));
    }

    /// Everything handed out to be persisted, up to and including this entry, is durable. An acknowledgement of an
    /// entry that was replaced meanwhile counts for nothing. A write without entries needs no acknowledgement.
    pub fn persisted(&mut self, id: EntryId) {
        self.checked(|raft| {
            if raft.state.log.persisted_to(id) {
                raft.advance_commit();
            }
        });
    }

    /// The state machine holds everything up to `index`, restored snapshots included.
    pub fn applied(&mut self, index: Index) {
        self.checked(|raft| raft.state.log.applied_to(index));
    }

    /// A local snapshot, of what is applied, is durable; the log may be shortened. Returns false if the log on this
    /// node's disk has yet to reach the snapshot's last entry: try again later.
    ///
    /// # Panics
    /// If the snapshot holds more than what was reported as applied, or another entry than this log.
    #[must_use = "false means that nothing happened"]
    pub fn compact(&mut self, meta: SnapshotMeta) -> bool {
        self.checked(|raft| raft.compact(meta))
    }

    /// A chunk of a snapshot that ends at `last` came from a leader of `term`. Feeds the election timer and says
    /// whether to store it.
    pub fn chunk_seen(&mut self, term: Term, from: NodeId, last: EntryId) -> ChunkVerdict {
        self.checked(|raft| raft.chunk_seen(term, from, last))
    }

    /// A received snapshot is complete and its file durable. If it is wanted, the log begins behind it from now on; the
    /// next Ready carries the marker for the log on disk and the restore for the state machine.
    pub fn install_snapshot(&mut self, meta: SnapshotMeta) -> InstallVerdict {
        self.checked(|raft| raft.install_snapshot(meta))
    }

    /// The marker of an installed snapshot is durable: its sender may be told, and it may be what a restart finds.
    pub fn snapshot_installed(&mut self, meta: &SnapshotMeta) {
        self.checked(|raft| {
            let log = &raft.state.log;
            assert!(meta.last.index <= log.snapshot().last.index, "only what was installed can be durable");
        });
    }

    /// What became of the snapshot that a Ready asked to send to `to` in `term`.
    pub fn snapshot_report(&mut self, to: NodeId, term: Term, outcome: SnapshotOutcome) {
        self.checked(|raft| raft.snapshot_report(to, term, outcome));
    }

    /// The transport lost its way to a peer: what is unanswered will be looked for again once the peer answers.
    pub fn unreachable(&mut self, to: NodeId) {
        self.checked(|raft| raft.unreachable(to));
    }

    /// The process of `peer` is gone: its connection broke and a new one was refused, or it said farewell. If it led,
    /// an election begins without waiting for the timeout. Being wrong costs a pre-vote that is refused.
    pub fn peer_gone(&mut self, peer: NodeId) {
        self.checked(|raft| raft.peer_gone(peer));
    }

    /// Whether [`RawNode::ready`] would return something.
    pub fn has_ready(&self) -> bool {
        let (raft, state) = (&self.raft, &self.raft.state);
        !state.out.is_empty()
            || state.log.handed() < state.log.last_index()
            || state.hard_state() != self.told_hard_state
            || raft.soft_state() != self.told_soft_state
            || state.log.membership_changes() != self.told_memberships
            || state.log.has_committed(raft.delivery_limit(), state.config.unapplied_bytes_max)
            || raft.has_appends()
            || raft.read_round_is_due()
            || raft.question_is_due()
    }

    /// Everything to be done since the last Ready. Taking it is a promise to do it, in the order written at
    /// [`Ready`]; nothing is given out twice.
    pub fn ready(&mut self) -> Ready {
        self.checked(|raft| {
            raft.replicate();
            raft.begin_read_round();
            raft.ask_for_read_index();
        });
        let soft_state = self.soft_state_if_changed();
        let membership = self.membership_if_changed();
        let persist = self.take_persist();
        let limit = self.raft.delivery_limit();
        let state = &mut self.raft.state;
        Ready {
            messages: std::mem::take(&mut state.out.messages),
            healed: std::mem::take(&mut state.out.healed),
            restore: persist.as_ref().and_then(|persist| persist.snapshot.clone()),
            persist,
            messages_after_persist: std::mem::take(&mut state.out.messages_after_persist),
            committed: state.log.take_committed(limit, state.config.unapplied_bytes_max),
            read_states: std::mem::take(&mut state.out.read_states),
            soft_state,
            membership,
            send_snapshots: std::mem::take(&mut state.out.send_snapshots),
        }
    }

    fn soft_state_if_changed(&mut self) -> Option<SoftState> {
        let now = self.raft.soft_state();
        let before = std::mem::replace(&mut self.told_soft_state, now);
        (now != before).then_some(now)
    }

    fn membership_if_changed(&mut self) -> Option<Membership> {
        let log = &self.raft.state.log;
        let changes = log.membership_changes();
        let before = std::mem::replace(&mut self.told_memberships, changes);
        (changes != before).then(|| {
            let membership = log.membership().clone();
            let node = self.raft.state.id();
            match log.membership_index() {
                Index::ZERO => log::info!("node {node}: the members are {membership}, as of its snapshot"),
                index => log::info!("node {node}: the members are {membership}, by entry {index} of its log"),
            }
            membership
        })
    }

    fn take_persist(&mut self) -> Option<Persist> {
        let state = &mut self.raft.state;
        let now = state.hard_state();
        let hard_state = (std::mem::replace(&mut self.told_hard_state, now) != now).then_some(now);
        let snapshot = state.out.installed.take();
        let entries = state.log.take_unwritten();
        if hard_state.is_none() && snapshot.is_none() && entries.is_empty() {
            return None;
        }
        let persist = Persist { hard_state, snapshot, entries };
        state.room.handed_out(&persist);
        Some(persist)
    }

    /// How this node sees itself and, when it leads, its peers.
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// Role, term and leader; cheaper than [`RawNode::status`].
    pub fn soft_state(&self) -> SoftState {
        self.raft.soft_state()
    }

    /// Who takes part: the last membership in the log, committed or not.
    pub fn membership(&self) -> &Membership {
        self.raft.state.membership()
    }

    /// The members as of the entry at `index`: what a local snapshot up to it records. None below the newest snapshot,
    /// and on a node that joins, below the first entry that says who takes part: no snapshot may end there.
    pub fn membership_at(&self, index: Index) -> Option<&Membership> {
        self.raft.state.log.membership_at(index).filter(|then| !then.voters.is_empty())
    }

    /// The term of the entry at `index`, if the log still has it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.raft.state.log.term_at(index)
    }
}
