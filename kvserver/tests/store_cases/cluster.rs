//! A cluster in one thread on a virtual clock: messages take time, are lost and overtake each other, links are cut,
//! nodes crash, sleep and come back, all from one seed.
//!
//! Time goes in small steps. In each, every node that is awake does what its threads would do: takes what arrived, ticks
//! when a tick is due, and gives each of its rooms one turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvserver::Intake;
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{RawNode, Status};
use raft::net::Inbox;
use raft::storage::disk::list_files;
use raft::storage::memory::{MemoryDisk, MemoryFiles, Unsynced};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::virtual_node::{Network, Parcel, Settings, VirtualClock, VirtualNode, of_this_pass};

/// One step of time.
pub(crate) const STEP_US: u64 = 200;

/// What a node's tickers wait for.
const ELECTION_TICK_US: u64 = 10_000;
const HEARTBEAT_US: u64 = 25_000;

/// What a client asks of a node when it arrives there.
pub(crate) type Request = Box<dyn FnOnce(&Intake)>;

/// One machine: its disk, and the node that lives on it.
struct Machine {
    files: MemoryFiles,
    node: Option<VirtualNode>,
    lives: u64,
    /// The process is stopped: nothing of it moves.
    is_paused: bool,
    /// Until then its snapshotter waits for its disk.
    snapshotter_waits_until: u64,
}

/// The cluster.
pub(crate) struct Cluster {
    settings: Settings,
    machines: BTreeMap<u64, Machine>,
    /// Where the nodes leave what they send.
    network: Network,
    /// What is on its way, by when it arrives.
    on_the_way: BTreeMap<(u64, u64), Parcel>,
    /// The same of what clients ask of whom.
    requests: BTreeMap<(u64, u64), (u64, Request)>,
    sent: u64,
    /// Who cannot reach whom.
    cut: BTreeSet<(u64, u64)>,
    /// Lost, in a thousand.
    pub(crate) loss_permille: u64,
    /// The shortest and the longest way of a message.
    pub(crate) delay_us: (u64, u64),
    /// Of a thousand chunks of snapshots this many arrive with another byte in them.
    pub(crate) spoilt_permille: u64,
    /// How many did.
    pub(crate) spoilt: u64,
    /// The bytes of snapshots that arrived from each node.
    pub(crate) chunk_bytes: BTreeMap<u64, usize>,
    /// How long a snapshotter waits for its disk after each turn.
    pub(crate) snapshotter_waits_us: u64,
    /// Whether the tickers tick.
    pub(crate) ticks: bool,
    /// Whether the apply-loops take anything out of their queues.
    pub(crate) applies: bool,
    now_us: u64,
    pub(crate) random: ChaCha8Rng,
}

/// The settings that most cases run with.
pub(crate) fn settings(nodes: u64, seed: u64) -> Settings {
    Settings {
        nodes,
        snapshot_log_bytes: 4_000,
        trailing_entries: 4,
        segment_bytes: 4 << 10,
        election_ms: (150, 300),
        lease_reads: false,
        clock: VirtualClock::default(),
        seed: of_this_pass(seed),
    }
}

