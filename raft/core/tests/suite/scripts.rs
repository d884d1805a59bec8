//! Scenarios as text: each file in `tests/scripts` is named as a sentence, opens with what must be seen, and holds
//! commands with the output they gave when they were reviewed. `UPDATE_GOLDENFILES=1` records anew.
//!
//! Nothing happens by itself here: time, disks and the network stand still until a command moves them.
//!
//! - `cluster N [setting=value]`: N fresh nodes; settings are those of `Config`.
//! - `tick I [count=N]`, `heartbeat I`, `campaign I`: one node's clock; `campaign` ticks until its timer runs out.
//! - `propose I COMMAND…`, `read I CONTEXT`: a client.
//! - `persist [I…]`: finishes the writes of these nodes (of all).
//! - `deliver`, `drop`, `repeat` `[from=I] [to=I] [kind=NAME]`: what waits in the network arrives, is lost, or arrives
//!   and stays to arrive again.
//! - `settle`: persists and delivers until nothing moves.
//! - `cut I J…`, `heal`: sends between these nodes are lost; all links work again.
//! - `snapshot I`, `transfer`, `fail`: takes a local snapshot; asked-for transfers arrive, or break.
//! - `crash I`, `start I`, `status`, `log I`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::{Command, Context, Runner};
use raft_core::{
    ChunkVerdict, Config, Index, InstallVerdict, Message, NodeId, ReadOutcome, RoleKind, SnapshotOutcome,
    SoftState, Term,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::node::{Done, Node};

/// What a node is before anything happened to it.
const FRESH: SoftState = SoftState { role: RoleKind::Follower, term: Term(0), leader: None };

/// What a command may fail with.
type Failure = Box<dyn Error>;

/// The world of one script.
#[derive(Default)]
struct Script {
    nodes: BTreeMap<NodeId, Node>,
    network: Vec<Message>,
    cut: BTreeSet<(NodeId, NodeId)>,
    transfers: Vec<(NodeId, NodeId, Term)>,
    seen: BTreeMap<NodeId, SoftState>,
    out: String,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let nodes = numbers(command);
        let first = nodes.first().copied().unwrap_or(NodeId(0));
        match command.name.as_str() {
            "cluster" => self.cluster(first.0, command)?,
            "tick" => {
                let count = key(command, "count").map_or(Ok(1), str::parse)?;
                (0..count).for_each(|_| self.core(first).tick_election());
            }
            "heartbeat" => self.core(first).tick_heartbeat(),
            "campaign" => self.campaign(first),
            "propose" => {
                let commands = command.args[1..].iter().map(|arg| Bytes::from(arg.to_string()));
                self.core(first).propose(commands.collect())?;
            }
            "read" => self.core(first).read_index(nodes[1].0)?,
            "persist" => self.persist(&nodes),
            "deliver" => self.deliver(command, false)?,
            "repeat" => self.deliver(command, true)?,
            "drop" => {
                self.take_matching(command)?.iter().try_for_each(|lost| writeln!(self.out, "lost {lost}"))?
            }
            "settle" => self.settle()?,
            "cut" => self.cut(first, &nodes[1..]),
            "heal" => self.cut.clear(),
            "snapshot" => {
                let taken = self.nodes.get_mut(&first).is_some_and(Node::snapshot);
                writeln!(self.out, "{first} {}", if taken { "took a snapshot" } else { "took no snapshot" })?;
            }
            "transfer" => self.transfer()?,
            "fail" => self.fail_transfers(),
            "crash" => {
                self.nodes.get_mut(&first).ok_or("no such node")?.crash(&mut ChaCha8Rng::seed_from_u64(0))
            }
            "start" => self.nodes.get_mut(&first).ok_or("no such node")?.start(0),
            "status" => self.status()?,
            "log" => self.log(first)?,
            other => return Err(format!("no such command: {other}").into()),
        }
        self.serve(false)?;
        Ok(std::mem::take(&mut self.out))
    }
}

