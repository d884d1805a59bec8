//! Where linearizable reads wait: first until their ReadIndex round is confirmed, then until the state has been
//! applied as far as that index. Then they run, on the thread that opened the gate.
//!
//! A read is filed under the number of the round it asked for; the rounds end in the order they were asked for,
//! so both waits are queues. Bounded by the calls in flight of the RPC server: each read is one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft::core::{Index, NodeId, ReadOutcome, ReadState, planted};
use raft::sync::locked;

use crate::leader_hints::LeaderHints;
use crate::outcome::{Answer, Outcome, Refusal, ReplySink, send_all};
use crate::shared_state::SharedState;

/// Reads served under one read lock of the store.
const READS_PER_LOCK: usize = 64;

/// One read and where its answer goes.
pub struct PendingRead {
    /// The key to read.
    pub key: Bytes,
    /// Who asked.
    pub sink: Box<dyn ReplySink>,
}

/// The gate.
pub struct ReadGate {
    shared: Arc<SharedState>,
    hints: Arc<LeaderHints>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the context given to the core, in rising order.
    asked: VecDeque<(u64, Vec<PendingRead>)>,
    /// By the index that must be applied first.
    confirmed: BTreeMap<Index, Vec<PendingRead>>,
    refused: Vec<(Vec<PendingRead>, Option<NodeId>)>,
    last_context: u64,
}

impl ReadGate {
    /// A gate before `shared`; refused reads are told where the leader is.
    pub fn new(shared: Arc<SharedState>, hints: Arc<LeaderHints>) -> ReadGate {
        ReadGate { shared, hints, state: Mutex::default() }
    }

    /// The context under which the next reads will be filed.
    pub fn next_context(&self) -> u64 {
        let mut state = locked(&self.state);
        state.last_context += 1;
        state.last_context
    }

    /// Files reads whose round was asked for with `context`. Called under the core lock.
    pub fn file(&self, context: u64, reads: Vec<PendingRead>) {
        locked(&self.state).asked.push_back((context, reads));
    }

    /// Files a read that waits for nothing but that `index` is applied.
    pub fn confirm(&self, index: Index, read: PendingRead) {
        locked(&self.state).confirmed.entry(index).or_default().push(read);
    }

    /// Takes what the core says about rounds. Called under the core lock.
    pub fn queue(&self, states: Vec<ReadState>) {
        let mut state = locked(&self.state);
        for read_state in states {
            let Ok(place) = state.asked.binary_search_by_key(&read_state.context, |(context, _)| *context)
            else {
                continue;
            };
            let (_, reads) = state.asked.remove(place).expect("the place was just found");
            match read_state.outcome {
                ReadOutcome::Confirmed(index) => state.confirmed.entry(index).or_default().extend(reads),
                ReadOutcome::Refused { leader } => state.refused.push((reads, leader)),
            }
        }
    }

    /// Serves every read whose index has been applied, and answers the refused ones. Called without locks, after
    /// `queue` and whenever the applied index has grown.
    pub fn open(&self) {
        let applied = match planted::is("read-served-before-it-is-applied") {
            true => Index(u64::MAX - 1),
            false => Index(self.shared.applied_index()),
        };
        let mut state = locked(&self.state);
        let later = state.confirmed.split_off(&Index(applied.0 + 1));
        let served = std::mem::replace(&mut state.confirmed, later);
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        for (_, reads) in served {
            self.serve(reads);
        }
        for (reads, leader) in refused {
            let refusal = Refusal::NotLeader { leader: self.hints.address(leader), may_have_run: false };
            send_all(reads.into_iter().map(|read| (read.sink, Outcome::Refused(refusal.clone()))));
        }
    }

    fn serve(&self, reads: Vec<PendingRead>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(reads.len());
        let mut reads = reads.into_iter().peekable();
        while reads.peek().is_some() {
            let machine = self.shared.read();
            for read in reads.by_ref().take(READS_PER_LOCK) {
                let outcome = match machine.get(&read.key) {
                    Some((value, version)) => Outcome::Found { value: value.clone(), version: version.0 },
                    None => Outcome::Missing,
                };
                answers.push((read.sink, outcome));
            }
        }
        send_all(answers);
    }

    /// Answers every read: the node stops.
    pub fn shut_down(&self) {
        let mut state = locked(&self.state);
        let asked = std::mem::take(&mut state.asked);
        let confirmed = std::mem::take(&mut state.confirmed);
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        let reads = asked.into_iter().map(|(_, reads)| reads);
        let reads = reads.chain(confirmed.into_values()).chain(refused.into_iter().map(|(reads, _)| reads));
        let refusal = Outcome::Refused(Refusal::ShuttingDown { may_have_run: false });
        send_all(reads.flatten().map(|read| (read.sink, refusal.clone())));
    }
}
