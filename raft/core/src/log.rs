//! The log in memory, and how far each of its readers has come.
//!
//! One queue of entries above a base, and the marks that move along it: handed to the writer, persisted, committed,
//! handed out to be applied, applied. Every entry carries the running sum of bytes, so each limit in bytes is one
//! subtraction and cannot drift. The log must never lose or replace a committed entry; it asserts so.
//!
//! `base ≤ snapshot ≤ delivered ≤ committed ≤ last`, `snapshot ≤ persisted ≤ handed ≤ last`, and
//! `applied ≤ delivered`; applied lags the snapshot only while a received one is being restored.

use std::collections::VecDeque;

use crate::entry::{Entry, Payload};
use crate::membership::{Membership, Memberships};
use crate::planted;
use crate::snapshot::SnapshotMeta;
use crate::types::{EntryId, Index, Term};

/// An entry and the bytes of all entries ever counted up to and including it.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    bytes_through: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Log {
    /// The latest snapshot this node holds; id zero when there is none.
    snapshot: SnapshotMeta,
    /// Who takes part, as of the snapshot and of each later entry that changes it.
    memberships: Memberships,
    /// The id before the first kept entry; below the snapshot where trailing entries are kept.
    base: EntryId,
    base_bytes: u64,
    slots: VecDeque<Slot>,
    /// Given to the writer in some `Ready.persist`.
    handed: Index,
    /// Known to be on this node's disk.
    persisted: Index,
    /// Known to be committed; only grows.
    committed: Index,
    /// Given out in some `Ready.committed` or `Ready.restore`; only grows.
    delivered: Index,
    /// Reported back as applied; only grows.
    applied: Index,
}

impl Log {
    /// The log as recovery found it: all of it durable, nothing known to be committed beyond the snapshot.
    pub(crate) fn new(snapshot: SnapshotMeta, entries: Vec<Entry>) -> Log {
        let start = snapshot.last.index;
        let mut log = Log {
            base: snapshot.last,
            base_bytes: 0,
            slots: VecDeque::with_capacity(entries.len()),
            handed: start,
            persisted: start,
            committed: start,
            delivered: start,
            applied: start,
            memberships: Memberships::new(snapshot.membership.clone()),
            snapshot,
        };
        log.restore_entries(entries);
        log.handed = log.last_index();
        log.persisted = log.last_index();
        log
    }

