//! What goes wrong, and when it is right again.
//!
//! A strike draws one of the seed's kinds of faults and does it to somebody. Safety must hold whatever happens; only
//! damaged files are kept to a minority of the nodes for good, since a majority of them is a cluster that is lost.

use raft::core::NodeId;
use raft::storage::wal::segment_sequence;

use crate::event::{Event, Relief};
use crate::faults::{FAULTS, Fault};
use crate::plan::{MS, SECOND};
use crate::simulation::{Planned, Simulation};
use crate::violation::Violation;

impl Simulation<'_> {
    /// Something goes wrong, to `aimed_at` or to whom the dice choose.
    pub(crate) fn strike(&mut self, aimed_at: Option<usize>) -> Result<(), Violation> {
        if aimed_at.is_none() && self.is_trouble() {
            let gap = self.strike_dice.skewed(1, self.plan.strike_gap_us * 3);
            self.events.schedule(self.now + gap.max(MS), Event::Strike { aimed_at });
        }
        if !self.is_rough() {
            return Ok(());
        }
        let ids = self.node_ids();
        let is_aimed = self.strike_dice.permille(self.plan.aimed_permille);
        let aimed_at = aimed_at.or(self.leader.filter(|_| is_aimed));
        let node = aimed_at.unwrap_or_else(|| self.strike_dice.one(&ids));
        self.befall(node)?;
        match self.strike_dice.permille(self.plan.lull_permille) {
            true => self.begin_lull(),
            false => Ok(()),
        }
    }

    /// A node was elected: bad luck likes that.
    pub(crate) fn elected(&mut self, node: usize) {
        if let Some(former) = self.leader.replace(node) {
            self.expect_witness(node, former);
        }
        if self.is_rough() && self.strike_dice.permille(self.plan.election_struck_permille) {
            let after = self.strike_dice.skewed(1, 2 * self.plan.election_us_max());
            self.events.schedule(self.now + after, Event::Strike { aimed_at: Some(node) });
        }
    }

    /// One of the seed's kinds of faults, to this node if it is about one.
    fn befall(&mut self, node: usize) -> Result<(), Violation> {
        let kinds: Vec<Fault> =
            FAULTS.into_iter().filter(|fault| fault.strikes() && self.plan.has(*fault)).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let fault = self.strike_dice.one(&kinds);
        if self.strike_dice.permille(self.plan.ambush_permille) {
            self.machines[node].ambush = Some(fault);
            return Ok(());
        }
        self.inflict(fault, node)
    }

    /// A node says something: a fault may have waited for that.
    pub(crate) fn hear_for_ambush(&mut self, node: usize) {
        if let Some(fault) = self.machines[node].ambush.take() {
            // What it says besides, in the same turn, is said.
            self.events.schedule(self.now + 1, Event::Ambush { node, fault });
        }
    }

    /// The fault that waited for it befalls a node.
    pub(crate) fn spring(&mut self, node: usize, fault: Fault) -> Result<(), Violation> {
        if self.is_rough() { self.inflict(fault, node) } else { Ok(()) }
    }

    fn inflict(&mut self, fault: Fault, node: usize) -> Result<(), Violation> {
        if !matches!(fault, Fault::Pause | Fault::Jam) {
            self.expect_visit(node, 3 * self.plan.election_us_max());
        }
        self.trace.line(self.now, || "!".into(), || format!("{fault}, node {node} if it is one"));
        match fault {
            Fault::ClientCut => self.cut(fault, node),
            _ if fault.is_partition() => self.cut(fault, node),
            Fault::Kill => {
                self.kill_if_alive(node);
            }
            Fault::PowerLoss | Fault::TornWrite => self.unplug(node),
            Fault::PowerLossOfAll => {
                self.counters.count(fault);
                self.node_ids().into_iter().for_each(|node| self.unplug(node));
            }
            Fault::RollingRestart => self.roll(),
            Fault::Pause => self.pause(node),
            Fault::Stall => self.stall(node),
            Fault::Jam => self.jam(node),
            Fault::Wipe => self.wipe(node),
            Fault::Transfer => return self.transfer(node),
            Fault::ClockJump => return self.jump(node),
            Fault::SlowDisk => {
                self.counters.count(fault);
                self.machines[node].disk_slowness = self.strike_dice.between(5, 100);
                let after = self.strike_dice.between(100 * MS, 5 * SECOND);
                self.events.schedule(self.now + after, Event::Relief(Relief::Disk { node }));
            }
            Fault::PowerOffInOperation => self.plan_fault(node, Planned::PowerOff),
            Fault::FailedDisk => self.plan_fault(node, Planned::Failure),
            Fault::FailedSync => self.plan_fault(node, Planned::FailedSync),
            Fault::FullDisk => self.plan_fault(node, Planned::Full),
            Fault::BitFlip => return self.flip(node),
            fault => unreachable!("{fault} does not strike"),
        }
        Ok(())
    }

    fn kill_if_alive(&mut self, node: usize) {
        if self.machines[node].node.is_some() {
            self.counters.count(Fault::Kill);
            self.kill(node);
        }
    }

    fn unplug(&mut self, node: usize) {
        if self.machines[node].is_out {
            return;
        }
        self.counters.count(Fault::PowerLoss);
        self.lose_power(node);
    }

    /// One node after the other is killed, each a little later.
    fn roll(&mut self) {
        self.counters.count(Fault::RollingRestart);
        let mut at = self.now;
        for node in 0..self.machines.len() {
            let life = self.machines[node].life;
            at += self.strike_dice.between(MS, SECOND);
            self.events.schedule(at, Event::Exit { node, life });
        }
    }

    /// The clock is ahead all at once, and the node's time rushes to make up for it: harsher than the tickers, which
    /// hand over one tick.
    fn jump(&mut self, node: usize) -> Result<(), Violation> {
        let ticks = self.strike_dice.between(1, 200);
        if self.machines[node].paused_until > self.now {
            return Ok(());
        }
        let Some(alive) = &self.machines[node].node else { return Ok(()) };
        alive.rush(ticks);
        self.counters.count(Fault::ClockJump);
        self.look_at(node)
    }

    fn plan_fault(&mut self, node: usize, planned: Planned) {
        let soon = self.strike_dice.between(0, 30);
        let room = self.strike_dice.between(0, 3_000);
        let machine = &mut self.machines[node];
        if machine.node.is_none() || machine.planned.is_some() || machine.exit_is_scheduled {
            return;
        }
        machine.planned = Some(planned);
        match planned {
            Planned::PowerOff => machine.files.switch_off_at(machine.files.operations() + soon),
            Planned::Failure => machine.files.fail_at(machine.files.operations() + soon),
            Planned::FailedSync => machine.files.fail_sync_from(machine.files.operations() + soon),
            Planned::Full => {
                let used: usize = machine.files.contents().iter().map(|(_, bytes)| bytes.len()).sum();
                machine.files.set_capacity(used as u64 + room);
                self.counters.count(Fault::FullDisk);
            }
        }
    }

    /// A bit of a file of a node that has come to rest is another one when it starts again.
    fn flip(&mut self, node: usize) -> Result<(), Violation> {
        let is_left = |other: NodeId| other.0 as usize != node && !self.is_lost(other.0 as usize);
        let can_be_spared =
            self.has_begun() && (self.consensus.members.survive(is_left) || self.is_lost(node));
        let now = self.clock();
        let machine = &mut self.machines[node];
        if machine.is_out || machine.planned.is_some() || machine.exit_is_scheduled {
            return Ok(());
        }
        if !can_be_spared {
            return Ok(());
        }
        let Some(alive) = &mut machine.node else { return Ok(()) };
        alive.finish_log(now);
        self.look_at(node)?;
        self.kill(node);
        let machine = &mut self.machines[node];
        let contents = machine.files.contents();
        let of_the_log: Vec<usize> =
            (0..contents.len()).filter(|place| segment_sequence(&contents[*place].0).is_some()).collect();
        let place = match self.plan.repairs && !of_the_log.is_empty() && self.strike_dice.permille(700) {
            true => self.strike_dice.one(&of_the_log),
            false => self.strike_dice.place(contents.len()),
        };
        let (file, bytes) = &contents[place];
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if used == 0 {
            return Ok(());
        }
        let (offset, bit) = (self.strike_dice.between(0, used - 1), self.strike_dice.between(0, 7));
        assert!(machine.files.flip_bit(file, offset, bit as u32), "the byte is there");
        machine.flipped.push(file.clone());
        machine.was_flipped = true;
        self.counters.count(Fault::BitFlip);
        let text = format!("bit {bit} of byte {offset} of {file} is flipped");
        self.say_of_node(node, || text);
        Ok(())
    }

    /// Links are cut for a while.
    fn cut(&mut self, fault: Fault, node: usize) {
        self.counters.count(fault);
        self.fault_number += 1;
        let fault_number = self.fault_number;
        self.links.mend();
        self.draw_cut(fault, node);
        let length = self.strike_dice.skewed(10 * MS, 10 * SECOND);
        self.events.schedule(self.now + length, Event::Relief(Relief::Links { fault_number }));
        if fault == Fault::PartitionPartial {
            self.expect_estrangement();
        }
        if fault == Fault::PartitionFlapping {
            let times_left = self.strike_dice.between(5, 40);
            let flap = Relief::Flap { fault_number, times_left, is_cut: true };
            self.events.schedule(self.now + 50 * MS, Event::Relief(flap));
        }
    }

    fn draw_cut(&mut self, fault: Fault, node: usize) {
        let ids = self.node_ids();
        let count = ids.len();
        let others = |node: usize| ids.iter().copied().filter(move |other| *other != node);
        match fault {
            Fault::PartitionUniform => {
                for from in &ids {
                    for to in others(*from) {
                        if self.strike_dice.permille(400) {
                            self.links.cut(*from, to);
                        }
                    }
                }
            }
            Fault::PartitionMajority | Fault::PartitionFlapping => {
                let minority = self.strike_dice.some(&ids, (count - 1) / 2);
                for one in &minority {
                    for other in ids.iter().filter(|other| !minority.contains(other)) {
                        self.links.cut_both_ways(*one, *other);
                    }
                }
                self.cut_clients(&minority);
            }
            Fault::PartitionAsymmetric => {
                let hears_nothing = self.strike_dice.permille(500);
                // All others mostly, or as few as one of them.
                let far = match self.strike_dice.permille(600) {
                    true => count - 1,
                    false => self.strike_dice.between(1, count as u64 - 1) as usize,
                };
                let others: Vec<usize> = others(node).collect();
                for other in self.strike_dice.some(&others, far) {
                    let (from, to) = if hears_nothing { (other, node) } else { (node, other) };
                    self.links.cut(from, to);
                }
            }
            Fault::PartitionPartial => {
                let others: Vec<usize> = others(node).collect();
                self.links.cut_both_ways(node, self.strike_dice.one(&others));
            }
            Fault::ClientCut => {
                let client = count + self.strike_dice.place(self.plan.clients);
                self.links.cut_both_ways(client, node);
            }
            _ => {
                others(node).for_each(|other| self.links.cut_both_ways(node, other));
                self.cut_clients(&[node]);
            }
        }
    }

    /// Some clients are on the other side.
    fn cut_clients(&mut self, nodes: &[usize]) {
        for client in 0..self.plan.clients {
            if self.strike_dice.permille(300) {
                nodes.iter().for_each(|node| self.links.cut_both_ways(self.machines.len() + client, *node));
            }
        }
    }

    /// Something is right again.
    pub(crate) fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Links { fault_number } if fault_number == self.fault_number => self.links.mend(),
            Relief::Links { .. } => {}
            Relief::Flap { fault_number, times_left, is_cut } => {
                if fault_number != self.fault_number || times_left == 0 || !self.is_rough() {
                    return;
                }
                if is_cut {
                    self.links.mend();
                } else {
                    self.draw_cut(Fault::PartitionFlapping, 0);
                }
                let flap = Relief::Flap { fault_number, times_left: times_left - 1, is_cut: !is_cut };
                let after = self.strike_dice.between(10 * MS, 400 * MS);
                self.events.schedule(self.now + after, Event::Relief(flap));
            }
            Relief::Disk { node } => self.machines[node].disk_slowness = 1,
        }
    }

    /// Nothing goes wrong any more, and nothing that went wrong stays so.
    pub(crate) fn relieve_all(&mut self) {
        self.fault_number += 1;
        self.links.mend();
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.disk_slowness = 1;
            machine.paused_until = machine.paused_until.min(self.now);
            self.call_off(node);
        }
    }
}
