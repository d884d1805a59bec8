//! The intake: what one poll turn brings to the core goes there in one visit.
//!
//! The services leave writes and reads here while the reactor works through its sockets. At the end of the turn
//! all writes become one proposal and all reads one ReadIndex request, together with what the peers said: one
//! lock, one `Ready`, one append per peer, one wake-up of the log writer.
//!
//! Bounded by the calls in flight of the RPC server: each request is one.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft::core::{ProposeError, ReadError};
use raft::driver::RaftNode;
use raft::sync::locked;

use crate::leader_hints::LeaderHints;
use crate::outcome::{Outcome, Refusal, ReplySink, send_all};
use crate::read_gate::{PendingRead, ReadGate};
use crate::waiters::Waiters;

/// Requests of one poll turn.
#[derive(Default)]
struct Turn {
    commands: Vec<Bytes>,
    writers: Vec<Box<dyn ReplySink>>,
    reads: Vec<PendingRead>,
}

/// The intake of one node.
pub struct Intake {
    node: Arc<RaftNode>,
    waiters: Arc<Waiters>,
    gate: Arc<ReadGate>,
    turn: Mutex<Turn>,
    hints: Arc<LeaderHints>,
}

impl Intake {
    /// An intake for `node`; `hints` tell clients where the leader is.
    pub fn new(
        node: Arc<RaftNode>,
        waiters: Arc<Waiters>,
        gate: Arc<ReadGate>,
        hints: Arc<LeaderHints>,
    ) -> Intake {
        Intake { node, waiters, gate, hints, turn: Mutex::default() }
    }

    /// Takes a write: an encoded command and who waits for its answer.
    pub fn write(&self, command: Bytes, sink: Box<dyn ReplySink>) {
        let mut turn = locked(&self.turn);
        turn.commands.push(command);
        turn.writers.push(sink);
    }

    /// Takes a linearizable read.
    pub fn read(&self, key: Bytes, sink: Box<dyn ReplySink>) {
        locked(&self.turn).reads.push(PendingRead { key, sink });
    }

    /// Brings the turn to the core. Called at the end of each poll turn.
    pub fn end_of_turn(&self) {
        let turn = std::mem::take(&mut *locked(&self.turn));
        if turn.commands.is_empty() && turn.reads.is_empty() {
            self.node.visit_if_spoken_to();
            return;
        }
        let Turn { commands, writers, reads } = turn;
        let (mut writers, mut reads) = (Some(writers), Some(reads));
        let visit = self.node.with_core(|core| {
            let mut refusals = (None, None);
            if !commands.is_empty() {
                match core.propose(commands) {
                    Ok(proposed) => self.waiters.file(proposed, writers.take().expect("taken once")),
                    Err(error) => refusals.0 = Some(error),
                }
            }
            if reads.as_ref().is_some_and(|reads| !reads.is_empty()) {
                let context = self.gate.next_context();
                match core.read_index(context) {
                    Ok(()) => self.gate.file(context, reads.take().expect("taken once")),
                    Err(error) => refusals.1 = Some(error),
                }
            }
            refusals
        });
        let stopping = Refusal::ShuttingDown { may_have_run: false };
        let (write_refusal, read_refusal) = match visit {
            Ok((writes, reads)) => {
                (writes.map(|e| self.write_refusal(e)), reads.map(|e| self.read_refusal(e)))
            }
            Err(_) => (Some(stopping.clone()), Some(stopping)),
        };
        if let (Some(refusal), Some(writers)) = (write_refusal, writers) {
            send_all(writers.into_iter().map(|sink| (sink, Outcome::Refused(refusal.clone()))));
        }
        if let (Some(refusal), Some(reads)) = (read_refusal, reads) {
            send_all(reads.into_iter().map(|read| (read.sink, Outcome::Refused(refusal.clone()))));
        }
    }

    fn write_refusal(&self, error: ProposeError) -> Refusal {
        match error {
            ProposeError::NotLeader { leader } => {
                Refusal::NotLeader { leader: self.hints.address(leader), may_have_run: false }
            }
            // It leads within milliseconds, or this node does again.
            ProposeError::Transferring { to } => {
                Refusal::NotLeader { leader: self.hints.address(Some(to)), may_have_run: false }
            }
            _ => Refusal::Busy,
        }
    }

    fn read_refusal(&self, error: ReadError) -> Refusal {
        match error {
            ReadError::NotLeader { leader } => {
                Refusal::NotLeader { leader: self.hints.address(leader), may_have_run: false }
            }
            _ => Refusal::Busy,
        }
    }
}

impl rpc::EndOfTurn for Intake {
    fn end_of_turn(&self) {
        Intake::end_of_turn(self);
    }
}
