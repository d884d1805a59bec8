//! The candidate: counts answers, and gives way to a leader.
//!
//! The same for both rounds of asking. A voter's first answer counts; a vote for another round or term never does.

use crate::message::{Body, Message};
use crate::quorum::{self, Tally};
use crate::raft::{Raft, Role};
use crate::types::NodeId;

/// The answers so far.
#[derive(Debug)]
pub(crate) struct Candidate {
    voters: usize,
    answers: Vec<(NodeId, bool)>,
}

impl Candidate {
    pub(crate) fn new(voters: usize) -> Candidate {
        Candidate { voters, answers: Vec::with_capacity(voters) }
    }

    /// Counts an answer, unless this voter has answered before, and says how the vote stands.
    pub(crate) fn record(&mut self, from: NodeId, granted: bool) -> Tally {
        if self.answers.iter().all(|(voter, _)| *voter != from) {
            self.answers.push((from, granted));
        }
        let yes = self.answers.iter().filter(|(_, granted)| *granted).count();
        quorum::tally(self.voters, yes, self.answers.len() - yes)
    }
}

impl Raft {
    /// A message of this node's term (or the granted pre-vote of the next) while it campaigns.
    pub(crate) fn step_candidate(&mut self, message: Message) {
        match message.body {
            Body::RequestVote { .. } => self.answer_vote_request(&message),
            Body::RequestVoteReply { pre_vote, granted } => self.take_vote(&message, pre_vote, granted),
            Body::AppendEntries { .. } | Body::Heartbeat { .. } => {
                self.heed_leader(message.from);
                self.step_follower(message);
            }
            Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. } => {
                log::trace!("a candidate ignores {message}");
            }
        }
    }

    fn take_vote(&mut self, message: &Message, pre_vote: bool, granted: bool) {
        let state = &self.state;
        let asked_term = if pre_vote && granted { state.term.next() } else { state.term };
        if message.term != asked_term || !state.membership.is_voter(message.from) {
            return log::trace!("not an answer to this election: {message}");
        }
        let tally = match &mut self.role {
            Role::PreCandidate(candidate) if pre_vote => candidate.record(message.from, granted),
            Role::Candidate(candidate) if !pre_vote => candidate.record(message.from, granted),
            _ => return log::trace!("not an answer to this round: {message}"),
        };
        self.count_votes(tally);
    }
}
