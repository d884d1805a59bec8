//! The intake: what one poll turn brings to the core goes there in one visit.
//!
//! The services leave writes and reads here while the reactor works through its sockets. At the end of the turn
//! all writes become one proposal and all reads of a kind one request, together with what the peers said: one
//! lock, one `Ready`, one append per peer, one wake-up of the log writer.
//!
//! Bounded by the calls in flight of the RPC server: each request is one.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use proto::Consistency;
use raft::core::{Freshness, Index, NodeId, ProposeError, RawNode, ReadError, RoleKind, SoftState};
use raft::driver::RaftNode;
use raft::sync::locked;

use crate::forwarder::{PassOn, PassedWrite};
use crate::leader_hints::LeaderHints;
use crate::outcome::{Outcome, Refusal, ReplySink, send_all};
use crate::read_gate::{PendingRead, ReadGate};
use crate::waiters::Waiters;

/// How the core is asked for a kind of reads.
type Ask = fn(&mut RawNode, u64) -> Result<(), ReadError>;

/// The reads of one poll turn that the core is asked for, by kind: each kind is one request.
#[derive(Default)]
struct Reads {
    linearizable: Vec<PendingRead>,
    lease: Vec<PendingRead>,
    follower: Vec<PendingRead>,
    /// With the bound on their age, if they have one.
    stale: Vec<(PendingRead, Option<Duration>)>,
}

/// Who waits for a write, and, if it may be passed on, what is left of its time.
struct Writer {
    sink: Box<dyn ReplySink>,
    passed_on: Option<Duration>,
}

/// Requests of one poll turn.
#[derive(Default)]
struct Turn {
    commands: Vec<Bytes>,
    writers: Vec<Writer>,
    reads: Reads,
}

/// Writers that are turned away together, with their commands if another node leads.
struct TurnedAway {
    error: ProposeError,
    commands: Vec<Bytes>,
    writers: Vec<Writer>,
}

/// Reads that the core or the gate turned away, and why.
type Refused = Vec<(Vec<PendingRead>, Refusal)>;

/// The intake of one node.
pub struct Intake {
    node: Arc<RaftNode>,
    waiters: Arc<Waiters>,
    gate: Arc<ReadGate>,
    turn: Mutex<Turn>,
    hints: Arc<LeaderHints>,
    /// Where the node keeps its data: what a full disk is reported with.
    data_dir: String,
    forwarder: OnceLock<Arc<dyn PassOn>>,
}

impl Intake {
    /// An intake for `node`; `hints` tell clients where the leader is, `data_dir` names what is full if its disk is.
    pub fn new(
        node: Arc<RaftNode>,
        waiters: Arc<Waiters>,
        gate: Arc<ReadGate>,
        hints: Arc<LeaderHints>,
        data_dir: String,
    ) -> Intake {
        let (turn, forwarder) = Default::default();
        Intake { node, waiters, gate, hints, data_dir, turn, forwarder }
    }

    /// Says who passes writes on when this node does not lead; without, nobody does. Called at most once.
    pub fn pass_on_by(&self, forwarder: Arc<dyn PassOn>) {
        assert!(self.forwarder.set(forwarder).is_ok(), "one passes writes on");
    }

    /// Takes a write: an encoded command and who waits for its answer. It is refused if this node does not lead.
    pub fn write(&self, command: Bytes, sink: Box<dyn ReplySink>) {
        self.write_or_pass_on(command, sink, None);
    }

    /// Takes a write that may be passed on if another node leads, with what is left of its time.
    pub fn write_or_pass_on(&self, command: Bytes, sink: Box<dyn ReplySink>, passed_on: Option<Duration>) {
        let mut turn = locked(&self.turn);
        turn.commands.push(command);
        turn.writers.push(Writer { sink, passed_on });
    }

    /// Takes a linearizable read.
    pub fn read(&self, key: Bytes, sink: Box<dyn ReplySink>) {
        self.read_with(key, Consistency::Linearizable, sink);
    }

    /// Takes a read that says what it must see.
    pub fn read_with(&self, key: Bytes, consistency: Consistency, sink: Box<dyn ReplySink>) {
        let read = PendingRead { key, sink };
        let reads = &mut locked(&self.turn).reads;
        match consistency {
            Consistency::Linearizable => reads.linearizable.push(read),
            Consistency::Lease => reads.lease.push(read),
            Consistency::Follower => reads.follower.push(read),
            Consistency::Stale { max_age } => reads.stale.push((read, max_age)),
        }
    }

