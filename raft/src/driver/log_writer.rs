//! The log writer: everything that waits becomes one write and one fdatasync, then what waited for it leaves.
//!
//! Order is the whole point. Work comes in the order of the Readys; persists and messages keep it. A batch that
//! persists nothing still waits behind what is in flight: a repeated append must not acknowledge an entry whose first
//! copy is unsynced. A failed write or sync is never retried: the node stops.
//!
//! The core accepts only what the log's reserve has room for, of which it hears here. A disk that is full is asked again
//! and again, also by a writer that is never idle: heartbeats and offers of a leader come all the time.

use std::collections::VecDeque;
use std::time::Duration;

use log::{info, warn};
use raft_core::{Entry, EntryId, Index, LogRoom, Message, Persist, SnapshotMeta, planted};

use crate::driver::{Clock, RaftNode, SystemClock, Taken};
use crate::storage::disk::{Completion, Disk};
use crate::storage::wal::{BatchTicket, Spare, SparePlan, Wal, WalError};

/// How long the log must be idle before a seal says that its last batch is durable.
const SEAL_AFTER: Duration = Duration::from_millis(500);

/// How often a disk that is full is asked whether it has room.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

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
        /// Whether with this and everything before it the log has everything again that was acknowledged.
        heals: bool,
        /// What may leave once this and everything before it is durable.
        messages: Vec<Message>,
    },
    /// A snapshot up to here is durable: segments that end before it are not needed any more.
    Compact(Index),
    /// A prepared file for a later segment; none if there was no room for it.
    Spare(Option<Spare>),
}

