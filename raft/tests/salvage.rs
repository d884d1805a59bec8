//! Logs that are all damaged: what is read of them is true, and what was committed is put together from them as long as one
//! copy of each entry is left.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::core::{
    Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term,
};
use raft::storage::Collection;
use raft::storage::disk::{Disk, DiskOp};
use raft::storage::memory::{MemoryDisk, MemoryFiles};
use raft::storage::wal::{Wal, WalConfig, salvage_entries};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const NODES: usize = 3;

fn entry(term: u64, index: u64, random: &mut ChaCha8Rng) -> Entry {
    let payload = match random.random_range(0..4) {
        0 => Payload::Noop,
        _ => Payload::Command(Bytes::from(vec![term as u8 ^ index as u8; random.random_range(1..120)])),
    };
    Entry { term: Term(term), index: Index(index), payload }
}

/// A node of a history: its log as it would be without any damage, and what of it is on its disk.
struct Node {
    term: u64,
    log: Vec<Entry>,
    wal: Wal,
    disk: MemoryDisk,
    files: MemoryFiles,
    seed: u64,
}

impl Node {
    fn new(seed: u64) -> Node {
        let files = MemoryFiles::new();
        let mut disk = MemoryDisk::new(&files);
        let config = WalConfig { segment_bytes: 1024, ..WalConfig::new(seed) };
        let (wal, _) = Wal::open(&mut disk, config).unwrap();
        Node { term: 0, log: Vec::new(), wal, disk, files, seed }
    }

    fn last(&self) -> EntryId {
        self.log.last().map_or(EntryId::ZERO, Entry::id)
    }

    fn write(&mut self, snapshot: Option<SnapshotMeta>, entries: Vec<Entry>) {
        let hard_state = Some(HardState { term: Term(self.term), vote: None });
        self.wal.append(&Persist { hard_state, snapshot, entries });
        self.wal.submit(&mut self.disk).unwrap();
        self.wal.finish(&mut self.disk).unwrap();
    }

    fn append(&mut self, entries: Vec<Entry>) {
        self.log.truncate(entries[0].index.0 as usize - 1);
        self.log.extend(entries.clone());
        self.write(None, entries);
    }
}

/// What Raft may do to some logs: elections, appends that reach some, snapshots taken and received.
struct History {
    nodes: Vec<Node>,
    leader: usize,
    committed: EntryId,
    /// Each entry that ever was, and the one it follows.
    all: BTreeMap<EntryId, (Entry, EntryId)>,
    snapshot: EntryId,
    random: ChaCha8Rng,
}

impl History {
    fn run(seed: u64) -> History {
        let nodes = (0..NODES as u64).map(|node| Node::new(seed * 10 + node)).collect();
        let random = ChaCha8Rng::seed_from_u64(seed);
        let (leader, committed, all, snapshot) = (0, EntryId::ZERO, BTreeMap::new(), EntryId::ZERO);
        let mut history = History { nodes, leader, committed, all, snapshot, random };
        history.elect();
        for _ in 0..history.random.random_range(20..150) {
            match history.random.random_range(0..12) {
                0 => history.elect(),
                1 => history.take_snapshot(),
                2..5 => {
                    let count = history.random.random_range(1..5);
                    history.propose(count);
                }
                _ => history.replicate(),
            }
        }
        for node in &mut history.nodes {
            node.wal.seal(&mut node.disk);
            node.wal.finish(&mut node.disk).unwrap();
        }
        history
    }

    fn elect(&mut self) {
        let candidate = self.random.random_range(0..NODES);
        let other = (candidate + self.random.random_range(1..NODES)) % NODES;
        if self.nodes[candidate].last() < self.nodes[other].last() {
            return;
        }
        let term = 1 + self.nodes[candidate].term.max(self.nodes[other].term);
        for voter in [candidate, other] {
            self.nodes[voter].term = term;
            self.nodes[voter].write(None, Vec::new());
        }
        self.leader = candidate;
        self.propose(1);
    }

    fn propose(&mut self, count: u64) {
        let leader = &mut self.nodes[self.leader];
        let (term, first) = (leader.term, leader.log.len() as u64 + 1);
        let entries: Vec<Entry> =
            (first..first + count).map(|index| entry(term, index, &mut self.random)).collect();
        let mut previous = leader.last();
        for entry in &entries {
            let other = self.all.insert(entry.id(), (entry.clone(), previous));
            assert!(other.is_none(), "the history keeps to one leader a term");
            previous = entry.id();
        }
        leader.append(entries);
    }

    /// Some of what the leader has reaches a follower.
    fn replicate(&mut self) {
        let to = (self.leader + self.random.random_range(1..NODES)) % NODES;
        let (log, term) = (self.nodes[self.leader].log.clone(), self.nodes[self.leader].term);
        let count = self.random.random_range(1..8);
        let follower = &mut self.nodes[to];
        if follower.term > term {
            return;
        }
        follower.term = term;
        let same = log.iter().zip(&follower.log).take_while(|(own, other)| own == other).count();
        let is_far_behind =
            self.snapshot.index.0 as usize > same && log.len() >= self.snapshot.index.0 as usize;
        if is_far_behind && log[self.snapshot.index.0 as usize - 1].id() == self.snapshot {
            follower.log = log[..self.snapshot.index.0 as usize].to_vec();
            follower.write(Some(meta(self.snapshot)), Vec::new());
        } else {
            let entries: Vec<Entry> = log[same..].iter().take(count).cloned().collect();
            if !entries.is_empty() {
                follower.append(entries);
            }
        }
        self.commit();
    }

