//! A run of the storage on a disk in memory, and a model that knows what may come back after it.
//!
//! The run appends, overwrites tails, votes, takes and installs snapshots, lets go of the log, prepares spares and
//! seals, by dice from a seed. The model keeps one state per record that was handed to the log, and how many of them
//! were acknowledged. Whatever is recovered must be one of the states from the acknowledged one on.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use raft::storage::disk::Disk;
use raft::storage::wal::{BatchTicket, Wal, WalConfig};
use raft::storage::{
    MemoryDisk, MemoryFiles, Recovery, SnapshotError, SnapshotStore, StorageError, WalError, examine, recover,
};
use raft_core::{Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

pub(crate) const SEGMENT_BYTES: u64 = 2048;

pub(crate) fn config() -> WalConfig {
    // Windows that are small and of no round size, so that records lie across their ends.
    WalConfig { segment_bytes: SEGMENT_BYTES, read_window_bytes: 333, ..WalConfig::new(42) }
}

/// Starts on the files. Whoever only looks at them first must come to the same verdict, and must change nothing.
pub(crate) fn open(files: &MemoryFiles) -> Result<Recovery, StorageError> {
    let copy = files.fork();
    let looked = examine(&mut MemoryDisk::new(&copy), config(), false);
    assert!(copy.contents() == files.contents(), "looking changed a file");
    let recovery = recover(&mut MemoryDisk::new(files), config(), false);
    match (&recovery, looked) {
        (Ok(recovery), Ok(looked)) => {
            assert_eq!((&recovery.restored, &recovery.remarks), (&looked.restored, &looked.remarks));
        }
        // Where the machine is to fail under the start, the verdict of whoever looked is the better one.
        (Err(error), _) if is_of_disk(error) => {}
        (Err(error), Err(looked)) => assert_eq!(*error, looked),
        (recovery, looked) => panic!("a start says {recovery:?}, a look {looked:?}"),
    }
    recovery
}

fn is_of_disk(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Disk(_)
            | StorageError::Wal(WalError::Disk(_))
            | StorageError::Snapshot(SnapshotError::Disk(_))
    )
}

/// What the log amounts to after one record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelState {
    pub(crate) hard_state: HardState,
    /// All entries ever, those below an installed snapshot invented; entry i at place i - 1.
    pub(crate) entries: Vec<Entry>,
    /// Entries up to here came with an installed snapshot and were never in the log.
    pub(crate) installed: Index,
}

/// The states one run went through.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) states: Vec<ModelState>,
    /// Place of the newest acknowledged state.
    pub(crate) acknowledged: usize,
    /// Place of the newest state that was acknowledged when the last batch was handed over: what that batch knows.
    pub(crate) before_last_batch: usize,
    /// Snapshots that were begun, durable or not.
    pub(crate) snapshots: Vec<SnapshotMeta>,
}

impl Model {
    fn new() -> Model {
        let state =
            ModelState { hard_state: HardState::default(), entries: Vec::new(), installed: Index::ZERO };
        Model { states: vec![state], acknowledged: 0, before_last_batch: 0, snapshots: Vec::new() }
    }

    fn last(&self) -> &ModelState {
        self.states.last().unwrap()
    }

    /// Plays the records of `persist` one by one.
    fn play(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            let state = ModelState { hard_state, ..self.last().clone() };
            self.states.push(state);
        }
        if let Some(meta) = &persist.snapshot {
            let mut state = self.last().clone();
            let place = meta.last.index.0 as usize;
            if state.entries.get(place - 1).map(Entry::id) != Some(meta.last) {
                state.entries =
                    (1..=meta.last.index.0).map(|index| entry(meta.last.term.0, index, 0)).collect();
                state.installed = meta.last.index;
            }
            self.states.push(state);
        }
        for entry in &persist.entries {
            let mut state = self.last().clone();
            state.entries.truncate(entry.index.0 as usize - 1);
            state.entries.push(entry.clone());
            self.states.push(state);
        }
    }

    /// The place of the state that was recovered, at or behind `from`; panics when there is none.
    pub(crate) fn find(&self, recovery: &Recovery, from: usize) -> usize {
        let place = (from..self.states.len()).rev().find(|place| self.is_at(*place, recovery));
        place.unwrap_or_else(|| {
            panic!(
                "recovered what never was: {:?}, snapshot {:?}, entries {:?}, expected from {:?} on",
                recovery.restored.hard_state,
                recovery.restored.snapshot,
                recovery.restored.entries.iter().map(Entry::id).collect::<Vec<_>>(),
                self.states[from..].iter().map(summary).collect::<Vec<_>>(),
            )
        })
    }

    /// Whether the recovered state is this one. A snapshot may be newer than the model's state knows: it stands for
    /// the entries it covers, which were committed.
    fn is_at(&self, place: usize, recovery: &Recovery) -> bool {
        let state = &self.states[place];
        let restored = &recovery.restored;
        let base = restored.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        assert!(restored.snapshot.as_ref().is_none_or(|meta| self.snapshots.contains(meta)));
        let first = restored.entries.first().map_or(base.index.next(), |entry| entry.index);
        assert!(first <= base.index.next(), "a hole between snapshot and log");
        let recovered_last = restored.entries.last().map_or(base, Entry::id).max(base);
        let model_last = state.entries.last().map_or(EntryId::ZERO, Entry::id);
        let same_entries =
            restored.entries.iter().filter(|entry| entry.index > state.installed).all(|entry| {
                state.entries.get(entry.index.0 as usize - 1) == Some(entry) || entry.index <= base.index
            });
        let newer_snapshot = base.index > model_last.index
            || (base.index > state.installed
                && state.entries.get(base.index.0 as usize - 1).map(Entry::id) != Some(base));
        let same_term = restored.hard_state == state.hard_state
            || (base.term > state.hard_state.term && restored.hard_state.term == base.term);
        let same_log = if newer_snapshot {
            recovered_last == base
        } else {
            recovered_last == model_last && same_entries
        };
        same_term && same_log && base.index >= state.installed
    }
}