/// What a batch brings about when it is durable.
#[derive(Debug, Default)]
struct Effects {
    persisted: Option<EntryId>,
    installed: Vec<SnapshotMeta>,
    /// Nothing that was acknowledged is missing any more, now that this is durable.
    heals: bool,
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
    /// What everything ever taken may cost of the log's room; the core counts the same.
    charged: u64,
    /// What the core was last told.
    told_room: Option<LogRoom>,
    /// When a disk that was full was last asked for room.
    asked_for_room: Option<Duration>,
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
        let (in_flight, taken, let_go_up_to, charged) = Default::default();
        let (told_room, asked_for_room) = Default::default();
        LogWriter {
            wal,
            disk,
            in_flight,
            taken,
            let_go_up_to,
            charged,
            told_room,
            asked_for_room,
            prepare_spare: Box::new(prepare_spare),
        }
    }

    /// The `log-writer` thread: turns until the work list is closed and done and the log sealed, or the disk breaks.
    pub fn run(&mut self, node: &RaftNode) {
        self.tell_room(node);
        loop {
            let patience = self.patience();
            let taken = node.log_work().wait_take(&mut self.taken, patience);
            self.go_on(taken, node, SystemClock.now());
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

    /// How long to wait for work when the disk is done with everything; None: until some comes.
    pub fn patience(&self) -> Option<Duration> {
        match (self.wants_turn(), self.lacks_room()) {
            (true, _) => Some(LETTING_GO_PAUSE),
            (false, true) => Some(ROOM_PATIENCE),
            (false, false) => self.wal.wants_seal().then_some(SEAL_AFTER),
        }
    }

    /// Goes on after that wait: with the work that came, or with what is done when none did in time. `now` is the time
    /// since any fixed moment. A disk that was full is asked for room by it, whatever there is to do besides.
    pub fn go_on(&mut self, waited: Taken, node: &RaftNode, now: Duration) {
        match waited {
            Taken::Work => self.turn(node),
            Taken::Idle if self.wants_turn() => self.turn(node),
            Taken::Idle | Taken::Closed => self.seal(),
        }
        let is_due = self.asked_for_room.is_none_or(|asked| now.saturating_sub(asked) >= ROOM_PATIENCE);
        if self.lacks_room() && is_due {
            self.asked_for_room = Some(now);
            self.wal.make_reserve(&mut *self.disk);
        }
    }

    /// Takes all work there is and hands it to the disk as one batch, without waiting for it.
    pub fn turn(&mut self, node: &RaftNode) {
        node.log_work().take(&mut self.taken);
        let mut effects = Effects::default();
        let (mut submitted, mut has_more_room) = (None, false);
        for item in std::mem::take(&mut self.taken) {
            match item {
                LogItem::Ready { persist, heals, messages } => {
                    if let Some(persist) = persist {
                        submitted = self.stage(&persist).or(submitted);
                        effects.note(persist);
                    }
                    effects.heals |= heals;
                    effects.messages.extend(messages);
                }
                LogItem::Compact(up_to) => self.let_go_up_to = self.let_go_up_to.max(Some(up_to)),
                LogItem::Spare(Some(spare)) => {
                    self.wal.add_spare(spare);
                    has_more_room = true;
                }
                LogItem::Spare(None) => self.wal.no_room_for_spare(),
            }
        }
        if planted::is("messages-sent-before-the-sync") {
            node.send(std::mem::take(&mut effects.messages));
        }
        let submitted = self.wal.submit(&mut *self.disk).or(submitted);
        match submitted {
            Some(_) if planted::is("persisted-reported-before-the-sync") => self.happen(effects, node, None),
            Some(ticket) => self.in_flight.push_back((ticket, effects)),
            None if planted::is("messages-overtake-the-writes-before-them") => {
                self.happen(effects, node, None)
            }
            None => match self.in_flight.back_mut() {
                Some((_, last)) => last.go_on_with(effects),
                None => self.happen(effects, node, None),
            },
        }
        if has_more_room {
            self.tell_room(node);
        }
        if self.wal.wants_reserve() {
            self.wal.make_reserve(&mut *self.disk);
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
    fn wants_turn(&self) -> bool {
        self.let_go_up_to.is_some() || self.wal.wants_reserve()
    }

    /// Whether the disk is full: it is to be asked again in a while.
    fn lacks_room(&self) -> bool {
        self.wal.is_short_of_room()
    }

    /// Stages what a Ready persists. What would make the batch too large for a reserved file goes into batches of its own,
    /// the last of which is returned if it is submitted already. A crash between two of them leaves what a shorter Ready
    /// would have.
    fn stage(&mut self, persist: &Persist) -> Option<BatchTicket> {
        self.charged += persist.charge_bytes();
        let bytes_max = self.wal.batch_bytes_max() / 2;
        let waiting: u64 = persist.entries.iter().map(Entry::weight_bytes).sum();
        if self.wal.staged_bytes() as u64 + waiting <= bytes_max {
            self.wal.append(persist);
            return None;
        }
        let mut submitted = self.wal.submit(&mut *self.disk);
        let (hard_state, snapshot) = (persist.hard_state, persist.snapshot.clone());
        self.wal.append(&Persist { hard_state, snapshot, entries: Vec::new() });
        for entry in &persist.entries {
            if self.wal.staged_bytes() as u64 + entry.weight_bytes() > bytes_max {
                submitted = self.wal.submit(&mut *self.disk).or(submitted);
            }
            let (hard_state, snapshot) = (None, None);
            self.wal.append(&Persist { hard_state, snapshot, entries: vec![entry.clone()] });
        }
        submitted
    }

    /// Tells the core what there is room for, if that is news. Before the first turn this has to be done once.
    pub fn tell_room(&mut self, node: &RaftNode) {
        if let Some(room) = self.room_if_changed() {
            // A node that has stopped accepts nothing.
            let _ = node.with_core(|core| core.log_room(room));
        }
    }

    fn room_if_changed(&mut self) -> Option<LogRoom> {
        if !self.wal.has_reserve() {
            return None;
        }
        let room = LogRoom {
            charge_max: self.charged + self.wal.room_bytes(),
            whole_bytes: self.wal.whole_room_bytes(),
            is_full: self.wal.is_short_of_room(),
        };
        let was_full = self.told_room.is_some_and(|told| told.is_full);
        match (was_full, room.is_full) {
            (false, true) => warn!(
                "the disk is full: the log has {} bytes left, and what does not fit is turned away until there is room",
                self.wal.room_bytes()
            ),
            (true, false) => info!("the disk has room again"),
            _ => {}
        }
        (self.told_room.replace(room) != Some(room)).then_some(room)
    }

    /// Takes one answer of the disk; what its batch brought about happens now.
    ///
    /// # Errors
    /// When the disk failed: nothing may be written or promised any more.
    pub fn completed(&mut self, completion: Completion, node: &RaftNode) -> Result<(), WalError> {
        let Some(durable) = self.wal.completed(completion)? else {
            self.tell_room(node);
            return Ok(());
        };
        while let Some((ticket, _)) = self.in_flight.front()
            && *ticket <= durable
        {
            let (_, effects) = self.in_flight.pop_front().expect("there is a front");
            let room = self.room_if_changed();
            self.happen(effects, node, room);
        }
        Ok(())
    }

    /// What waited for a batch happens. That the log is whole goes on record only behind what made it so: a crash between the
    /// two must not find a sound node without it.
    fn happen(&mut self, effects: Effects, node: &RaftNode, room: Option<LogRoom>) {
        if effects.heals {
            self.wal.healed(&mut *self.disk);
        }
        effects.happen(node, room);
    }

    /// The disk's next answer, if it is there. The simulator's way of waiting.
    pub fn disk(&mut self) -> &mut dyn Disk {
        &mut *self.disk
    }

    /// What an idle writer does: says on disk that everything is durable, if that is not said yet.
    fn seal(&mut self) {
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

    /// Takes on what waits for the same and brings nothing to the disk.
    fn go_on_with(&mut self, later: Effects) {
        self.heals |= later.heals;
        self.messages.extend(later.messages);
    }

    /// Reports and sends it all; `room` is what the core has to hear of the log's room.
    fn happen(self, node: &RaftNode, room: Option<LogRoom>) {
        rpc::corked(|| {
            if self.persisted.is_some() || !self.installed.is_empty() || room.is_some() {
                // A node that has stopped meanwhile has nothing to tell.
                let _ = node.with_core(|core| {
                    for meta in &self.installed {
                        core.snapshot_installed(meta);
                    }
                    if let Some(id) = self.persisted {
                        core.persisted(id);
                    }
                    if let Some(room) = room {
                        core.log_room(room);
                    }
                });
            }
            node.send(self.messages);
        });
    }
}