/// The positional numbers of a command: nodes, mostly.
fn numbers(command: &Command) -> Vec<NodeId> {
    let mut arguments = command.consume_args();
    std::iter::from_fn(|| arguments.next_pos()).map_while(|text| text.parse().ok()).map(NodeId).collect()
}

fn key<'a>(command: &'a Command, name: &str) -> Option<&'a str> {
    command.consume_args().take_key(name)
}

impl Script {
    fn cluster(&mut self, size: u64, command: &Command) -> Result<(), Failure> {
        let voters: Vec<NodeId> = (1..=size).map(NodeId).collect();
        for id in &voters {
            let mut config = Config::new(*id, voters.iter().copied());
            let mut arguments = command.consume_args();
            while let Some((setting, value)) = arguments.next_key() {
                match setting {
                    "trailing_entries" => config.trailing_entries = value.parse()?,
                    "append_bytes_max" => config.append_bytes_max = value.parse()?,
                    "inflight_messages_max" => config.inflight_messages_max = value.parse()?,
                    "uncommitted_bytes_max" => config.uncommitted_bytes_max = value.parse()?,
                    other => return Err(format!("no such setting here: {other}").into()),
                }
            }
            self.nodes.insert(*id, Node::new(config));
        }
        Ok(())
    }

    fn core(&mut self, id: NodeId) -> &mut raft_core::RawNode {
        let node = self.nodes.get_mut(&id).expect("the script names a node of its cluster");
        node.core.as_mut().expect("the script speaks to a node that is up")
    }

    fn campaign(&mut self, id: NodeId) {
        let before = self.core(id).soft_state();
        while self.core(id).soft_state() == before {
            self.core(id).tick_election();
        }
    }

