//! The intake: what one poll turn brings to the core goes there in one visit.
//!
//! The services leave writes and reads here while the reactor works through its sockets. At the end of the turn
//! all writes become one proposal and all reads one ReadIndex request, together with what the peers said: one
//! lock, one `Ready`, one append per peer, one wake-up of the log writer.
//!
//! Bounded by the calls in flight of the RPC server: each request is one.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft::core::{ProposeError, RawNode, ReadError};
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
    /// Where the node keeps its data: what a full disk is reported with.
    data_dir: String,
}

/// Writers that are turned away together.
type TurnedAway = (ProposeError, Vec<Box<dyn ReplySink>>);

impl Intake {
    /// An intake for `node`; `hints` tell clients where the leader is, `data_dir` names what is full if its disk is.
    pub fn new(
        node: Arc<RaftNode>,
        waiters: Arc<Waiters>,
        gate: Arc<ReadGate>,
        hints: Arc<LeaderHints>,
        data_dir: String,
    ) -> Intake {
        Intake { node, waiters, gate, hints, data_dir, turn: Mutex::default() }
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
            let mut refusals = (Vec::new(), None);
            if !commands.is_empty() {
                refusals.0 = self.propose(core, commands, writers.take().expect("taken once"));
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
        let (turned_away, read_refusal) = match visit {
            Ok((writes, reads)) => {
                let writes = writes.into_iter().map(|(error, writers)| (self.write_refusal(error), writers));
                (writes.collect(), reads.map(|e| self.read_refusal(e)))
            }
            Err(_) => (vec![(stopping.clone(), writers.unwrap_or_default())], Some(stopping)),
        };
        for (refusal, writers) in turned_away {
            send_all(writers.into_iter().map(|sink| (sink, Outcome::Refused(refusal.clone()))));
        }
        if let (Some(refusal), Some(reads)) = (read_refusal, reads) {
            send_all(reads.into_iter().map(|read| (read.sink, Outcome::Refused(refusal.clone()))));
        }
    }

    /// Proposes the commands, as far as the disk has room for them: who is turned away and why.
    fn propose(
        &self,
        core: &mut RawNode,
        mut commands: Vec<Bytes>,
        mut writers: Vec<Box<dyn ReplySink>>,
    ) -> Vec<TurnedAway> {
        let beyond = commands.split_off(core.fitting(&commands));
        let beyond = (beyond, writers.split_off(commands.len()));
        let mut turned_away = Vec::new();
        for (commands, writers) in [(commands, writers), beyond] {
            if commands.is_empty() {
                continue;
            }
            match core.propose(commands) {
                Ok(proposed) => self.waiters.file(proposed, writers),
                Err(error) => turned_away.push((error, writers)),
            }
        }
        turned_away
    }

    fn write_refusal(&self, error: ProposeError) -> Refusal {
        match error {
            ProposeError::NoSpace { needed_bytes, left_bytes } => Refusal::NoSpace(format!(
                "the disk of {} is full: its log can take {left_bytes} bytes more and needs {needed_bytes}; nothing was \
                 written, and writes are taken again when there is room",
                self.data_dir
            )),
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
