//! Putting a log together again from what can be read of several.
//!
//! A leader makes one entry of its term at an index, and whoever stores an entry stores it behind the same one (Log Matching,
//! §5.3). So what an entry is, and which it follows, are facts wherever they are found, whether or not that log was cut
//! there later; and two entries of one term at neighbouring indexes follow each other, as they did in their leader's
//! log. Of all entries that can be reached from a snapshot in this way, the one with the highest id is what an election
//! among logs that are whole would have gone by (§5.4.1): what was committed is on the way to it, as long as one copy of
//! each entry can be read and one of an entry of the newest term in which something was committed.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{Entry, EntryId, Index, SnapshotMeta, Term};
use thiserror::Error;

use super::disk::Disk;
use super::recovery::StorageError;
use super::snapshot_store::SnapshotStore;
use super::wal::salvage_entries;

/// Two logs hold different entries under one id: they are not of one cluster, or somebody wrote into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there are two different entries {id}")]
pub struct Contradiction {
    /// The id.
    pub id: EntryId,
}

/// Entries from any number of logs of one cluster.
#[derive(Debug, Default)]
pub struct Collection {
    entries: BTreeMap<(Index, Term), Entry>,
    /// The entry that an entry follows, where it was seen.
    previous: BTreeMap<EntryId, EntryId>,
}

impl Collection {
    /// Nothing yet.
    pub fn new() -> Collection {
        Collection::default()
    }

    /// Adds all that can be read of the log in the directory of `disk`, whose own number is `seed`. Returns its newest whole
    /// snapshot.
    ///
    /// # Errors
    /// When a file cannot be read at all, or contradicts what was added before.
    pub fn add_directory(
        &mut self,
        disk: &mut dyn Disk,
        seed: u64,
    ) -> Result<Option<SnapshotMeta>, StorageError> {
        let mut outcome = Ok(());
        salvage_entries(disk, seed, &mut |entry, previous| {
            let added = self.add(entry, previous);
            outcome = outcome.and(added);
        })?;
        outcome?;
        Ok(SnapshotStore::look(disk)?.newest().cloned())
    }

    /// Adds an entry, with the one it follows if that is known.
    ///
    /// # Errors
    /// When it is not what was added under its id before.
    pub fn add(&mut self, entry: Entry, previous: Option<EntryId>) -> Result<(), Contradiction> {
        let id = entry.id();
        if let Some(previous) = previous
            && *self.previous.entry(id).or_insert(previous) != previous
        {
            return Err(Contradiction { id });
        }
        match *self.entries.entry((id.index, id.term)).or_insert_with(|| entry.clone()) == entry {
            true => Ok(()),
            false => Err(Contradiction { id }),
        }
    }

    /// The highest id of all, whether or not there is a way to it.
    pub fn newest(&self) -> Option<EntryId> {
        self.entries.values().map(Entry::id).max()
    }

    /// The entries behind `base` on the way to the highest id that can be reached from there. Empty if none can.
    pub fn log_behind(&self, base: EntryId) -> Vec<Entry> {
        let mut reached = BTreeSet::from([base]);
        for entry in self.entries_behind(base) {
            let follows_one = self.followed_by(entry.id(), base).is_some_and(|id| reached.contains(&id));
            if follows_one {
                reached.insert(entry.id());
            }
        }
        let mut at = reached.last().copied().unwrap_or(base);
        let mut log = Vec::new();
        while at != base {
            log.extend(self.entries.get(&(at.index, at.term)).cloned());
            at = self.followed_by(at, base).expect("it was reached over the one it follows");
        }
        log.reverse();
        log
    }

    fn entries_behind(&self, base: EntryId) -> impl Iterator<Item = &Entry> {
        self.entries.range((base.index.next(), Term(0))..).map(|(_, entry)| entry)
    }

