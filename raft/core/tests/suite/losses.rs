//! Nodes that lose parts of their logs again and again, on a network that keeps what it is given for as long as it likes:
//! what was said in one life is heard in another. Nothing that was committed is lost, and when it ends all are well.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Config, Entry, HardState, Index, Message, NodeId, Persist, RawNode, Ready, Restored, RoleKind, Term,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::cluster::of_this_pass;

/// Runs for each number of nodes.
const RUNS: u64 = 100;
/// So much happens in one run before the faults end, and so much may happen until all is well.
const STEPS: u32 = 6_000;
const STEPS_TO_RECOVER: u32 = 12_000;
/// As many copies of messages are kept to be delivered at any later time.
const KEPT_MAX: usize = 64;
/// Messages under way; what comes beyond is lost.
const UNDER_WAY_MAX: usize = 256;

/// What a crash leaves.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    entries: Vec<Entry>,
    is_convalescent: bool,
}

/// What the disk is given, in order.
enum Write {
    Healed,
    Batch(Option<Persist>, Vec<Message>),
}

struct Node {
    core: RawNode,
    disk: Disk,
    writes: VecDeque<Write>,
    applied: Index,
}

struct World {
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    under_way: VecDeque<Message>,
    kept: Vec<Message>,
    /// Every entry that anybody applied, and the term in which it was.
    committed: Vec<(Entry, Term)>,
    leaders: Vec<(Term, NodeId)>,
    losses: u32,
}

impl Disk {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Healed => self.is_convalescent = false,
            Write::Batch(Some(persist), _) => {
                self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
                if let Some(first) = persist.entries.first() {
                    self.entries.truncate(first.index.0 as usize - 1);
                    self.entries.extend(persist.entries.iter().cloned());
                }
            }
            Write::Batch(None, _) => {}
        }
    }

    fn start(&self, node: NodeId, nodes: u64, seed: u64) -> RawNode {
        let restored =
            Restored { hard_state: self.hard_state, snapshot: None, entries: self.entries.clone() };
        let voters = (1..=nodes).map(NodeId);
        let config = Config { election_ticks_min: 4, election_ticks_max: 8, ..Config::new(node, voters) };
        let mut core = RawNode::new(config, restored, ChaCha8Rng::seed_from_u64(seed));
        if self.is_convalescent {
            core.convalesce();
        }
        core
    }
}

impl World {
    fn new(nodes: u64, seed: u64) -> World {
        let node = |id| {
            let disk = Disk::default();
            let core = disk.start(NodeId(id), nodes, seed * 100 + id);
            Node { core, disk, writes: VecDeque::new(), applied: Index::ZERO }
        };
        World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: (1..=nodes).map(node).collect(),
            under_way: VecDeque::new(),
            kept: Vec::new(),
            committed: Vec::new(),
            leaders: Vec::new(),
            losses: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn any_node(&mut self) -> usize {
        self.rng.random_range(0..self.nodes.len())
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            if self.kept.len() < KEPT_MAX && self.chance(10) {
                self.kept.push(message.clone());
            }
            if self.under_way.len() < UNDER_WAY_MAX {
                self.under_way.push_back(message);
            }
        }
    }

    /// One thing happens. `is_faulty`: what goes wrong is part of it.
    fn step(&mut self, is_faulty: bool) {
        let node = self.any_node();
        match self.rng.random_range(0..1000) {
            0..500 => self.deliver(is_faulty),
            500..900 => self.disk_is_done(node),
            900..930 => self.nodes[node].core.tick_election(),
            930..960 => self.nodes.iter_mut().for_each(|node| node.core.tick_heartbeat()),
            960..990 => drop(self.nodes[node].core.propose(vec![Bytes::from_static(b"x")])),
            990..994 if !self.kept.is_empty() => {
                let place = self.rng.random_range(0..self.kept.len());
                let late = self.kept.swap_remove(place);
                self.hear(late);
            }
            994..998 if is_faulty => self.crash(node),
            _ => {}
        }
        (0..self.nodes.len()).for_each(|node| self.look_at(node));
    }

