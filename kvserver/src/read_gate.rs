//! Where linearizable reads wait: first until their ReadIndex round is confirmed, then until the state has been
//! applied as far as that index. Then they run, on the thread that opened the gate.
//!
//! A read is filed under the number of the round it asked for; the rounds end in the order they were asked for,
//! so both waits are queues. Bounded by the calls in flight of the RPC server: each read is one; callers that do not wait any
//! more make room.

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

/// From so many reads on that wait for an index, those whose callers are gone are let go.
const WAITING_MANY: usize = 1024;

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
    /// How many waited for an index after callers that are gone had been looked for.
    still_waited: usize,
}

impl State {
    /// Takes out the reads of callers that are gone: a node that is cut off may never apply what they wait for. Looked for when
    /// there are twice as many as the last time, since each has to be asked.
    fn in_vain(&mut self) -> Vec<PendingRead> {
        let waiting: usize = self.confirmed.values().map(Vec::len).sum();
        if waiting < WAITING_MANY.max(2 * self.still_waited) {
            return Vec::new();
        }
        let mut in_vain = Vec::new();
        for reads in self.confirmed.values_mut() {
            in_vain.extend(reads.extract_if(.., |read| read.sink.is_in_vain()));
        }
        self.still_waited = waiting - in_vain.len();
        in_vain
    }
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
        let in_vain = state.in_vain();
        drop(state);
        drop(in_vain);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use raft::net::AddressBook;

    use super::*;
    use crate::state_machine::StateMachine;

    struct Caller {
        is_gone: Arc<AtomicBool>,
        kept: Arc<AtomicUsize>,
    }

    impl ReplySink for Caller {
        fn send(self: Box<Self>, _: Outcome) {}

        fn is_in_vain(&self) -> bool {
            self.is_gone.load(Ordering::Relaxed)
        }
    }

    impl Drop for Caller {
        fn drop(&mut self) {
            self.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn callers_that_are_gone_do_not_fill_the_gate_of_a_node_that_never_gets_what_they_wait_for() {
        let shared = Arc::new(SharedState::new(StateMachine::new()));
        let book = AddressBook::new(std::iter::empty());
        let gate = ReadGate::new(shared, Arc::new(LeaderHints::new(NodeId(1), book)));
        let (stays, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for number in 0..20 * WAITING_MANY {
            let is_gone = match number % 100 {
                0 => Arc::clone(&stays),
                _ => Arc::new(AtomicBool::new(true)),
            };
            kept.fetch_add(1, Ordering::Relaxed);
            let sink = Box::new(Caller { is_gone, kept: Arc::clone(&kept) });
            gate.confirm(Index(5), PendingRead { key: Bytes::from_static(b"k"), sink });
            gate.open();
            assert!(kept.load(Ordering::Relaxed) <= WAITING_MANY, "read {number}");
        }
        assert!(kept.load(Ordering::Relaxed) >= 20 * WAITING_MANY / 100, "who waits goes on waiting");
    }
}
