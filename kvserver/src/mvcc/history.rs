//! What has been superseded, by what, and who may still want it.
//!
//! A node holds its key's newest version; every older one lies here, linked to its neighbours, and waits in a queue
//! for the floor to pass the version that superseded it. Then it is freed: a version or two per write, so that no
//! write ever waits for a sweep. A [`Pin`] holds back what it needs; that waits aside and is worked off a few per
//! write once the pin is gone. There are about as many older versions as log entries above the floor, so all of
//! this stays in the processor's cache, however many keys there are.
//!
//! What a floor means is written here once, for freeing, snapshots and hashes alike ([`History::kept`]): a version is
//! gone when a newer one at or below the floor supersedes it, and so is every tombstone at or below the floor, since
//! an absent key reads the same. The queue is a function of the log alone; pins must never change an answer, nor
//! what is counted.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Version;
use super::arena::Arena;
use super::pins::{Pin, Pins, TooManyPins};
use super::skip_list::SkipList;

/// Versions that pins held back and that one write works off after they are gone.
pub const RECLAIM_PER_WRITE: usize = 16;

/// No older, or no newer, superseded version.
const NONE: u32 = u32::MAX;

/// A value and the version that wrote it; no value is a tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The log index that wrote it.
    pub(crate) version: Version,
    /// What was written; `None` deleted the key.
    pub(crate) value: Option<Bytes>,
}

impl Revision {
    fn bytes(&self) -> u64 {
        self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

/// What a node keeps of its key: together with the key it fills one cache line.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) newest: Revision,
    /// The newest of the superseded versions.
    older: u32,
}

impl Head {
    /// A key with its first version.
    pub(super) fn new(newest: Revision) -> Head {
        assert!(newest.version > Version(0), "version 0 is before every write");
        Head { newest, older: NONE }
    }
}

/// A place that no key uses.
impl Default for Head {
    fn default() -> Head {
        Head { newest: Revision::default(), older: NONE }
    }
}

/// An older version of a key.
#[derive(Debug, Default)]
struct Superseded {
    revision: Revision,
    /// The version that superseded it.
    by: Version,
    node: u32,
    older: u32,
    /// The next newer superseded version; with none, the one in the node is.
    newer: u32,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Readers below it are not served any more.
    floor: Version,
    superseded: Arena<Superseded>,
    /// Not due yet, by rising `by`: at most one per log index above the floor.
    queue: VecDeque<u32>,
    /// Bytes of values in the queue.
    bytes: u64,
    /// Due, but needed by a pin: at most what is visible at the pins.
    held: Vec<u32>,
    /// Held once, to be worked off now.
    released: VecDeque<u32>,
    pins: Pins,
}

impl History {
    /// The floor: the lowest version that reads are answered at.
    pub(super) fn floor(&self) -> Version {
        self.floor
    }

    /// Bytes of values that are superseded above the floor.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The floor at which the oldest superseded version goes.
    pub(super) fn next_due(&self) -> Option<Version> {
        self.queue.front().map(|place| self.superseded.at(*place).by)
    }

    /// Puts `revision` in front of the versions of `node`, whose head this is, without noting when the one before it
    /// is due: [`History::wait`] does, in the order of versions.
    pub(super) fn supersede(&mut self, head: &mut Head, node: u32, revision: Revision) -> u32 {
        assert!(revision.version > head.newest.version, "versions of a key rise");
        let by = revision.version;
        let older = head.older;
        let revision = std::mem::replace(&mut head.newest, revision);
        let place = self.superseded.insert(Superseded { revision, by, node, older, newer: NONE });
        if older != NONE {
            self.superseded.at_mut(older).newer = place;
        }
        head.older = place;
        place
    }

    /// Lets a superseded version wait for the floor. Those that superseded earlier wait already.
    pub(super) fn wait(&mut self, place: u32) {
        let line = self.superseded.at(place);
        debug_assert!(self.next_due().is_none_or(|first| first <= line.by), "versions rise");
        self.bytes += line.revision.bytes();
        self.queue.push_back(place);
    }

    /// The version that superseded the one at `place`.
    pub(super) fn superseded_by(&self, place: u32) -> Version {
        self.superseded.at(place).by
    }

    /// The version a reader at `version` sees, tombstones included.
    pub(super) fn at<'a>(&'a self, head: &'a Head, version: Version) -> Option<&'a Revision> {
        if head.newest.version <= version {
            return Some(&head.newest);
        }
        let mut place = head.older;
        while place != NONE {
            let line = self.superseded.at(place);
            if line.revision.version <= version {
                return Some(&line.revision);
            }
            place = line.older;
        }
        None
    }

