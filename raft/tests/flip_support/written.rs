//! Data directories of a megabyte and more, written by the shipped code, and what must come back from them.

use bytes::Bytes;
use raft::storage::disk::Disk;
use raft::storage::{
    FileName, MemoryDisk, MemoryFiles, Recovery, SnapshotStore, Wal, WalConfig, recover, snapshot_file,
};
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::{Files, FlipDisk};

/// Small enough that a megabyte of log has many segments.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// The directory's own number.
pub(super) const SEED: u64 = 7;

/// The least that is written of a log or a snapshot that is called large.
const LARGE_BYTES: usize = 1024 * 1024;

/// What a data directory was given.
#[derive(Debug)]
pub(crate) struct Written {
    hard_state: HardState,
    /// The log as it stood in the end: entry i at place i - 1, those below an installed snapshot invented.
    entries: Vec<Entry>,
    /// The size of each snapshot's content.
    snapshots: Vec<(SnapshotMeta, usize)>,
}

impl Written {
    /// The settings the directory was written with.
    pub(crate) fn config(&self) -> WalConfig {
        config()
    }

    /// A node that starts must have exactly what was written. `flipped` is the file that was tampered with.
    pub(crate) fn check(&self, recovery: &Recovery, disk: &mut FlipDisk, flipped: &FileName) {
        let restored = &recovery.restored;
        assert_eq!(restored.hard_state, self.hard_state);
        let base = restored.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        if let Some(meta) = &restored.snapshot {
            let (_, bytes) = self.snapshots.iter().find(|(known, _)| known == meta).unwrap();
            if snapshot_file::snapshot_name(meta.last) == *flipped {
                assert!(read_snapshot(recovery, disk) == snapshot_content(meta.last, *bytes));
            }
        }
        let first = restored.entries.first().map_or(base.index.next(), |entry| entry.index);
        assert!(first <= base.index.next(), "a hole between snapshot and log");
        let kept = &self.entries[first.0 as usize - 1..];
        let covered = kept.len() - restored.entries.len();
        assert!(restored.entries.is_empty() || covered == 0, "the log is cut at its end");
        assert!(restored.entries == kept[covered..], "an entry is not what was written");
        assert!(base.index.0.max(first.0 - 1 + restored.entries.len() as u64) == self.entries.len() as u64);
    }
}

fn config() -> WalConfig {
    WalConfig { segment_bytes: SEGMENT_BYTES, ..WalConfig::new(SEED) }
}

fn meta(last: EntryId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Membership::new([NodeId(1), NodeId(2), NodeId(3)]) }
}

fn read_snapshot(recovery: &Recovery, disk: &mut dyn Disk) -> Vec<u8> {
    let mut reader = recovery.snapshots.pin_newest().unwrap().reader(disk).unwrap();
    let mut content = Vec::new();
    while let Some(piece) = reader.next_piece(disk).unwrap() {
        content.extend_from_slice(&piece);
    }
    content
}

fn snapshot_content(last: EntryId, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    ChaCha8Rng::seed_from_u64(last.index.0).fill(&mut content[..]);
    content
}

/// Writes a data directory through the shipped log and snapshot store.
struct Author {
    files: MemoryFiles,
    disk: MemoryDisk,
    wal: Wal,
    store: SnapshotStore,
    random: ChaCha8Rng,
    written: Written,
}

impl Author {
    fn new(seed: u64) -> Author {
        let files = MemoryFiles::new();
        let Recovery { wal, snapshots: store, .. } =
            recover(&mut MemoryDisk::new(&files), config(), false).unwrap();
        let hard_state = HardState { term: Term(1), vote: None };
        let written = Written { hard_state, entries: Vec::new(), snapshots: Vec::new() };
        let disk = MemoryDisk::new(&files);
        Author { files, disk, wal, store, random: ChaCha8Rng::seed_from_u64(seed), written }
    }

    fn last(&self) -> EntryId {
        self.written.entries.last().map_or(EntryId::ZERO, Entry::id)
    }

    fn entry(&mut self, index: u64) -> Entry {
        let bytes = match self.random.random_range(0..8) {
            0 => 0,
            1..4 => self.random.random_range(1..100),
            4..7 => self.random.random_range(100..4_000),
            _ => self.random.random_range(4_000..12_000),
        };
        let mut command = vec![0; bytes];
        self.random.fill(&mut command[..]);
        let payload = if bytes == 0 { Payload::Noop } else { Payload::Command(Bytes::from(command)) };
        Entry { term: self.written.hard_state.term, index: Index(index), payload }
    }

