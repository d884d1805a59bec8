//! The nodes: processes of the shipped program, which are started, killed and asked how they are.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use conf::{Config, NodeAddress, loopback_ports};
use proto::admin::change_member_request::Change;
use proto::admin::{AdminStub, ChangeMemberRequest, StatusReply, StatusRequest};
use rand::SeedableRng;
use rand::rngs::{ChaCha8Rng, SysRng};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Setting;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at a node's status.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// How long a node may take to say how it is.
const STATUS_WITHIN: Duration = Duration::from_millis(300);

/// A cluster. Dropping it kills its nodes and removes their data.
pub(crate) struct Nodes {
    program: PathBuf,
    children: Vec<Option<Child>>,
    stubs: Vec<AdminStub>,
    reactor: Reactor,
    config: Config,
    /// The cluster file's text as it was at the start.
    founders: String,
    folder: TempDir,
}

/// Looks until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut random = ChaCha8Rng::try_from_rng(&mut SysRng).context("the system gives no random numbers")?;
    loopback_ports::find(count, &mut random).with_context(|| format!("no {count} free ports"))
}

impl Nodes {
    /// Starts so many nodes and waits until they have a leader.
    pub(crate) fn start(setting: &Setting, count: usize) -> anyhow::Result<Nodes> {
        let folder = tempfile::Builder::new().prefix("cluster-bench-").tempdir_in(&setting.dir)?;
        let file = folder.path().join("cluster.conf");
        File::create(&file)?;
        let mut chosen = Vec::new();
        for (id, port) in (0..).zip(free_ports(count)?) {
            chosen.push(NodeAddress { id, host: "127.0.0.1".to_owned(), port, listen: None });
        }
        conf::write_nodes(&file, &chosen, "cluster-bench")?;
        let (config, founders) = (Config::load(&file)?, fs::read_to_string(&file)?);
        let reactor = Reactor::start("bench-reactor", ReactorConfig::default())?;
        let mut nodes = Nodes {
            program: setting.program.clone(),
            children: Vec::new(),
            stubs: Vec::new(),
            reactor,
            config,
            founders,
            folder,
        };
        for id in 0..count {
            nodes.know(id);
            nodes.start_node(id, &[])?;
        }
        nodes.settled()?;
        Ok(nodes)
    }

    fn know(&mut self, id: usize) {
        let backoff_max = Duration::from_millis(20);
        let config = ChannelConfig { backoff_max, ..ChannelConfig::default() };
        let channel = RpcChannel::new(&self.reactor, &self.address(id), config);
        self.stubs.push(AdminStub::new(channel));
        self.children.push(None);
    }

    fn address(&self, id: usize) -> String {
        let node = self.config.nodes.iter().find(|node| node.id == id as u64);
        node.expect("the cluster file names every node that runs").address()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.config.addresses()
    }

    /// Starts a node; it is not waited for.
    pub(crate) fn start_node(&mut self, id: usize, more: &[&str]) -> anyhow::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("node{id}.log")))?;
        let mut command = Command::new(&self.program);
        command.args(["--node", &id.to_string(), "--file"]).arg(self.folder.path().join("cluster.conf"));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = command.spawn();
        self.children[id] = Some(started.with_context(|| format!("cannot run {}", self.program.display()))?);
        Ok(())
    }

    /// Names a further node in the file, beside those of the start, and starts it, to be added. Returns its number.
    pub(crate) fn join(&mut self) -> anyhow::Result<usize> {
        let (id, path) = (self.children.len(), self.folder.path().join("cluster.conf"));
        let port = free_ports(1)?[0];
        fs::write(&path, format!("{}node{id}ip=127.0.0.1\nnode{id}port={port}\n", self.founders))?;
        self.config = Config::load(&path)?;
        self.know(id);
        self.start_node(id, &["--join"])?;
        eventually("the new node answers", || self.status(id)).with_context(|| self.last_words())?;
        Ok(id)
    }

    /// Gives the leader an order about a member, until it takes it.
    pub(crate) fn change(&self, node: usize, change: Change) -> anyhow::Result<()> {
        let address = self.address(node);
        let request = ChangeMemberRequest { node: node as u64, change: change.into(), address };
        eventually("the leader takes the change", || {
            let leader = self.leader()?;
            let reply = self.stubs[leader].change_member(&RpcController::new(), &request).ok()?;
            reply.refusal.is_empty().then_some(())
        })
    }

    pub(crate) fn signal(&self, id: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.children[id].as_ref().context("the node does not run")?;
        let pid = Pid::from_child(child);
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until the node's process has ended.
    pub(crate) fn reap(&mut self, id: usize) -> anyhow::Result<()> {
        let mut child = self.children[id].take().context("the node does not run")?;
        child.wait()?;
        Ok(())
    }

    /// Ends the node for good and removes its data.
    pub(crate) fn discard(&mut self, id: usize) -> anyhow::Result<()> {
        self.signal(id, Signal::KILL)?;
        self.reap(id)?;
        let data = self.folder.path().join(format!("cluster-data/node{id}"));
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))
    }

    pub(crate) fn status(&self, id: usize) -> Option<StatusReply> {
        let controller = RpcController::new();
        controller.set_timeout(STATUS_WITHIN);
        self.stubs[id].status(&controller, &StatusRequest {}).ok()
    }

    fn running(&self) -> Vec<usize> {
        (0..self.children.len()).filter(|id| self.children[*id].is_some()).collect()
    }

    /// The node that leads the latest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let replies = self.running().into_iter().filter_map(|id| self.status(id));
        let leader = replies.filter(|reply| reply.role == "leader").max_by_key(|reply| reply.term)?;
        usize::try_from(leader.node).ok()
    }

    /// Waits until every running node follows one leader and has applied what that had committed. Returns the leader.
    pub(crate) fn settled(&self) -> anyhow::Result<usize> {
        self.all_follow(&self.running())
    }

    /// The same without a node that is no member yet.
    pub(crate) fn settled_without(&self, stranger: usize) -> anyhow::Result<usize> {
        let members: Vec<usize> = self.running().into_iter().filter(|id| *id != stranger).collect();
        self.all_follow(&members)
    }

    /// What each node said last, for whoever waited for one in vain: the logs go with the folder.
    fn last_words(&self) -> String {
        let words = (0..self.children.len()).map(|id| {
            let log = fs::read_to_string(self.folder.path().join(format!("node{id}.log")));
            let log = log.unwrap_or_default();
            format!("node {id} said last: {}", log.lines().last().unwrap_or("nothing"))
        });
        words.collect::<Vec<_>>().join("\n")
    }

    fn all_follow(&self, members: &[usize]) -> anyhow::Result<usize> {
        let leader = eventually("a leader that all follow", || {
            let leader = self.leader()?;
            let term = self.status(leader)?.term;
            let follows = |id: usize| {
                self.status(id).is_some_and(|reply| {
                    reply.has_leader && reply.leader == leader as u64 && reply.term == term
                })
            };
            members.iter().all(|id| follows(*id)).then_some(leader)
        })
        .with_context(|| self.last_words())?;
        let committed = eventually("the leader answers", || self.status(leader))?.commit;
        for &id in members {
            eventually("a node catches up", || self.status(id).filter(|reply| reply.applied >= committed))?;
        }
        Ok(leader)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // Both fail only for a process that has ended and been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.reactor.stop(Duration::ZERO);
    }
}