    /// Entries at or below the snapshot serve followers a little behind, if they lead up to it; the first of them
    /// becomes the base, since the term before it is not known. If they lead past another entry than the snapshot's
    /// last, they are what a received snapshot replaced, and all void.
    fn restore_entries(&mut self, entries: Vec<Entry>) {
        let snapshot = self.snapshot.last;
        if let Some(at_snapshot) = entries.iter().find(|entry| entry.index == snapshot.index) {
            if at_snapshot.id() != snapshot || planted::is("snapshot-drops-a-needed-suffix") {
                return;
            }
            self.base = entries[0].id();
        }
        for entry in entries {
            if entry.index > self.base.index {
                self.push(entry);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    /// Who takes part: the last membership in the log, committed or not.
    pub(crate) fn membership(&self) -> &Membership {
        self.memberships.current()
    }

    /// Grows whenever the membership in effect may be another.
    pub(crate) fn membership_changes(&self) -> u64 {
        self.memberships.changes()
    }

    /// Where the membership in effect was appended; zero if a snapshot holds it.
    pub(crate) fn membership_index(&self) -> Index {
        self.memberships.current_index()
    }

    /// Who took part before the membership in effect, which is not known to be committed; else none.
    pub(crate) fn membership_being_left(&self) -> Option<&Membership> {
        self.memberships.before_current().filter(|_| self.membership_index() > self.committed)
    }

    /// The membership as of `index`, which is the snapshot's last or later.
    pub(crate) fn membership_at(&self, index: Index) -> Option<&Membership> {
        if planted::is("membership-of-a-later-instant-in-the-snapshot") {
            return Some(self.membership());
        }
        (index >= self.snapshot.last.index).then(|| self.memberships.at(index))
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn first_index(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last_index(&self) -> Index {
        self.base.index.plus(self.slots.len() as u64)
    }

    pub(crate) fn last(&self) -> EntryId {
        self.slots.back().map_or(self.base, |slot| slot.entry.id())
    }

    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    pub(crate) fn committed(&self) -> Index {
        self.committed
    }

    pub(crate) fn delivered(&self) -> Index {
        self.delivered
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Bytes of all kept entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_after(self.base.index)
    }

    /// Bytes of the entries after `index`, which may lie before the base.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        self.bytes_between(index, self.last_index())
    }

    /// Bytes of the entries after `after` up to and including `through`.
    pub(crate) fn bytes_between(&self, after: Index, through: Index) -> u64 {
        self.bytes_through(through).saturating_sub(self.bytes_through(after))
    }

    fn bytes_through(&self, index: Index) -> u64 {
        match self.slot(index) {
            Some(slot) => slot.bytes_through,
            None if index <= self.base.index => self.base_bytes,
            None => self.slots.back().map_or(self.base_bytes, |slot| slot.bytes_through),
        }
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        let offset = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.slots.get(usize::try_from(offset).ok()?)
    }

    /// How many slots lie at or below `index`.
    fn slots_through(&self, index: Index) -> usize {
        let count = index.distance_from(self.base.index);
        usize::try_from(count).unwrap_or(usize::MAX).min(self.slots.len())
    }

    /// The term at `index`, if the log still (or already) knows it.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.slot(index).map(|slot| slot.entry.term)
    }

    /// Whether this log holds the entry, and so every entry before it.
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last place at or below `index` whose term is no later than `term`: the earliest guess at where two logs
    /// agree, skipping a whole term at a time (§5.3, end). None: it lies below what is kept.
    pub(crate) fn last_no_later_than(&self, index: Index, term: Term) -> Option<EntryId> {
        let no_later = self.slots.partition_point(|slot| slot.entry.term <= term);
        let index = index.min(self.base.index.plus(no_later as u64));
        let found = self.term_at(index)?;
        (found <= term).then_some(EntryId { term: found, index })
    }

    /// Consecutive entries from `from` on, as many as fit `bytes_max` (at least one if there is any), and their bytes.
    pub(crate) fn slice(&self, from: Index, through: Index, bytes_max: u64) -> (Vec<Entry>, u64) {
        let start = self.slots_through(from.previous());
        let end = self.slots_through(through);
        if start >= end {
            return (Vec::new(), 0);
        }
        let before = self.bytes_through(from.previous());
        let fitting = match self.bytes_between(from.previous(), through) <= bytes_max {
            true => end,
            false => self
                .slots
                .partition_point(|slot| slot.bytes_through <= before + bytes_max)
                .clamp(start + 1, end),
        };
        let entries: Vec<Entry> = self.slots.range(start..fitting).map(|slot| slot.entry.clone()).collect();
        let bytes = self.slots[fitting - 1].bytes_through - before;
        (entries, bytes)
    }

    /// Appends one entry, which must follow the last.
    pub(crate) fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.index, last.index.next(), "an entry follows the one before it without a gap");
        assert!(entry.term >= last.term, "terms never fall along the log: {} after {last}", entry.id());
        let bytes_through = self.bytes_through(last.index) + entry.weight_bytes();
        if let Payload::Membership(membership) = &entry.payload
            && entry.index > self.snapshot.last.index
        {
            self.memberships.push(entry.index, (**membership).clone());
        }
        self.slots.push_back(Slot { entry, bytes_through });
    }

    /// Makes the log hold `entries`: skips what is there already, and cuts the tail at the first one that differs (§5.3).
    pub(crate) fn splice(&mut self, entries: Vec<Entry>) {
        let marks = (self.handed, self.persisted);
        let by_index = planted::is("conflicting-tail-kept");
        let is_known =
            |entry: &&Entry| self.contains(entry.id()) || (by_index && entry.index <= self.last_index());
        let known = entries.iter().take_while(is_known).count();
        let mut new = entries.into_iter().skip(known).peekable();
        if let Some(first) = new.peek().map(|entry| entry.index).filter(|index| *index <= self.last_index()) {
            self.truncate_from(first);
        }
        for entry in new {
            self.push(entry);
        }
        if planted::is("persisted-by-index-alone") {
            self.handed = marks.0.min(self.last_index());
            self.persisted = marks.1.min(self.handed);
        }
    }

    /// Drops whatever comes after `index`: what a stale append must not do, kept for the simulator to find.
    pub(crate) fn cut_after(&mut self, index: Index) {
        if index < self.last_index() && index >= self.committed {
            self.truncate_from(index.next());
        }
    }

    /// Drops the entry at `from` and all after it; what was written of them counts no more.
    fn truncate_from(&mut self, from: Index) {
        assert!(from > self.committed, "a committed entry is never replaced: {from} ≤ {}", self.committed);
        let kept = from.previous();
        self.memberships.truncate_from(from);
        self.slots.truncate(self.slots_through(kept));
        self.handed = self.handed.min(kept);
        self.persisted = self.persisted.min(kept);
    }

    /// What the writer was not given yet; it counts as given from now on.
    pub(crate) fn take_unwritten(&mut self) -> Vec<Entry> {
        let (entries, _) = self.slice(self.handed.next(), self.last_index(), u64::MAX);
        self.handed = self.last_index();
        entries
    }

    /// Everything up to `id` is on the disk. An acknowledgement of an entry that has been replaced since counts for
    /// nothing. Returns whether the mark moved.
    pub(crate) fn persisted_to(&mut self, id: EntryId) -> bool {
        if id.index <= self.persisted || id.index > self.handed || !self.contains(id) {
            return false;
        }
        self.persisted = id.index;
        true
    }

    /// Moves the commit index up to `index`; never down. Returns whether it moved.
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        assert!(index <= self.last_index(), "commits {index} beyond the last entry {}", self.last());
        let moved = index > self.committed;
        self.committed = self.committed.max(index);
        moved
    }

