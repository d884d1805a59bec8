//! Several nodes on a virtual clock, network and disks, with checks of Raft's promises as they run.
//!
//! Time is milliseconds. A seed decides every delay, loss and tick; the same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::{
    Body, ChangeError, ChunkVerdict, Config, EntryId, Index, Membership, Message, NodeId, ProposeError,
    Proposed, RawNode, ReadError, RoleKind, SnapshotOutcome, Status, Term, TransferError,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::clocks::shown_to;
use crate::node::{Done, File, Node};
use crate::promises::{self, Promises};
use crate::weather::LATE_MS;
pub(crate) use crate::weather::Weather;

/// One election tick, in milliseconds.
pub(crate) const TICK_MS: u64 = 10;

/// What a message weighs beside its entries, in bytes; more than headers and fields take on the wire.
const MESSAGE_OVERHEAD_BYTES: u64 = 100;

/// Of a series of runs of the tests, each called `PASS=n`, every one has its own seeds; without a name it is the first.
pub(crate) fn of_this_pass(seed: u64) -> u64 {
    let pass = std::env::var("PASS").map_or(0, |pass| pass.parse().expect("PASS is a number"));
    seed + 1_000_003 * pass
}

/// Something on its way.
#[derive(Clone, Debug)]
enum Parcel {
    Message(Message),
    Snapshot { from: NodeId, to: NodeId, term: Term, file: File },
    Report { to: NodeId, about: NodeId, term: Term, outcome: SnapshotOutcome },
}

/// `RawNode::read_index` or another of its kind.
pub(crate) type ReadWay = fn(&mut RawNode, u64) -> Result<(), ReadError>;

/// Where it is going.
fn receiver(parcel: &Parcel) -> NodeId {
    match parcel {
        Parcel::Message(message) => message.to,
        Parcel::Snapshot { to, .. } | Parcel::Report { to, .. } => *to,
    }
}

/// See the module's text.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) weather: Weather,
    pub(crate) now: u64,
    pub(crate) rng: ChaCha8Rng,
    seed: u64,
    /// By delivery time, then by order of sending.
    parcels: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    /// Directed pairs that cannot talk.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes whose process is stopped: nothing reaches them and nothing of them moves, but their clocks.
    pub(crate) asleep: BTreeSet<NodeId>,
    /// Room for the nodes that have something to do in a millisecond.
    with_work: Vec<NodeId>,
    /// Requests that were sent, and the bytes of these and of their answers.
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Whatever was sent since the test cleared it, if it wants to know.
    pub(crate) trace: Option<Vec<Message>>,
    pub(crate) promises: Promises,
    /// Received snapshots whose marker is being written: whom to tell.
    owed_reports: BTreeMap<(NodeId, Index), (NodeId, Term)>,
}

impl Cluster {
    pub(crate) fn new(nodes: u64, seed: u64) -> Cluster {
        Cluster::with_config(nodes, seed, |_| {})
    }

    pub(crate) fn with_config(nodes: u64, seed: u64, adjust: impl Fn(&mut Config)) -> Cluster {
        let seed = of_this_pass(seed);
        let voters: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let make = |id: &NodeId| {
            let mut config = Config::new(*id, voters.clone());
            adjust(&mut config);
            let mut node = Node::new(config);
            node.core = None;
            node.start(seed);
            (*id, node)
        };
        Cluster {
            nodes: voters.iter().map(make).collect(),
            weather: Weather::calm(),
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            parcels: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            asleep: BTreeSet::new(),
            with_work: Vec::new(),
            requests: 0,
            bytes: 0,
            trace: None,
            promises: Promises::default(),
            owed_reports: BTreeMap::new(),
        }
    }

