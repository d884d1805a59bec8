//! One node under test: a core, a disk that can lose what is not synced, and a state machine.
//!
//! It plays the driver as the core's documentation asks: one writer that takes all that waits, syncs once, reports,
//! then sends what waited. The disk keeps what was synced, and of an interrupted write any prefix.

use std::collections::VecDeque;

use raft_core::{
    Config, Entry, EntryId, HardState, Index, Message, Payload, Persist, RawNode, ReadState, Ready, Restored,
    SnapshotMeta, Term,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// A state machine: a chain of hashes over what was applied, so that equal state is one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) last: EntryId,
    pub(crate) hash: u64,
}

impl Machine {
    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.index, self.last.index.next(), "entries come in order, each once");
        self.last = entry.id();
        self.mix(entry.term.0);
        if let Payload::Command(command) = &entry.payload {
            command.iter().for_each(|byte| self.mix(u64::from(*byte)));
        }
    }

    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// A snapshot file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) meta: SnapshotMeta,
    pub(crate) machine: Machine,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The snapshot the log begins behind.
    pub(crate) file: Option<File>,
    pub(crate) entries: Vec<Entry>,
    /// Received files whose marker is not written yet.
    received: Vec<File>,
}

impl Disk {
    pub(crate) fn snapshot_index(&self) -> Index {
        self.file.as_ref().map_or(Index::ZERO, |file| file.meta.last.index)
    }

    /// Whether the entry, or a snapshot that contains it, is durable here.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index <= self.snapshot_index() || self.entries.iter().any(|entry| entry.id() == id)
    }

    fn write(&mut self, persist: Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(meta) = persist.snapshot {
            let place = self.received.iter().position(|file| file.meta == meta).expect("the file came first");
            let file = self.received.swap_remove(place);
            if !self.entries.iter().any(|entry| entry.id() == meta.last) {
                self.entries.clear();
            }
            self.entries.retain(|entry| entry.index > meta.last.index);
            self.file = Some(file);
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            let last = self.entries.last().map_or(self.snapshot_index(), |entry| entry.index);
            assert!(first.index == last.next() || self.entries.is_empty(), "no gap in the log on disk");
            self.entries.extend(persist.entries);
        }
    }
}

/// One Ready's worth of work for the writer.
#[derive(Debug)]
struct Work {
    persist: Option<Persist>,
    messages: Vec<Message>,
}

/// Something handed out to be applied.
#[derive(Debug)]
enum Apply {
    Restore(File),
    Entries(Vec<Entry>),
}

/// What a node did while it was served.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) messages: Vec<Message>,
    pub(crate) applied: Vec<Machine>,
    pub(crate) reads: Vec<ReadState>,
    pub(crate) send_snapshots: Vec<(raft_core::NodeId, Term)>,
    pub(crate) installed: Vec<SnapshotMeta>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    /// None while it is down.
    pub(crate) core: Option<RawNode>,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    queue: VecDeque<Work>,
    /// What is being written, and when it will be durable.
    writing: Option<(u64, Vec<Work>)>,
    /// What was handed out and not applied yet, when the state machine looks again, and how long it rests between.
    backlog: VecDeque<Apply>,
    apply_at: u64,
    pub(crate) apply_ms: u64,
    starts: u64,
}

impl Node {
    pub(crate) fn new(config: Config) -> Node {
        let mut node = Node {
            config,
            core: None,
            disk: Disk::default(),
            machine: Machine::default(),
            queue: VecDeque::new(),
            writing: None,
            backlog: VecDeque::new(),
            apply_at: 0,
            apply_ms: 0,
            starts: 0,
        };
        node.start(0);
        node
    }

    /// Comes up with what the disk holds.
    pub(crate) fn start(&mut self, seed: u64) {
        assert!(self.core.is_none(), "it is up already");
        self.starts += 1;
        let rng = ChaCha8Rng::seed_from_u64(seed ^ (self.config.node_id.0 << 32) ^ (self.starts << 48));
        let restored = Restored {
            hard_state: self.disk.hard_state,
            snapshot: self.disk.file.as_ref().map(|file| file.meta.clone()),
            entries: self.disk.entries.clone(),
        };
        self.machine = self.disk.file.as_ref().map_or(Machine::default(), |file| file.machine);
        self.core = Some(RawNode::new(self.config.clone(), restored, rng));
    }

    /// Goes down. Of what was being written a prefix has reached the disk; `survivors` says how much of so much.
    pub(crate) fn crash(&mut self, survivors: impl FnOnce(usize) -> usize) {
        self.core = None;
        self.queue.clear();
        self.backlog.clear();
        if let Some((_, batch)) = self.writing.take() {
            let survivors = survivors(batch.len());
            for work in batch.into_iter().take(survivors) {
                if let Some(persist) = work.persist {
                    self.disk.write(persist);
                }
            }
        }
        self.disk.received.clear();
    }

