//! Elections: the timer, the two rounds of asking, and the giving of votes.
//!
//! First PreVote, which raises no term anywhere: who cannot win disturbs nobody. Then the vote of §5.2. One vote a term,
//! only for a log at least as up-to-date (§5.4.1), and none at all while a leader is heard, unless the leader itself
//! asked for the election. All of these messages wait for the disk: the vote because it is a promise, the rest so that
//! a node whose disk does not move neither campaigns nor encourages others.

use crate::candidate::Candidate;
use crate::follower::Follower;
use crate::message::{Body, Message};
use crate::planted;
use crate::quorum::Tally;
use crate::raft::{Raft, Role};
use crate::status::Reason;
use crate::types::{NodeId, ReplyToken};

/// Ticks between one follower's attempt and the next one's after the leader's process is gone: enough for an election
/// on a network that is well.
const GONE_STAGGER_TICKS: u32 = 3;

/// A node that was told that it has been removed asks so many times more rarely: it may have been taken in again since,
/// or the word was an old one.
const REMOVED_PATIENCE: u32 = 100;

/// Which round of an election, or a transfer, which asks nobody first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Would you vote for me?
    PreVote,
    /// Vote for me.
    Vote,
    /// Vote for me: the leader wants it.
    Transfer,
}

impl Raft {
    /// One tick has passed.
    pub(crate) fn tick_election(&mut self) {
        self.state.ticked_at = self.state.now;
        if let Role::Leader(_) = self.role {
            return self.check_quorum();
        }
        // Of a learner, too: it may have been made a voter by an entry it has not got, and is asked for its vote.
        self.state.election_elapsed = self.state.election_elapsed.saturating_add(1);
        self.state.silent_ticks = self.state.silent_ticks.saturating_add(1);
        self.check_question();
        if !self.state.may_campaign() {
            return self.forget_silent_leader();
        }
        let patience = if self.state.is_removed { REMOVED_PATIENCE } else { 1 };
        // Whoever leads while this node is the only voter is on its way out, and says when. Its lease is waited for.
        let is_alone = self.state.membership().is_alone(self.state.id());
        if is_alone && self.leader().is_none() && !self.leader_is_alive() {
            self.campaign(Round::Vote, Reason::OnlyVoter);
        } else if self.state.election_elapsed >= self.state.election_timeout.saturating_mul(patience) {
            let first = match planted::is("removed-node-deposes-the-leader") {
                true => Round::Vote,
                false => Round::PreVote,
            };
            self.campaign(first, self.state.timeout_reason);
        }
    }

    /// Who may not ask for votes has no other way of finding out that its leader is none any more, and would send clients
    /// there for ever; nor would the reads end that wait for that leader.
    fn forget_silent_leader(&mut self) {
        if self.state.election_elapsed >= self.state.election_timeout && self.leader().is_some() {
            self.become_follower(self.state.term, None, Reason::TimedOut);
        }
    }

    /// Asks every other voter, in a round whose own vote is already counted.
    pub(crate) fn campaign(&mut self, round: Round, reason: Reason) {
        self.state.reset_election_timer();
        self.state.is_removed = false;
        self.end_reads(None);
        if reason != Reason::Campaigns {
            self.state.election_reason = Some(reason);
        }
        let mut candidate = Candidate::default();
        let tally = candidate.record(self.state.id(), true, self.state.membership());
        match round {
            Round::PreVote => {
                if planted::is("pre-vote-raises-the-term") {
                    (self.state.term, self.state.vote) = (self.state.term.next(), None);
                }
                self.role = Role::PreCandidate(candidate);
            }
            Round::Vote | Round::Transfer => {
                self.state.term = self.state.term.next();
                self.state.vote = Some(self.state.id());
                self.role = Role::Candidate(candidate);
            }
        }
        self.note_change(reason);
        self.ask_for_votes(round);
        if tally == Tally::Won {
            self.count_votes(tally);
        }
    }

    fn ask_for_votes(&mut self, round: Round) {
        let state = &mut self.state;
        let pre_vote = round == Round::PreVote;
        let term = if pre_vote { state.term.next() } else { state.term };
        let transfer = round == Round::Transfer && !planted::is("transfer-without-its-flag");
        let body = Body::RequestVote { pre_vote, transfer, last: state.log.last() };
        let from = state.id();
        for to in state.membership().all_voters().into_iter().filter(|voter| *voter != from) {
            let request = Message { from, to, term, token: ReplyToken::NONE, body: body.clone() };
            match planted::is("vote-asked-for-before-the-sync") {
                true => state.out.messages.push(request),
                false => state.out.messages_after_persist.push(request),
            }
        }
    }

    /// Acts on how the vote stands.
    pub(crate) fn count_votes(&mut self, tally: Tally) {
        match (tally, &self.role) {
            (Tally::Won, Role::PreCandidate(_)) => self.campaign(Round::Vote, Reason::Campaigns),
            (Tally::Won, Role::Candidate(_)) => self.become_leader(),
            (Tally::Lost, Role::PreCandidate(_) | Role::Candidate(_)) => {
                self.become_follower(self.state.term, None, Reason::ElectionLost);
            }
            (_, Role::Follower(_) | Role::Leader(_)) | (Tally::Open, _) => {}
        }
    }

