//! How a node's life begins and ends: starts, refusals to start, deaths of processes and of power.

use std::sync::Arc;

use raft::storage::disk::FileName;
use raft::storage::memory::Unsynced;
use raft::storage::snapshot_file::snapshot_id;
use raft::storage::wal::PROMISES_FILE;
use raft::storage::wal::segment_sequence;

use crate::checks::node_log::Health;
use crate::event::{Event, Room};
use crate::faults::Fault;
use crate::local_clock::Going;
use crate::node::{Birth, Started, VirtualNode};
use crate::plan::MS;
use crate::service::connection_ended;
use crate::simulation::{Phase, Planned, Simulation};
use crate::violation::Violation;

/// How many ticks the slowest clock has while a right one has a thousand.
pub(crate) const SLOWEST_CLOCK_PERMILLE: u64 = 800;

/// The same of the fastest; and where there are leases, which ask of no two clocks to differ by more than a fifth.
const FASTEST_CLOCK_PERMILLE: u64 = 1250;
const FASTEST_UNDER_LEASES_PERMILLE: u64 = 1000;

impl Simulation<'_> {
    /// A node is started on its files.
    pub(crate) fn give_birth(&mut self, node: usize) -> Result<(), Violation> {
        let can_fail = self.is_rough() && self.plan.has(Fault::PowerOffInOperation);
        let machine = &mut self.machines[node];
        machine.birth_is_scheduled = false;
        if machine.node.is_some() || machine.is_out || machine.is_absent {
            return Ok(());
        }
        if !machine.identity.admitted {
            self.begin_to_wait(node);
            return Ok(());
        }
        machine.life += 1;
        machine.planned = None;
        if can_fail && machine.life > 1 && self.strike_dice.permille(200) {
            machine.files.switch_off_at(machine.files.operations() + self.strike_dice.between(0, 12));
            machine.planned = Some(Planned::PowerOff);
        }
        // No two nodes tick at the same moments.
        let phase = self.turn_dice.between(0, self.plan.heartbeat_ms * MS);
        let birth = Birth {
            plan: self.plan,
            id: node as u64,
            life: machine.life,
            identity: &machine.identity,
            has_log: machine.has_log,
            files: &machine.files,
            clock: machine.clock.at(self.now + phase),
        };
        match VirtualNode::start(&birth) {
            Ok(Started { node: alive, restored, is_convalescent }) => {
                let health = self.examine(node, is_convalescent)?;
                let machine = &mut self.machines[node];
                machine.node = Some(alive);
                machine.has_log = true;
                machine.due.fill(None);
                machine.stalled_until.fill(0);
                machine.exit_is_scheduled = false;
                machine.paused_until = 0;
                (machine.writer_waits_since, machine.snapshotter_waits_since) = (self.now, self.now);
                self.links.renew(node);
                self.counters.lives += 1;
                self.consensus.recovered(node, &restored, health)?;
                let base = restored.snapshot.map_or(0, |meta| meta.last.index.0);
                let (entries, hard_state) = (restored.entries.len(), restored.hard_state);
                self.say_of_node(node, || {
                    format!(
                        "starts: snapshot {base}, {entries} entries, term {} vote {:?}",
                        hard_state.term, hard_state.vote
                    )
                });
                self.draw_clock(node);
                self.keep_time(node);
                self.schedule_step(node, Room::ElectionTick, 1);
                self.schedule_step(node, Room::HeartbeatTick, 1);
                self.look_at(node)
            }
            Err(text) => self.refused(node, &text),
        }
    }

    /// A node that came up says whether it lacks something, which only damage is a reason for.
    fn examine(&mut self, node: usize, is_convalescent: bool) -> Result<Health, Violation> {
        let machine = &mut self.machines[node];
        let health = Health { is_convalescent, is_damaged: !machine.flipped.is_empty() };
        (machine.is_convalescent, machine.heals) = (is_convalescent, false);
        if !is_convalescent {
            return Ok(health);
        }
        if !machine.was_flipped {
            let text = format!("node {node} says that it lacks something, and no file of it was damaged");
            return Violation::of("starts-on-sound-files", text);
        }
        // What is wrong with its log is being mended, what was set aside is of no use; of other files nobody knows.
        let contents = machine.files.contents();
        let is_there = |flipped: &FileName| contents.iter().any(|(file, _)| file == flipped);
        machine.flipped.retain(|file| segment_sequence(file).is_none() && is_there(file));
        self.counters.convalescents += u64::from(health.is_damaged);
        Ok(health)
    }

    /// A node did not start: because the power went off meanwhile, or because a file is damaged. Else it had to.
    fn refused(&mut self, node: usize, text: &str) -> Result<(), Violation> {
        let machine = &mut self.machines[node];
        if machine.planned.is_some() && machine.files.fault_has_happened() {
            self.counters.count(Fault::PowerOffInOperation);
            self.lose_power(node);
            return Ok(());
        }
        self.counters.refusals += 1;
        machine.is_out = true;
        let flipped = machine.flipped.clone();
        let can_start = self.can_start_on(node);
        self.say_of_node(node, || format!("refuses to start: {text}"));
        match &flipped[..] {
            [] => Violation::of("starts-on-sound-files", format!("node {node} does not start: {text}")),
            files if can_start => Violation::of(
                "starts-on-what-others-repair",
                format!("bits of {files:?} were flipped, which keeps no node down; node {node} says: {text}"),
            ),
            files if files.iter().any(|file| text.contains(file.as_str())) => Ok(()),
            files => Violation::of(
                "refusal-names-the-file",
                format!("bits of {files:?} were flipped; node {node} says: {text}"),
            ),
        }
    }

    /// Whether what was damaged keeps no node from starting: what others repair, since term and vote stand once more
    /// apart from the log; a snapshot behind which there is a newer one; a file of no use.
    fn can_start_on(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let is_damaged = |file: &FileName| machine.flipped.contains(file);
        let contents = machine.files.contents();
        let names = || contents.iter().map(|(file, _)| file);
        let newest = names().filter(|file| snapshot_id(file).is_some()).max_by_key(|file| snapshot_id(file));
        let is_needed =
            |file: &FileName| segment_sequence(file).is_some() || newest.is_some_and(|newest| newest == file);
        let promises_are = names().any(|file| file.as_str() == PROMISES_FILE && is_damaged(file));
        !machine.flipped.iter().any(is_needed) || (self.plan.repairs && !promises_are)
    }

    fn draw_clock(&mut self, node: usize) {
        let has_drift = self.plan.has(Fault::ClockDrift);
        if has_drift {
            self.counters.count(Fault::ClockDrift);
        }
        let fastest =
            if self.plan.has_leases() { FASTEST_UNDER_LEASES_PERMILLE } else { FASTEST_CLOCK_PERMILLE };
        let speed = if has_drift { self.strike_dice.between(SLOWEST_CLOCK_PERMILLE, fastest) } else { 1000 };
        self.machines[node].clock.set_speed(self.now, speed);
    }

    /// The node goes by its machine's clock from now on.
    fn keep_time(&mut self, node: usize) {
        let (clock, time) = (self.machines[node].clock, self.time.clone());
        if let Some(alive) = &self.machines[node].node {
            alive.parts.node.keep_time(Arc::new(Going { clock, time }));
        }
    }

    /// The node has stopped by itself: its process will end.
    pub(crate) fn begin_exit(&mut self, node: usize) -> Result<(), Violation> {
        let machine = &mut self.machines[node];
        let Some(alive) = &machine.node else { return Ok(()) };
        if machine.exit_is_scheduled {
            return Ok(());
        }
        machine.exit_is_scheduled = true;
        let reason = alive.parts.application.failure().unwrap_or_default();
        let fault = match machine.planned {
            Some(Planned::Failure) if machine.files.fault_has_happened() => Fault::FailedDisk,
            Some(Planned::FailedSync) if machine.files.fault_has_happened() => Fault::FailedSync,
            // It was counted when the disk became full. Whose reserve takes all that is accepted goes on.
            Some(Planned::Full) if !self.plan.settings[node].outlasts_full_disk() => {
                return self.end_after(node, &reason);
            }
            _ => {
                return Violation::of(
                    "stops-only-for-a-broken-disk",
                    format!("node {node} stopped: {reason}"),
                );
            }
        };
        self.counters.count(fault);
        self.end_after(node, &reason)
    }

    /// The process of a node that has stopped for this reason will end.
    fn end_after(&mut self, node: usize, reason: &str) -> Result<(), Violation> {
        let life = self.machines[node].life;
        let after = self.turn_us();
        self.events.schedule(self.now + after, Event::Exit { node, life });
        self.say_of_node(node, || format!("stops: {reason}"));
        Ok(())
    }

    /// The process of a node that had stopped ends.
    pub(crate) fn exit(&mut self, node: usize, life: u32) -> Result<(), Violation> {
        let machine = &self.machines[node];
        // A rolling restart ends where nothing further goes wrong.
        if machine.life == life && (machine.exit_is_scheduled || self.is_rough()) {
            self.kill(node);
        }
        Ok(())
    }

    /// The process dies. Its page cache stays, and its peers' connections break.
    pub(crate) fn kill(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some(mut alive) = machine.node.take() else { return self.stop_waiting(node) };
        // What the disk was given may be done all the same.
        let done = self.strike_dice.between(0, alive.held_operations() as u64);
        for _ in 0..done {
            alive.step_log_disk();
        }
        self.bury(node, alive, true);
        self.machines[node].files.kill_process();
    }

    /// The power goes off and comes back later.
    pub(crate) fn lose_power(&mut self, node: usize) {
        let modes = [Unsynced::Lost, Unsynced::Lost, Unsynced::Kept, Unsynced::Prefix, Unsynced::Torn];
        let mode = self.strike_dice.one(&modes);
        let mode = if self.plan.has(Fault::TornWrite) { mode } else { Unsynced::Lost };
        let begins_held = self.strike_dice.permille(500);
        self.stop_waiting(node);
        if let Some(mut alive) = self.machines[node].node.take() {
            if begins_held {
                alive.begin_held();
            }
            self.bury(node, alive, false);
        }
        let seed = self.strike_dice.bits();
        self.machines[node].files.lose_power(mode, seed);
        if mode != Unsynced::Lost {
            self.counters.count(Fault::TornWrite);
        }
        self.say_of_node(node, || format!("loses its power, what was not synced is {mode:?}"));
        self.schedule_birth(node);
    }

    /// What follows for others from the end of a life.
    fn bury(&mut self, node: usize, alive: VirtualNode, connections_break: bool) {
        let mailroom = alive.mailroom.clone();
        let has_stopped = alive.parts.node.is_stopped();
        drop(alive);
        let left = std::mem::take(&mut *mailroom.open());
        self.spread_end(node, connections_break);
        self.machines[node].life += 1;
        self.say_of_node(node, || if has_stopped { "ends".into() } else { "dies".into() });
        if connections_break {
            for attempt in left.dropped {
                self.send_outcome(node, attempt, connection_ended(node));
            }
        }
        self.schedule_birth(node);
    }

    pub(crate) fn schedule_birth(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.birth_is_scheduled || machine.is_out || machine.is_absent {
            return;
        }
        machine.birth_is_scheduled = true;
        if self.phase != Phase::Trouble {
            self.events.schedule(self.now + MS, Event::Birth { node });
            return;
        }
        let longest = self.plan.absence_us_max;
        let after = match self.strike_dice.place(3) {
            0 => self.strike_dice.between(1, longest / 20),
            1 => self.strike_dice.between(1, longest / 4),
            _ => self.strike_dice.between(1, longest),
        };
        self.events.schedule(self.now + after, Event::Birth { node });
    }
}
