//! The state of one node, and where each message goes.
//!
//! Messages are routed by term (§5.1: a later term makes a follower of any role, an earlier one is answered and
//! otherwise ignored) and then by role. Nothing else happens here: the roles and the concerns do the work, each in a
//! file of its own.

use std::cmp::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::candidate::Candidate;
use crate::config::Config;
use crate::entry::HardState;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{AppendOutcome, Body, Message, Stamp};
use crate::planted;
use crate::ready::Outbox;
use crate::room::Room;
use crate::status::{Reason, RoleKind};
use crate::types::{Index, NodeId, ReplyToken, Term};

/// What a node knows whatever its role.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) rng: ChaCha8Rng,
    /// The latest term seen; only grows.
    pub(crate) term: Term,
    /// Whom this node voted for in `term`; changes only from nobody, or with the term.
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: Log,
    /// Ticks since the timer was last fed.
    pub(crate) election_elapsed: u32,
    /// Ticks at which it runs out; drawn anew at every reset.
    pub(crate) election_timeout: u32,
    /// Why an election begins when it runs out.
    pub(crate) timeout_reason: Reason,
    /// Ticks since a leader was last heard, or since the start.
    pub(crate) silent_ticks: u32,
    /// The driver's clock as of this visit; it never goes back. None while the driver has told no time.
    pub(crate) now: Option<Duration>,
    /// The same as of the last tick of the election timer.
    pub(crate) ticked_at: Option<Duration>,
    /// Drawn at the start: where the stamps and the questions of this life begin.
    pub(crate) life: u64,
    /// The number of the last question for a read index.
    pub(crate) questions: u64,
    /// The newest moment of which it is proved what had been committed by then, and what that was.
    pub(crate) fresh: Option<(Duration, Index)>,
    /// Why this node last began an election.
    pub(crate) election_reason: Option<Reason>,
    /// Elections begun since a leader was last known.
    pub(crate) elections_in_vain: u32,
    /// Another node said that this one was removed, and no leader was heard since.
    pub(crate) is_removed: bool,
    /// Why the role or the term last changed.
    pub(crate) reason: Reason,
    /// The number of this node's convalescence, while it lacks what it had acknowledged.
    pub(crate) convalescence: Option<u64>,
    /// How often, as leader, this node took back what a follower had acknowledged.
    pub(crate) losses_heard: u64,
    /// What the disk has room for.
    pub(crate) room: Room,
    pub(crate) out: Outbox,
}

/// The role and what only it needs.
#[derive(Debug)]
pub(crate) enum Role {
    Follower(Follower),
    /// Asking whether an election could be won, in the term it has.
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// One node.
#[derive(Debug)]
pub(crate) struct Raft {
    pub(crate) state: State,
    pub(crate) role: Role,
}

impl State {
    pub(crate) fn id(&self) -> NodeId {
        self.config.node_id
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote }
    }

    /// Starts the election timer anew, with another timeout, uniform over the whole range (§5.2, §9.3).
    pub(crate) fn reset_election_timer(&mut self) {
        let (min, max) = (self.config.election_ticks_min, self.config.election_ticks_max);
        self.election_elapsed = 0;
        self.election_timeout = self.rng.random_range(min..=max);
        self.timeout_reason = Reason::TimedOut;
    }

    /// Who takes part: the last membership in the log.
    pub(crate) fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// Whether this node's vote counts.
    pub(crate) fn is_voter(&self) -> bool {
        self.membership().is_voter(self.id())
    }

    /// Whether leadership may be handed to `node`: it has a vote, and is not being removed.
    pub(crate) fn may_succeed(&self, node: NodeId) -> bool {
        self.membership().voters.binary_search(&node).is_ok()
    }

    /// Whether this node may ask for votes. So may one that is no voter any more, by an entry of which it does not know
    /// that it is committed: if nobody else has that entry, nobody else has a log that it could vote for, and its vote
    /// may be needed (dissertation §4.2.2). Its own vote counts for nothing then.
    pub(crate) fn may_campaign(&self) -> bool {
        let left = self.log.membership_being_left();
        let may_lead = !self.is_convalescent() || planted::is("damaged-node-votes");
        may_lead && (self.is_voter() || left.is_some_and(|left| left.is_voter(self.id())))
    }

    /// A message that may leave at once: it promises nothing that the disk does not hold yet.
    pub(crate) fn send_now(&mut self, message: Message) {
        match message.body.is_request() && self.leads_by_a_vote_in_flight() {
            true => self.send_after_persist(message),
            false => self.out.messages.push(message),
        }
    }

