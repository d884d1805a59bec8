//! Reads that a follower serves: it asks its leader for a read index (dissertation §6.4, at its end).
//!
//! One question flies at a time and covers every read that had arrived when it left; reads that come meanwhile share the
//! next. The leader treats it as a read of its own, with a round, and answers with the index; the follower serves when it
//! has applied so much. A question or an answer that is lost is asked again. After the shortest election timeout the leader
//! counts as out of reach, although it may still be heard: the reads are refused, and further ones at once, while the question
//! goes on being asked; its answer ends that. Questions are numbered from a point that each life of a node draws, so that what
//! answers an earlier life's answers nothing.

use crate::error::{Limit, ReadError};
use crate::message::{Body, Message};
use crate::planted;
use crate::raft::{Raft, Role};
use crate::read_index::Asker;
use crate::ready::{ReadOutcome, ReadState};
use crate::types::{Index, NodeId};

/// Ticks after which a question without an answer is repeated.
const REPEAT_TICKS: u32 = 10;

/// The question under way.
#[derive(Debug)]
struct Question {
    number: u64,
    contexts: Vec<u64>,
    /// How many have passed since it left first.
    ticks: u32,
}

/// The reads that a follower has taken on.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Reads that no question covers yet.
    waiting: Vec<u64>,
    flight: Option<Question>,
}

impl Questions {
    /// Whether the leader has not answered for so many ticks that reads had better be served elsewhere.
    fn are_in_vain(&self, patience_ticks: u32) -> bool {
        self.flight.as_ref().is_some_and(|question| question.ticks >= patience_ticks)
    }

    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.flight.as_ref().map_or(0, |question| question.contexts.len())
    }

    /// Takes every read out: nobody answers. The question under way stays.
    pub(crate) fn end(&mut self, leader: Option<NodeId>) -> Vec<ReadState> {
        let flying = self.flight.iter_mut().flat_map(|question| question.contexts.drain(..));
        let outcome = ReadOutcome::Refused { leader };
        flying.chain(self.waiting.drain(..)).map(|context| ReadState { context, outcome }).collect()
    }
}

impl Raft {
    /// Takes a read on that this node serves itself, whether it leads or follows.
    pub(crate) fn follower_read(&mut self, context: u64) -> Result<(), ReadError> {
        if planted::is("follower-read-without-a-round") {
            let outcome = ReadOutcome::Confirmed(self.state.log.committed());
            self.state.out.read_states.push(ReadState { context, outcome });
            return Ok(());
        }
        let Role::Follower(follower) = &mut self.role else {
            return self.read_index(Asker::Own { context });
        };
        let patience_ticks = self.state.config.election_ticks_min;
        if follower.leader.is_none() || follower.questions.are_in_vain(patience_ticks) {
            return Err(ReadError::NotLeader { leader: follower.leader });
        }
        if follower.questions.pending() >= self.state.config.reads_pending_max {
            return Err(ReadError::Busy { limit: Limit::PendingReads });
        }
        follower.questions.waiting.push(context);
        Ok(())
    }

    /// Whether the waiting reads may be asked for.
    pub(crate) fn question_is_due(&self) -> bool {
        let Role::Follower(follower) = &self.role else { return false };
        let questions = &follower.questions;
        follower.leader.is_some() && questions.flight.is_none() && !questions.waiting.is_empty()
    }

    /// Asks the leader, if reads wait, for all of them at once.
    pub(crate) fn ask_for_read_index(&mut self) {
        if !self.question_is_due() {
            return;
        }
        let Role::Follower(follower) = &mut self.role else { return };
        let contexts = std::mem::take(&mut follower.questions.waiting);
        self.state.questions = self.state.questions.wrapping_add(1);
        follower.questions.flight = Some(Question { number: self.state.questions, contexts, ticks: 0 });
        self.send_question();
    }

    fn send_question(&mut self) {
        let Role::Follower(follower) = &self.role else { return };
        let (Some(leader), Some(question)) = (follower.leader, &follower.questions.flight) else { return };
        let request = self.state.request(leader, Body::ReadIndex { context: question.number });
        self.state.send_now(request);
    }

    /// A tick has passed: what is overdue is asked again, and nobody waits for it for ever.
    pub(crate) fn check_question(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(question) = &mut follower.questions.flight else { return };
        question.ticks = question.ticks.saturating_add(1);
        let is_due = question.ticks.is_multiple_of(REPEAT_TICKS);
        if follower.questions.are_in_vain(self.state.config.election_ticks_min) {
            self.state.out.read_states.extend(follower.questions.end(follower.leader));
        }
        if is_due {
            self.send_question();
        }
    }

    /// The leader has answered a question.
    pub(crate) fn read_index_answered(&mut self, context: u64, read_index: Option<Index>) {
        let Role::Follower(follower) = &self.role else { return };
        if follower.questions.flight.as_ref().is_some_and(|question| question.number == context) {
            self.question_answered(read_index);
        }
    }

    /// The question under way is over.
    fn question_answered(&mut self, read_index: Option<Index>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let contexts = follower.questions.flight.take().map_or_else(Vec::new, |question| question.contexts);
        let outcome = match read_index {
            Some(index) => ReadOutcome::Confirmed(index),
            None => ReadOutcome::Refused { leader: follower.leader },
        };
        self.state.out.read_states.extend(contexts.into_iter().map(|context| ReadState { context, outcome }));
    }

    /// A follower asks this leader. Who is no member is refused: it would never get what the index names.
    pub(crate) fn asked_for_read_index(&mut self, message: &Message, context: u64) {
        let asker = Asker::Peer { node: message.from, token: message.token, context };
        let is_member = self.state.membership().contains(message.from);
        if !is_member || self.read_index(asker).is_err() {
            self.refuse_read_index(message, context);
        }
    }

    /// This node cannot say.
    pub(crate) fn refuse_read_index(&mut self, message: &Message, context: u64) {
        let refusal = self.state.answer(message, Body::ReadIndexReply { context, read_index: None });
        self.state.send_now(refusal);
    }
}
