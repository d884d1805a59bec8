//! What `super::memory` remembers: files as a process sees them, as the platters have them, and the steps between.
//!
//! Every change is made to the live view at once and kept as a pending step. A sync plays the steps of one file, or of
//! the directory, onto the durable side. A power failure plays some of them and throws the rest away. File names and
//! file contents are apart: a synced file whose name was not synced is gone, as POSIX permits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::disk::{DiskError, DiskOp, FileEntry, FileName, Outcome};
use super::memory::Unsynced;

/// A disk writes this many bytes at once or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// The whole machine.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<FileName, u64>,
    durable_names: BTreeMap<FileName, u64>,
    pending_names: Vec<NameStep>,
    next_content: u64,
    /// Counts steps of files and of the directory together: their order in time.
    clock: u64,
    pub(super) operations: u64,
    pub(super) off_at: Option<u64>,
    pub(super) fail_at: Option<u64>,
    pub(super) fail_sync_from: Option<u64>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) is_off: bool,
    pub(super) has_failed: bool,
    /// The power went off in a sync of the directory, which lets nothing past.
    is_at_barrier: bool,
    /// Counts crashes and kills; a disk of an earlier life is dead.
    pub(super) life: u64,
}

#[derive(Debug, Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<ContentStep>,
}

#[derive(Debug, Clone)]
struct ContentStep {
    when: u64,
    change: ContentChange,
}

#[derive(Debug, Clone)]
enum ContentChange {
    Write { offset: usize, bytes: Vec<u8> },
    Zeros { bytes: usize },
    Truncate { bytes: usize },
}

/// Names that change together: a rename takes one away and gives one.
#[derive(Debug, Clone)]
struct NameStep {
    when: u64,
    changes: Vec<(FileName, Option<u64>)>,
}

impl State {
    /// Carries one operation out, as far as the faults let it.
    pub(super) fn execute(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        let number = self.operations;
        self.operations += 1;
        if self.is_off {
            let error = io_error(&op, "the power is off");
            self.begin(op);
            return Err(error);
        }
        let goes_off = self.off_at == Some(number);
        let fails_as_sync = is_sync(&op) && self.fail_sync_from.take_if(|from| *from <= number).is_some();
        if goes_off || fails_as_sync || self.fail_at == Some(number) {
            let text = if goes_off { "the power is off" } else { "injected failure" };
            let error = io_error(&op, text);
            self.is_off = goes_off;
            self.has_failed = true;
            if goes_off {
                self.begin(op);
            } else {
                self.half_do(op, false);
            }
            return Err(error);
        }
        self.check_capacity(&op)?;
        self.perform(op)
    }

    /// Does an operation as far as the page cache, as a disk does before it answers.
    pub(super) fn begin(&mut self, op: DiskOp) {
        self.is_at_barrier |= op == DiskOp::SyncDirectory;
        if !self.is_at_barrier {
            self.half_do(op, true);
        }
    }

    /// What a failing operation leaves behind: the page cache may have it in part, the platters do not.
    fn half_do(&mut self, op: DiskOp, goes_off: bool) {
        match op {
            DiskOp::Write { file, offset, mut bytes, sync } => {
                if !goes_off && !sync {
                    bytes.truncate(bytes.len() / 2);
                }
                // A missing file would have been the operation's error anyway.
                let _ = self.write(&file, offset, bytes);
                if !goes_off && sync {
                    self.forget_pending(&file);
                }
            }
            DiskOp::Sync { file } if !goes_off => self.forget_pending(&file),
            DiskOp::Sync { .. }
            | DiskOp::SyncDirectory
            | DiskOp::Read { .. }
            | DiskOp::Forget { .. }
            | DiskOp::List => {}
            op if goes_off => {
                let _ = self.perform(op);
            }
            _ => {}
        }
    }

