//! A cluster of nodes in the foreground mode, each a process that the test can kill, stop, wake and start again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clerk::{Clerk, ClerkConfig};
use conf::{Config, NodeAddress, write_nodes};
use proto::admin::{AdminStub, StatusReply, StatusRequest};
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{RngExt, SeedableRng};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController};
use rustix::process::Signal;
use tempfile::TempDir;

use super::bad_disk::BadDisks;
use super::lab::{self, Lab};
use super::network::Network;
use super::process::{Process, raft_core_run, threads_are_stopped};
use super::wait::{LONG, eventually, until};
use super::wires::Wires;

/// One cluster at a time.
static TURN: Mutex<()> = Mutex::new(());
/// Ports that some test of this program was given; they are never given again.
static PORTS_GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// How long a node may take to say how it is; a stopped one never does.
const STATUS_WITHIN: Duration = Duration::from_millis(500);

pub struct Cluster {
    nodes: Vec<Option<Process>>,
    /// What each node is told of the others; all the same, unless there are wires between them.
    files: Vec<PathBuf>,
    network: Option<Box<dyn Network>>,
    disks: Option<BadDisks>,
    stubs: Vec<AdminStub>,
    reactor: Reactor,
    config: Config,
    folder: TempDir,
    /// The last field: the next cluster begins when everything above is gone.
    _turn: MutexGuard<'static, ()>,
}

/// Takes the machine for a cluster that the test starts in its own way.
pub fn take_turn() -> MutexGuard<'static, ()> {
    // A test that failed has poisoned the lock, and has nothing to do with the next one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ports nobody listens on, below the range from which outgoing connections take theirs.
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut given = PORTS_GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = ChaCha8Rng::try_from_rng(&mut SysRng).unwrap();
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = rng.random_range(10_000..30_000);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            ports.push(port);
        }
    }
    ports
}

impl Cluster {
    /// Starts `count` nodes with these lines in their configuration, and waits for a leader.
    pub fn start(count: usize, settings: &str) -> Cluster {
        let mut cluster = Cluster::prepare(count, settings);
        (0..count).for_each(|id| cluster.start_node(id));
        cluster.leader();
        cluster
    }

    /// A cluster of which no node runs yet.
    pub fn prepare(count: usize, settings: &str) -> Cluster {
        let turn = take_turn();
        let at = free_ports(count).into_iter().map(|port| ("127.0.0.1".to_owned(), port));
        Cluster::prepare_at(at.collect(), settings, turn)
    }

    fn prepare_at(places: Vec<(String, u16)>, settings: &str, turn: MutexGuard<'static, ()>) -> Cluster {
        let count = places.len();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        fs::write(&file, settings).unwrap();
        let node = |(id, (host, port))| NodeAddress { id, host, port, listen: None };
        let chosen: Vec<NodeAddress> = (0..).zip(places).map(node).collect();
        write_nodes(&file, &chosen, "process-test").unwrap();
        let config = Config::load(&file).unwrap();
        let reactor = Reactor::start("test-reactor", ReactorConfig::default()).unwrap();
        let stub = |address: &String| AdminStub::new(RpcChannel::new(&reactor, address, channel_config()));
        let stubs = config.addresses().iter().map(stub).collect();
        let nodes = (0..count).map(|_| None).collect();
        let files = vec![file; count];
        Cluster { nodes, files, network: None, disks: None, stubs, reactor, config, folder, _turn: turn }
    }

    /// The same with nodes that reach each other through a network which can be cut; clients reach all of them. Inside of
    /// a [`lab`] it is the system's.
    pub fn start_on_network(count: usize, settings: &str) -> Cluster {
        if lab::is_inside() {
            Cluster::start_in_lab(count, settings)
        } else {
            Cluster::start_wired(count, settings)
        }
    }