fn summary(state: &ModelState) -> (HardState, Option<EntryId>, Index) {
    (state.hard_state, state.entries.last().map(Entry::id), state.installed)
}

pub(crate) fn entry(term: u64, index: u64, command_bytes: usize) -> Entry {
    let payload = match command_bytes {
        0 => Payload::Noop,
        _ => Payload::Command(Bytes::from(vec![(term * 31 + index) as u8; command_bytes])),
    };
    Entry { term: Term(term), index: Index(index), payload }
}

/// The content of the snapshot of `last`, which depends on nothing else.
pub(crate) fn snapshot_content(last: EntryId) -> Vec<u8> {
    (0..700).map(|place| (place as u64 * 7 + last.index.0 * 13 + last.term.0) as u8).collect()
}

/// A run, stopped by the first error.
pub(crate) struct Run {
    disk: MemoryDisk,
    snapshots: SnapshotStore,
    wal: Wal,
    pub(crate) model: Model,
    random: ChaCha8Rng,
    in_flight: Vec<(BatchTicket, usize)>,
    is_held: bool,
}

impl Run {
    /// Begins on an empty directory. Held disks have several batches in flight. The error is that of the first open.
    pub(crate) fn begin(files: &MemoryFiles, seed: u64, is_held: bool) -> Result<Run, StorageError> {
        let Recovery { wal, snapshots, .. } = recover(&mut MemoryDisk::new(files), config(), false)?;
        let disk = if is_held { MemoryDisk::held(files) } else { MemoryDisk::new(files) };
        let random = ChaCha8Rng::seed_from_u64(seed);
        Ok(Run { disk, snapshots, wal, model: Model::new(), random, in_flight: Vec::new(), is_held })
    }

    /// Does `steps` steps or stops at the first error. The model says what may come back.
    pub(crate) fn steps(&mut self, steps: usize) -> Result<(), StorageError> {
        for _ in 0..steps {
            self.step()?;
        }
        self.settle()
    }

    /// A short run that has a bit of everything: two snapshots, segments let go, a spare, a tail replaced.
    pub(crate) fn short(&mut self) -> Result<(), StorageError> {
        for _ in 0..2 {
            for _ in 0..6 {
                self.append_one()?;
            }
            self.local_snapshot()?;
        }
        self.append();
        self.overwrite();
        self.two_in_one_batch();
        self.settle()?;
        self.spare()
    }

    /// Appends a batch and waits for it.
    pub(crate) fn append_one(&mut self) -> Result<(), StorageError> {
        self.append();
        self.settle()
    }

    /// Waits for everything and seals.
    pub(crate) fn finish(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        self.wal.seal(&mut self.disk);
        self.settle()
    }

    /// The power fails while the disk works on everything it was given.
    pub(crate) fn begin_held(&mut self) {
        self.disk.begin_held();
    }

    fn step(&mut self) -> Result<(), StorageError> {
        match self.random.random_range(0..20) {
            0..=9 => self.append(),
            10..=11 => self.overwrite(),
            12 => self.vote(),
            13..=14 => return self.local_snapshot(),
            15 => return self.installed_snapshot(),
            16 => self.large(),
            17 => return self.spare(),
            18 => {
                self.settle()?;
                self.wal.seal(&mut self.disk);
            }
            _ => self.two_in_one_batch(),
        }
        self.take_answers()
    }

    fn term(&self) -> u64 {
        self.model.last().hard_state.term.0
    }

    fn next_index(&self) -> u64 {
        self.model.last().entries.len() as u64 + 1
    }

    fn stage(&mut self, persist: &Persist) {
        self.model.play(persist);
        self.wal.append(persist);
    }

    fn submit(&mut self) {
        let newest = self.model.states.len() - 1;
        self.model.before_last_batch = self.model.acknowledged;
        let ticket = self.wal.submit(&mut self.disk).expect("something was staged");
        self.in_flight.push((ticket, newest));
    }