    /// Whether this node is the only voter and its own vote, which made it the leader, may not be durable yet. Until it
    /// is, no learner may hear of the term: after a crash the node could lead it once more, with other entries. Where
    /// others vote, too, it asks them only when its own vote is durable.
    fn leads_by_a_vote_in_flight(&self) -> bool {
        let alone =
            self.membership().is_alone(self.id()) && !planted::is("leads-before-its-own-vote-is-durable");
        alone && self.log.term_at(self.log.persisted()).is_none_or(|durable| durable < self.term)
    }

    /// A message that leaves when everything handed to the writer before it is durable.
    pub(crate) fn send_after_persist(&mut self, message: Message) {
        self.out.messages_after_persist.push(message);
    }

    /// A request of this node in its term.
    pub(crate) fn request(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id(), to, term: self.term, token: ReplyToken::NONE, body }
    }

    /// The answer to `request`, in this node's term.
    pub(crate) fn answer(&self, request: &Message, body: Body) -> Message {
        Message { from: self.id(), to: request.from, term: self.term, token: request.token, body }
    }
}

impl Raft {
    pub(crate) fn role_kind(&self) -> RoleKind {
        match &self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// Who leads the current term, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.state.id()),
        }
    }

    /// Takes one message in. It cannot fail: what is strange but legal is ignored with a trace line.
    pub(crate) fn step(&mut self, message: Message) {
        if !message.is_well_formed() {
            return log::error!("no working node sends this, ignored: {message}");
        }
        match message.term.cmp(&self.state.term) {
            Ordering::Less => return self.answer_earlier_term(&message),
            Ordering::Equal => {}
            Ordering::Greater => {
                if !self.admit_later_term(&message) {
                    return;
                }
            }
        }
        match &self.role {
            Role::Follower(_) => self.step_follower(message),
            Role::PreCandidate(_) | Role::Candidate(_) => self.step_candidate(message),
            Role::Leader(_) => self.step_leader(message),
        }
    }

    /// A later term ends this one, except where it is only spoken of. Returns whether the message is to be looked at.
    fn admit_later_term(&mut self, message: &Message) -> bool {
        match message.body {
            // Nobody is in that term yet: it is the one the sender would campaign in (dissertation §9.6).
            Body::RequestVote { pre_vote: true, .. }
            | Body::RequestVoteReply { pre_vote: true, granted: true } => {}
            // Who hears a leader does not help to depose it; not even the term is taken over (dissertation §4.2.3).
            // A transfer is heeded, unless its order has outlived the receiver's membership.
            Body::RequestVote { transfer, .. }
                if self.leader_is_alive() && !(transfer && self.state.may_succeed(message.from)) =>
            {
                self.refuse_vote(message);
                return false;
            }
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Heal { .. } | Body::TimeoutNow => {
                let reason = Reason::LaterTerm { from: message.from };
                self.become_follower(message.term, Some(message.from), reason);
            }
            Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::Removed
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => {
                self.become_follower(message.term, None, Reason::LaterTerm { from: message.from });
            }
        }
        true
    }

    /// Requests of an earlier term are answered, so that the sender learns of the later one; answers are ignored.
    fn answer_earlier_term(&mut self, message: &Message) {
        match &message.body {
            Body::RequestVote { .. } => self.refuse_vote(message),
            Body::AppendEntries { prev, .. } => {
                let outcome = AppendOutcome::Rejected { hint: self.state.log.last(), prev_index: prev.index };
                let answer = self.state.answer(message, Body::AppendEntriesReply(outcome));
                self.state.send_after_persist(answer);
            }
            Body::Heal { .. } => {
                let hint = self.state.log.last();
                let outcome = AppendOutcome::Rejected { hint, prev_index: Index::ZERO };
                let answer = self.state.answer(message, Body::AppendEntriesReply(outcome));
                self.state.send_after_persist(answer);
            }
            Body::Heartbeat { read_context, .. } => {
                let body = Body::HeartbeatReply { read_context: *read_context, stamp: Stamp::default() };
                let answer = self.state.answer(message, body);
                self.state.send_now(answer);
            }
            Body::ReadIndex { context } => self.refuse_read_index(message, *context),
            Body::AppendEntriesReply(outcome) if planted::is("match-index-from-a-stale-reply") => {
                self.append_answered(message.from, *outcome);
            }
            // What is committed stays so; and who was removed may be ahead of all others' terms for ever.
            Body::Removed if matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_)) => {
                self.told_of_removal(message.from);
            }
            Body::RequestVoteReply { .. }
            | Body::Removed
            | Body::TimeoutNow
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. }
            | Body::ReadIndexReply { .. } => {
                log::trace!("ignored in term {}: {message}", self.state.term);
            }
        }
    }
}