impl Cluster {
    pub(crate) fn start(settings: Settings) -> Cluster {
        println!("seed {}", settings.seed);
        let machine = |id| {
            let files = MemoryFiles::new();
            (id, Machine { files, node: None, lives: 0, is_paused: false, snapshotter_waits_until: 0 })
        };
        let mut cluster = Cluster {
            machines: (0..settings.nodes).map(machine).collect(),
            random: ChaCha8Rng::seed_from_u64(settings.seed),
            settings,
            network: Network::default(),
            on_the_way: BTreeMap::new(),
            requests: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            loss_permille: 0,
            delay_us: (100, 400),
            spoilt_permille: 0,
            spoilt: 0,
            chunk_bytes: BTreeMap::new(),
            snapshotter_waits_us: 0,
            ticks: true,
            applies: true,
            now_us: 0,
        };
        cluster.ids().into_iter().for_each(|id| cluster.restart(id));
        cluster
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    /// The rooms of a node that is up.
    pub(crate) fn node(&self, id: u64) -> Option<&VirtualNode> {
        self.machines[&id].node.as_ref()
    }

    /// Sends what a client asks of a node: it may be lost, it takes its time.
    pub(crate) fn request(&mut self, id: u64, request: Request) {
        if !self.is_chosen(self.loss_permille) {
            self.sent += 1;
            let at = self.now_us + self.random.random_range(self.delay_us.0..=self.delay_us.1);
            self.requests.insert((at, self.sent), (id, request));
        }
    }

    /// Draws whether something befalls that befalls so many of a thousand.
    pub(crate) fn is_chosen(&mut self, permille: u64) -> bool {
        self.random.random_range(0..1_000) < permille
    }

    pub(crate) fn intake(&self, id: u64) -> Option<Arc<Intake>> {
        self.node(id).map(|node| Arc::clone(&node.parts.intake))
    }

    pub(crate) fn status(&self, id: u64) -> Option<Status> {
        self.node(id)?.parts.node.with_core(|core| core.status()).ok()
    }

    /// The node that leads in the latest term, if one does.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads =
            |id: &u64| self.status(*id).filter(|status| status.leader.map(|leader| leader.0) == Some(*id));
        let leaders = self.ids().into_iter().filter_map(|id| leads(&id).map(|status| (status.term, id)));
        leaders.max().map(|(_, id)| id)
    }

    /// The sizes of a node's files, logs and snapshots apart, in bytes.
    pub(crate) fn disk_bytes(&self, id: u64, beginning: &str) -> u64 {
        let listed =
            list_files(&mut MemoryDisk::new(&self.machines[&id].files)).expect("no fault was planned");
        listed
            .iter()
            .filter(|entry| entry.file.as_str().starts_with(beginning))
            .map(|entry| entry.bytes)
            .sum()
    }

    /// Lets time pass until `is_so`. Panics when that takes longer than `us`.
    pub(crate) fn until(&mut self, us: u64, what: &str, mut is_so: impl FnMut(&mut Cluster) -> bool) {
        let end = self.now_us + us;
        while !is_so(self) {
            assert!(self.now_us < end, "{what}: not within {us} µs");
            self.step();
        }
    }

    pub(crate) fn wait_for_leader(&mut self) -> u64 {
        let mut leader = None;
        self.until(3_000_000, "a leader", |cluster| {
            leader = cluster.leader();
            leader.is_some_and(|id| cluster.status(id).is_some_and(|status| status.commit_index.0 > 0))
        });
        leader.expect("there is one")
    }

    pub(crate) fn pass(&mut self, us: u64) {
        let end = self.now_us + us;
        while self.now_us < end {
            self.step();
        }
    }

