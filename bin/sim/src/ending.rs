//! How a run ends: the trouble stops, the cluster comes to rest and serves within five election timeouts, and the last
//! reads complete the history.

use clerk::Operation;
use raft::core::NodeId;

use crate::checks::store::{check_state, writes_that_ran};
use crate::event::Event;
use crate::plan::{MS, SECOND};
use crate::simulation::{Machine, Phase, Question, Simulation};
use crate::violation::Violation;
use crate::workload::key;

/// Election timeouts in which a cluster must serve again.
pub(crate) const ELECTION_TIMEOUTS: u64 = 5;

/// The operations of one probing.
pub(crate) const PROBES: u64 = 2;

impl Simulation<'_> {
    /// The trouble is over, if enough has been done.
    pub(crate) fn make_peace(&mut self) -> Result<(), Violation> {
        if let Some(lull) = self.lull {
            self.events.schedule(lull.ends_at, Event::Peace);
            return Ok(());
        }
        if self.counters.operations < self.plan.operations_min {
            self.events.schedule(self.now + SECOND, Event::Peace);
            return Ok(());
        }
        self.trace.line(self.now, || "!".into(), || "the trouble is over".into());
        self.phase = Phase::Peace;
        self.relieve_all();
        self.links.forget();
        self.links.loosen();
        self.give_up_chunks();
        for node in 0..self.machines.len() {
            self.events.schedule(self.now, Event::Birth { node });
        }
        self.bring_back();
        self.to_reach = self.consensus.committed.len() as u64;
        self.events.schedule(self.now + self.patience_us(), Event::Judgement);
        self.probe()
    }

    /// Five election timeouts are over: the cluster must have served, and everybody must have caught up.
    pub(crate) fn judge(&mut self) -> Result<(), Violation> {
        match self.phase {
            Phase::LastReads => return self.judge_states(),
            Phase::HandingOver | Phase::Removing => return self.judge_farewell(),
            Phase::Trouble | Phase::Peace | Phase::CatchingUp | Phase::Over => {}
        }
        let in_order = (0..self.machines.len()).filter(|node| self.must_converge(*node));
        let last = in_order.map(|node| (self.consensus.applied(node).0, node)).min();
        let behind = last.filter(|(applied, _)| *applied < self.to_reach);
        let is_served = self.probes_served == self.probes_begun;
        // What a node lacks it is sent together with what comes behind that, which has to be there when the states are compared.
        let longest = self.longest_log().max(self.to_reach);
        let missing = last.map_or(0, |(applied, _)| longest.saturating_sub(applied));
        let uncommitted = if is_served { 0 } else { longest - self.to_reach };
        let writing_us = if is_served { 0 } else { self.snapshot_us() };
        if self.phase == Phase::Peace && missing.max(uncommitted).max(writing_us) > 0 {
            // Whoever lacked much may have been sent it one entry at a time. If it leads, nobody is served before it has
            // applied it; nor before a majority has what a leader of before had left uncommitted, which may be its own
            // removal: another is elected then. And where the log had reached its bound, as on a disk that was full, nothing
            // is accepted before there is a snapshot.
            self.phase = Phase::CatchingUp;
            let catching_up = missing.max(uncommitted) * self.entry_us() + writing_us;
            let elections = if is_served { 0 } else { self.patience_us() };
            self.caught_up_by = self.now + catching_up + elections;
        }
        if self.now < self.caught_up_by && !(is_served && missing == 0) {
            let soon = self.now + self.patience_us();
            self.events.schedule(soon.min(self.caught_up_by), Event::Judgement);
            return Ok(());
        }
        if !is_served {
            let text = format!(
                "{} of {PROBES} operations were not served within {ELECTION_TIMEOUTS} election timeouts after the trouble",
                self.probes_begun - self.probes_served
            );
            return Violation::of("serves-again", text);
        }
        if let Some((applied, node)) = behind {
            let text = format!("node {node} has applied {applied} of {} entries in time", self.to_reach);
            return Violation::of("converges", text);
        }
        self.phase = Phase::LastReads;
        for number in 0..self.plan.keys {
            self.begin_operation(0, Operation::get(key(number)))?;
        }
        Ok(())
    }

    /// How far the longest log of all nodes that are up reaches.
    fn longest_log(&self) -> u64 {
        let up = self.machines.iter().filter_map(|machine| machine.node.as_ref());
        let ends = up.filter_map(|alive| alive.parts.node.with_core(|core| core.status().last.index.0).ok());
        ends.max().unwrap_or(0)
    }

    /// How long the slowest of the snapshots may take that are being written, if they are hardly larger than those before.
    pub(crate) fn snapshot_us(&self) -> u64 {
        let per_chunk = 2 * self.plan.disk_us.1 + self.plan.turn_us_max;
        let of_node = |(node, machine): (usize, &Machine)| {
            let desk = &machine.node.as_ref().filter(|alive| alive.desk.is_writing())?.desk;
            let chunks = 2 * desk.newest_bytes() / self.plan.settings[node].chunks.read as u64 + 2;
            Some(chunks * per_chunk)
        };
        self.machines.iter().enumerate().filter_map(of_node).max().unwrap_or(0)
    }

    /// Chunks of snapshots that are on their way, or lost, are waited for no longer: for one that is lost a node waits
    /// longer than a lull lasts.
    pub(crate) fn give_up_chunks(&mut self) {
        let chunks: Vec<u64> = self.chunks.keys().copied().collect();
        for number in chunks {
            self.events.schedule(self.now + MS, Event::ChunkTimeout { number });
        }
    }

    /// Whether a node is a member, and nothing is wrong with its data.
    fn must_converge(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        !machine.is_out && self.consensus.members.committed().contains(NodeId(node as u64))
    }

    /// How long it takes a follower to get one entry, and to have it on disk.
    pub(crate) fn entry_us(&self) -> u64 {
        2 * self.plan.delay_us.1 + 3 * self.plan.disk_us.1 + 10 * self.plan.turn_us_max
    }

    /// An operation ended in peace: when it was the last, the states are compared after some rest.
    pub(crate) fn go_on_after_operation(&mut self, _client: usize, _number: usize) -> Result<(), Violation> {
        let is_quiet = self.clients.iter().all(|client| client.under_way == 0);
        if self.phase == Phase::LastReads && is_quiet {
            let after = self.patience_us();
            self.events.schedule(self.now + after, Event::Judgement);
        }
        Ok(())
    }

    /// At rest all nodes hold the same.
    fn judge_states(&mut self) -> Result<(), Violation> {
        let committed = self.consensus.committed.len() as u64;
        self.store.rest();
        for node in 0..self.machines.len() {
            if !self.must_converge(node) {
                continue;
            }
            let Some(alive) = &self.machines[node].node else {
                return Violation::of("converges", format!("node {node} is not up"));
            };
            if self.machines[node].is_convalescent {
                return Violation::of("repairs", format!("at rest node {node} still lacks what it had lost"));
            }
            let applied = alive.state.applied_index();
            if applied != committed {
                return Violation::of(
                    "converges",
                    format!("at rest node {node} has applied {applied} of {committed}"),
                );
            }
            self.judge_answers(node)?;
            self.compare_state(node)?;
        }
        self.judge_content()?;
        self.say_farewell()
    }

    /// What all nodes hold is what the log says. They hold the same: one of them stands for all.
    fn judge_content(&self) -> Result<(), Violation> {
        let Some(node) = (0..self.machines.len()).find(|node| self.must_converge(*node)) else {
            return Ok(());
        };
        let Some(alive) = &self.machines[node].node else { return Ok(()) };
        let state = alive.state.read();
        let held = |key: &[u8]| state.get(key).map(|(value, version)| (value, version.0));
        check_state(writes_that_ran(&self.consensus), held)
    }

    /// At rest nobody waits for an answer of this node, whoever asked.
    fn judge_answers(&self, node: usize) -> Result<(), Violation> {
        let machine = &self.machines[node];
        let clients = machine.node.as_ref().map_or(0, |alive| alive.mailroom.unanswered());
        let since = self.now.saturating_sub(self.patience_us());
        let is_old = |question: &&Question| question.heard_at < since;
        let peers = machine.questions.values().filter(is_old).count();
        if clients + peers == 0 {
            return Ok(());
        }
        let text = format!("at rest node {node} owes {clients} answers to clients and {peers} to peers");
        Violation::of("every-request-is-answered", text)
    }
}
