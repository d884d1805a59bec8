//! A disk in memory that can lose, tear, fail and flip, the same way for the same seed.
//!
//! `MemoryFiles` is the machine with its page cache and platters: it outlives crashes. `MemoryDisk` is one process's
//! `Disk` on it. Crash tests and the simulator run the shipped storage code on these; what they may do to a disk:
//!
//! - switch the power off in the middle of the n-th operation, and decide what of the unsynced data and of the
//!   unsynced names survives: nothing, all, a prefix in time, or any sectors and names by dice;
//! - kill the process only, so that the page cache survives;
//! - let the n-th operation fail, or the first sync from there on; a failed sync drops what it should have written from the page cache's worries, as
//!   the kernel does: it still reads back, and a later sync says yes without writing it;
//! - bound the size of the disk, flip bits, hold operations back to be carried out later.
//!
//! It must never be kinder than a real disk: what was not synced is safe only by luck.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use super::disk::{Completion, Disk, DiskError, DiskOp, FileName, OpId, Outcome};
use super::memory_state::State;

/// What the power failure leaves of everything that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// All that was done before some moment drawn by dice.
    Prefix,
    /// Each sector and each name by dice, in no order; a rename stays one step.
    Torn,
}

/// One machine's data directory, shared by all its `MemoryDisk`s and all its lives.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<State>>);

impl MemoryFiles {
    /// An empty directory on an endless, faultless disk.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    /// How many operations were carried out, failed ones included, since the beginning.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The power goes off in the middle of the operation of this number (the first is 0): it is carried out as far as
    /// the page cache, as is what comes behind it up to a sync of the directory, and nothing is answered any more until
    /// `lose_power`.
    pub fn switch_off_at(&self, operation: u64) {
        self.lock().off_at = Some(operation);
    }

    /// The operation of this number (the first is 0) fails.
    pub fn fail_at(&self, operation: u64) {
        self.lock().fail_at = Some(operation);
    }

    /// The first sync from the operation of this number (the first is 0) on fails: of a file, of the directory, or of what
    /// is written with one.
    pub fn fail_sync_from(&self, operation: u64) {
        self.lock().fail_sync_from = Some(operation);
    }

    /// All files together may have this many bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = Some(bytes);
    }

    /// Whether the power is off or the planned failure has happened.
    pub fn fault_has_happened(&self) -> bool {
        let state = self.lock();
        state.is_off || state.has_failed
    }

    /// The power fails and comes back: what survives is on the platters, the faults are forgotten, and all disks made
    /// before are dead.
    pub fn lose_power(&self, unsynced: Unsynced, seed: u64) {
        self.lock().lose_power(unsynced, &mut ChaCha8Rng::seed_from_u64(seed));
    }

    /// The process dies and its page cache stays; the faults are forgotten, and all disks made before are dead.
    pub fn kill_process(&self) {
        self.lock().begin_new_life();
    }

    /// Flips one bit of a file, on the platters and in the cache. False if the file has no such byte.
    pub fn flip_bit(&self, file: &FileName, offset: u64, bit: u32) -> bool {
        self.lock().flip_bit(file, offset, bit)
    }

    /// The names and contents of all files as a process sees them now.
    pub fn contents(&self) -> Vec<(FileName, Vec<u8>)> {
        self.lock().contents()
    }

    /// An independent copy: the same files, faults forgotten.
    pub fn fork(&self) -> MemoryFiles {
        let mut copy = self.lock().clone();
        copy.begin_new_life();
        MemoryFiles(Arc::new(Mutex::new(copy)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing under this lock panics")
    }
}

/// One process's view of `MemoryFiles`.
#[derive(Debug)]
pub struct MemoryDisk {
    files: MemoryFiles,
    life: u64,
    is_held: bool,
    /// Submitted and not yet carried out.
    held: VecDeque<(OpId, DiskOp)>,
    completions: VecDeque<Completion>,
    next_id: u64,
    poisoned: Option<Arc<str>>,
}

impl MemoryDisk {
    /// A disk that carries every operation out when it is submitted.
    pub fn new(files: &MemoryFiles) -> MemoryDisk {
        MemoryDisk {
            files: files.clone(),
            life: files.lock().life,
            is_held: false,
            held: VecDeque::new(),
            completions: VecDeque::new(),
            next_id: 0,
            poisoned: None,
        }
    }

    /// A disk that holds every operation back until `carry_out_next`, or until somebody waits.
    pub fn held(files: &MemoryFiles) -> MemoryDisk {
        MemoryDisk { is_held: true, ..MemoryDisk::new(files) }
    }

    /// Carries the oldest held operation out. False when none is held.
    pub fn carry_out_next(&mut self) -> bool {
        match self.held.pop_front() {
            Some((id, op)) => {
                self.carry_out(id, op);
                true
            }
            None => false,
        }
    }

    /// How many operations are held back.
    pub fn held_operations(&self) -> usize {
        self.held.len()
    }

    /// Carries out what is held as far as the page cache and answers none of it: a disk that works on many operations
    /// at once when the power fails. A sync of the directory lets nothing past. Nothing may be submitted any more.
    pub fn begin_held(&mut self) {
        let mut state = self.files.lock();
        for (_, op) in self.held.drain(..) {
            state.begin(op);
        }
        state.is_off = true;
    }

    fn carry_out(&mut self, id: OpId, op: DiskOp) {
        let result = self.execute(op);
        self.completions.push_back(Completion { id, result });
    }

    fn execute(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        let mut state = self.files.lock();
        if let Some(first) = &self.poisoned {
            if state.is_off {
                state.begin(op);
            }
            return Err(DiskError::Poisoned { first: Arc::clone(first) });
        }
        let (changes, survives) = (op.changes(), op.survives());
        assert_eq!(state.life, self.life, "a process that died goes on using its disk");
        let result = state.execute(op);
        if let Err(error) = &result
            && changes
            && !(survives && matches!(error, DiskError::Full { .. }))
            && !raft_core::planted::is("failed-sync-retried")
        {
            self.poisoned = Some(Arc::from(error.to_string()));
        }
        result
    }
}

impl Disk for MemoryDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        if self.is_held {
            self.held.push_back((id, op));
        } else {
            self.carry_out(id, op);
        }
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn wait(&mut self) -> Completion {
        while self.completions.is_empty() {
            assert!(self.carry_out_next(), "nobody waits for a disk that has nothing to do");
        }
        self.completions.pop_front().expect("there is one")
    }
}