    /// Brings the turn to the core. Called at the end of each poll turn.
    pub fn end_of_turn(&self) {
        let Turn { commands, writers, reads } = std::mem::take(&mut *locked(&self.turn));
        if commands.is_empty() && reads.is_empty() {
            self.node.visit_if_spoken_to();
            return;
        }
        let has_stale = !reads.stale.is_empty();
        let (mut writers, mut reads) = (Some(writers), Some(reads));
        let visit = self.node.with_core(|core| {
            let turned_away = writers.take().map(|writers| self.propose(core, commands, writers));
            let reads = reads.take().expect("taken once");
            (turned_away.unwrap_or_default(), self.ask(core, reads))
        });
        let stopping = Refusal::ShuttingDown { may_have_run: false };
        let (turned_away, mut refused_reads) = visit.unwrap_or_default();
        refused_reads.extend(reads.map(|reads| (reads.into_all(), stopping.clone())));
        refuse_writes(writers.unwrap_or_default(), &stopping);
        for TurnedAway { error, commands, writers } in turned_away {
            match error {
                ProposeError::NotLeader { leader } if commands.len() == writers.len() => {
                    self.pass_on(leader, commands, writers);
                }
                error => refuse_writes(writers, &self.write_refusal(error)),
            }
        }
        for (reads, refusal) in refused_reads {
            send_all(reads.into_iter().map(|read| (read.sink, Outcome::Refused(refusal.clone()))));
        }
        if has_stale {
            self.gate.open();
        }
    }

    /// Proposes the commands, as far as the disk has room for them, and files who waits for them: who is turned away and
    /// why. A node that does not lead gives the commands back.
    fn propose(
        &self,
        core: &mut RawNode,
        mut commands: Vec<Bytes>,
        mut writers: Vec<Writer>,
    ) -> Vec<TurnedAway> {
        let SoftState { role, leader, .. } = core.soft_state();
        if role != RoleKind::Leader {
            return vec![TurnedAway { error: ProposeError::NotLeader { leader }, commands, writers }];
        }
        let beyond = commands.split_off(core.fitting(&commands));
        let beyond = (beyond, writers.split_off(commands.len()));
        let mut turned_away = Vec::new();
        for (commands, writers) in [(commands, writers), beyond] {
            if commands.is_empty() {
                continue;
            }
            match core.propose(commands) {
                Ok(proposed) => {
                    self.waiters.file(proposed, writers.into_iter().map(|writer| writer.sink).collect());
                }
                Err(error) => turned_away.push(TurnedAway { error, commands: Vec::new(), writers }),
            }
        }
        turned_away
    }

    /// Passes on what may be, and refuses the rest with a hint.
    fn pass_on(&self, leader: Option<NodeId>, commands: Vec<Bytes>, writers: Vec<Writer>) {
        let mut refused = Vec::new();
        rpc::corked(|| {
            for (command, Writer { sink, passed_on }) in commands.into_iter().zip(writers) {
                let (Some(forwarder), Some(leader), Some(timeout)) =
                    (self.forwarder.get(), leader, passed_on)
                else {
                    refused.push(Writer { sink, passed_on });
                    continue;
                };
                if let Err(back) = forwarder.pass_on(leader, PassedWrite { command, sink, timeout }) {
                    refused.push(Writer { sink: back.sink, passed_on });
                }
            }
        });
        refuse_writes(refused, &self.write_refusal(ProposeError::NotLeader { leader }));
    }

    /// Asks the core for the reads of a turn and files them with the gate; returns what is turned away.
    fn ask(&self, core: &mut RawNode, reads: Reads) -> Refused {
        let Reads { linearizable, lease, follower, stale } = reads;
        let mut refused = Refused::new();
        let kinds: [(Vec<PendingRead>, Ask); 3] = [
            (linearizable, RawNode::read_index),
            (lease, RawNode::lease_read),
            (follower, RawNode::follower_read),
        ];
        for (reads, ask) in kinds.into_iter().filter(|(reads, _)| !reads.is_empty()) {
            let context = self.gate.next_context();
            match ask(core, context) {
                Ok(()) => self.gate.file(context, reads),
                Err(error) => refused.push((reads, self.read_refusal(error))),
            }
        }
        let freshness = core.freshness();
        for (read, max_age) in stale {
            match must_be_applied(max_age, freshness) {
                Ok(index) => self.gate.confirm(index, read),
                Err(refusal) => refused.push((vec![read], refusal)),
            }
        }
        refused
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

fn refuse_writes(writers: Vec<Writer>, refusal: &Refusal) {
    send_all(writers.into_iter().map(|writer| (writer.sink, Outcome::Refused(refusal.clone()))));
}

/// What a read that may be so old has to wait for, or that nothing so young can be shown.
fn must_be_applied(max_age: Option<Duration>, freshness: Option<Freshness>) -> Result<Index, Refusal> {
    let Some(max_age) = max_age else { return Ok(Index::ZERO) };
    match freshness {
        Some(Freshness { age, index }) if age <= max_age => Ok(index),
        _ => Err(Refusal::TooStale { age: freshness.map(|freshness| freshness.age), max_age }),
    }
}

impl Reads {
    fn is_empty(&self) -> bool {
        let Reads { linearizable, lease, follower, stale } = self;
        [linearizable, lease, follower].iter().all(|reads| reads.is_empty()) && stale.is_empty()
    }

    fn into_all(self) -> Vec<PendingRead> {
        let Reads { linearizable, lease, follower, stale } = self;
        let stale = stale.into_iter().map(|(read, _)| read);
        linearizable.into_iter().chain(lease).chain(follower).chain(stale).collect()
    }
}

impl rpc::EndOfTurn for Intake {
    fn end_of_turn(&self) {
        Intake::end_of_turn(self);
    }
}
