//! The candidate: counts answers, and gives way to a leader.
//!
//! The same for both rounds of asking. A voter's first answer counts; a vote for another round or term never does.

use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::quorum::Tally;
use crate::raft::{Raft, Role};
use crate::types::NodeId;

/// The answers so far.
#[derive(Debug, Default)]
pub(crate) struct Candidate {
    answers: Vec<(NodeId, bool)>,
}

impl Candidate {
    /// Counts a voter's answer, unless it has answered before, and says how the vote stands.
    pub(crate) fn record(&mut self, from: NodeId, granted: bool, membership: &Membership) -> Tally {
        if self.answers.iter().all(|(voter, _)| *voter != from) {
            self.answers.push((from, granted));
        }
        membership.tally(&self.answers)
    }
}

impl Raft {
    /// A message of this node's term (or the granted pre-vote of the next) while it campaigns.
    pub(crate) fn step_candidate(&mut self, message: Message) {
        match message.body {
            Body::RequestVote { .. } => self.answer_vote_request(&message),
            Body::RequestVoteReply { pre_vote, granted } => self.take_vote(&message, pre_vote, granted),
            Body::Removed => self.told_of_removal(message.from),
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Heal { .. } => {
                self.heed_leader(message.from);
                self.step_follower(message);
            }
            Body::ReadIndex { context } => self.refuse_read_index(&message, context),
            Body::TimeoutNow
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. }
            | Body::ReadIndexReply { .. } => {
                log::trace!("a candidate ignores {message}");
            }
        }
    }

    fn take_vote(&mut self, message: &Message, pre_vote: bool, granted: bool) {
        let state = &self.state;
        let membership = state.membership();
        let asked_term = if pre_vote && granted { state.term.next() } else { state.term };
        if message.term != asked_term || !membership.is_voter(message.from) {
            return log::trace!("not an answer to this election: {message}");
        }
        let tally = match &mut self.role {
            Role::PreCandidate(candidate) if pre_vote => candidate.record(message.from, granted, membership),
            Role::Candidate(candidate) if !pre_vote => candidate.record(message.from, granted, membership),
            _ => return log::trace!("not an answer to this round: {message}"),
        };
        self.count_votes(tally);
    }
}