    fn start_wired(count: usize, settings: &str) -> Cluster {
        let mut cluster = Cluster::prepare(count, settings);
        let real: Vec<u16> = cluster.config.nodes.iter().map(|node| node.port).collect();
        let wires = Wires::lay(&real);
        for (id, own_port) in real.iter().enumerate() {
            let file = cluster.folder.path().join(format!("seen-by-{id}.conf"));
            fs::write(&file, settings).unwrap();
            let mut seen = cluster.config.nodes.clone();
            for node in &mut seen {
                let other = usize::try_from(node.id).unwrap();
                node.port = if other == id { *own_port } else { wires.port(id, other) };
            }
            write_nodes(&file, &seen, "process-test").unwrap();
            cluster.files[id] = file;
        }
        cluster.network = Some(Box::new(wires));
        (0..count).for_each(|id| cluster.start_node(id));
        cluster.leader();
        cluster
    }

    fn start_in_lab(count: usize, settings: &str) -> Cluster {
        let turn = take_turn();
        let lab = Lab::build(count);
        let places = (0..count).map(|node| (Lab::host(node), lab::PORT)).collect();
        let mut cluster = Cluster::prepare_at(places, settings, turn);
        cluster.network = Some(Box::new(lab));
        (0..count).for_each(|id| cluster.start_node(id));
        cluster.leader();
        cluster
    }

    /// The same on disks that stall and fail when they are told to.
    pub fn start_on_bad_disks(count: usize, settings: &str) -> Cluster {
        let mut cluster = Cluster::prepare(count, settings);
        cluster.disks = Some(BadDisks::build(cluster.folder.path()));
        (0..count).for_each(|id| cluster.start_node(id));
        cluster.leader();
        cluster
    }

    /// What the nodes of a cluster on bad disks write to.
    pub fn disks(&self) -> &BadDisks {
        self.disks.as_ref().expect("the cluster is on bad disks")
    }

    /// What the nodes of a cluster on a network reach each other through.
    pub fn network(&self) -> &dyn Network {
        self.network.as_deref().expect("the cluster is on a network")
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("test.conf")
    }

    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    pub fn addresses(&self) -> Vec<String> {
        self.config.addresses()
    }

