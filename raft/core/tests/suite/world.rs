//! The world of one script: nodes, a network and disks that stand still until a command moves them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use goldenscript::Command;
use raft_core::{
    ChunkVerdict, Config, Index, InstallVerdict, Membership, Message, NodeId, ReadOutcome, RoleKind,
    SnapshotOutcome, SoftState, Status, Term,
};

use crate::node::{Done, File, Node};

/// What a node is before anything happened to it.
const FRESH: SoftState = SoftState { role: RoleKind::Follower, term: Term(0), leader: None };

/// More rounds of messages than any scenario settles in; past it the nodes talk for ever.
const SETTLE_ROUNDS_MAX: usize = 200;

/// More ticks than any timer runs.
const TICKS_MAX: usize = 1000;

/// What a command may fail with.
pub(crate) type Failure = Box<dyn Error>;

/// A snapshot on its way.
#[derive(Clone, Debug)]
struct Transfer {
    from: NodeId,
    to: NodeId,
    term: Term,
    file: File,
}

/// What a command means of all that is on its way: what matches each part that is given.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<String>,
    /// Only this one of those that match, counted from 1.
    nth: Option<usize>,
}

impl Selector {
    pub(crate) fn of(command: &Command) -> Result<Selector, Failure> {
        let mut arguments = command.consume_args();
        let from = arguments.take_key("from").map(str::parse).transpose()?.map(NodeId);
        let to = arguments.take_key("to").map(str::parse).transpose()?.map(NodeId);
        let kind = arguments.take_key("kind").map(str::to_owned);
        let nth = arguments.take_key("nth").map(str::parse).transpose()?;
        arguments.reject_next()?;
        Ok(Selector { from, to, kind, nth })
    }

    fn ends_match(&self, from: NodeId, to: NodeId) -> bool {
        self.from.is_none_or(|meant| meant == from) && self.to.is_none_or(|meant| meant == to)
    }

    fn matches(&self, message: &Message) -> bool {
        let name = message.body.to_string();
        self.ends_match(message.from, message.to)
            && self.kind.as_ref().is_none_or(|kind| name.split(' ').next() == Some(kind))
    }
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    network: Vec<Message>,
    cut: BTreeSet<(NodeId, NodeId)>,
    transfers: Vec<Transfer>,
    /// Received snapshots whose marker is not durable yet: whom to tell when it is.
    owed_reports: Vec<(NodeId, Index, NodeId, Term)>,
    seen: BTreeMap<NodeId, SoftState>,
    pub(crate) out: String,
}

impl World {
    pub(crate) fn found(&mut self, size: u64, adjust: impl Fn(&mut Config)) {
        let voters: Vec<NodeId> = (1..=size).map(NodeId).collect();
        for id in &voters {
            let mut config = Config::new(*id, voters.iter().copied());
            adjust(&mut config);
            self.nodes.insert(*id, Node::new(config));
        }
    }

    /// A node with an empty disk, which knows of no members.
    pub(crate) fn join(&mut self, id: NodeId) {
        self.nodes.insert(id, Node::new(Config::new(id, [])));
    }

    pub(crate) fn change(
        &mut self,
        id: NodeId,
        voters: &[NodeId],
        learners: Vec<NodeId>,
    ) -> Result<(), Failure> {
        let target = Membership::new(voters.iter().copied()).with_learners(learners);
        match self.core(id)?.change_membership(target) {
            Ok(Some(entry)) => writeln!(self.out, "{id} begins a change at {entry}")?,
            Ok(None) => writeln!(self.out, "{id} has nothing to change")?,
            Err(refusal) => writeln!(self.out, "{id} refuses: {refusal}")?,
        }
        Ok(())
    }

    pub(crate) fn members(&mut self, nodes: &[NodeId]) -> Result<(), Failure> {
        for (id, node) in self.nodes.iter().filter(|(id, _)| nodes.is_empty() || nodes.contains(id)) {
            let Some(core) = &node.core else { continue };
            let Status { membership, is_changing, .. } = core.status();
            writeln!(self.out, "{id}: {membership}{}", if is_changing { ", changing" } else { "" })?;
        }
        Ok(())
    }

    /// From now on the clocks of these nodes (of all) show this.
    pub(crate) fn set_clocks(&mut self, shown: Duration, nodes: &[NodeId]) {
        let meant = self.nodes.iter_mut().filter(|(id, _)| nodes.is_empty() || nodes.contains(id));
        meant.filter_map(|(_, node)| node.core.as_mut()).for_each(|core| core.time_is(shown));
    }

