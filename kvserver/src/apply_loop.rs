//! The apply-loop: the only writer of the state machine.
//!
//! It takes committed entries from the queue, applies at most [`ENTRIES_PER_LOCK`] of them under one write lock,
//! and answers their waiters after it. When the applied log has outgrown its bound it freezes the state between
//! two entries and leaves the writing of the snapshot to the snapshotter. Behind which entry follows from the log alone,
//! so that the nodes have snapshots of the same instants, and one can go on with what another began to send.

use std::sync::Arc;

use log::info;
use raft::core::{Entry, EntryId, Payload, SnapshotMeta};
use raft::driver::{ApplyMsg, RaftNode};
use raft::sync::LockQueue;

use crate::outcome::{Answer, send_all};
use crate::read_gate::ReadGate;
use crate::shared_state::SharedState;
use crate::snapshotter::SnapshotDesk;
use crate::state_machine::{Frozen, Reply};
use crate::waiters::Waiters;

/// Entries applied under one write lock: readers wait no longer than this takes.
pub const ENTRIES_PER_LOCK: usize = 64;

/// Messages taken from the queue at once.
const MESSAGES_PER_TURN: usize = 64;

/// A snapshot is due when the log applied since the last one is this many times as large as that one was: writing
/// snapshots then costs at most this part of what writing the log costs.
const LOG_BYTES_PER_SNAPSHOT_BYTE: u64 = 4;

/// When a snapshot is due, by what the entries applied since the last one weigh, as the core counts them.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRule {
    /// Not before this much; nor before four times as much as the last snapshot has, so that a big store is not written
    /// over and over.
    pub log_bytes: u64,
    /// But then at the latest: the log in memory is bounded, and only a snapshot shortens it.
    pub log_bytes_max: u64,
}

/// The apply-loop's own state.
pub struct ApplyLoop {
    node: Arc<RaftNode>,
    state: Arc<SharedState>,
    waiters: Arc<Waiters>,
    gate: Arc<ReadGate>,
    desk: Arc<SnapshotDesk>,
    last: EntryId,
    log_bytes: u64,
    snapshot_rule: SnapshotRule,
    /// A snapshot could not be restored: nothing after it can be applied.
    broken: bool,
    replies: Vec<(EntryId, Reply)>,
    answers: Vec<Answer>,
}

impl ApplyLoop {
    /// A loop over `state`, which is of `last`.
    pub fn new(
        node: Arc<RaftNode>,
        state: Arc<SharedState>,
        waiters: Arc<Waiters>,
        gate: Arc<ReadGate>,
        desk: Arc<SnapshotDesk>,
        last: EntryId,
        snapshot_rule: SnapshotRule,
    ) -> ApplyLoop {
        assert_eq!(last.index.0, state.applied_index(), "the loop starts where the state is");
        let (replies, answers) = Default::default();
        ApplyLoop {
            node,
            state,
            waiters,
            gate,
            desk,
            last,
            log_bytes: 0,
            snapshot_rule,
            broken: false,
            replies,
            answers,
        }
    }

    /// The `apply-loop` thread: a turn for whatever the queue holds, until it is closed and empty.
    pub fn run(&mut self, queue: &LockQueue<ApplyMsg>) {
        let mut messages = Vec::new();
        while queue.pop_batch_into(&mut messages, MESSAGES_PER_TURN) {
            self.turn(messages.drain(..));
        }
    }

    /// Applies `messages`, answers who waits for them and tells the core how far it got.
    pub fn turn(&mut self, messages: impl Iterator<Item = ApplyMsg>) {
        for message in messages {
            if self.broken {
                return;
            }
            match message {
                ApplyMsg::Entries(entries) => {
                    for chunk in entries.chunks(ENTRIES_PER_LOCK) {
                        self.apply(chunk);
                    }
                }
                ApplyMsg::Restore(meta) => self.restore(&meta),
                ApplyMsg::SnapshotDone => self.catch_up_on_snapshot(),
            }
        }
        let applied = self.last.index;
        // A stopped node applies what its queue still holds; nobody asks it how far it got.
        let _ = self.node.with_core(|core| core.applied(applied));
        self.gate.open();
    }

    fn apply(&mut self, entries: &[Entry]) {
        let due = self.snapshot_due();
        let mut frozen = None;
        let mut machine = self.state.write();
        for entry in entries {
            assert_eq!(entry.index.0, self.last.index.0 + 1, "entries are applied without a gap");
            self.last = EntryId { term: entry.term, index: entry.index };
            match &entry.payload {
                Payload::Noop | Payload::Membership(_) => machine.apply_noop(entry.index.0),
                Payload::Command(command) => {
                    let reply = machine.apply(entry.index.0, command);
                    self.replies.push((self.last, reply));
                }
            }
            self.log_bytes += entry.weight_bytes();
            if frozen.is_none() && due.is_some_and(|due| self.log_bytes >= due) {
                let instant = machine.freeze(entry.index.0, entry.term.0);
                let instant =
                    instant.expect("the snapshotter holds one pin and the state machine has room for more");
                frozen = Some((instant, self.last, std::mem::take(&mut self.log_bytes)));
            }
        }
        drop(machine);
        self.waiters.applied(&mut self.replies, &mut self.answers);
        send_all(self.answers.drain(..));
        if let Some((instant, last, log_bytes)) = frozen {
            self.begin_snapshot(instant, last, log_bytes);
        }
    }

    /// Leaves it to the snapshotter; if that has no room for the task, a snapshot is still due.
    fn begin_snapshot(&mut self, instant: Frozen, last: EntryId, log_bytes: u64) {
        if self.desk.write(instant, last).is_err() {
            self.log_bytes += log_bytes;
        }
    }

    /// The one before took so long that another fell due meanwhile: it is of this instant then.
    fn catch_up_on_snapshot(&mut self) {
        if self.snapshot_due().is_some_and(|due| self.log_bytes >= due) {
            let instant = self.state.write().freeze(self.last.index.0, self.last.term.0);
            let instant =
                instant.expect("the snapshotter holds one pin and the state machine has room for more");
            let log_bytes = std::mem::take(&mut self.log_bytes);
            self.begin_snapshot(instant, self.last, log_bytes);
        }
    }

    /// After how many bytes of log the state is to be frozen; not while the snapshot before is still being written.
    fn snapshot_due(&self) -> Option<u64> {
        let SnapshotRule { log_bytes, log_bytes_max } = self.snapshot_rule;
        let in_proportion = LOG_BYTES_PER_SNAPSHOT_BYTE.saturating_mul(self.desk.newest_bytes());
        (!self.desk.is_writing()).then(|| log_bytes.max(in_proportion).min(log_bytes_max))
    }

    /// Replaces the state by that of the snapshot file, which is durable and checked already.
    fn restore(&mut self, meta: &SnapshotMeta) {
        if meta.last.index <= self.last.index {
            return;
        }
        match self.desk.load(meta) {
            Ok(machine) => {
                // The old state is large: it is dropped after the readers have the lock again.
                let old = std::mem::replace(&mut *self.state.write(), machine);
                drop(old);
                self.last = meta.last;
                self.log_bytes = 0;
                info!("the state is now that of the snapshot at index {}", meta.last.index);
            }
            Err(error) => {
                self.broken = true;
                self.node.fail(&format!("its snapshot at index {}: {error}", meta.last.index));
            }
        }
    }
}