    /// What a majority has, if it is of the leader's own term.
    fn commit(&mut self) {
        let leader = &self.nodes[self.leader];
        let is_stored = |entry: &Entry| {
            let has = |node: &&Node| node.log.get(entry.index.0 as usize - 1) == Some(entry);
            self.nodes.iter().filter(has).count() * 2 > NODES
        };
        let own = leader.log.iter().rev().filter(|entry| entry.term.0 == leader.term);
        let newest = own.into_iter().find(|entry| is_stored(entry)).map(Entry::id);
        self.committed = self.committed.max(newest.unwrap_or(EntryId::ZERO));
    }

    /// A node that has everything committed takes a snapshot of it, and lets go of the log before the one before.
    fn take_snapshot(&mut self) {
        let index = self.committed.index.0 as usize;
        let node = self.random.random_range(0..NODES);
        let node = &mut self.nodes[node];
        if index == 0 || node.log.get(index - 1).map(Entry::id) != Some(self.committed) {
            return;
        }
        node.write(Some(meta(self.committed)), Vec::new());
        node.wal.compact(self.snapshot.index, &mut node.disk);
        node.wal.finish(&mut node.disk).unwrap();
        self.snapshot = self.committed;
    }

    /// The ids of everything on the way to `id`, apart from what lies behind `base`.
    fn way(&self, base: EntryId, mut id: EntryId) -> Vec<EntryId> {
        let mut way = Vec::new();
        while id != base && id != EntryId::ZERO {
            way.push(id);
            id = self.all[&id].1;
        }
        way.reverse();
        way
    }

    /// Changes some bits of every log, or takes a segment away.
    fn damage(&mut self, places: usize) {
        for node in &mut self.nodes {
            for _ in 0..places {
                let files = node.files.contents().into_iter();
                let segments: Vec<_> = files.filter(|(name, _)| name.as_str().starts_with("wal-")).collect();
                let (name, bytes) = &segments[self.random.random_range(0..segments.len())];
                if segments.len() > 1 && self.random.random_range(0..8) == 0 {
                    node.disk.run(DiskOp::Remove { file: name.clone() }).unwrap();
                    continue;
                }
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
                let (offset, bit) = (self.random.random_range(0..=used), self.random.random_range(0..8));
                assert!(node.files.flip_bit(name, offset, bit));
            }
        }
    }
}

fn meta(last: EntryId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Membership::new([NodeId(1), NodeId(2), NodeId(3)]) }
}

/// All that can be read of the logs, of which everything must be true; with the ids that one of them has, and those of which
/// one says what they follow.
fn collect(history: &History) -> (Collection, BTreeSet<EntryId>, BTreeSet<EntryId>) {
    let mut collection = Collection::new();
    let (mut had, mut linked) = (BTreeSet::new(), BTreeSet::new());
    for node in &history.nodes {
        let mut disk = MemoryDisk::new(&node.files);
        salvage_entries(&mut disk, node.seed, &mut |entry, previous| {
            let (original, followed) = &history.all[&entry.id()];
            assert_eq!(entry, *original, "an entry that is read is what was written");
            assert!(
                previous.is_none_or(|previous| previous == *followed),
                "{} follows {followed}",
                entry.id()
            );
            had.insert(entry.id());
            linked.extend(previous.map(|_| entry.id()));
            collection.add(entry, previous).unwrap();
        })
        .unwrap();
    }
    (collection, had, linked)
}

fn check(history: &History, base: EntryId) -> bool {
    let (collection, had, linked) = collect(history);
    let ids: Vec<EntryId> = collection.log_behind(base).iter().map(Entry::id).collect();
    let last = ids.last().copied().unwrap_or(base);
    assert_eq!(ids, history.way(base, last), "what is put together is one log");
    let committed = history.way(base, history.committed);
    let is_there = |id: &EntryId| {
        had.contains(id) && (linked.contains(id) || follows_in_its_term(history, *id, base, &had))
    };
    let can_be_had = committed.iter().all(is_there);
    if can_be_had {
        assert_eq!(ids[..committed.len()], committed, "everything committed is in it");
    }
    can_be_had
}

fn follows_in_its_term(history: &History, id: EntryId, base: EntryId, had: &BTreeSet<EntryId>) -> bool {
    let followed = history.all[&id].1;
    followed.term == id.term && (followed == base || had.contains(&followed))
}

#[test]
fn of_logs_that_are_whole_everything_committed_is_put_together() {
    for seed in 0..100 {
        let history = History::run(seed);
        assert!(check(&history, history.snapshot), "seed {seed}: nothing is missing");
    }
}

#[test]
fn of_logs_that_are_all_damaged_everything_committed_is_put_together_while_one_copy_of_each_entry_is_left() {
    let mut had = 0;
    for seed in 0..400 {
        let mut history = History::run(seed);
        history.damage(1 + seed as usize % 4);
        had += u32::from(check(&history, history.snapshot));
    }
    eprintln!("HAD {had}");
    assert!((100..400).contains(&had), "of 400 damaged clusters {had} can be had whole");
}
