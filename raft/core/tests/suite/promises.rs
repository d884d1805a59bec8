//! What Raft promises, checked while a cluster runs.
//!
//! One leader a term; a new leader has everything that was committed (Leader Completeness); equal state at equal index
//! (State Machine Safety); whatever is applied anywhere is durable at a majority; a confirmed read sees all that was
//! applied anywhere before it began; logs that share an entry share everything before it (Log Matching).

use std::collections::BTreeMap;

use raft_core::{
    Body, EntryId, HardState, Index, Message, NodeId, RawNode, ReadOutcome, ReadState, RoleKind, Term,
};

use crate::cluster::ReadWay;
use crate::node::{Machine, Node};

/// What was seen so far, which nothing later may contradict.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    leaders: BTreeMap<Term, NodeId>,
    /// The state after each index, as first seen anywhere.
    pub(crate) history: BTreeMap<Index, Machine>,
    /// The term of the node that showed it first: it was committed in this one or before.
    shown_in: BTreeMap<Index, Term>,
    /// What reads have to see, by context. Contexts end in the number of the node that was asked.
    reads: BTreeMap<u64, Index>,
    reads_asked: u64,
    pub(crate) reads_confirmed: u64,
    pub(crate) reads_refused: u64,
}

impl Promises {
    /// How many terms had a leader.
    pub(crate) fn terms_led(&self) -> usize {
        self.leaders.len()
    }

    /// To be called after every step of a node, with what is on its disk. A lone voter leads before its vote for itself
    /// is there, and tells nobody until it is: a crash before that undoes it, and another may lead that term.
    pub(crate) fn check_leader(&mut self, id: NodeId, core: &RawNode, durable: HardState) {
        let soft = core.soft_state();
        let is_safe = durable.term == soft.term && durable.vote == Some(id);
        let counts = soft.role == RoleKind::Leader && is_safe;
        if !counts || self.leaders.get(&soft.term) == Some(&id) {
            return;
        }
        let other = self.leaders.insert(soft.term, id);
        assert_eq!(other, None, "one leader a term: {}", soft.term);
        // Votes of an earlier term may arrive late and make a leader of it that can commit nothing any more.
        let snapshot_index = core.status().snapshot_index;
        let shown = self.history.values().zip(self.shown_in.values());
        for machine in shown.filter(|(_, shown_in)| **shown_in < soft.term).map(|(machine, _)| machine) {
            let has = core.term_at(machine.last.index) == Some(machine.last.term);
            let compacted = machine.last.index <= snapshot_index;
            assert!(has || compacted, "the leader of {} has {}", soft.term, machine.last);
        }
    }

    /// A message leaves. Who speaks as a leader is one, whatever it thinks by now.
    pub(crate) fn check_speaker(&mut self, message: &Message) {
        if matches!(message.body, Body::AppendEntries { .. } | Body::Heartbeat { .. }) {
            let leader = *self.leaders.entry(message.term).or_insert(message.from);
            assert_eq!(leader, message.from, "one leader a term: {}", message.term);
        }
    }

    /// Node `id` has applied an entry, or restored a snapshot, and its state is `machine`.
    pub(crate) fn check_applied(&mut self, id: NodeId, machine: Machine, nodes: &BTreeMap<NodeId, Node>) {
        match self.history.get(&machine.last.index) {
            Some(seen) => assert_eq!(*seen, machine, "equal state at equal index, on {id}"),
            None => {
                assert!(is_durable(machine.last, nodes), "{} is applied, but not durable", machine.last);
                self.history.insert(machine.last.index, machine);
                let term = nodes[&id].core.as_ref().map(RawNode::soft_state).expect("who applies is up").term;
                self.shown_in.insert(machine.last.index, term);
            }
        }
    }

    /// A read is asked of `core` in this way, which may not take it. Returns whether it did.
    pub(crate) fn ask_read_by(&mut self, id: NodeId, core: &mut RawNode, way: ReadWay) -> bool {
        self.reads_asked += 1;
        let context = self.reads_asked * 16 + id.0;
        let taken = way(core, context).is_ok();
        if taken {
            let must_see = self.history.keys().next_back().copied().unwrap_or(Index::ZERO);
            self.reads.insert(context, must_see);
        }
        taken
    }

    pub(crate) fn check_read(&mut self, read: ReadState) {
        let must_see = self.reads.remove(&read.context).expect("each read ends once");
        match read.outcome {
            ReadOutcome::Confirmed(index) => {
                assert!(
                    index >= must_see,
                    "a read sees all that was applied before it: {index} < {must_see}"
                );
                self.reads_confirmed += 1;
            }
            ReadOutcome::Refused { .. } => self.reads_refused += 1,
        }
    }

    /// What a node had been asked to read dies with it.
    pub(crate) fn forget_reads(&mut self, id: NodeId) {
        self.reads.retain(|context, _| context % 16 != id.0);
    }
}

/// Whether a majority has the entry on disk, by a membership that somebody knows of, now or as of the entry.
fn is_durable(id: EntryId, nodes: &BTreeMap<NodeId, Node>) -> bool {
    let holds = |node: NodeId| nodes.get(&node).is_some_and(|node| node.disk.holds(id));
    let cores = nodes.values().filter_map(|node| node.core.as_ref());
    let mut memberships = cores.flat_map(|core| [Some(core.membership()), core.membership_at(id.index)]);
    memberships.any(|membership| membership.is_some_and(|members| members.is_quorum(holds)))
}

/// Logs that share an entry share all before it.
pub(crate) fn check_log_matching(nodes: &BTreeMap<NodeId, Node>) {
    let cores: Vec<_> = nodes.values().filter_map(|node| node.core.as_ref()).collect();
    for (place, one) in cores.iter().enumerate() {
        for other in &cores[place + 1..] {
            let (a, b) = (one.status(), other.status());
            let mut agree = false;
            for index in (a.first_index.max(b.first_index).0..=a.last.index.min(b.last.index).0).rev() {
                let same = one.term_at(Index(index)) == other.term_at(Index(index));
                assert!(
                    same || !agree,
                    "nodes {} and {} differ below a shared entry at {index}",
                    a.node,
                    b.node
                );
                agree = same;
            }
        }
    }
}
