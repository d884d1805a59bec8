//! The versions of one key: the newest in the node itself, the few older ones behind one pointer.
//!
//! Nearly every key has one version most of the time (older ones live for the length of the history only), so the
//! common case must cost nothing: a node with its key and newest version fills one cache line.
//!
//! What a floor means is written here once, for freeing, snapshots and hashes alike ([`Revisions::kept_from`]): a
//! version is gone when a newer one at or below the floor supersedes it, and so is every tombstone at or below the
//! floor, since an absent key reads the same. A pin may hold memory longer; it must never change an answer.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Version;

/// A value and the version that wrote it; no value is a tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The log index that wrote it.
    pub(crate) version: Version,
    /// What was written; `None` deleted the key.
    pub(crate) value: Option<Bytes>,
}

/// All versions of one key. The default is vacant: a place in the arena that no key uses.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    newest: Revision,
    /// Oldest first, without the newest. Boxed, so that "none", the common case, takes 8 bytes in the node.
    #[expect(clippy::box_collection, reason = "a queue in the node would take 32 bytes of every key")]
    older: Option<Box<VecDeque<Revision>>>,
}

/// What became of an attempt to free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// All that could go went; the key lives on.
    Done,
    /// A pin still needs a version that nobody else does: to be tried again when pins are gone.
    Held,
    /// No version is left: the key goes as a whole.
    Vanished,
}

impl Revisions {
    /// The versions of a key that has one.
    pub(super) fn new(first: Revision) -> Revisions {
        assert!(first.version > Version(0), "version 0 is before every write");
        Revisions { newest: first, older: None }
    }

    /// Whether this is no key's.
    pub(super) fn is_vacant(&self) -> bool {
        self.newest.version == Version(0)
    }

    /// The newest version.
    pub(super) fn newest(&self) -> &Revision {
        &self.newest
    }

    /// The version a reader at `version` sees, tombstones included.
    pub(super) fn at(&self, version: Version) -> Option<&Revision> {
        if self.newest.version <= version {
            return Some(&self.newest);
        }
        let older = self.older.as_deref()?;
        let below = older.partition_point(|revision| revision.version <= version);
        older.get(below.checked_sub(1)?)
    }

    /// Adds a newer version, and returns how many bytes of value it supersedes.
    pub(super) fn push(&mut self, revision: Revision) -> u64 {
        assert!(revision.version > self.newest.version, "versions of a key rise");
        let superseded = std::mem::replace(&mut self.newest, revision);
        let bytes = superseded.value.as_ref().map_or(0, |value| value.len() as u64);
        self.older.get_or_insert_default().push_back(superseded);
        bytes
    }

    /// The versions that exist for readers at `floor` or later, oldest first.
    pub(super) fn kept_from(&self, floor: Version) -> impl Iterator<Item = &Revision> {
        let mut all = self.all().peekable();
        std::iter::from_fn(move || {
            loop {
                let revision = all.next()?;
                let is_superseded = all.peek().is_some_and(|next| next.version <= floor);
                let is_past_tombstone = revision.value.is_none() && revision.version <= floor;
                if !is_superseded && !is_past_tombstone {
                    return Some(revision);
                }
            }
        })
    }

    /// Frees what the version `by` superseded, and a tombstone that this leaves as the oldest. Both must be below
    /// the floor, so that only a pin can want them: `is_pinned` tells, from a version and the one superseding it, or
    /// none for a tombstone that is the oldest.
    pub(super) fn free_superseded(
        &mut self,
        by: Version,
        floor: Version,
        is_pinned: impl Fn(Version, Option<Version>) -> bool,
    ) -> Freed {
        debug_assert!(by <= floor, "only what is below the floor may be freed");
        if let Some(older) = &mut self.older {
            // `by` itself may be gone already: whatever is older than it is superseded all the same.
            let below = older.partition_point(|revision| revision.version < by);
            if let Some(position) = below.checked_sub(1) {
                if is_pinned(older[position].version, Some(by)) {
                    return Freed::Held;
                }
                older.remove(position);
            }
            // With nothing older left below it, a tombstone reads like the absence of the key.
            let is_dead = |oldest: &Revision| {
                oldest.value.is_none() && oldest.version <= floor && !is_pinned(oldest.version, None)
            };
            if older.front().is_some_and(is_dead) {
                older.pop_front();
            }
            if !older.is_empty() {
                return Freed::Done;
            }
            self.older = None;
        }
        let newest = &self.newest;
        let is_dead = newest.value.is_none() && newest.version <= floor && !is_pinned(newest.version, None);
        if is_dead { Freed::Vanished } else { Freed::Done }
    }

    /// Every version held, oldest first, whoever may still see it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Revision> {
        self.older.as_deref().into_iter().flatten().chain(std::iter::once(&self.newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_fills_one_cache_line() {
        assert_eq!(size_of::<super::super::skip_list::Node<Revisions>>(), 64);
    }

    #[test]
    fn a_tombstone_below_the_floor_is_gone_even_if_rewritten_later() {
        let value = |version| Revision { version: Version(version), value: Some(Bytes::from_static(b"v")) };
        let mut revisions = Revisions::new(value(1));
        revisions.push(Revision { version: Version(5), value: None });
        revisions.push(value(9));
        let kept = |revisions: &Revisions, floor| {
            revisions.kept_from(Version(floor)).map(|revision| revision.version.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(&revisions, 0), [1, 5, 9]);
        assert_eq!(kept(&revisions, 4), [1, 5, 9]);
        assert_eq!(kept(&revisions, 5), [9]);
        assert_eq!(revisions.free_superseded(Version(5), Version(6), |_, _| false), Freed::Done);
        assert_eq!(revisions.all().count(), 1);
        assert_eq!(revisions.at(Version(8)), None);
    }
}