    /// Cuts the cluster in two: nobody of one side reaches anybody of the other.
    pub(crate) fn partition(&mut self, side: &[u64]) {
        self.heal();
        for from in self.ids() {
            for to in self.ids() {
                if side.contains(&from) != side.contains(&to) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The power of this node fails; what was not synced is lost.
    pub(crate) fn crash(&mut self, id: u64) {
        let machine = self.machine(id);
        machine.node = None;
        machine.files.lose_power(Unsynced::Lost, 0);
        self.on_the_way.retain(|_, parcel| !concerns(parcel, id));
        self.network.lock().unwrap().retain(|parcel| !concerns(parcel, id));
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let (settings, network) = (self.settings.clone(), Arc::clone(&self.network));
        let machine = self.machine(id);
        machine.lives += 1;
        machine.node = Some(VirtualNode::start(id, machine.lives, &settings, &machine.files, &network));
    }

    pub(crate) fn pause(&mut self, id: u64, is_paused: bool) {
        self.machine(id).is_paused = is_paused;
    }

    fn machine(&mut self, id: u64) -> &mut Machine {
        self.machines.get_mut(&id).expect("every id has its machine")
    }

    /// One step of time.
    pub(crate) fn step(&mut self) {
        self.now_us += STEP_US;
        self.settings.clock.set_us(self.now_us);
        self.deliver();
        let (now, ticks) = (self.now_us, self.ticks);
        for machine in self.machines.values_mut().filter(|machine| !machine.is_paused) {
            let Some(node) = &mut machine.node else { continue };
            if ticks && now.is_multiple_of(ELECTION_TICK_US) {
                node.parts.node.with_core(RawNode::tick_election).expect("no node stops");
            }
            if ticks && now.is_multiple_of(HEARTBEAT_US) {
                node.parts.node.with_core(RawNode::tick_heartbeat).expect("no node stops");
            }
            node.parts.intake.end_of_turn();
            // One operation of the disk or one turn of the writer: a crash finds batches half way.
            node.step_writer();
            node.parts.applier.turn();
            if self.applies {
                node.step_apply_loop();
            }
            if now >= machine.snapshotter_waits_until {
                node.step_snapshotter();
                machine.snapshotter_waits_until = now + self.snapshotter_waits_us;
            }
        }
        self.send();
    }

    /// Sends what the nodes left: it may be lost, it takes its time.
    fn send(&mut self) {
        let parcels = std::mem::take(&mut *self.network.lock().unwrap());
        for parcel in parcels {
            if self.is_chosen(self.loss_permille) || self.cut.contains(&ends(&parcel)) {
                lose(parcel);
                continue;
            }
            let at = self.now_us + self.random.random_range(self.delay_us.0..=self.delay_us.1);
            self.sent += 1;
            self.on_the_way.insert((at, self.sent), parcel);
        }
    }

    fn deliver(&mut self) {
        while let Some(due) = self.requests.first_entry().filter(|request| request.key().0 <= self.now_us) {
            let (id, request) = due.remove();
            if let Some(intake) = self.intake(id) {
                request(&intake);
            }
        }
        let later = self.on_the_way.split_off(&(self.now_us + 1, 0));
        for (key, parcel) in std::mem::replace(&mut self.on_the_way, later) {
            let (from, to) = ends(&parcel);
            let Some(machine) = self.machines.get(&to).filter(|_| !self.cut.contains(&(from, to))) else {
                lose(parcel);
                continue;
            };
            if machine.is_paused {
                // It waits in the socket.
                self.on_the_way.insert((self.now_us + STEP_US, key.1), parcel);
                continue;
            }
            match (&machine.node, parcel) {
                (None, parcel) => lose(parcel),
                (Some(node), Parcel::Raft(message)) => node.parts.node.receive(message),
                (Some(node), Parcel::Chunk { from, to, mut request, done }) => {
                    *self.chunk_bytes.entry(from.0).or_default() += request.data.len();
                    let is_spoilt = self.random.random_range(0..1_000) < self.spoilt_permille;
                    if is_spoilt {
                        self.spoilt += 1;
                        spoil(&mut request, &mut self.random);
                    }
                    let network = Arc::clone(&self.network);
                    let answer = Box::new(move |answer: InstallSnapshotResponse| {
                        assert!(!is_spoilt || !answer.accepted, "a spoilt chunk is refused");
                        let parcel = Parcel::ChunkAnswer { from: to, to: from, done, answer };
                        network.lock().unwrap().push(parcel);
                    });
                    node.receive_chunk(from, request, answer);
                }
                (Some(_), Parcel::ChunkAnswer { done, answer, .. }) => done(Some(answer)),
            }
        }
    }
}

/// Another byte in the middle of a chunk.
fn spoil(request: &mut InstallSnapshotRequest, random: &mut ChaCha8Rng) {
    let mut data = request.data.to_vec();
    let place = random.random_range(0..data.len());
    data[place] ^= 1 << random.random_range(0..8);
    request.data = data.into();
}

/// Who sends it, to whom.
fn ends(parcel: &Parcel) -> (u64, u64) {
    match parcel {
        Parcel::Raft(message) => (message.from.0, message.to.0),
        Parcel::Chunk { from, to, .. } | Parcel::ChunkAnswer { from, to, .. } => (from.0, to.0),
    }
}

fn concerns(parcel: &Parcel, id: u64) -> bool {
    let (from, to) = ends(parcel);
    from == id || to == id
}

/// It will not arrive. Who sends a chunk learns that, as the network layer tells it.
fn lose(parcel: Parcel) {
    if let Parcel::Chunk { done, .. } | Parcel::ChunkAnswer { done, .. } = parcel {
        done(None);
    }
}