    /// How far committed entries may be handed out: never past `limit`, never back.
    fn deliverable_to(&self, limit: Index) -> Index {
        if planted::is("apply-beyond-commit") {
            return limit.max(self.delivered);
        }
        self.committed.min(limit).max(self.delivered)
    }

    /// Whether [`Log::take_committed`] would return something.
    pub(crate) fn has_committed(&self, limit: Index, unapplied_bytes_max: u64) -> bool {
        self.deliverable_to(limit) > self.delivered && self.unapplied_bytes() < unapplied_bytes_max
    }

    /// Bytes handed out to be applied and not reported back.
    fn unapplied_bytes(&self) -> u64 {
        self.bytes_between(self.applied, self.delivered)
    }

    /// The committed entries that were not handed out yet, as many as may be unapplied at a time.
    pub(crate) fn take_committed(&mut self, limit: Index, unapplied_bytes_max: u64) -> Vec<Entry> {
        if !self.has_committed(limit, unapplied_bytes_max) {
            return Vec::new();
        }
        let room = unapplied_bytes_max - self.unapplied_bytes();
        let (entries, _) = self.slice(self.delivered.next(), self.deliverable_to(limit), room);
        self.delivered = self.delivered.plus(entries.len() as u64);
        entries
    }

    /// The state machine holds everything up to `index`.
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(
            index <= self.delivered,
            "{index} is reported as applied but only {} was handed out",
            self.delivered
        );
        self.applied = self.applied.max(index);
    }

    /// A local snapshot stands in for everything up to its index: entries up to `keep_after` may go.
    pub(crate) fn compact_to(&mut self, meta: SnapshotMeta, keep_after: Index) {
        assert!(meta.last.index <= self.applied, "a local snapshot holds what was applied, not more");
        assert!(meta.last.index <= self.persisted, "a snapshot never runs ahead of the log on disk");
        assert!(self.contains(meta.last), "a local snapshot ends at an entry of this log");
        assert_eq!(
            self.membership_at(meta.last.index),
            Some(&meta.membership),
            "a local snapshot has the members as of its last entry"
        );
        self.memberships.rebase(meta.last.index, meta.membership.clone());
        self.snapshot = meta;
        self.drop_through(keep_after.min(self.snapshot.last.index));
    }

    /// The earliest place such that the entries after it, up to and including `through`, have at most `bytes_max`.
    pub(crate) fn cut_for_bytes(&self, through: Index, bytes_max: u64) -> Index {
        let floor = self.bytes_through(through).saturating_sub(bytes_max);
        let cut = self.slots.partition_point(|slot| slot.bytes_through < floor);
        self.base.index.plus(cut as u64).next().min(through)
    }

    /// Drops entries at the front, up to and including `index`.
    fn drop_through(&mut self, index: Index) {
        if index <= self.base.index {
            return;
        }
        let term = self.term_at(index).expect("only entries that are there are dropped");
        self.base_bytes = self.bytes_through(index);
        self.slots.drain(..self.slots_through(index));
        self.base = EntryId { term, index };
    }

    /// A received snapshot becomes the base. What follows it is kept if the log holds the snapshot's last entry, for
    /// then all of the log agrees with it; else nothing of the log can be trusted and it goes whole (§7).
    pub(crate) fn install(&mut self, meta: SnapshotMeta) {
        let last = meta.last;
        assert!(
            last.index > self.delivered,
            "a snapshot older than what is applied is ignored before it comes here"
        );
        if self.contains(last) && !planted::is("snapshot-drops-a-needed-suffix") {
            self.drop_through(last.index);
        } else {
            assert!(
                self.committed < last.index || planted::is("snapshot-drops-a-needed-suffix"),
                "two committed entries differ at {last}"
            );
            self.memberships.truncate_from(Index::ZERO);
            self.base_bytes = 0;
            self.slots.clear();
            self.base = last;
            self.handed = last.index;
            self.persisted = last.index;
        }
        self.memberships.rebase(last.index, meta.membership.clone());
        self.snapshot = meta;
        self.handed = self.handed.max(last.index);
        self.persisted = self.persisted.max(last.index);
        self.committed = self.committed.max(last.index);
        self.delivered = last.index;
    }
}

#[cfg(test)]
mod tests;
