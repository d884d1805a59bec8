//! Lulls in the trouble: for a while nothing further goes wrong, and what is wrong stays so.
//!
//! Cuts, dead and paused nodes, damaged disks and bad clocks remain as they are; what was on its way is lost. If more than half of the nodes are up,
//! in order and reach each other, the cluster must serve within five election timeouts, whatever the others do and
//! however one-sidedly they are still heard. Without such a majority there is no lull.

use bytes::Bytes;
use clerk::Operation;

use crate::ending::{ELECTION_TIMEOUTS, PROBES};
use crate::event::{Event, Relief};
use crate::plan::{MS, SECOND};
use crate::simulation::{Machine, Simulation};
use crate::violation::Violation;

/// The longest that cuts outlast a lull.
const CUTS_LAST_US_MAX: u64 = 3 * SECOND;

/// A node that has more entries than this to apply is still coming up.
const BEHIND_MAX: u64 = 500;

/// A lull.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lull {
    pub(crate) ends_at: u64,
    /// Whether the links are as they should be; else they are mended some time after it.
    is_whole: bool,
}

impl Simulation<'_> {
    /// Begins a lull, if there is a majority that must serve in it.
    pub(crate) fn begin_lull(&mut self) -> Result<(), Violation> {
        if !self.is_rough() || !self.has_sound_majority() {
            return Ok(());
        }
        self.trace.line(self.now, || "!".into(), || "a lull begins".into());
        self.counters.lulls += 1;
        for node in 0..self.machines.len() {
            self.call_off(node);
        }
        // Nothing late is on its way any more.
        self.links.forget();
        // Cuts that come and go, and those about to be mended, stay as they are.
        self.fault_number += 1;
        let lull = Lull { ends_at: self.now + self.patience_us(), is_whole: self.links.are_whole() };
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
        self.begin_operation(probe, Operation::Get { key: "probe".into() })
    }

    /// It must have been served.
    pub(crate) fn end_lull(&mut self) -> Result<(), Violation> {
        let Some(lull) = self.lull.take() else { return Ok(()) };
        self.trace.line(self.now, || "!".into(), || "the lull is over".into());
        if self.probes_served < self.probes_begun {
            let text = format!(
                "more than half of the nodes reached each other for {} ms, {ELECTION_TIMEOUTS} election timeouts, and \
                 {} operations were not served",
                self.patience_us() / MS,
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
            machine.files.set_capacity(u64::MAX);
        }
        machine.stalled_until.fill(0);
        self.bring_forward(node);
    }

    fn has_sound_majority(&self) -> bool {
        let now = self.now;
        let known = self.consensus.committed.len() as u64;
        let sound = |node: &usize| {
            self.machines[*node].is_sound(now) && self.consensus.applied(*node).0 + BEHIND_MAX >= known
        };
        let sound: Vec<usize> = (0..self.machines.len()).filter(sound).collect();
        // Up to seven nodes: 128 sets of them.
        (0_u32..1 << sound.len()).any(|set| {
            let members = || sound.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
            let reached = |(_, from): (_, &usize)| members().all(|(_, to)| self.links.is_open(*from, *to));
            set.count_ones() as usize >= self.plan.majority() && members().all(reached)
        })
    }
}

impl Machine {
    /// Whether nothing is wrong with the machine itself.
    fn is_sound(&self, now: u64) -> bool {
        let is_up = self.node.as_ref().is_some_and(|alive| !alive.parts.node.is_stopped());
        is_up && !self.exit_is_scheduled && self.paused_until <= now && self.disk_slowness == 1
    }
}
