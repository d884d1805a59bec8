//! Nodes whose directory is new: founders that meet, nodes that join, and machines that come back under their old number with
//! an empty disk, as beginners or to join, whatever their operator thinks fit.
//!
//! Each is a process that waits. It probes those that its file names, over the same links as everything else, and the
//! shipped [`Newcomer`] says what the answers mean. Who was admitted once and has lost its disk must never be again.

use bytes::Bytes;
use prost::Message as _;
use proto::raft_rpc::{ProbeArgs, ProbeReply};
use raft::core::NodeId;
use raft::net::{Border, Newcomer, Verdict};
use raft::storage::Identity;
use raft::storage::memory::MemoryFiles;

use crate::event::{Event, Parcel};
use crate::faults::Fault;
use crate::node::CLUSTER;
use crate::plan::{MS, SECOND};
use crate::simulation::{Phase, Simulation};
use crate::violation::Violation;

/// The concern of the dice of all that has to do with new directories.
pub(crate) const CONCERN: u64 = 8;

/// Where founders meet: how long after the first a founder is started, at most, and within what time one loses its disk.
const LATE_US_MAX: u64 = 2 * SECOND;
const EARLY_US_MAX: u64 = SECOND;

/// The pause between two rounds of probes: of who may be admitted any moment, and of who stays out.
const PAUSE_US: (u64, u64) = (20 * MS, 150 * MS);
const LONG_PAUSE_US: (u64, u64) = (200 * MS, 3 * SECOND);

/// Machines that lost their disk and come back, in a thousand, and after how long, at most.
const RETURNS_PERMILLE: u64 = 700;
const RETURN_US_MAX: u64 = 8 * SECOND;

/// Rounds after which a process is started anew that was lost with its disk, in a thousand; and of these starts, those on
/// yet another disk.
const RESTARTED_PERMILLE: u64 = 50;
const LOST_AGAIN_PERMILLE: u64 = 300;

/// How a process with a new directory is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// With the order to join.
    joins: bool,
    /// Its file names all nodes, not only the founders.
    names_all: bool,
}

impl Start {
    /// As founders are started, and those that join later.
    pub(crate) fn first(is_founder: bool) -> Start {
        Start { joins: !is_founder, names_all: !is_founder }
    }
}