    /// The versions that exist for readers at `floor` or later, oldest first.
    pub(super) fn kept<'a>(
        &'a self,
        head: &'a Head,
        floor: Version,
    ) -> impl Iterator<Item = &'a Revision> + use<'a> {
        self.held(head).filter_map(move |(revision, by)| {
            let is_superseded = by.is_some_and(|by| by <= floor);
            let is_past_tombstone = revision.value.is_none() && revision.version <= floor;
            (!is_superseded && !is_past_tombstone).then_some(revision)
        })
    }

    /// Every version in memory, oldest first, with the one that supersedes it.
    pub(super) fn held<'a>(
        &'a self,
        head: &'a Head,
    ) -> impl Iterator<Item = (&'a Revision, Option<Version>)> + use<'a> {
        let (mut place, mut older) = (NONE, head.older);
        while older != NONE {
            (place, older) = (older, self.superseded.at(older).older);
        }
        let mut is_done = false;
        std::iter::from_fn(move || {
            if place != NONE {
                let line = self.superseded.at(place);
                place = line.newer;
                return Some((&line.revision, Some(line.by)));
            }
            (!std::mem::replace(&mut is_done, true)).then_some((&head.newest, None))
        })
    }

    /// Moves the floor, never back, and frees what that makes due. `vanish` gets the nodes of keys that are gone.
    pub(super) fn raise_floor(
        &mut self,
        floor: Version,
        list: &mut SkipList<Head>,
        mut vanish: impl FnMut(&mut SkipList<Head>, u32),
    ) {
        self.floor = self.floor.max(floor);
        while let Some(place) = self.queue.front().copied() {
            if self.superseded.at(place).by > self.floor {
                return;
            }
            self.queue.pop_front();
            self.bytes -= self.superseded.at(place).revision.bytes();
            if let Some(node) = self.free(place, list) {
                vanish(list, node);
            }
        }
    }

    /// Works off at most `versions_max` of what pins had held back; true if more waits.
    pub(super) fn reclaim(
        &mut self,
        versions_max: usize,
        list: &mut SkipList<Head>,
        mut vanish: impl FnMut(&mut SkipList<Head>, u32),
    ) -> bool {
        if self.pins.reap() {
            self.released.extend(self.held.drain(..));
        }
        for _ in 0..versions_max {
            let Some(place) = self.released.pop_front() else { return false };
            if let Some(node) = self.free(place, list) {
                vanish(list, node);
            }
        }
        !self.released.is_empty()
    }

    /// Pins `version`, the newest there is.
    pub(super) fn pin(&mut self, version: Version) -> Result<Pin, TooManyPins> {
        if self.pins.reap() {
            self.released.extend(self.held.drain(..));
        }
        self.pins.pin(version, self.floor)
    }

    /// Whether `pin` is one of this store's, and not of one that was replaced meanwhile.
    pub(super) fn knows(&self, pin: &Pin) -> bool {
        self.pins.knows(pin)
    }

    /// Frees one version that is below the floor, or puts it aside for a pin. The node if its key is gone with it.
    fn free(&mut self, place: u32, list: &mut SkipList<Head>) -> Option<u32> {
        let line = self.superseded.at(place);
        debug_assert!(line.by <= self.floor, "only what is below the floor may be freed");
        if self.pins.need(line.revision.version, Some(line.by)) {
            self.held.push(place);
            return None;
        }
        let Superseded { revision: _, by: _, node, older, newer } = self.superseded.remove(place);
        let head = list.content_mut(node);
        match newer {
            NONE => head.older = older,
            newer => self.superseded.at_mut(newer).older = older,
        }
        if older != NONE {
            self.superseded.at_mut(older).newer = newer;
        }
        let newest = &head.newest;
        let is_dead = newest.value.is_none() && newest.version <= self.floor;
        (head.older == NONE && is_dead && !self.pins.need(newest.version, None)).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_an_older_version_fill_one_cache_line_each() {
        assert_eq!(size_of::<super::super::skip_list::Node<Head>>(), 64);
        assert_eq!(size_of::<Superseded>(), 64);
    }

    #[test]
    fn a_tombstone_below_the_floor_is_gone_even_if_rewritten_later() {
        let value = |version| Revision { version: Version(version), value: Some(Bytes::from_static(b"v")) };
        let (mut list, mut history) = (SkipList::new(), History::default());
        let node = list.insert(b"k"[..].into(), Head::new(value(1)));
        for revision in [Revision { version: Version(5), value: None }, value(9)] {
            let place = history.supersede(list.content_mut(node), node, revision);
            history.wait(place);
        }
        let kept = |floor| {
            let kept = history.kept(&list.node(node).content, Version(floor));
            kept.map(|revision| revision.version.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(0), [1, 5, 9]);
        assert_eq!(kept(4), [1, 5, 9]);
        assert_eq!(kept(5), [9]);
        history.raise_floor(Version(6), &mut list, |_, _| panic!("the key lives"));
        assert_eq!(history.at(&list.node(node).content, Version(8)).and_then(|at| at.value.clone()), None);
    }
}
