//! The log writer: everything that waits becomes one write and one fdatasync, then what waited for it leaves.
//!
//! Order is the whole point. Work comes in the order of the Readys; persists and messages keep it. A batch that
//! persists nothing still waits behind what is in flight: a repeated append must not acknowledge an entry whose first
//! copy is unsynced. A failed write or sync is never retried: the node stops.

use std::collections::VecDeque;
use std::time::Duration;

use raft_core::{EntryId, Index, Message, Persist, SnapshotMeta, planted};

use crate::driver::{RaftNode, Taken};
use crate::storage::disk::{Completion, Disk};
use crate::storage::wal::{BatchTicket, Spare, SparePlan, Wal, WalError};

/// How long the log must be idle before a seal says that its last batch is durable.
const SEAL_AFTER: Duration = Duration::from_millis(500);

/// Segments that are let go in one turn. Each costs two operations of the disk, which votes and acknowledgements of
/// later turns wait behind; after the snapshot of a large store there may be hundreds to let go.
const SEGMENTS_LET_GO_PER_TURN: usize = 2;

/// How long the writer waits for other work before it lets more segments go.
const LETTING_GO_PAUSE: Duration = Duration::from_millis(1);

/// One piece of work, in the order it came.
#[derive(Debug)]
pub enum LogItem {
    /// The part of a Ready that concerns the disk.
    Ready {
        /// What to persist.
        persist: Option<Persist>,
        /// What may leave once this and everything before it is durable.
        messages: Vec<Message>,
    },
    /// A snapshot up to here is durable: segments that end before it are not needed any more.
    Compact(Index),
    /// A prepared file for a later segment.
    Spare(Spare),
}

/// What a batch brings about when it is durable.
#[derive(Debug, Default)]
struct Effects {
    persisted: Option<EntryId>,
    installed: Vec<SnapshotMeta>,
    messages: Vec<Message>,
}

/// The writer, its log and its disk.
pub struct LogWriter {
    wal: Wal,
    disk: Box<dyn Disk>,
    /// Batches on their way to the disk, oldest first.
    in_flight: VecDeque<(BatchTicket, Effects)>,
    taken: Vec<LogItem>,
    /// Segments up to here are to be let go, some in each turn.
    let_go_up_to: Option<Index>,
    prepare_spare: Box<dyn Fn(SparePlan) -> bool + Send>,
}

impl LogWriter {
    /// A writer of `wal` on `disk`. `prepare_spare` is asked to have a file for a later segment made, which
    /// comes back as [`LogItem::Spare`]; false means that it cannot be done now.
    pub fn new(
        wal: Wal,
        disk: Box<dyn Disk>,
        prepare_spare: impl Fn(SparePlan) -> bool + Send + 'static,
    ) -> LogWriter {
        let (in_flight, taken) = Default::default();
        let prepare_spare = Box::new(prepare_spare);
        LogWriter { wal, disk, in_flight, taken, let_go_up_to: None, prepare_spare }
    }

    /// The `log-writer` thread: turns until the work list is closed and done and the log sealed, or the disk breaks.
    pub fn run(&mut self, node: &RaftNode) {
        loop {
            let patience = match self.wants_turn() {
                true => Some(LETTING_GO_PAUSE),
                false => self.wal.wants_seal().then_some(SEAL_AFTER),
            };
            let taken = node.log_work().wait_take(&mut self.taken, patience);
            match taken {
                Taken::Work => self.turn(node),
                Taken::Idle if self.wants_turn() => self.turn(node),
                Taken::Idle | Taken::Closed => self.seal(),
            }
            while !self.wal.is_idle() {
                let completion = self.disk.wait();
                if let Err(error) = self.completed(completion, node) {
                    return node.fail(&format!("its log: {error}"));
                }
            }
            if taken == Taken::Closed {
                return;
            }
        }
    }

    /// Takes all work there is and hands it to the disk as one batch, without waiting for it.
    pub fn turn(&mut self, node: &RaftNode) {
        node.log_work().take(&mut self.taken);
        let mut effects = Effects::default();
        for item in self.taken.drain(..) {
            match item {
                LogItem::Ready { persist, messages } => {
                    if let Some(persist) = persist {
                        self.wal.append(&persist);
                        effects.note(persist);
                    }
                    effects.messages.extend(messages);
                }
                LogItem::Compact(up_to) => self.let_go_up_to = self.let_go_up_to.max(Some(up_to)),
                LogItem::Spare(spare) => self.wal.add_spare(spare),
            }
        }
        if planted::is("messages-sent-before-the-sync") {
            node.send(std::mem::take(&mut effects.messages));
        }
        match self.wal.submit(&mut *self.disk) {
            Some(_) if planted::is("persisted-reported-before-the-sync") => effects.happen(node),
            Some(ticket) => self.in_flight.push_back((ticket, effects)),
            None if planted::is("messages-overtake-the-writes-before-them") => effects.happen(node),
            None => match self.in_flight.back_mut() {
                Some((_, last)) => last.messages.extend(effects.messages),
                None => effects.happen(node),
            },
        }
        // Behind the batch, which somebody waits for.
        self.let_go_up_to = self
            .let_go_up_to
            .filter(|up_to| self.wal.compact_some(*up_to, SEGMENTS_LET_GO_PER_TURN, &mut *self.disk));
        if let Some(plan) = self.wal.wants_spare()
            && !(self.prepare_spare)(plan)
        {
            self.wal.no_spare_comes();
        }
    }

    /// Whether there is something to go on with although no work may have come.
    pub fn wants_turn(&self) -> bool {
        self.let_go_up_to.is_some()
    }

    /// Takes one answer of the disk; what its batch brought about happens now.
    ///
    /// # Errors
    /// When the disk failed: nothing may be written or promised any more.
    pub fn completed(&mut self, completion: Completion, node: &RaftNode) -> Result<(), WalError> {
        let Some(durable) = self.wal.completed(completion)? else { return Ok(()) };
        while let Some((ticket, _)) = self.in_flight.front()
            && *ticket <= durable
        {
            let (_, effects) = self.in_flight.pop_front().expect("there is a front");
            effects.happen(node);
        }
        Ok(())
    }

    /// The disk's next answer, if it is there. The simulator's way of waiting.
    pub fn disk(&mut self) -> &mut dyn Disk {
        &mut *self.disk
    }

    /// Says on disk that everything is durable, if that is not said yet.
    pub fn seal(&mut self) {
        // A seal brings nothing about; its completion only has to succeed.
        let _ = self.wal.seal(&mut *self.disk);
    }
}

impl Effects {
    fn note(&mut self, persist: Persist) {
        if let Some(meta) = persist.snapshot {
            self.installed.push(meta);
        }
        if let Some(last) = persist.entries.last() {
            self.persisted = Some(last.id());
        }
    }

    fn happen(self, node: &RaftNode) {
        rpc::corked(|| {
            if self.persisted.is_some() || !self.installed.is_empty() {
                // A node that has stopped meanwhile has nothing to tell.
                let _ = node.with_core(|core| {
                    for meta in &self.installed {
                        core.snapshot_installed(meta);
                    }
                    if let Some(id) = self.persisted {
                        core.persisted(id);
                    }
                });
            }
            node.send(self.messages);
        });
    }
}