    /// A node with an empty disk, which knows of no members; else as the others.
    pub(crate) fn join(&mut self, id: NodeId) {
        let alike = self.nodes.values().next().expect("somebody is there").config.clone();
        let mut node = Node::new(Config { node_id: id, voters: Vec::new(), ..alike });
        node.core = None;
        node.start(self.seed ^ self.now);
        self.nodes.insert(id, node);
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.millisecond();
        }
    }

    /// Lets time pass until `enough`, at most `ms_max`. Returns whether it was.
    pub(crate) fn run_until(&mut self, ms_max: u64, mut enough: impl FnMut(&Cluster) -> bool) -> bool {
        for _ in 0..ms_max {
            if enough(self) {
                return true;
            }
            self.millisecond();
        }
        enough(self)
    }

    fn millisecond(&mut self) {
        self.now += 1;
        // What is posted meanwhile arrives later: nothing takes no time.
        while let Some(due) = self.parcels.first_entry().filter(|parcel| parcel.key().0 <= self.now) {
            let ((_, number), parcel) = due.remove_entry();
            match self.asleep.contains(&receiver(&parcel)) {
                true => drop(self.parcels.insert((self.now + 1, number), parcel)),
                false => self.deliver(parcel),
            }
        }
        let mut with_work = std::mem::take(&mut self.with_work);
        for (id, node) in self.nodes.iter_mut().filter(|(id, _)| !self.asleep.contains(id)) {
            if let Some(core) = &mut node.core {
                core.time_is(shown_to(*id, self.now));
                // Nodes tick at the same pace but not at the same moment.
                let phase = self.now + id.0 * 3;
                if phase.is_multiple_of(TICK_MS) {
                    core.tick_election();
                }
                if phase.is_multiple_of(self.weather.heartbeat_ms) {
                    core.tick_heartbeat();
                }
            }
            if node.has_work(self.now) {
                with_work.push(*id);
            }
        }
        with_work.drain(..).for_each(|id| self.serve(id));
        self.with_work = with_work;
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Message(message) => {
                let to = message.to;
                if let Some(core) = self.nodes.get_mut(&to).and_then(|node| node.core.as_mut()) {
                    core.step(message);
                }
                self.serve(to);
            }
            Parcel::Snapshot { from, to, term, file } => self.deliver_snapshot(from, to, term, file),
            Parcel::Report { to, about, term, outcome } => {
                if let Some(core) = self.nodes.get_mut(&to).and_then(|node| node.core.as_mut()) {
                    core.snapshot_report(about, term, outcome);
                }
                self.serve(to);
            }
        }
    }

    fn deliver_snapshot(&mut self, from: NodeId, to: NodeId, term: Term, file: File) {
        let Some(node) = self.nodes.get_mut(&to).filter(|node| node.core.is_some()) else {
            return self
                .post(20, Parcel::Report { to: from, about: to, term, outcome: SnapshotOutcome::Failed });
        };
        let last = file.meta.last;
        let verdict = node.core.as_mut().map(|core| core.chunk_seen(term, from, last));
        let outcome = match verdict {
            Some(ChunkVerdict::Wanted) if node.receive(file) == raft_core::InstallVerdict::Installed => {
                self.owed_reports.insert((to, last.index), (from, term));
                return self.serve(to);
            }
            Some(ChunkVerdict::Wanted | ChunkVerdict::NotNeeded) => SnapshotOutcome::Installed(last.index),
            Some(ChunkVerdict::StaleTerm(_)) | None => SnapshotOutcome::Failed,
        };
        self.post(1, Parcel::Report { to: from, about: to, term, outcome });
        self.serve(to);
    }

    fn serve(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.has_work(self.now)) else { return };
        let disk_ms = match self.weather.own_disk_ms.get(&id) {
            Some(always) => *always,
            None => self.rng.random_range(0..=self.weather.disk_ms_max),
        };
        let mut done = Done::default();
        node.serve(self.now, disk_ms, &mut done);
        if let Some(core) = &node.core {
            self.promises.check_leader(id, core, node.disk.hard_state);
        }
        for machine in done.applied {
            self.promises.check_applied(id, machine, &self.nodes);
        }
        done.reads.into_iter().for_each(|read| self.promises.check_read(read));
        for (to, term) in done.send_snapshots {
            let file = self.nodes[&id].disk.file.clone().expect("who compacted has a snapshot");
            self.send_snapshot(id, to, term, file);
        }
        for meta in done.installed {
            let owed = self.owed_reports.remove(&(id, meta.last.index));
            if let Some((to, term)) = owed {
                let outcome = SnapshotOutcome::Installed(meta.last.index);
                self.post(1, Parcel::Report { to, about: id, term, outcome });
            }
        }
        for message in done.messages {
            self.promises.check_speaker(&message);
            self.send(message);
        }
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId, term: Term, file: File) {
        let lost = self.cut.contains(&(from, to)) || self.percent(self.weather.lost_percent);
        if lost {
            let outcome = SnapshotOutcome::Failed;
            return self.post(50, Parcel::Report { to: from, about: to, term, outcome });
        }
        self.post(10, Parcel::Snapshot { from, to, term, file });
    }

    fn send(&mut self, message: Message) {
        if message.body.is_request() {
            self.requests += 1;
        }
        self.bytes += MESSAGE_OVERHEAD_BYTES;
        if let Body::AppendEntries { entries, .. } = &message.body {
            self.bytes += entries.iter().map(raft_core::Entry::weight_bytes).sum::<u64>();
        }
        if let Some(trace) = &mut self.trace {
            trace.push(message.clone());
        }
        if self.cut.contains(&(message.from, message.to)) || self.percent(self.weather.lost_percent) {
            return;
        }
        let copies = 1 + u32::from(self.percent(self.weather.doubled_percent));
        let late_percent = if message.body.is_request() { 0 } else { self.weather.late_answers_percent };
        for _ in 0..copies {
            let delay = match self.percent(late_percent) {
                true => self.rng.random_range(LATE_MS),
                false => self.rng.random_range(1..=self.weather.delay_ms_max),
            };
            self.post(delay, Parcel::Message(message.clone()));
        }
    }

    fn post(&mut self, delay_ms: u64, parcel: Parcel) {
        self.sent += 1;
        self.parcels.insert((self.now + delay_ms, self.sent), parcel);
    }

    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.random_range(0..100) < percent
    }

    /// Cuts a node off, both ways.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.cut_pair(id, other);
        }
    }

    pub(crate) fn cut_pair(&mut self, one: NodeId, other: NodeId) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }

    /// Cuts one direction only.
    pub(crate) fn cut_way(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Ends one node's isolation.
    pub(crate) fn rejoin(&mut self, id: NodeId) {
        self.cut.retain(|(from, to)| *from != id && *to != id);
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a member");
        let rng = &mut self.rng;
        node.crash(|under_way| rng.random_range(0..=under_way));
        // Whoever sent it a snapshot hears that the connection broke.
        let owed: Vec<_> = self.owed_reports.extract_if(.., |(to, _), _| *to == id).collect();
        for ((about, _), (to, term)) in owed {
            self.post(5, Parcel::Report { to, about, term, outcome: SnapshotOutcome::Failed });
        }
        self.promises.forget_reads(id);
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        let seed = self.seed ^ self.now;
        self.nodes.get_mut(&id).expect("a member").start(seed);
    }

    /// Tells a node that the process of `peer` is gone, whether it is or not.
    pub(crate) fn tell_gone(&mut self, id: NodeId, peer: NodeId) {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()).expect("it is up");
        core.peer_gone(peer);
        self.serve(id);
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].core.is_some()
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = Status> {
        self.nodes.values().filter_map(|node| node.core.as_ref()).map(raft_core::RawNode::status)
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.nodes[&id].status()
    }

    /// The leader of the latest term that has one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let states = self.nodes.iter().filter_map(|(id, node)| Some((*id, node.core.as_ref()?.soft_state())));
        let leaders = states.filter(|(_, state)| state.role == RoleKind::Leader);
        leaders.max_by_key(|(_, state)| state.term).map(|(id, _)| id)
    }

    /// Waits until one node leads and every member that is up follows it.
    pub(crate) fn settle(&mut self) -> NodeId {
        self.settle_within(10_000)
    }

    /// The same with another patience, in milliseconds.
    pub(crate) fn settle_within(&mut self, ms_max: u64) -> NodeId {
        let settled = self.run_until(ms_max, |cluster| {
            let Some(leader) = cluster.leader() else { return false };
            let Status { term, membership, .. } = cluster.status(leader);
            let mut members = cluster.statuses().filter(|status| membership.contains(status.node));
            members.all(|status| status.term == term && status.leader == Some(leader))
        });
        assert!(settled, "a leader in time: {:#?}", self.statuses().collect::<Vec<_>>());
        self.leader().expect("just seen")
    }

    /// Asks a node that is up to change the members.
    pub(crate) fn change(&mut self, id: NodeId, target: Membership) -> Result<Option<EntryId>, ChangeError> {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()).expect("it is up");
        let begun = core.change_membership(target);
        self.serve(id);
        begun
    }

    /// Asks whoever leads for these members until they are committed, at most `ms_max`; it may be refused for a while.
    pub(crate) fn change_until_done(&mut self, target: &Membership, ms_max: u64) {
        let until = self.now + ms_max;
        loop {
            if let Some(leader) = self.leader()
                && self.change(leader, target.clone()) == Ok(None)
                && !self.status(leader).is_changing
            {
                return;
            }
            assert!(self.now < until, "{target} in time: {:#?}", self.statuses().collect::<Vec<_>>());
            self.run(10);
        }
    }

    /// Asks a node that is up to hand leadership over.
    pub(crate) fn hand_over(&mut self, id: NodeId, to: NodeId) -> Result<(), TransferError> {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()).expect("it is up");
        let begun = core.transfer_leadership(to);
        self.serve(id);
        begun
    }

    pub(crate) fn propose(&mut self, id: NodeId, commands: Vec<Bytes>) -> Result<Proposed, ProposeError> {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()).expect("it is up");
        let proposed = core.propose(commands);
        self.serve(id);
        proposed
    }

    /// One command, to a leader that must take it.
    pub(crate) fn put(&mut self, id: NodeId, command: &str) -> EntryId {
        let proposed = self.propose(id, vec![Bytes::copy_from_slice(command.as_bytes())]);
        proposed.expect("the leader takes it").ids().next().expect("one command")
    }

    /// Asks for a read, if the node is up and takes it; the checks see to its outcome.
    pub(crate) fn read(&mut self, id: NodeId) -> bool {
        self.read_by(id, RawNode::read_index)
    }

    /// Waits until every node that is up, and a member if that is known, has applied `index`.
    pub(crate) fn wait_applied(&mut self, index: Index) {
        let all = self.run_until(20_000, |cluster| {
            let members = cluster.leader().map(|leader| cluster.status(leader).membership);
            let is_meant = |node| members.as_ref().is_none_or(|members| members.contains(node));
            cluster.statuses().all(|status| status.applied_index >= index || !is_meant(status.node))
        });
        assert!(all, "all apply {index}: {:#?}", self.statuses().collect::<Vec<_>>());
    }

    /// Asks for a read that a lease may serve, or one at whatever node it is; else as `read`.
    pub(crate) fn read_by(&mut self, id: NodeId, way: ReadWay) -> bool {
        let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) else { return false };
        let taken = self.promises.ask_read_by(id, core, way);
        self.serve(id);
        taken
    }

    /// Call it whenever; it looks at every entry.
    pub(crate) fn check_log_matching(&self) {
        promises::check_log_matching(&self.nodes);
    }
}