    pub(crate) fn age(&mut self, id: NodeId) -> Result<(), Failure> {
        match self.core(id)?.freshness() {
            Some(fresh) => {
                let age_ms = fresh.age.as_millis();
                writeln!(self.out, "{id} has all of {age_ms} ms ago once it has {}", fresh.index)?;
            }
            None => writeln!(self.out, "{id} can prove nothing")?,
        }
        Ok(())
    }

    pub(crate) fn node(&mut self, id: NodeId) -> Result<&mut Node, Failure> {
        self.nodes.get_mut(&id).ok_or_else(|| format!("there is no node {id}").into())
    }

    pub(crate) fn core(&mut self, id: NodeId) -> Result<&mut raft_core::RawNode, Failure> {
        self.node(id)?.core.as_mut().ok_or_else(|| format!("node {id} is down").into())
    }

    /// Ticks until the timer runs out, or a leader gives up.
    pub(crate) fn campaign(&mut self, id: NodeId) -> Result<(), Failure> {
        let core = self.core(id)?;
        for _ in 0..TICKS_MAX {
            core.tick_election();
            if core.has_ready() {
                return Ok(());
            }
        }
        Err("its timer does not run out".into())
    }

    /// Takes what every node has to say; finishes the writes of none, or of all.
    pub(crate) fn serve(&mut self, finish_writes: bool) -> Result<(), Failure> {
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
            let file = self.nodes[&id].disk.file.clone().ok_or("there is no snapshot to send")?;
            // A transfer that is asked for again replaces the one that may be under way.
            self.transfers.retain(|transfer| (transfer.from, transfer.to) != (id, to));
            self.transfers.push(Transfer { from: id, to, term, file });
        }
        let cut = &self.cut;
        self.network
            .extend(done.messages.into_iter().filter(|message| !cut.contains(&(message.from, message.to))));
        for meta in done.installed {
            let owed = self.owed_reports.extract_if(.., |owed| (owed.0, owed.1) == (id, meta.last.index));
            for (about, index, to, term) in owed.collect::<Vec<_>>() {
                self.report(about, to, term, SnapshotOutcome::Installed(index))?;
            }
        }
        Ok(())
    }

    pub(crate) fn persist(&mut self, nodes: &[NodeId]) -> Result<(), Failure> {
        let ids: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| nodes.is_empty() || nodes.contains(id)).collect();
        ids.into_iter().try_for_each(|id| self.serve_one(id, true))
    }

    /// Takes the messages out of the network that are meant.
    pub(crate) fn take(&mut self, meant: &Selector) -> Vec<Message> {
        let mut place = 0;
        let is_meant = |message: &mut Message| {
            let matches = meant.matches(message);
            place += usize::from(matches);
            matches && meant.nth.is_none_or(|nth| nth == place)
        };
        self.network.extract_if(.., is_meant).collect()
    }

    pub(crate) fn deliver(&mut self, meant: &Selector, and_keep: bool) -> Result<(), Failure> {
        let taken = self.take(meant);
        if and_keep {
            self.network.extend(taken.iter().cloned());
        }
        taken.into_iter().try_for_each(|message| self.arrive(message))
    }

    fn arrive(&mut self, message: Message) -> Result<(), Failure> {
        writeln!(self.out, "{message}")?;
        let to = message.to;
        if let Ok(core) = self.core(to) {
            core.step(message);
            self.serve_one(to, false)?;
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.serve(true)?;
            let arriving = std::mem::take(&mut self.network);
            if arriving.is_empty() {
                return Ok(());
            }
            arriving.into_iter().try_for_each(|message| self.arrive(message))?;
        }
        Err("it never settles".into())
    }

    pub(crate) fn cut(&mut self, one: NodeId, others: &[NodeId]) {
        for other in others {
            self.cut.insert((one, *other));
            self.cut.insert((*other, one));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// A part of each transfer that is meant arrives; more is to follow.
    pub(crate) fn chunk(&mut self, meant: &Selector) -> Result<(), Failure> {
        let under_way = self.transfers.clone();
        under_way.iter().filter(|one| meant.ends_match(one.from, one.to)).try_for_each(|transfer| {
            self.chunk_arrives(transfer)?;
            self.serve_one(transfer.to, false)
        })
    }

    fn chunk_arrives(&mut self, transfer: &Transfer) -> Result<ChunkVerdict, Failure> {
        let Transfer { from, to, term, file } = transfer;
        let last = file.meta.last;
        let verdict = self.core(*to)?.chunk_seen(*term, *from, last);
        writeln!(self.out, "{from}→{to} term={term} snapshot up to {last}: {verdict:?}")?;
        Ok(verdict)
    }

    /// The rest of each transfer that is meant arrives, and its file is durable at once.
    pub(crate) fn transfer(&mut self, meant: &Selector, and_keep: bool) -> Result<(), Failure> {
        let complete = self.take_transfers(meant);
        if and_keep {
            self.transfers.extend(complete.iter().cloned());
        }
        complete.into_iter().try_for_each(|transfer| {
            let outcome = match self.chunk_arrives(&transfer)? {
                ChunkVerdict::Wanted => return self.receive(transfer),
                ChunkVerdict::NotNeeded => SnapshotOutcome::Installed(transfer.file.meta.last.index),
                ChunkVerdict::StaleTerm(_) => SnapshotOutcome::Failed,
            };
            self.serve_one(transfer.to, false)?;
            self.report(transfer.to, transfer.from, transfer.term, outcome)
        })
    }

    /// The files whose chunks have all been seen are durable.
    pub(crate) fn install(&mut self, meant: &Selector) -> Result<(), Failure> {
        self.take_transfers(meant).into_iter().try_for_each(|transfer| self.receive(transfer))
    }

    fn receive(&mut self, Transfer { from, to, term, file }: Transfer) -> Result<(), Failure> {
        let index = file.meta.last.index;
        let verdict = self.node(to)?.receive(file);
        writeln!(self.out, "{to} has the snapshot up to {index}: {verdict:?}")?;
        match verdict {
            InstallVerdict::Installed => self.owed_reports.push((to, index, from, term)),
            InstallVerdict::NotNeeded => self.report(to, from, term, SnapshotOutcome::Installed(index))?,
        }
        self.serve_one(to, false)
    }

    /// The transfers that are meant break off, as their senders notice.
    pub(crate) fn fail(&mut self, meant: &Selector) -> Result<(), Failure> {
        let broken = self.take_transfers(meant).into_iter();
        broken
            .map(|Transfer { from, to, term, .. }| (to, from, term))
            .try_for_each(|(about, to, term)| self.report(about, to, term, SnapshotOutcome::Failed))
    }

    fn take_transfers(&mut self, meant: &Selector) -> Vec<Transfer> {
        self.transfers.extract_if(.., |transfer| meant.ends_match(transfer.from, transfer.to)).collect()
    }

    /// The sender of a snapshot hears what became of it, unless it is down or cut off.
    fn report(
        &mut self,
        about: NodeId,
        to: NodeId,
        term: Term,
        outcome: SnapshotOutcome,
    ) -> Result<(), Failure> {
        if self.cut.contains(&(about, to)) || self.core(to).is_err() {
            return Ok(());
        }
        writeln!(self.out, "{to} hears of its snapshot for {about} in term {term}: {outcome:?}")?;
        self.core(to)?.snapshot_report(about, term, outcome);
        self.serve_one(to, false)
    }

    /// The node stops; of the write under way this many Readys have reached the disk, and nothing that waits behind.
    pub(crate) fn crash(&mut self, id: NodeId, written: usize) -> Result<(), Failure> {
        self.node(id)?.crash(|under_way| written.min(under_way));
        self.transfers.retain(|transfer| transfer.from != id);
        self.seen.remove(&id);
        // Whoever sent it a snapshot sees the connection break.
        let owed: Vec<_> = self.owed_reports.extract_if(.., |(about, ..)| *about == id).collect();
        owed.into_iter()
            .try_for_each(|(about, _, to, term)| self.report(about, to, term, SnapshotOutcome::Failed))
    }

    pub(crate) fn status(&mut self, nodes: &[NodeId]) -> Result<(), Failure> {
        for (id, node) in self.nodes.iter().filter(|(id, _)| nodes.is_empty() || nodes.contains(id)) {
            match &node.core {
                Some(core) => write_status(&mut self.out, &core.status())?,
                None => writeln!(self.out, "{id} is down")?,
            }
        }
        Ok(())
    }

    pub(crate) fn log(&mut self, id: NodeId) -> Result<(), Failure> {
        let core = self.core(id)?;
        let status = core.status();
        let terms = (status.first_index.0..=status.last.index.0).map(|index| {
            let term = core.term_at(Index(index)).expect("it is in the log");
            format!("{index}@{term}")
        });
        let line = terms.collect::<Vec<_>>().join(" ");
        writeln!(self.out, "{id}: {line}")?;
        Ok(())
    }
}

fn write_status(out: &mut String, status: &Status) -> Result<(), Failure> {
    let Status { node, role, term, last, first_index, commit_index, persisted_index, .. } = status;
    writeln!(
        out,
        "{node} {role} term={term} first={first_index} last={last} commit={commit_index} persisted={persisted_index}"
    )?;
    for peer in &status.peers {
        let (node, progress, flying) = (peer.node, peer.progress, peer.inflight_messages);
        let (matched, next) = (peer.match_index, peer.next_index);
        writeln!(out, "  {node} {progress} match={matched} next={next} inflight={flying}")?;
    }
    Ok(())
}
