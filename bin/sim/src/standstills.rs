//! Who stands still: processes, threads, connections, each for a while.
//!
//! What stands still loses nothing. It does later what others expected of it long ago, and it is asked and told things
//! that were true when they were said. What of all that it hears first is chance: connections are read one after the
//! other, and one whose packets went unanswered is tried again more and more rarely, while the next one flows.

use crate::event::{Event, Room};
use crate::faults::Fault;
use crate::links::{WAYS, Way};
use crate::plan::{MS, SECOND};
use crate::simulation::Simulation;

/// The rooms that have a thread of their own, which may stand still.
const THREADS: [Room; 8] = [
    Room::Reactor,
    Room::Writer,
    Room::LogDisk,
    Room::Applier,
    Room::ApplyLoop,
    Room::Snapshotter,
    Room::ElectionTick,
    Room::HeartbeatTick,
];

/// A step further off than this was put off.
const LONG_STEP_US: u64 = 100 * MS;

/// How long a node that stood still takes to read what came meanwhile, at most: several turns.
const BACKLOG_US_MAX: u64 = 20 * MS;

/// How long after a machine that stood still its connections do, at most.
const RETRANSMISSION_US_MAX: u64 = 3 * SECOND;

/// Heartbeats between the first thread of a process that stands still and the last, at most.
const STILL_BEATS_MAX: u64 = 3;

impl Simulation<'_> {
    /// A process, or the machine that it runs on, stands still.
    pub(crate) fn pause(&mut self, node: usize) {
        if self.machines[node].node.is_none() {
            return;
        }
        self.counters.count(Fault::Pause);
        let length = self.draw_standstill();
        let until = self.now + length;
        let is_machine = self.strike_dice.permille(300);
        self.read_late(
            node,
            until,
            if is_machine { length.min(RETRANSMISSION_US_MAX) } else { BACKLOG_US_MAX },
        );
        let machine = &mut self.machines[node];
        match self.strike_dice.permille(500) {
            true => machine.paused_until = machine.paused_until.max(until),
            false => {
                // Its reactor is the first to stand still: answers come to what the others go on saying for a moment.
                let stalled_until = &mut machine.stalled_until[Room::Reactor as usize];
                *stalled_until = until.max(*stalled_until);
                let life = machine.life;
                let after = self.strike_dice.between(1, STILL_BEATS_MAX * self.plan.heartbeat_ms * MS);
                self.events.schedule(self.now + after, Event::Freeze { node, life, until });
            }
        }
        // Who asks it before it goes on is heard with all else that came meanwhile.
        self.expect_visit(node, length);
    }

    /// The rest of a process stands still, too.
    pub(crate) fn freeze(&mut self, node: usize, life: u32, until: u64) {
        let is_rough = self.is_rough();
        let machine = &mut self.machines[node];
        if is_rough && machine.life == life {
            machine.paused_until = machine.paused_until.max(until);
        }
    }

    /// Mostly long enough for the others to elect somebody else, and short enough to be still asked.
    fn draw_standstill(&mut self) -> u64 {
        match self.strike_dice.permille(600) {
            true => self.strike_dice.between(self.plan.election_min_ms * MS, 4 * self.plan.election_us_max()),
            false => self.strike_dice.skewed(MS, 8 * SECOND),
        }
    }

    /// A thread is not scheduled, or a lock is not had.
    pub(crate) fn stall(&mut self, node: usize) {
        if self.machines[node].node.is_none() {
            return;
        }
        self.counters.count(Fault::Stall);
        let length = self.strike_dice.skewed(MS, 6 * SECOND);
        let room = self.strike_dice.one(&THREADS);
        let stalled_until = &mut self.machines[node].stalled_until[room as usize];
        *stalled_until = (*stalled_until).max(self.now + length);
        let until = *stalled_until;
        if room == Room::Reactor {
            self.read_late(node, until, BACKLOG_US_MAX);
        }
    }

    /// What comes to a node until then is read later, connection by connection, in any order of these. Clients come on
    /// fresh connections, which nothing holds up for long.
    fn read_late(&mut self, node: usize, until: u64, later_us_max: u64) {
        let nodes = self.machines.len();
        for from in 0..nodes + self.clients.len() {
            let later_us_max = if from < nodes { later_us_max } else { later_us_max.min(BACKLOG_US_MAX) };
            for way in WAYS {
                let read_at = until + self.strike_dice.between(0, later_us_max);
                self.links.stick(from, node, way, read_at);
            }
        }
    }

    /// Connections between a node and others let nothing through: what it hears, what it says, or both.
    pub(crate) fn jam(&mut self, node: usize) {
        self.counters.count(Fault::Jam);
        let length = self.draw_standstill();
        let others: Vec<usize> = self.node_ids().into_iter().filter(|other| *other != node).collect();
        let far = match self.strike_dice.permille(600) {
            true => others.len(),
            false => self.strike_dice.between(1, others.len() as u64) as usize,
        };
        let (hears, says) = self.strike_dice.one(&[(true, false), (false, true), (true, true)]);
        let ways: &[Way] =
            self.strike_dice.one(&[&WAYS[..], &WAYS[..], &[Way::Asking][..], &[Way::Answering][..]]);
        for other in self.strike_dice.some(&others, far) {
            let links = [(other, node, hears), (node, other, says)];
            for (from, to, _) in links.into_iter().filter(|(.., is_jammed)| *is_jammed) {
                for way in ways {
                    let until = self.now + length - self.strike_dice.between(0, length / 4);
                    self.links.stick(from, to, *way, until);
                }
            }
        }
        // Clients have connections of their own, which flow.
        self.expect_visit(node, length);
    }

    /// Until when nothing of what comes to a node this way is read.
    pub(crate) fn unread_until(&self, from: usize, node: usize, way: Way) -> u64 {
        self.deaf_until(node).max(self.links.stuck_until(from, node, way))
    }

    /// Until when a node reads nothing at all.
    pub(crate) fn deaf_until(&self, node: usize) -> u64 {
        let machine = &self.machines[node];
        machine.paused_until.max(machine.stalled_until[Room::Reactor as usize])
    }

    /// The steps that were put off for longer than what they wait for lasts come at once.
    pub(crate) fn bring_forward(&mut self, node: usize) {
        for room in THREADS {
            let machine = &mut self.machines[node];
            let at = machine.paused_until.max(machine.stalled_until[room as usize]).max(self.now + 1);
            if machine.due[room as usize].is_some_and(|due| due > at + LONG_STEP_US) {
                machine.due[room as usize] = None;
                self.schedule_step(node, room, at - self.now);
            }
        }
    }
}
