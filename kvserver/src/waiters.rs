//! The writes that wait to be applied, each filed by the entry that carries it.
//!
//! Entries are proposed in the order of the log, under the core lock, so the waiters are a queue: the apply-loop
//! takes from its front. What a lost leadership leaves behind is detached under the core lock, before another
//! proposal can come, and answered after it.
//!
//! Bounded by the calls in flight of the RPC server: each waiter is one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use raft::core::{EntryId, Proposed, planted};
use raft::sync::locked;

use crate::outcome::{Answer, Outcome, Refusal, ReplySink};
use crate::state_machine::Reply;

/// The queue of waiters.
#[derive(Default)]
pub struct Waiters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(EntryId, Box<dyn ReplySink>)>,
    lost: Vec<Box<dyn ReplySink>>,
}

impl Waiters {
    /// Files the sinks of one proposed batch, in its order. Called under the core lock.
    pub fn file(&self, proposed: Proposed, sinks: Vec<Box<dyn ReplySink>>) {
        assert_eq!(proposed.count, sinks.len() as u64, "every proposed entry has its waiter");
        let mut state = locked(&self.state);
        if let Some((last, _)) = state.queue.back() {
            assert!(last.index < proposed.first, "proposals are filed in the order of the log");
        }
        state.queue.extend(proposed.ids().zip(sinks));
    }

    /// Moves the answers to what was applied to `answers`. A waiter whose index got another term's entry will
    /// never be applied: its write did not happen.
    pub fn applied(&self, replies: &mut Vec<(EntryId, Reply)>, answers: &mut Vec<Answer>) {
        let mut state = locked(&self.state);
        for (id, reply) in replies.drain(..) {
            while state.queue.front().is_some_and(|(waiting, _)| waiting.index <= id.index) {
                let (waiting, sink) = state.queue.pop_front().expect("the queue has a front");
                if waiting == id || planted::is("waiter-answered-by-index-alone") {
                    answers.push((sink, Outcome::Applied(reply)));
                    break;
                }
                let refusal = Refusal::NotLeader { leader: None, may_have_run: false };
                answers.push((sink, Outcome::Refused(refusal)));
            }
        }
    }

    /// Detaches every waiter: this node leads no more. Called under the core lock.
    pub fn lose_leadership(&self) {
        if planted::is("waiter-answered-by-index-alone") {
            return;
        }
        let mut state = locked(&self.state);
        let queue = std::mem::take(&mut state.queue);
        state.lost.extend(queue.into_iter().map(|(_, sink)| sink));
    }

    /// Answers the waiters that a loss of leadership detached: what became of their writes is unknown here.
    pub fn answer_lost(&self, leader: Option<Arc<str>>) {
        if planted::is("lost-waiter-forgotten") {
            return;
        }
        let lost = std::mem::take(&mut locked(&self.state).lost);
        let may_have_run = !planted::is("lost-write-said-not-to-have-run");
        let refusal = Refusal::NotLeader { leader, may_have_run };
        crate::outcome::send_all(lost.into_iter().map(|sink| (sink, Outcome::Refused(refusal.clone()))));
    }

    /// Answers every waiter: the node stops.
    pub fn shut_down(&self) {
        let mut state = locked(&self.state);
        let lost = std::mem::take(&mut state.lost);
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        let refusal = Outcome::Refused(Refusal::ShuttingDown { may_have_run: true });
        let sinks = lost.into_iter().chain(queue.into_iter().map(|(_, sink)| sink));
        crate::outcome::send_all(sinks.map(|sink| (sink, refusal.clone())));
    }

    /// How many writes wait.
    pub fn len(&self) -> usize {
        locked(&self.state).queue.len()
    }

    /// Whether no write waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