impl Simulation<'_> {
    /// Every machine has a directory of its own. Founders meet, or have met before the run begins.
    pub(crate) fn make_directories(&mut self) {
        let founders = self.plan.founders as usize;
        for node in 0..self.machines.len() {
            self.machines[node].identity = self.new_identity(node);
            self.machines[node].is_absent = node >= founders;
        }
        let known: Vec<(NodeId, u64)> = self.machines[..founders]
            .iter()
            .map(|machine| (machine.identity.node_id, machine.identity.incarnation))
            .collect();
        for node in 0..self.machines.len() {
            let mut at = 0;
            if self.plan.founders_meet {
                at = self.newcomer_dice.skewed(0, LATE_US_MAX);
            } else if node < founders {
                let peers = known.iter().copied().filter(|(peer, _)| peer.0 as usize != node).collect();
                self.machines[node].identity = self.machines[node].identity.as_founder(peers);
            }
            self.events.schedule(at, Event::Birth { node });
        }
        if self.plan.founders_meet && self.plan.has(Fault::Wipe) {
            let (at, node) =
                (self.newcomer_dice.between(1, EARLY_US_MAX), self.newcomer_dice.place(founders));
            self.events.schedule(at, Event::Ambush { node, fault: Fault::Wipe });
        }
    }

    fn new_identity(&mut self, node: usize) -> Identity {
        Identity::new(CLUSTER, NodeId(node as u64), self.newcomer_dice.bits())
    }

    /// Whether all founders take part that ever will. Until then each must be there to answer.
    pub(crate) fn has_begun(&self) -> bool {
        let founders = &self.machines[..self.plan.founders as usize];
        founders.iter().all(|machine| machine.identity.admitted || machine.is_out)
    }

    /// A process is started on a directory with which its node has not taken part yet.
    pub(crate) fn begin_to_wait(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.newcomer.is_some() {
            return;
        }
        machine.life += 1;
        machine.newcomer = Some(Newcomer::new(machine.identity.clone(), machine.start.joins));
        let life = machine.life;
        self.events.schedule(self.now + 1, Event::Probes { node, life });
        self.say_of_node(node, || "waits to be admitted".into());
    }

    /// A process that waits ends. One that came back has strikes of its own.
    pub(crate) fn stop_waiting(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.is_out && machine.newcomer.take().is_some() {
            machine.life += 1;
            self.schedule_birth(node);
        }
    }

    /// Those that a process asks.
    fn asked_by(&self, node: usize) -> Vec<NodeId> {
        let named = match self.machines[node].start.names_all {
            true => self.plan.nodes,
            false => self.plan.founders,
        };
        (0..named).filter(|peer| *peer as usize != node).map(NodeId).collect()
    }

    /// A round of probes: what came of those before is looked at, and everybody is asked again.
    pub(crate) fn probe_peers(&mut self, node: usize, life: u32) -> Result<(), Violation> {
        let machine = &self.machines[node];
        let Some(newcomer) = machine.newcomer.as_ref().filter(|_| machine.life == life) else {
            return Ok(());
        };
        let (peers, incarnation) = (self.asked_by(node), newcomer.identity().incarnation);
        let verdict = newcomer.verdict(&peers);
        match &verdict {
            Verdict::Admitted(identity) => return self.admit(node, identity.clone()),
            Verdict::DiskLost(peer, identity) => {
                self.counters.kept_out += 1;
                self.say_of_node(node, || format!("stays out: node {peer} knows it with other data"));
                self.record(node, identity.clone());
            }
            _ => {}
        }
        for peer in peers {
            let envelope = Some(self.post.border(node).envelope(peer));
            let bytes = Bytes::from(ProbeArgs { envelope, incarnation }.encode_to_vec());
            self.send(node, peer.0 as usize, Parcel::Probe { life, bytes });
        }
        self.schedule_probes(node, life, verdict == Verdict::StaysOut);
        Ok(())
    }

    fn schedule_probes(&mut self, node: usize, life: u32, stays_out: bool) {
        let is_wiped = self.machines[node].is_wiped;
        // In the end nobody asks in vain.
        if (is_wiped || stays_out) && self.phase != Phase::Trouble {
            return;
        }
        let (low, high) = if stays_out { LONG_PAUSE_US } else { PAUSE_US };
        let at = self.now + self.newcomer_dice.between(low, high);
        let event = match is_wiped && self.newcomer_dice.permille(RESTARTED_PERMILLE) {
            true => Event::Return { node },
            false => Event::Probes { node, life },
        };
        self.events.schedule(at, event);
    }

    fn record(&mut self, node: usize, identity: Identity) {
        let machine = &mut self.machines[node];
        machine.identity = identity.clone();
        machine.newcomer.iter_mut().for_each(|newcomer| newcomer.recorded(identity.clone()));
    }

    /// A node takes part from now on.
    fn admit(&mut self, node: usize, identity: Identity) -> Result<(), Violation> {
        self.say_of_node(node, || format!("is admitted: {identity:?}"));
        if self.machines[node].is_wiped {
            let text = format!(
                "node {node} has lost the disk with which it took part, and is admitted with an empty one: {identity:?}"
            );
            return Violation::of("the-wiped-stay-out", text);
        }
        self.record(node, identity);
        let machine = &mut self.machines[node];
        machine.newcomer = None;
        machine.is_out = false;
        self.give_birth(node)
    }

    /// A probe, or the answer to one, reaches a process.
    pub(crate) fn deliver_probe(&mut self, from: usize, to: usize, parcel: &Parcel) -> Result<(), Violation> {
        match parcel {
            Parcel::Probe { life, bytes } => {
                let Some((newcomer, border)) = self.identified(to) else { return Ok(()) };
                let args = ProbeArgs::decode(&bytes[..]).map_err(|error| undecodable(&error))?;
                let asker =
                    border.admit_stranger(&args).or_else(|why| Violation::of("survives-the-wire", why))?;
                let answer = newcomer.answer(&border, asker, args.incarnation);
                let bytes = Bytes::from(answer.encode_to_vec());
                self.send(to, from, Parcel::ProbeAnswer { life: *life, bytes });
            }
            Parcel::ProbeAnswer { life, bytes } if self.machines[to].life == *life => {
                let answer = ProbeReply::decode(&bytes[..]).map_err(|error| undecodable(&error))?;
                let peer = NodeId(from as u64);
                let heard = self.post.border(to).admit_answer(peer, &answer).map(|()| answer);
                let newcomer = &mut self.machines[to].newcomer;
                newcomer.iter_mut().for_each(|newcomer| newcomer.hears(peer, heard.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Who a process is and whom it knows, if one runs there.
    pub(crate) fn identified(&self, node: usize) -> Option<(Newcomer, Border)> {
        let machine = &self.machines[node];
        match (&machine.node, &machine.newcomer) {
            (Some(alive), _) => {
                let border = Border::new(CLUSTER, NodeId(node as u64), alive.parts.book.clone());
                Some((Newcomer::new(machine.identity.clone(), machine.start.joins), border))
            }
            (None, Some(newcomer)) => Some((newcomer.clone(), self.post.border(node).clone())),
            (None, None) => None,
        }
    }

    /// Whether a machine may lose its disk: those that it asks when it comes back must know of a cluster.
    fn is_remembered_without(&self, node: usize) -> bool {
        let founders = self.machines[..self.plan.founders as usize].iter().enumerate();
        let mut others = founders.filter(|(founder, _)| *founder != node).map(|(_, machine)| machine);
        let is_founder = node < self.plan.founders as usize;
        !is_founder
            || self.plan.founders == 1
            || others.clone().any(|other| other.identity.admitted)
            || others.all(|other| other.identity.stays_out)
    }

    /// A machine is lost with its disk.
    pub(crate) fn wipe(&mut self, node: usize) {
        let id = NodeId(node as u64);
        let is_left = |other: NodeId| other != id && !self.is_lost(other.0 as usize);
        let machine = &self.machines[node];
        let runs = machine.node.is_some() || machine.newcomer.is_some();
        let took_part = machine.identity.admitted;
        if !runs
            || self.is_lost(node)
            || (took_part && !self.is_remembered_without(node))
            || !self.consensus.members.survive(is_left)
        {
            return;
        }
        self.counters.count(Fault::Wipe);
        let is_awaited = !took_part || !self.has_begun();
        self.machines[node].is_out = true;
        self.kill(node);
        self.machines[node].newcomer = None;
        self.machines[node].is_wiped |= took_part;
        self.empty_disk(node);
        if is_awaited || self.newcomer_dice.permille(RETURNS_PERMILLE) {
            let after = self.newcomer_dice.skewed(MS, RETURN_US_MAX);
            self.events.schedule(self.now + after, Event::Return { node });
        }
    }

    fn empty_disk(&mut self, node: usize) {
        let identity = self.new_identity(node);
        let machine = &mut self.machines[node];
        machine.identity = identity;
        machine.files = MemoryFiles::new();
        machine.has_log = false;
        machine.planned = None;
    }

    /// A machine that was lost is back under its old number, or its process is started anew.
    pub(crate) fn come_back(&mut self, node: usize) {
        if self.machines[node].identity.admitted || !self.machines[node].is_out {
            return;
        }
        self.counters.returned += 1;
        let (dice, machine) = (&mut self.newcomer_dice, &mut self.machines[node]);
        if machine.is_wiped {
            let joins = dice.permille(500);
            // A file that names the founders alone says nothing where there is but one of them.
            let names_all = joins || self.plan.founders == 1 || dice.permille(300);
            machine.start = Start { joins, names_all };
        }
        let is_lost_again = machine.newcomer.take().is_some() && dice.permille(LOST_AGAIN_PERMILLE);
        if is_lost_again && self.is_remembered_without(node) && self.has_begun() {
            self.empty_disk(node);
        }
        self.begin_to_wait(node);
    }

    /// In the end everybody is back that others wait for.
    pub(crate) fn bring_back(&mut self) {
        for node in 0..self.machines.len() {
            let machine = &self.machines[node];
            if machine.is_out && !machine.is_wiped && machine.newcomer.is_none() {
                self.come_back(node);
            }
        }
    }
}

fn undecodable(error: &prost::DecodeError) -> Violation {
    Violation { rule: "survives-the-wire", text: error.to_string() }
}