    fn deliver(&mut self, is_faulty: bool) {
        let reach = if is_faulty && self.chance(30) { self.under_way.len() } else { 1 };
        if self.under_way.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..reach);
        let message = match is_faulty && self.chance(10) {
            true => self.under_way.get(place).cloned(),
            false => self.under_way.remove(place),
        };
        if !(is_faulty && self.chance(5)) {
            self.hear(message.unwrap());
        }
    }

    fn hear(&mut self, message: Message) {
        let to = message.to.0 as usize - 1;
        self.nodes[to].core.step(message);
    }

    /// The disk of a node has done the first thing that it was given.
    fn disk_is_done(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let Some(write) = node.writes.pop_front() else { return };
        node.disk.write(&write);
        if let Write::Batch(persist, messages) = write {
            if let Some(last) = persist.as_ref().and_then(|persist| persist.entries.last()) {
                node.core.persisted(last.id());
            }
            self.send(messages);
        }
    }

    /// A process dies, some of what it was writing survives, and the disk may have lost a tail of what it had. Of a majority
    /// nothing is ever missing.
    fn crash(&mut self, place: usize) {
        let nodes = self.nodes.len();
        let ill =
            self.nodes.iter().enumerate().filter(|(at, node)| *at != place && node.disk.is_convalescent);
        let may_lose = ill.count() < (nodes - 1) / 2;
        let (survive, loses, seed) = (self.rng.random_range(0..3), self.chance(50), self.rng.random());
        let node = &mut self.nodes[place];
        for write in node.writes.drain(..).take(survive) {
            node.disk.write(&write);
        }
        if may_lose && loses {
            node.disk.entries.truncate(self.rng.random_range(0..=node.disk.entries.len()));
            node.disk.is_convalescent = true;
            self.losses += 1;
        }
        node.core = node.disk.start(NodeId(place as u64 + 1), nodes as u64, seed);
        node.applied = Index::ZERO;
    }

    /// Takes what a node says and wants written, and judges what it applies and whether it may lead.
    fn look_at(&mut self, place: usize) {
        while self.nodes[place].core.has_ready() {
            let Ready { messages, healed, persist, messages_after_persist, committed, .. } =
                self.nodes[place].core.ready();
            if healed {
                self.nodes[place].writes.push_back(Write::Healed);
            }
            self.nodes[place].writes.push_back(Write::Batch(persist, messages_after_persist));
            self.send(messages);
            self.apply(place, committed);
        }
        let (status, id) = (self.nodes[place].core.soft_state(), NodeId(place as u64 + 1));
        if status.role == RoleKind::Leader && self.leaders.last() != Some(&(status.term, id)) {
            let taken = self.leaders.iter().any(|(term, leader)| *term == status.term && *leader != id);
            assert!(!taken, "two lead term {}", status.term);
            self.leaders.push((status.term, id));
            for (entry, _) in self.committed.iter().filter(|(_, term)| *term < status.term) {
                let has = self.nodes[place].core.term_at(entry.index);
                assert_eq!(has, Some(entry.term), "{id} leads term {} without {}", status.term, entry.id());
            }
        }
    }

    fn apply(&mut self, place: usize, entries: Vec<Entry>) {
        let term = self.nodes[place].core.soft_state().term;
        for entry in entries {
            assert_eq!(entry.index, self.nodes[place].applied.next());
            self.nodes[place].applied = entry.index;
            match self.committed.get(entry.index.0 as usize - 1) {
                Some((known, _)) => assert_eq!(*known, entry, "two entries are committed at one place"),
                None => self.committed.push((entry, term)),
            }
        }
        let applied = self.nodes[place].applied;
        self.nodes[place].core.applied(applied);
    }

    /// Whether all have applied the same, nobody lacks anything, and the leader knows it.
    fn is_well(&self) -> bool {
        let all = Index(self.committed.len() as u64);
        let follows = |node: &Node| node.applied == all && !node.core.status().is_convalescent;
        let is_settled = |node: &Node| {
            let peers = node.core.status().peers;
            !peers.is_empty() && peers.iter().all(|peer| peer.match_index == node.core.status().last.index)
        };
        self.nodes.iter().all(follows) && self.nodes.iter().any(is_settled)
    }
}

fn run(nodes: u64, seed: u64) -> (u32, usize) {
    let mut world = World::new(nodes, seed);
    (0..STEPS).for_each(|_| world.step(true));
    let mut left = STEPS_TO_RECOVER;
    while left > 0 && !world.is_well() {
        world.step(false);
        left -= 1;
    }
    assert!(
        left > 0,
        "seed {seed}: somebody stays behind: {:#?}",
        world.nodes.iter().map(|node| node.core.status()).collect::<Vec<_>>()
    );
    (world.losses, world.committed.len())
}

#[test]
fn losses_again_and_again_take_nothing_that_was_committed_and_all_are_well_in_the_end() {
    for nodes in [3, 5] {
        let runs = (0..RUNS).map(|seed| run(nodes, of_this_pass(seed)));
        let (losses, committed) = runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        assert!(losses > 0 && committed > 0, "{losses} losses, {committed} committed");
    }
}