    pub fn data_dir(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("test-data/node{id}"))
    }

    pub fn address(&self, id: usize) -> String {
        self.config.nodes[id].address()
    }

    pub fn size(&self) -> usize {
        self.config.nodes.len()
    }

    /// A clerk that knows all nodes.
    pub fn clerk(&self) -> Clerk {
        let config = ClerkConfig { operation_timeout: Duration::from_secs(30), ..ClerkConfig::default() };
        Clerk::connect(&self.config.addresses(), config).unwrap()
    }

    pub fn start_node(&mut self, id: usize) {
        self.start_with(id, &[]);
    }

    fn start_with(&mut self, id: usize, more: &[&str]) {
        assert!(self.nodes[id].is_none(), "node {id} runs already");
        let mut command = raft_core_run();
        command.args(["--node", &id.to_string(), "--file"]).arg(&self.files[id]).args(more);
        command.arg("--data-dir").arg(self.folder.path().join("test-data"));
        if let Some(disks) = &self.disks {
            disks.put_under(&mut command, id);
        }
        if let Some(network) = &self.network {
            command = network.start_here(id, command);
        }
        self.nodes[id] = Some(Process::start(command, &self.folder.path().join(format!("node{id}.log"))));
    }

    /// Starts a node whose data is in a file system of its own, of this size, which is gone when the node is. Its directory
    /// is returned as others can reach it.
    pub fn start_in_small_file_system(&mut self, id: usize, bytes: u64) -> PathBuf {
        assert!(self.nodes[id].is_none(), "node {id} runs already");
        let directory = self.data_dir(id);
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!(
            "mount -t tmpfs -o size={bytes},mode=700 tmpfs '{}' && exec \"$@\"",
            directory.display()
        ));
        command.arg("sh").arg(raft_core_run().get_program());
        command.args(["--node", &id.to_string(), "--file"]).arg(self.file());
        command.stdin(Stdio::null());
        let node = Process::start(command, &self.folder.path().join(format!("node{id}.log")));
        let seen = PathBuf::from(format!("/proc/{}/root{}", node.pid(), directory.display()));
        self.nodes[id] = Some(node);
        seen
    }

    /// Names a further node in the file and starts it, to be added. Returns its number.
    pub fn join_node(&mut self) -> usize {
        let id = self.nodes.len();
        let mut file = fs::OpenOptions::new().append(true).open(self.file()).unwrap();
        writeln!(file, "node{id}ip=127.0.0.1\nnode{id}port={}", free_ports(1)[0]).unwrap();
        self.config = Config::load(&self.file()).unwrap();
        let channel = RpcChannel::new(&self.reactor, &self.address(id), channel_config());
        self.stubs.push(AdminStub::new(channel));
        self.nodes.push(None);
        self.files.push(self.file());
        self.start_joining(id);
        id
    }

    /// Starts the node as one that is to be added.
    pub fn start_joining(&mut self, id: usize) {
        self.start_with(id, &["--join"]);
    }

    /// `kill -9`.
    pub fn kill_node(&mut self, id: usize) {
        self.nodes[id].take().expect("the node runs").kill();
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn stop_node(&mut self, id: usize) {
        let mut node = self.nodes[id].take().expect("the node runs");
        node.signal(Signal::TERM);
        let status = node.ended(LONG);
        assert!(status.success(), "node {id} did not stop in order: {status}");
    }

    /// Waits for a node to end by itself: how, and what it has said.
    pub fn wait_for_end(&mut self, id: usize) -> (ExitStatus, String) {
        let mut node = self.nodes[id].take().expect("the node runs");
        (node.ended(LONG), node.log())
    }

    pub fn signal(&self, id: usize, signal: Signal) {
        self.nodes[id].as_ref().expect("the node runs").signal(signal);
    }

    /// SIGSTOP, and waits until every thread has stopped: until then a node still answers.
    pub fn put_to_sleep(&self, id: usize) {
        self.signal(id, Signal::STOP);
        let pid = self.nodes[id].as_ref().expect("the node runs").pid();
        until(&format!("node {id} sleeps"), LONG, || threads_are_stopped(pid));
    }

    /// What the node has said, in all its lives.
    pub fn log(&self, id: usize) -> String {
        self.nodes[id].as_ref().expect("the node runs").log()
    }

    pub fn status(&self, id: usize) -> Option<StatusReply> {
        let controller = RpcController::new();
        controller.set_timeout(STATUS_WITHIN);
        self.stubs[id].status(&controller, &StatusRequest {}).ok()
    }

    /// The node that leads, waited for.
    pub fn leader(&self) -> usize {
        self.leader_among(&(0..self.size()).collect::<Vec<_>>())
    }

    /// The node that leads among these, waited for: the one of the highest term, which all of them that answer have
    /// come to know.
    pub fn leader_among(&self, ids: &[usize]) -> usize {
        eventually(&format!("a leader among {ids:?}"), LONG, || {
            let replies: Vec<StatusReply> = ids.iter().filter_map(|id| self.status(*id)).collect();
            let leader =
                replies.iter().filter(|reply| reply.role == "leader").max_by_key(|reply| reply.term)?;
            let knows = |reply: &&StatusReply| {
                reply.has_leader && reply.leader == leader.node && reply.term == leader.term
            };
            let follow = replies.iter().filter(knows).count();
            (follow > self.size() / 2).then(|| usize::try_from(leader.node).unwrap())
        })
    }

    /// Every node but this one.
    pub fn others(&self, id: usize) -> Vec<usize> {
        (0..self.size()).filter(|other| *other != id).collect()
    }

    /// Waits until the node has applied at least up to `index`.
    pub fn wait_until_applied(&self, id: usize, index: u64) {
        until(&format!("node {id} applies {index}"), LONG, || {
            self.status(id).is_some_and(|reply| reply.applied >= index)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        self.reactor.stop(Duration::ZERO);
    }
}

/// Reconnects soon: a node that was started again is wanted at once.
pub fn channel_config() -> ChannelConfig {
    ChannelConfig { backoff_max: Duration::from_millis(50), ..ChannelConfig::default() }
}