    /// Whether [`Self::serve`] would do anything.
    pub(crate) fn has_work(&self, now: u64) -> bool {
        self.core.as_ref().is_some_and(RawNode::has_ready)
            || !self.backlog.is_empty() && now >= self.apply_at
            || match &self.writing {
                Some((due, _)) => *due <= now,
                None => !self.queue.is_empty(),
            }
    }

    /// Takes every Ready there is, and finishes the write that is due by `now`; a new one takes `disk_ms`.
    pub(crate) fn serve(&mut self, now: u64, disk_ms: u64, done: &mut Done) {
        loop {
            self.take_readys(done);
            if self.apply_backlog(now, done) {
                continue;
            }
            if self.writing.is_none() && !self.queue.is_empty() {
                self.writing = Some((now + disk_ms, self.queue.drain(..).collect()));
            }
            match self.writing.take_if(|(due, _)| *due <= now) {
                Some((_, batch)) => self.finish_write(batch, done),
                None => return,
            }
        }
    }

    fn take_readys(&mut self, done: &mut Done) {
        while let Some(core) = self.core.as_mut().filter(|core| core.has_ready()) {
            let ready = core.ready();
            assert!(!ready.is_empty(), "has_ready promised something");
            self.take(ready, done);
        }
    }

    fn take(&mut self, ready: Ready, done: &mut Done) {
        done.messages.extend(ready.messages);
        done.reads.extend(ready.read_states);
        done.send_snapshots.extend(ready.send_snapshots);
        if ready.persist.is_some() || !ready.messages_after_persist.is_empty() {
            self.queue.push_back(Work { persist: ready.persist, messages: ready.messages_after_persist });
        }
        if let Some(meta) = &ready.restore {
            let file =
                self.disk.received.iter().find(|file| file.meta == *meta).expect("the file came first");
            self.backlog.push_back(Apply::Restore(file.clone()));
        }
        if !ready.committed.is_empty() {
            self.backlog.push_back(Apply::Entries(ready.committed));
        }
    }

    /// Applies what was handed out, if it is time; returns whether the core was told of anything.
    fn apply_backlog(&mut self, now: u64, done: &mut Done) -> bool {
        if self.backlog.is_empty() || now < self.apply_at {
            return false;
        }
        self.apply_at = now + self.apply_ms;
        for apply in self.backlog.drain(..) {
            match apply {
                Apply::Restore(file) => {
                    assert!(file.machine.last.index > self.machine.last.index, "a restore never goes back");
                    self.machine = file.machine;
                    done.applied.push(self.machine);
                }
                Apply::Entries(entries) => {
                    for entry in &entries {
                        self.machine.apply(entry);
                        done.applied.push(self.machine);
                    }
                }
            }
        }
        self.core.as_mut().expect("who applies is up").applied(self.machine.last.index);
        true
    }

    fn finish_write(&mut self, batch: Vec<Work>, done: &mut Done) {
        for Work { persist, messages } in batch {
            if let Some(persist) = persist {
                let last = persist.entries.last().map(Entry::id);
                let snapshot = persist.snapshot.clone();
                self.disk.write(persist);
                let core = self.core.as_mut().expect("who writes is up");
                if let Some(meta) = snapshot {
                    core.snapshot_installed(&meta);
                    done.installed.push(meta);
                }
                if let Some(id) = last {
                    core.persisted(id);
                }
            }
            done.messages.extend(messages);
        }
    }

    /// Takes a local snapshot and lets the core forget what it holds.
    pub(crate) fn snapshot(&mut self) -> bool {
        let Some(core) = self.core.as_mut() else { return false };
        if self.machine.last.index <= self.disk.snapshot_index() {
            return false;
        }
        let Some(membership) = core.membership_at(self.machine.last.index).cloned() else { return false };
        let meta = SnapshotMeta { last: self.machine.last, membership };
        if !core.compact(meta.clone()) {
            return false;
        }
        self.disk.entries.retain(|entry| entry.index > meta.last.index);
        self.disk.file = Some(File { meta, machine: self.machine });
        true
    }

    /// A snapshot file arrived whole.
    pub(crate) fn receive(&mut self, file: File) -> raft_core::InstallVerdict {
        self.disk.received.push(file.clone());
        let core = self.core.as_mut().expect("who receives is up");
        let verdict = core.install_snapshot(file.meta.clone());
        if verdict == raft_core::InstallVerdict::NotNeeded {
            self.disk.received.retain(|kept| kept.meta != file.meta);
        }
        verdict
    }

    pub(crate) fn status(&self) -> raft_core::Status {
        self.core.as_ref().expect("it is up").status()
    }
}