    fn perform(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        match op {
            DiskOp::Create { ref file, zero_filled_bytes: bytes } | DiskOp::Reserve { ref file, bytes } => {
                if self.names.contains_key(file) {
                    return Err(io_error(&op, "the file exists"));
                }
                self.create(file.clone(), bytes as usize);
            }
            DiskOp::Write { file, offset, bytes, sync } => {
                if sync {
                    self.content("write", &file)?.write_synced(offset as usize, &bytes);
                } else {
                    self.write(&file, offset, bytes.clone())?;
                }
                return Ok(Outcome::Written(bytes));
            }
            DiskOp::Read { file, offset, bytes } => {
                let live = &self.content("read", &file)?.live;
                let start = (offset as usize).min(live.len());
                let end = start.saturating_add(bytes).min(live.len());
                return Ok(Outcome::Read(Bytes::copy_from_slice(&live[start..end])));
            }
            DiskOp::Sync { file } => self.content("sync", &file)?.sync(),
            DiskOp::Forget { file, .. } => drop(self.content("forget", &file)?),
            DiskOp::Truncate { file, bytes } => {
                let when = self.tick();
                let change = ContentChange::Truncate { bytes: bytes as usize };
                self.content("truncate", &file)?.add(when, change);
            }
            DiskOp::Rename { from, to } => {
                let Some(content) = self.names.get(&from).copied() else {
                    return Err(DiskError::NotFound { operation: "rename", file: from });
                };
                self.change_names(vec![(from, None), (to, Some(content))]);
            }
            DiskOp::Remove { file } => {
                if !self.names.contains_key(&file) {
                    return Err(DiskError::NotFound { operation: "remove", file });
                }
                self.change_names(vec![(file, None)]);
            }
            DiskOp::List => return Ok(Outcome::Files(self.list())),
            DiskOp::SyncDirectory => {
                for step in std::mem::take(&mut self.pending_names) {
                    apply_names(&mut self.durable_names, &step.changes);
                }
                self.drop_nameless();
            }
        }
        Ok(Outcome::Done)
    }

    fn list(&self) -> Vec<FileEntry> {
        let entry = |(file, content): (&FileName, &u64)| {
            let bytes = self.contents[content].live.len() as u64;
            FileEntry { file: file.clone(), bytes }
        };
        self.names.iter().map(entry).collect()
    }

    fn create(&mut self, file: FileName, zeros: usize) {
        let number = self.next_content;
        self.next_content += 1;
        let when = self.tick();
        let mut content = Content::default();
        if zeros > 0 {
            content.add(when, ContentChange::Zeros { bytes: zeros });
        }
        self.contents.insert(number, content);
        self.change_names(vec![(file, Some(number))]);
    }

    fn write(&mut self, file: &FileName, offset: u64, bytes: Vec<u8>) -> Result<(), DiskError> {
        let when = self.tick();
        let content = self.content("write", file)?;
        content.add(when, ContentChange::Write { offset: offset as usize, bytes });
        Ok(())
    }

    fn content(&mut self, operation: &'static str, file: &FileName) -> Result<&mut Content, DiskError> {
        let content = self.names.get(file).and_then(|number| self.contents.get_mut(number));
        content.ok_or_else(|| DiskError::NotFound { operation, file: file.clone() })
    }

    fn change_names(&mut self, changes: Vec<(FileName, Option<u64>)>) {
        apply_names(&mut self.names, &changes);
        let when = self.tick();
        self.pending_names.push(NameStep { when, changes });
    }

    fn forget_pending(&mut self, file: &FileName) {
        if let Ok(content) = self.content("sync", file) {
            content.pending.clear();
        }
    }

    fn check_capacity(&self, op: &DiskOp) -> Result<(), DiskError> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let (file, end) = match op {
            DiskOp::Create { file, zero_filled_bytes } => (file, *zero_filled_bytes),
            DiskOp::Reserve { file, bytes } => (file, *bytes),
            DiskOp::Write { file, offset, bytes, .. } => (file, offset + bytes.len() as u64),
            _ => return Ok(()),
        };
        let own = self.names.get(file).map_or(0, |number| self.contents[number].live.len() as u64);
        let used: u64 = self.names.values().map(|number| self.contents[number].live.len() as u64).sum();
        if used + end.saturating_sub(own) > capacity {
            return Err(DiskError::Full { operation: op.name(), file: file.clone() });
        }
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// See `MemoryFiles::lose_power`.
    pub(super) fn lose_power(&mut self, unsynced: Unsynced, random: &mut ChaCha8Rng) {
        let cut = random.random_range(0..=self.clock);
        let mut lost: Vec<NameStep> = Vec::new();
        for step in std::mem::take(&mut self.pending_names) {
            let survives = match unsynced {
                Unsynced::Lost => false,
                Unsynced::Kept => true,
                Unsynced::Prefix => step.when <= cut,
                // A step on top of a lost one is lost with it: a file system never half-applies a name.
                Unsynced::Torn => random.random() && !lost.iter().any(|earlier| step.stands_on(earlier)),
            };
            if survives {
                apply_names(&mut self.durable_names, &step.changes);
            } else {
                lost.push(step);
            }
        }
        for content in self.contents.values_mut() {
            content.lose_power(unsynced, cut, random);
        }
        self.names.clone_from(&self.durable_names);
        self.drop_nameless();
        self.begin_new_life();
    }