    fn append(&mut self) {
        let count = self.random.random_range(1..4);
        let (term, first) = (self.term(), self.next_index());
        let sizes: Vec<usize> = (0..count).map(|_| self.random.random_range(0..180)).collect();
        let entries = (first..).zip(sizes).map(|(index, bytes)| entry(term, index, bytes)).collect();
        self.stage(&Persist { hard_state: None, snapshot: None, entries });
        self.submit();
    }

    /// A new leader's entries replace up to five entries, but none that a snapshot covers.
    fn overwrite(&mut self) {
        let covered = self.model.snapshots.iter().map(|meta| meta.last.index.0).max().unwrap_or(0);
        let back = self.random.random_range(0..5);
        let first = (self.next_index() - back.min(self.next_index() - 1)).max(covered + 1);
        let hard_state = HardState { term: Term(self.term() + 1), vote: None };
        let entries = vec![entry(self.term() + 1, first, 33)];
        self.stage(&Persist { hard_state: Some(hard_state), snapshot: None, entries });
        self.submit();
    }

    fn vote(&mut self) {
        let hard_state = HardState { term: Term(self.term() + 1), vote: Some(NodeId(3)) };
        self.stage(&Persist { hard_state: Some(hard_state), snapshot: None, entries: Vec::new() });
        self.submit();
    }

    fn two_in_one_batch(&mut self) {
        let term = self.term();
        let first = self.next_index();
        self.stage(&Persist { hard_state: None, snapshot: None, entries: vec![entry(term, first, 10)] });
        self.stage(&Persist { hard_state: None, snapshot: None, entries: vec![entry(term, first + 1, 0)] });
        self.submit();
    }

    fn large(&mut self) {
        let entries = vec![entry(self.term(), self.next_index(), 3 * SEGMENT_BYTES as usize)];
        self.stage(&Persist { hard_state: None, snapshot: None, entries });
        self.submit();
    }

    fn local_snapshot(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        let Some(last) = self.model.last().entries.last().map(Entry::id) else { return Ok(()) };
        self.write_snapshot(last)?;
        if let Some(up_to) = self.snapshots.log_needed_after() {
            self.wal.compact(up_to, &mut self.disk);
        }
        self.settle()
    }

    fn installed_snapshot(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        let last = EntryId { term: Term(self.term() + 1), index: Index(self.next_index() + 2) };
        self.write_snapshot(last)?;
        let hard_state = HardState { term: last.term, vote: None };
        self.stage(&Persist {
            hard_state: Some(hard_state),
            snapshot: Some(meta(last)),
            entries: Vec::new(),
        });
        self.submit();
        self.settle()
    }

    fn write_snapshot(&mut self, last: EntryId) -> Result<(), StorageError> {
        if self.model.snapshots.iter().any(|meta| meta.last == last) {
            return Ok(());
        }
        self.model.snapshots.push(meta(last));
        let mut writer = self.snapshots.begin_write(&mut self.disk, meta(last))?;
        for piece in snapshot_content(last).chunks(300) {
            writer.write(&mut self.disk, piece)?;
        }
        self.snapshots.finish_write(&mut self.disk, writer)?;
        Ok(())
    }

    fn spare(&mut self) -> Result<(), StorageError> {
        self.settle()?;
        if let Some(plan) = self.wal.wants_spare() {
            match plan.prepare(&mut self.disk)? {
                Some(spare) => self.wal.add_spare(spare),
                None => self.wal.no_room_for_spare(),
            }
        }
        Ok(())
    }

    fn take_answers(&mut self) -> Result<(), StorageError> {
        if self.is_held {
            for _ in 0..self.random.random_range(0..4) {
                self.disk.carry_out_next();
            }
        }
        while let Some(completion) = self.disk.complete() {
            if let Some(durable) = self.wal.completed(completion)? {
                self.acknowledge(durable);
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        while !self.wal.is_idle() {
            let completion = self.disk.wait();
            if let Some(durable) = self.wal.completed(completion)? {
                self.acknowledge(durable);
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, durable: BatchTicket) {
        self.in_flight.retain(|(ticket, place)| {
            if *ticket <= durable {
                self.model.acknowledged = *place;
            }
            *ticket > durable
        });
    }
}

pub(crate) fn meta(last: EntryId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Membership::new([NodeId(1), NodeId(2), NodeId(3)]) }
}

/// The content of the snapshot that a recovered node starts from must be what was written.
pub(crate) fn check_snapshot_content(files: &MemoryFiles, recovery: &Recovery) {
    let Some(meta) = &recovery.restored.snapshot else { return };
    let mut disk = MemoryDisk::new(files);
    let mut reader = recovery.snapshots.pin(meta.last).unwrap().reader(&mut disk).unwrap();
    let mut content = Vec::new();
    while let Some(piece) = reader.next_piece(&mut disk).unwrap() {
        content.extend_from_slice(&piece);
    }
    assert_eq!(content, snapshot_content(meta.last));
}
