//! Lulls in the trouble: for a while nothing further goes wrong, and what is wrong stays so.
//!
//! Cuts, dead and paused nodes, damaged disks and bad clocks remain as they are; what was on its way is lost. If more than half of the nodes are up,
//! in order and reach each other, the cluster must serve within five election timeouts and the time it takes to catch up,
//! whatever the others do and however one-sidedly they are still heard. Without such a majority there is no lull.

use bytes::Bytes;
use clerk::Operation;
use raft::core::NodeId;

use crate::ending::{ELECTION_TIMEOUTS, PROBES};
use crate::event::{Event, Relief};
use crate::plan::{MS, SECOND};
use crate::simulation::{Machine, Simulation};
use crate::violation::Violation;

/// The longest that cuts outlast a lull.
const CUTS_LAST_US_MAX: u64 = 3 * SECOND;

/// A node that needs longer than this for what it lacks is still coming up.
const CATCH_UP_US_MAX: u64 = 5 * SECOND;

/// A lull.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lull {
    begun_at: u64,
    pub(crate) ends_at: u64,
    /// Whether the links are as they should be; else they are mended some time after it.
    is_whole: bool,
    /// It has been made longer already, for a snapshot to be written.
    is_prolonged: bool,
}

impl Simulation<'_> {
    /// Begins a lull, if there is a majority that must serve in it.
    pub(crate) fn begin_lull(&mut self) -> Result<(), Violation> {
        if !self.is_rough() || self.is_led_from_a_slow_disk() {
            return Ok(());
        }
        let known = self.consensus.committed.len() as u64;
        let in_time = |node: &usize| self.catch_up_us(*node, known) <= CATCH_UP_US_MAX;
        let mut sound: Vec<usize> = (0..self.machines.len())
            .filter(|node| self.machines[*node].is_sound(self.now))
            .filter(in_time)
            .collect();
        let Some(voters) = self.consensus.members.settled().map(|members| members.voters.clone()) else {
            return Ok(());
        };
        sound.retain(|node| voters.contains(&NodeId(*node as u64)));
        // Nothing new is served before the sound have all that any of them has: what nobody committed yet, too.
        let last = sound.iter().map(|node| self.consensus.last(*node).0).max().unwrap_or(known);
        let queue_us = sound.iter().map(|node| self.catch_up_us(*node, last)).max().unwrap_or(0);
        if !self.has_majority_among(&sound, voters.len()) || queue_us > CATCH_UP_US_MAX {
            return Ok(());
        }
        self.trace.line(self.now, || "!".into(), || "a lull begins".into());
        self.counters.lulls += 1;
        for node in 0..self.machines.len() {
            self.call_off(node);
        }
        // Nothing late is on its way any more, and nothing is stuck.
        self.links.forget();
        self.links.loosen();
        self.give_up_chunks();
        // Cuts that come and go, and those about to be mended, stay as they are.
        self.fault_number += 1;
        let ends_at = self.now + self.patience_us() + queue_us;
        let is_whole = self.links.are_whole();
        let lull = Lull { begun_at: self.now, ends_at, is_whole, is_prolonged: false };
        self.lull = Some(lull);
        self.events.schedule(lull.ends_at, Event::LullEnds);
        self.probe()
    }

    /// The probe's operations, which the cluster must serve.
    pub(crate) fn probe(&mut self) -> Result<(), Violation> {
        let probe = self.plan.clients;
        self.probes_begun += PROBES;
        let value = Bytes::from(format!("{},", self.probes_begun));
        self.begin_operation(probe, Operation::Put { key: "probe".into(), value })?;
        self.begin_operation(probe, Operation::get("probe"))
    }

    /// It must have been served.
    pub(crate) fn end_lull(&mut self) -> Result<(), Violation> {
        let Some(lull) = self.lull.take() else { return Ok(()) };
        let is_served = self.probes_served == self.probes_begun;
        let writing_us = self.snapshot_us();
        if !is_served && !lull.is_prolonged && writing_us > 0 {
            // Where the log has reached its bound nothing is accepted before there is a snapshot.
            let ends_at = self.now + writing_us + self.patience_us();
            self.lull = Some(Lull { ends_at, is_prolonged: true, ..lull });
            self.events.schedule(ends_at, Event::LullEnds);
            return Ok(());
        }
        self.trace.line(self.now, || "!".into(), || "the lull is over".into());
        if !is_served {
            let text = format!(
                "more than half of the nodes reached each other for {} ms, at least {ELECTION_TIMEOUTS} election \
                 timeouts, and {} operations were not served",
                (lull.ends_at - lull.begun_at) / MS,
                self.probes_begun - self.probes_served
            );
            return Violation::of("serves-in-a-lull", text);
        }
        if !lull.is_whole {
            let after = self.strike_dice.between(MS, CUTS_LAST_US_MAX);
            let relief = Relief::Links { fault_number: self.fault_number };
            self.events.schedule(self.now + after, Event::Relief(relief));
        }
        Ok(())
    }

    /// How long a cluster may take until it serves.
    pub(crate) fn patience_us(&self) -> u64 {
        let timeout = self.plan.election_us_max() * 1000 / self.plan.slowest_clock_permille();
        ELECTION_TIMEOUTS * timeout + 20 * (self.plan.delay_us.1 + self.plan.disk_us.1)
    }

    /// What was planned for a node does not happen, and its threads run.
    pub(crate) fn call_off(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.exit_is_scheduled && machine.planned.take().is_some() {
            machine.files.switch_off_at(u64::MAX);
            machine.files.fail_at(u64::MAX);
            machine.files.fail_sync_from(u64::MAX);
            machine.files.set_capacity(u64::MAX);
        }
        machine.stalled_until.fill(0);
        self.bring_forward(node);
    }

    /// A leader on a slow disk may have a full log and nothing to write to it until its snapshot is done: it is busy for as long
    /// as that takes, and rightly leads.
    fn is_led_from_a_slow_disk(&self) -> bool {
        self.consensus.latest_leader().is_some_and(|node| self.machines[node].disk_slowness > 1)
    }

    /// How long a node may take to get and apply the entries up to this one.
    fn catch_up_us(&self, node: usize, last: u64) -> u64 {
        last.saturating_sub(self.consensus.applied(node).0) * self.entry_us()
    }

    /// Whether more than half of so many voters are among these and reach each other.
    fn has_majority_among(&self, sound: &[usize], voters: usize) -> bool {
        // Up to seven nodes: 128 sets of them.
        (0_u32..1 << sound.len()).any(|set| {
            let members = || sound.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
            let reached = |(_, from): (_, &usize)| members().all(|(_, to)| self.links.is_open(*from, *to));
            set.count_ones() as usize * 2 > voters && members().all(reached)
        })
    }
}

impl Machine {
    /// Whether nothing is wrong with the machine itself.
    fn is_sound(&self, now: u64) -> bool {
        let is_up = self.node.as_ref().is_some_and(|alive| !alive.parts.node.is_stopped());
        let is_well = self.disk_slowness == 1 && !self.is_convalescent;
        is_up && is_well && !self.exit_is_scheduled && self.paused_until <= now
    }
}