    pub(super) fn begin_new_life(&mut self) {
        self.life += 1;
        (self.off_at, self.fail_at, self.fail_sync_from, self.capacity_bytes) = (None, None, None, None);
        (self.is_off, self.has_failed, self.is_at_barrier) = (false, false, false);
    }

    pub(super) fn flip_bit(&mut self, file: &FileName, offset: u64, bit: u32) -> bool {
        let Ok(content) = self.content("flip", file) else { return false };
        let Some(byte) = content.live.get_mut(offset as usize) else { return false };
        *byte ^= 1 << bit;
        if let Some(byte) = content.durable.get_mut(offset as usize) {
            *byte ^= 1 << bit;
        }
        true
    }

    pub(super) fn contents(&self) -> Vec<(FileName, Vec<u8>)> {
        let file = |(file, number): (&FileName, &u64)| (file.clone(), self.contents[number].live.clone());
        self.names.iter().map(file).collect()
    }

    /// Forgets contents that have no name on either side any more.
    fn drop_nameless(&mut self) {
        if self.contents.len() == self.names.len() {
            return;
        }
        let named: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.contents.retain(|number, _| named.contains(number));
    }
}

impl NameStep {
    /// Whether this step concerns a name or a file that `earlier` concerned.
    fn stands_on(&self, earlier: &NameStep) -> bool {
        let concerns_same = |(file, content): &(FileName, Option<u64>)| {
            let is_same = |(other, number): &(FileName, Option<u64>)| {
                file == other || (content.is_some() && content == number)
            };
            earlier.changes.iter().any(is_same)
        };
        self.changes.iter().any(concerns_same)
    }
}

impl Content {
    fn add(&mut self, when: u64, change: ContentChange) {
        change.apply(&mut self.live);
        self.pending.push(ContentStep { when, change });
    }

    fn write_synced(&mut self, offset: usize, bytes: &[u8]) {
        self.sync();
        write_at(&mut self.live, offset, bytes);
        write_at(&mut self.durable, offset, bytes);
    }

    fn sync(&mut self) {
        for step in self.pending.drain(..) {
            step.change.apply(&mut self.durable);
        }
    }

    fn lose_power(&mut self, unsynced: Unsynced, cut: u64, random: &mut ChaCha8Rng) {
        for step in std::mem::take(&mut self.pending) {
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Kept => step.change.apply(&mut self.durable),
                Unsynced::Prefix if step.when <= cut => step.change.apply(&mut self.durable),
                Unsynced::Prefix => {}
                Unsynced::Torn => step.change.apply_torn(&mut self.durable, random),
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl ContentChange {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            ContentChange::Write { offset, bytes } => write_at(to, *offset, bytes),
            // A new file: fresh zeros come without being written.
            ContentChange::Zeros { bytes } => *to = vec![0; *bytes],
            ContentChange::Truncate { bytes } => to.truncate(*bytes),
        }
    }

    fn apply_torn(&self, to: &mut Vec<u8>, random: &mut ChaCha8Rng) {
        match self {
            ContentChange::Write { offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    // Sectors are those of the file, not of the write.
                    let sector_end = (offset + at + 1).next_multiple_of(SECTOR_BYTES) - offset;
                    let end = sector_end.min(bytes.len());
                    if random.random() {
                        write_at(to, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            ContentChange::Zeros { bytes } => to.resize(random.random_range(0..=*bytes), 0),
            ContentChange::Truncate { .. } if random.random() => self.apply(to),
            ContentChange::Truncate { .. } => {}
        }
    }
}

fn write_at(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if to.len() < offset {
        to.resize(offset, 0);
    }
    let (inside, behind) = bytes.split_at(bytes.len().min(to.len() - offset));
    to[offset..offset + inside.len()].copy_from_slice(inside);
    to.extend_from_slice(behind);
}

fn apply_names(names: &mut BTreeMap<FileName, u64>, changes: &[(FileName, Option<u64>)]) {
    for (file, content) in changes {
        match content {
            Some(content) => names.insert(file.clone(), *content),
            None => names.remove(file),
        };
    }
}

fn is_sync(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Sync { .. } | DiskOp::SyncDirectory | DiskOp::Write { sync: true, .. })
}

fn io_error(op: &DiskOp, text: &str) -> DiskError {
    let file = op.file().map_or_else(|| "the data directory".to_owned(), FileName::to_string);
    DiskError::Io { operation: op.name(), file, text: text.to_owned() }
}