    /// One batch: some entries, now and then under a new leader who replaces the end of the log, or with a vote.
    /// Returns its size.
    fn batch(&mut self) -> usize {
        let mut first = self.last().index.0 + 1;
        let mut hard_state = None;
        if self.random.random_range(0..10) == 0 {
            let covered = self.written.snapshots.last().map_or(0, |(meta, _)| meta.last.index.0);
            first = first.saturating_sub(self.random.random_range(0..4)).max(covered + 1);
            let term = self.written.hard_state.term.next();
            let vote = self.random.random::<bool>().then_some(NodeId(2));
            self.written.hard_state = HardState { term, vote };
            hard_state = Some(self.written.hard_state);
        }
        self.written.entries.truncate(first as usize - 1);
        let count = self.random.random_range(1..5);
        let entries: Vec<Entry> = (first..first + count).map(|index| self.entry(index)).collect();
        self.written.entries.extend(entries.iter().cloned());
        self.wal.append(&Persist { hard_state, snapshot: None, entries });
        let bytes = self.wal.staged_bytes();
        self.submit();
        bytes
    }

    fn submit(&mut self) {
        self.wal.submit(&mut self.disk).unwrap();
        self.wal.finish(&mut self.disk).unwrap();
    }

    fn batches(&mut self, bytes: usize) {
        let mut written = 0;
        while written < bytes {
            written += self.batch();
        }
    }

    fn write_snapshot(&mut self, last: EntryId, bytes: usize) {
        let mut writer = self.store.begin_write(&mut self.disk, meta(last)).unwrap();
        writer.write(&mut self.disk, &snapshot_content(last, bytes)).unwrap();
        self.store.finish_write(&mut self.disk, writer).unwrap();
        self.written.snapshots.push((meta(last), bytes));
    }

    /// A snapshot of the state so far, after which the log behind the one before goes.
    fn own_snapshot(&mut self, bytes: usize) {
        self.write_snapshot(self.last(), bytes);
        if let Some(up_to) = self.store.log_needed_after() {
            self.wal.compact(up_to, &mut self.disk);
        }
        self.wal.finish(&mut self.disk).unwrap();
    }

    /// A snapshot from a peer, far ahead: the log before it goes.
    fn installed_snapshot(&mut self, bytes: usize) {
        let term = self.written.hard_state.term.next();
        let last = EntryId { term, index: Index(self.last().index.0 + 100) };
        self.write_snapshot(last, bytes);
        self.written.hard_state = HardState { term, vote: None };
        let invented = |index| Entry { term, index: Index(index), payload: Payload::Noop };
        self.written.entries = (1..=last.index.0).map(invented).collect();
        let hard_state = Some(self.written.hard_state);
        self.wal.append(&Persist { hard_state, snapshot: Some(meta(last)), entries: Vec::new() });
        self.submit();
    }

    fn finish(mut self) -> (Files, Written) {
        self.wal.seal(&mut self.disk);
        self.wal.finish(&mut self.disk).unwrap();
        (Files::of(&self.files), self.written)
    }
}

impl Written {
    /// A log of over a megabyte in many segments, on top of two small snapshots, with everything a log can hold.
    pub(crate) fn large_log() -> (Files, Written) {
        let mut author = Author::new(2026);
        for _ in 0..2 {
            author.batches(3 * SEGMENT_BYTES as usize);
            author.own_snapshot(500);
        }
        author.batches(LARGE_BYTES);
        author.finish()
    }

    /// A large snapshot of this node's own, an older small one, and a little log on top of both.
    pub(crate) fn large_own_snapshot() -> (Files, Written) {
        let mut author = Author::new(2027);
        author.batches(SEGMENT_BYTES as usize / 4);
        author.own_snapshot(500);
        author.batches(SEGMENT_BYTES as usize / 4);
        author.own_snapshot(LARGE_BYTES + 2_000);
        author.batches(SEGMENT_BYTES as usize / 4);
        author.finish()
    }

    /// A large snapshot that came from a peer, with nothing before it to fall back on.
    pub(crate) fn large_installed_snapshot() -> (Files, Written) {
        let mut author = Author::new(2028);
        author.batches(SEGMENT_BYTES as usize / 4);
        author.installed_snapshot(LARGE_BYTES + 2_000);
        author.batches(SEGMENT_BYTES as usize / 4);
        author.finish()
    }
}