    /// The process of `peer` is gone. If it led, waiting for the timeout is of no use: its followers ask for votes one
    /// after the other, in the order of their ids, so that two do not split the votes. PreVote keeps that harmless:
    /// whoever still hears the leader refuses, and a majority must not hear it. A lease, which is a promise to wait, goes
    /// before.
    pub(crate) fn peer_gone(&mut self, peer: NodeId) {
        self.successor_gone(peer);
        let is_led_by_it = matches!(&self.role, Role::Follower(follower) if follower.leader == Some(peer));
        if !is_led_by_it || self.state.config.lease.is_some() {
            return;
        }
        self.end_reads(None);
        let Role::Follower(follower) = &mut self.role else { return };
        follower.leader = None;
        let state = &mut self.state;
        let voters = state.log.membership().all_voters();
        let others = voters.iter().filter(|voter| **voter != peer);
        let place = others.take_while(|voter| **voter < state.config.node_id).count();
        state.election_elapsed = 0;
        state.election_timeout = 1 + GONE_STAGGER_TICKS * u32::try_from(place).unwrap_or(u32::MAX / 8);
        state.timeout_reason = Reason::LeaderGone { leader: peer };
        self.note_change(self.state.timeout_reason);
    }

    /// Whether a leader was heard so recently that its followers must not help to depose it. Where there are leases, the
    /// leader that was heard is protected whatever was heard since, and a node that has just started may have heard one.
    pub(crate) fn leader_is_alive(&self) -> bool {
        if planted::is("removed-node-deposes-the-leader") {
            return false;
        }
        match &self.role {
            Role::Leader(_) => true,
            _ if self.state.config.lease.is_some() => {
                self.state.silent_ticks < self.state.config.election_ticks_min
            }
            Role::Follower(follower) => {
                follower.leader.is_some()
                    && self.state.election_elapsed < self.state.config.election_ticks_min
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Answers a vote request of this term, or a pre-vote of this or a later one.
    pub(crate) fn answer_vote_request(&mut self, message: &Message) {
        let Body::RequestVote { pre_vote, transfer, last } = message.body else {
            unreachable!("only vote requests are routed here");
        };
        let vote_is_free = match self.state.vote {
            Some(voted_for) => voted_for == message.from,
            None => self.leader().is_none(),
        };
        let may_vote = vote_is_free || (pre_vote && message.term > self.state.term);
        let leader_protects = self.leader_is_alive() && !transfer;
        let is_convalescent = self.state.is_convalescent() && !planted::is("damaged-node-votes");
        let may_vote = may_vote || planted::is("second-vote-in-a-term");
        let is_behind = match planted::is("vote-for-a-shorter-log") {
            true => last.term < self.state.log.last().term,
            false => last < self.state.log.last(),
        };
        let is_behind = is_behind && !planted::is("vote-without-looking-at-the-log");
        if !may_vote || leader_protects || is_behind || is_convalescent {
            return self.refuse_vote(message);
        }
        if pre_vote {
            let granted = Body::RequestVoteReply { pre_vote: true, granted: true };
            let answer = Message { term: message.term, ..self.state.answer(message, granted) };
            return self.state.send_after_persist(answer);
        }
        self.grant_vote(message.from);
        let answer = self.state.answer(message, Body::RequestVoteReply { pre_vote: false, granted: true });
        if planted::is("vote-not-synced-before-its-reply") {
            return self.state.send_now(answer);
        }
        self.state.send_after_persist(answer);
    }

    /// Gives this term's vote away; whoever was only asking around stops doing so.
    fn grant_vote(&mut self, to: NodeId) {
        let is_free = self.state.vote.is_none_or(|voted_for| voted_for == to);
        assert!(is_free || planted::is("second-vote-in-a-term"), "one vote a term");
        self.state.vote = Some(to);
        self.state.reset_election_timer();
        if let Role::PreCandidate(_) = self.role {
            self.role = Role::Follower(Follower::of(None));
            self.note_change(Reason::VotedFor { candidate: to });
        }
    }

    /// Says no, in this node's own term; no timer is fed by that.
    pub(crate) fn refuse_vote(&mut self, message: &Message) {
        let Body::RequestVote { pre_vote, last, .. } = message.body else {
            unreachable!("only vote requests are routed here");
        };
        if planted::is("timer-reset-by-a-refused-vote") {
            self.state.reset_election_timer();
        }
        let refusal = match self.was_removed(message.from, last) {
            true => Body::Removed,
            false => Body::RequestVoteReply { pre_vote, granted: false },
        };
        let answer = self.state.answer(message, refusal);
        self.state.send_after_persist(answer);
    }

    /// Another node says that this one was removed: it asks for votes no more than now and then, until a leader is heard.
    pub(crate) fn told_of_removal(&mut self, by: NodeId) {
        self.state.is_removed = true;
        self.become_follower(self.state.term, None, Reason::Removed { by });
    }
}