    /// Takes what every node has to say; finishes the writes of none, or of all.
    fn serve(&mut self, finish_writes: bool) -> Result<(), Failure> {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.serve_one(id, finish_writes))
    }

    fn serve_one(&mut self, id: NodeId, finish_writes: bool) -> Result<(), Failure> {
        let mut done = Done::default();
        let node = self.nodes.get_mut(&id).ok_or("no such node")?;
        // A write begun at 0 takes 1: it is finished only by a look at time 1.
        match finish_writes {
            true => node.serve(1, 0, &mut done),
            false => node.serve(0, 1, &mut done),
        }
        if let Some(core) = &node.core {
            let (now, reason) = (core.soft_state(), core.status().reason);
            if self.seen.insert(id, now).unwrap_or(FRESH) != now {
                writeln!(self.out, "{id} is {} in term {}: {reason}", now.role, now.term)?;
            }
        }
        if let (Some(first), Some(last)) = (done.applied.first(), done.applied.last()) {
            writeln!(self.out, "{id} applies {} to {}", first.last, last.last)?;
        }
        for read in done.reads {
            match read.outcome {
                ReadOutcome::Confirmed(index) => {
                    writeln!(self.out, "{id} confirms read {} at {index}", read.context)?
                }
                ReadOutcome::Refused { .. } => writeln!(self.out, "{id} refuses read {}", read.context)?,
            }
        }
        for (to, term) in done.send_snapshots {
            writeln!(self.out, "{id} wants to send {to} a snapshot")?;
            self.transfers.push((id, to, term));
        }
        let cut = &self.cut;
        self.network
            .extend(done.messages.into_iter().filter(|message| !cut.contains(&(message.from, message.to))));
        Ok(())
    }

    fn persist(&mut self, nodes: &[NodeId]) {
        let ids: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| nodes.is_empty() || nodes.contains(id)).collect();
        for id in ids {
            self.serve_one(id, true).expect("writing to a string cannot fail");
        }
    }

    /// Takes the messages out of the network that a command means.
    fn take_matching(&mut self, command: &Command) -> Result<Vec<Message>, Failure> {
        let node = |name| key(command, name).map(str::parse).transpose().map(|number| number.map(NodeId));
        let (from, to): (Option<NodeId>, Option<NodeId>) = (node("from")?, node("to")?);
        let kind = key(command, "kind");
        let meant = |message: &Message| {
            let name = message.body.to_string();
            from.is_none_or(|from| message.from == from)
                && to.is_none_or(|to| message.to == to)
                && kind.is_none_or(|kind| name.split(' ').next() == Some(kind))
        };
        let (taken, rest) = std::mem::take(&mut self.network).into_iter().partition(meant);
        self.network = rest;
        Ok(taken)
    }

    fn deliver(&mut self, command: &Command, and_keep: bool) -> Result<(), Failure> {
        let taken = self.take_matching(command)?;
        if and_keep {
            self.network.extend(taken.iter().cloned());
        }
        taken.into_iter().try_for_each(|message| self.arrive(message))
    }

    fn arrive(&mut self, message: Message) -> Result<(), Failure> {
        writeln!(self.out, "{message}")?;
        let to = message.to;
        if self.nodes.get(&to).is_some_and(|node| node.core.is_some()) {
            self.core(to).step(message);
            self.serve_one(to, false)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        loop {
            self.serve(true)?;
            let arriving = std::mem::take(&mut self.network);
            if arriving.is_empty() {
                return Ok(());
            }
            arriving.into_iter().try_for_each(|message| self.arrive(message))?;
        }
    }

    fn cut(&mut self, one: NodeId, others: &[NodeId]) {
        for other in others {
            self.cut.insert((one, *other));
            self.cut.insert((*other, one));
        }
    }

    fn transfer(&mut self) -> Result<(), Failure> {
        for (from, to, term) in std::mem::take(&mut self.transfers) {
            let file = self.nodes[&from].disk.file.clone().ok_or("there is no snapshot to send")?;
            let last = file.meta.last;
            let verdict = self.core(to).chunk_seen(term, from, last);
            writeln!(self.out, "{from}→{to} snapshot up to {last}: {verdict:?}")?;
            let node = self.nodes.get_mut(&to).ok_or("no such node")?;
            if verdict == ChunkVerdict::Wanted && node.receive(file) == InstallVerdict::Installed {
                self.serve_one(to, true)?;
            }
            self.core(from).snapshot_report(to, term, SnapshotOutcome::Installed(last.index));
        }
        Ok(())
    }

    fn fail_transfers(&mut self) {
        for (from, to, term) in std::mem::take(&mut self.transfers) {
            self.core(from).snapshot_report(to, term, SnapshotOutcome::Failed);
        }
    }

    fn status(&mut self) -> Result<(), Failure> {
        for (id, node) in &self.nodes {
            let Some(core) = &node.core else {
                writeln!(self.out, "{id} is down")?;
                continue;
            };
            let status = core.status();
            let (role, term, last) = (status.role, status.term, status.last);
            let (commit, persisted, first) =
                (status.commit_index, status.persisted_index, status.first_index);
            writeln!(
                self.out,
                "{id} {role} term={term} first={first} last={last} commit={commit} persisted={persisted}"
            )?;
            for peer in status.peers {
                let (node, progress, matched, next) =
                    (peer.node, peer.progress, peer.match_index, peer.next_index);
                let flying = peer.inflight_messages;
                writeln!(self.out, "  {node} {progress} match={matched} next={next} inflight={flying}")?;
            }
        }
        Ok(())
    }

    fn log(&mut self, id: NodeId) -> Result<(), Failure> {
        let status = self.core(id).status();
        let terms = (status.first_index.0..=status.last.index.0).map(|index| {
            let term = self.core(id).term_at(Index(index)).expect("it is in the log");
            format!("{index}@{term}")
        });
        let line = terms.collect::<Vec<_>>().join(" ");
        writeln!(self.out, "{id}: {line}")?;
        Ok(())
    }
}

#[test]
fn every_script_gives_the_output_that_was_reviewed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the scripts are found");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(text.starts_with('#'), "{} opens with what must be seen", file.display());
        goldenscript::run(&mut Script::default(), &file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
