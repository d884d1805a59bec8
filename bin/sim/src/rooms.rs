//! The steps of a node's rooms, and what follows from each: what left the node is taken, looked at by the checkers and
//! sent, and whoever has something to do is scheduled.

use std::time::Duration;

use raft::core::{NodeId, RoleKind};
use raft::driver::{ApplyMsg, LogItem};
use raft::net::PEER_TIMEOUT;

use crate::checks::store::StoreChecks;
use crate::event::{Event, Parcel, Room};
use crate::faults::Fault;
use crate::people::micros;
use crate::plan::MS;
use crate::service::verdict;
use crate::simulation::{PendingChunk, Planned, Simulation};
use crate::tap::{Left, OutgoingChunk};
use crate::violation::Violation;

/// Disk operations that may be under way when the log writer begins another batch, in runs where it does not wait.
const PIPELINED_OPERATIONS_MAX: usize = 6;

/// How long after a process, or one of its threads, could go on it does, at most.
const WAKE_UP_US_MAX: u64 = 20 * MS;

/// How long an answer to a chunk is waited for.
const CHUNK_TIMEOUT_US: u64 = PEER_TIMEOUT.as_micros() as u64;

impl Simulation<'_> {
    /// A room of a node takes a step.
    pub(crate) fn step(&mut self, node: usize, life: u32, room: Room) -> Result<(), Violation> {
        let machine = &mut self.machines[node];
        if machine.life != life {
            return Ok(());
        }
        if machine.due[room as usize] != Some(self.now) {
            return Ok(());
        }
        let goes_on_at = machine.paused_until.max(machine.stalled_until[room as usize]);
        if goes_on_at > self.now {
            // Threads go on in any order.
            let at = goes_on_at + self.turn_dice.between(0, WAKE_UP_US_MAX);
            machine.due[room as usize] = Some(at);
            self.events.schedule(at, Event::Step { node, life, room });
            return Ok(());
        }
        machine.due[room as usize] = None;
        let now = Duration::from_micros(self.now);
        let Some(alive) = &mut machine.node else { return Ok(()) };
        match room {
            Room::Reactor => alive.end_of_turn(),
            Room::Writer => {
                machine.writer_waits_since = self.now;
                alive.step_writer(now);
            }
            Room::LogDisk => {
                machine.writer_waits_since = self.now;
                alive.step_log_disk();
            }
            Room::IdleWriter | Room::IdleSnapshotter => self.idle(node, room),
            Room::Applier => {
                // What it moved shows in the queue.
                let _ = alive.parts.applier.turn();
            }
            Room::ApplyLoop => {
                self.apply(node)?;
                self.schedule_step(node, Room::Applier, 1);
            }
            Room::Snapshotter => {
                machine.snapshotter_waits_since = self.now;
                alive.step_snapshotter();
            }
            Room::ElectionTick => {
                let wait = alive.turn_election_ticker(machine.clock.at(self.now));
                let after = wait.map(|wait| machine.clock.until(wait));
                after.into_iter().for_each(|after| self.schedule_step(node, Room::ElectionTick, after));
            }
            Room::HeartbeatTick => {
                let wait = alive.turn_heartbeat_ticker(machine.clock.at(self.now));
                let after = wait.map(|wait| machine.clock.until(wait));
                after.into_iter().for_each(|after| self.schedule_step(node, Room::HeartbeatTick, after));
            }
        }
        if self.trace.is_on() && !matches!(room, Room::ElectionTick | Room::HeartbeatTick) {
            self.say_of_node(node, || format!("step {room:?}"));
        }
        self.look_at(node)
    }

    /// The log writer or the snapshotter has waited, in vain if nothing came meanwhile.
    fn idle(&mut self, node: usize, room: Room) {
        let machine = &mut self.machines[node];
        let Some(alive) = &mut machine.node else { return };
        let (patience, since) = match room {
            Room::IdleWriter => (alive.writer_patience(), &mut machine.writer_waits_since),
            _ => (alive.snapshotter_patience(), &mut machine.snapshotter_waits_since),
        };
        if patience.is_none_or(|patience| *since + micros(patience) > self.now) {
            return;
        }
        *since = self.now;
        match room {
            Room::IdleWriter => alive.idle_writer(Duration::from_micros(self.now)),
            _ => alive.step_snapshotter(),
        }
    }

    /// One turn of the apply-loop over some of what is in its queue.
    fn apply(&mut self, node: usize) -> Result<(), Violation> {
        let Some(alive) = &mut self.machines[node].node else { return Ok(()) };
        let wanted = self.turn_dice.between(1, 4);
        let mut messages = Vec::new();
        while messages.len() < wanted as usize
            && let Some(message) = alive.next_to_apply()
        {
            messages.push(message);
        }
        // All nodes stop there.
        let every = StoreChecks::stops_every(self.plan.workload);
        let mut turn = Vec::new();
        for message in messages {
            let ApplyMsg::Entries(mut left) = message else {
                turn.push(message);
                continue;
            };
            while let Some(place) = left.iter().position(|entry| entry.index.0.is_multiple_of(every)) {
                let behind = left.split_off(place + 1);
                turn.push(ApplyMsg::Entries(std::mem::replace(&mut left, behind)));
                self.turn_apply_loop(node, std::mem::take(&mut turn))?;
            }
            if !left.is_empty() {
                turn.push(ApplyMsg::Entries(left));
            }
        }
        self.turn_apply_loop(node, turn)
    }

    fn turn_apply_loop(&mut self, node: usize, messages: Vec<ApplyMsg>) -> Result<(), Violation> {
        let Some(alive) = &mut self.machines[node].node else { return Ok(()) };
        let before = alive.state.applied_index();
        for message in &messages {
            match message {
                ApplyMsg::Entries(entries) => self.consensus.applies(node, entries)?,
                ApplyMsg::SnapshotDone => {}
                ApplyMsg::Restore(meta) => {
                    self.counters.snapshots += 1;
                    self.consensus.restores(node, meta.last)?;
                }
            }
        }
        self.staleness.committed(self.consensus.committed.len(), self.now);
        self.store.follow(&self.consensus);
        alive.step_apply_loop(messages);
        let applied = alive.state.applied_index();
        if applied < before {
            return Violation::of(
                "applied-never-falls",
                format!("node {node} applied {before}, then {applied}"),
            );
        }
        if applied != self.consensus.applied(node).0 && !alive.parts.node.is_stopped() {
            let text = format!("node {node} applied {applied} of {}", self.consensus.applied(node));
            return Violation::of("applied-in-order", text);
        }
        self.compare_state(node)
    }

    /// The state of a node is that of all others at the same index.
    pub(crate) fn compare_state(&self, node: usize) -> Result<(), Violation> {
        let Some(alive) = &self.machines[node].node else { return Ok(()) };
        self.store.compare(node, alive.state.applied_index(), || alive.state.read().state_hash())
    }

    /// Takes what left a node, lets the checkers see it, sends it, and schedules who has something to do.
    pub(crate) fn look_at(&mut self, node: usize) -> Result<(), Violation> {
        let machine = &mut self.machines[node];
        let Some(alive) = &mut machine.node else { return Ok(()) };
        alive.parts.node.log_work().take(&mut alive.staged);
        for item in &alive.staged[alive.staged_seen..] {
            let LogItem::Ready { persist, heals, .. } = item else { continue };
            if *heals {
                machine.heals = true;
                self.counters.healed += 1;
                self.consensus.healed(node)?;
            }
            if let Some(persist) = persist {
                self.consensus.stored(node, persist)?;
            }
        }
        alive.staged_seen = alive.staged.len();
        // A crash before that finds it as it was.
        if machine.heals && alive.held_operations() == 0 && !alive.has_log_work() {
            (machine.is_convalescent, machine.heals) = (false, false);
        }
        let is_stopped = alive.parts.node.is_stopped();
        let left = {
            let mut open = alive.mailroom.open();
            if open.is_empty() { None } else { Some(std::mem::take(&mut *open)) }
        };
        if let Some(left) = left {
            self.take_out(node, left, is_stopped)?;
        }
        self.consensus.members.judge_told(node)?;
        let has_faulted = machine_fault(&self.machines[node]);
        if has_faulted == Some(Planned::PowerOff) {
            self.counters.count(Fault::PowerOffInOperation);
            self.lose_power(node);
            return Ok(());
        }
        if is_stopped {
            return self.begin_exit(node);
        }
        self.schedule_rooms(node);
        Ok(())
    }

    fn take_out(&mut self, node: usize, left: Left, is_stopped: bool) -> Result<(), Violation> {
        let Left { messages, chunks, chunk_answers, outcomes, dropped, soft_states, membership } = left;
        if let Some(membership) = membership {
            self.consensus.members.told(node, membership);
        }
        for state in soft_states {
            self.say_of_node(node, || {
                format!("is {} of term {}, leader {:?}", state.role, state.term, state.leader)
            });
            self.consensus.soft_state(node, &state)?;
            if state.role == RoleKind::Leader {
                self.elected(node);
            }
        }
        for message in messages {
            self.consensus.sent(&message)?;
            self.send_message(node, message)?;
        }
        for OutgoingChunk { to, request, done } in chunks {
            let bytes = self.post.write_chunk(NodeId(node as u64), to, request);
            self.next_chunk += 1;
            let number = self.next_chunk;
            let life = self.machines[node].life;
            self.chunks.insert(number, PendingChunk { from: node, to, life, done });
            self.events.schedule(self.now + CHUNK_TIMEOUT_US, Event::ChunkTimeout { number });
            self.send(node, to.0 as usize, Parcel::Chunk { number, bytes });
        }
        for (number, answer) in chunk_answers {
            let Some(to) = self.chunks.get(&number).map(|chunk| chunk.from) else { continue };
            let bytes = self.post.write_chunk_answer(NodeId(node as u64), NodeId(to as u64), answer);
            self.send(node, to, Parcel::ChunkAnswer { number, bytes });
        }
        for (attempt, kind, outcome) in outcomes {
            self.staleness.answered(node, attempt, &outcome, self.consensus.applied(node).0);
            self.send_outcome(node, attempt, verdict(kind, outcome));
        }
        match dropped.first() {
            Some(attempt) if !is_stopped => Violation::of(
                "every-request-is-answered",
                format!("node {node} dropped {attempt:?} unanswered"),
            ),
            _ => Ok(()),
        }
    }

    /// Whoever has something to do gets a time to do it.
    fn schedule_rooms(&mut self, node: usize) {
        let Some(alive) = &self.machines[node].node else { return };
        let held = alive.held_operations();
        let room = if self.plan.settings[node].pipelined_log { PIPELINED_OPERATIONS_MAX } else { 0 };
        let writer = alive.has_log_work() && held <= room;
        let apply_loop = !alive.parts.queue.is_empty();
        let snapshotter = alive.has_snapshot_work();
        let (writer_patience, snapshotter_patience) = (alive.writer_patience(), alive.snapshotter_patience());
        let is_idle = |room: Room| self.machines[node].due[room as usize].is_none();
        let (writer, log_disk) = (writer && is_idle(Room::Writer), held > 0 && is_idle(Room::LogDisk));
        let (apply_loop, snapshotter) =
            (apply_loop && is_idle(Room::ApplyLoop), snapshotter && is_idle(Room::Snapshotter));
        if writer {
            let after = self.turn_us();
            self.schedule_step(node, Room::Writer, after);
        }
        if log_disk {
            let after = self.disk_us(node);
            self.schedule_step(node, Room::LogDisk, after);
        }
        if apply_loop {
            let after = self.turn_us();
            self.schedule_step(node, Room::ApplyLoop, after);
        }
        if snapshotter {
            let after = self.disk_us(node);
            self.schedule_step(node, Room::Snapshotter, after);
        }
        self.schedule_wait(node, Room::IdleWriter, writer_patience);
        self.schedule_wait(node, Room::IdleSnapshotter, snapshotter_patience);
    }

    /// Whoever has nothing to do waits for it, as long as there is patience. A step that is due before is one too many, which
    /// does no harm.
    fn schedule_wait(&mut self, node: usize, room: Room, patience: Option<Duration>) {
        let Some(patience) = patience else { return };
        let machine = &mut self.machines[node];
        let since = match room {
            Room::IdleWriter => machine.writer_waits_since,
            _ => machine.snapshotter_waits_since,
        };
        let at = self.now.max(since + micros(patience));
        if machine.due[room as usize].is_none_or(|due| due > at) {
            machine.due[room as usize] = Some(at);
            self.events.schedule(at, Event::Step { node, life: machine.life, room });
        }
    }

    /// How long a disk operation takes.
    fn disk_us(&mut self, node: usize) -> u64 {
        let (low, high) = self.plan.disk_us;
        self.turn_dice.between(low, high) * self.machines[node].disk_slowness
    }
}

/// The planned fault of a machine's disk that has happened.
fn machine_fault(machine: &crate::simulation::Machine) -> Option<Planned> {
    machine.planned.filter(|_| machine.files.fault_has_happened())
}