    /// The entry that `id` follows.
    fn followed_by(&self, id: EntryId, base: EntryId) -> Option<EntryId> {
        if let Some(previous) = self.previous.get(&id) {
            return Some(*previous);
        }
        let neighbour = EntryId { index: id.index.previous(), ..id };
        let is_there = neighbour == base || self.entries.contains_key(&(neighbour.index, neighbour.term));
        is_there.then_some(neighbour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::Payload;

    fn entry(term: u64, index: u64) -> Entry {
        let payload = Payload::Command(format!("{term}/{index}").into());
        Entry { term: Term(term), index: Index(index), payload }
    }

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term: Term(term), index: Index(index) }
    }

    fn ids(log: &[Entry]) -> Vec<(u64, u64)> {
        log.iter().map(|entry| (entry.term.0, entry.index.0)).collect()
    }

    /// The entries of a log, all but those at `missing`; what follows one of these is not known to.
    fn add(collection: &mut Collection, terms: &[u64], missing: &[u64]) {
        let mut before = Some(EntryId::ZERO);
        for (term, index) in terms.iter().zip(1..) {
            let is_missing = missing.contains(&index);
            if !is_missing {
                collection.add(entry(*term, index), before).unwrap();
            }
            before = (!is_missing).then(|| id(*term, index));
        }
    }

    #[test]
    fn of_three_logs_damaged_in_different_places_the_whole_one_is_had() {
        let mut collection = Collection::new();
        let terms = [1, 1, 2, 2, 2, 4, 4];
        for missing in [[2, 3], [4, 5], [6, 7]] {
            add(&mut collection, &terms, &missing);
        }
        let expected = [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (4, 6), (4, 7)];
        assert_eq!(ids(&collection.log_behind(EntryId::ZERO)), expected);
        assert_eq!(ids(&collection.log_behind(id(2, 3))), expected[3..], "behind a snapshot");
    }

    #[test]
    fn what_a_later_leader_replaced_is_not_taken_although_it_reaches_further() {
        let mut collection = Collection::new();
        add(&mut collection, &[1, 1, 2, 2, 2, 2], &[]);
        add(&mut collection, &[1, 1, 3], &[]);
        assert_eq!(ids(&collection.log_behind(EntryId::ZERO)), [(1, 1), (1, 2), (3, 3)]);
    }

    #[test]
    fn an_entry_that_no_log_has_ends_the_way_and_the_newest_is_known_all_the_same() {
        let mut collection = Collection::new();
        add(&mut collection, &[1, 1, 1, 1], &[3]);
        add(&mut collection, &[1, 1, 1, 1], &[2, 3]);
        assert_eq!(ids(&collection.log_behind(EntryId::ZERO)), [(1, 1), (1, 2)]);
        assert_eq!(collection.newest(), Some(id(1, 4)));
        assert!(collection.log_behind(id(9, 9)).is_empty());
    }

    #[test]
    fn the_first_entry_of_a_term_is_not_put_behind_one_that_it_was_not_seen_behind() {
        let mut collection = Collection::new();
        add(&mut collection, &[1, 1], &[]);
        collection.add(entry(2, 3), None).unwrap();
        assert_eq!(ids(&collection.log_behind(EntryId::ZERO)), [(1, 1), (1, 2)]);
        collection.add(entry(2, 3), Some(id(1, 2))).unwrap();
        assert_eq!(ids(&collection.log_behind(EntryId::ZERO)), [(1, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn two_entries_of_one_id_are_refused() {
        let mut collection = Collection::new();
        collection.add(entry(1, 1), Some(EntryId::ZERO)).unwrap();
        let other = Entry { payload: Payload::Noop, ..entry(1, 1) };
        assert_eq!(collection.add(other, None), Err(Contradiction { id: id(1, 1) }));
        collection.add(entry(2, 2), Some(id(1, 1))).unwrap();
        assert_eq!(collection.add(entry(2, 2), Some(id(2, 1))), Err(Contradiction { id: id(2, 2) }));
    }
}
