//! The face of the multi-version map: put, delete, read at a version, move the floor, pin.

use bytes::Bytes;

use super::Version;
use super::history::{Head, History, RECLAIM_PER_WRITE, Revision};
use super::index::Index;
use super::pins::{Pin, TooManyPins};
use super::scan::Scan;
use super::skip_list::{End, SkipList};
use super::towers::HEAD;

/// The longest key, in bytes. Links store in 16 bits how far two different keys agree.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Keys of a snapshot that are put into the index together.
const INDEXED_AT_ONCE: usize = 256;

/// Keys in byte order, each with its versions. One writer, any number of readers: whoever shares it brings the lock.
///
/// Versions of writes rise: each is the log index of the entry that is being applied. Keys and values are copied
/// into memory of exactly their size on entering, so they never pin the buffer a request arrived in.
#[derive(Debug)]
pub struct Store {
    list: SkipList<Head>,
    index: Index,
    history: History,
    /// The highest version written.
    last: Version,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// An empty store.
    pub fn new() -> Store {
        Store { list: SkipList::new(), index: Index::new(), history: History::default(), last: Version(0) }
    }

    /// Writes a copy of `value`. The key is at most [`KEY_BYTES_MAX`] long and `version` above every one before:
    /// both are the caller's to check, and a breach panics.
    pub fn put(&mut self, key: &[u8], value: &[u8], version: Version) {
        self.put_owned(key, Bytes::from(value.to_vec()), version);
    }

    /// Writes `value` as it is; for a caller that built it and owns all of its memory, exactly sized.
    pub fn put_owned(&mut self, key: &[u8], value: Bytes, version: Version) {
        self.begin(version);
        let revision = Revision { version, value: Some(value) };
        let hash = self.index.hash(key);
        match self.find_hashed(key, hash) {
            Some(node) => self.supersede(node, revision),
            None => {
                assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes", key.len());
                let node = self.list.insert(key.into(), Head::new(revision));
                self.index.insert(hash, node);
            }
        }
    }

    /// Deletes `key` from `version` on. False if there was no such key; then nothing is written.
    pub fn delete(&mut self, key: &[u8], version: Version) -> bool {
        self.begin(version);
        let Some(node) = self.find(key) else { return false };
        if self.list.node(node).content.newest.value.is_none() {
            return false;
        }
        self.supersede(node, Revision { version, value: None });
        true
    }

    /// The newest value of `key` and the version that wrote it.
    pub fn latest(&self, key: &[u8]) -> Option<(&Bytes, Version)> {
        let newest = &self.list.node(self.find(key)?).content.newest;
        newest.value.as_ref().map(|value| (value, newest.version))
    }

    /// The value of `key` that a reader at `version` sees. `version` is at or above the floor, or pinned.
    pub fn at(&self, key: &[u8], version: Version) -> Option<(&Bytes, Version)> {
        let revision = self.history.at(&self.list.node(self.find(key)?).content, version)?;
        revision.value.as_ref().map(|value| (value, revision.version))
    }

    /// The keys from `from` on up to `to` (not included; `None`: to the last) that exist at `version`, in byte order,
    /// at most `limit` of them. `version` is at or above the floor, or pinned.
    pub fn scan<'a>(&'a self, from: &[u8], to: Option<&'a [u8]>, version: Version, limit: usize) -> Scan<'a> {
        Scan::new(&self.list, &self.history, from, to, version, limit)
    }

    /// Moves the floor up to `floor` and frees what nobody can ask for any more: versions superseded at or below it,
    /// and tombstones at or below it with their keys. Called after each write, it does what one write left behind.
    pub fn compact_before(&mut self, floor: Version) {
        let Store { list, index, history, .. } = self;
        history.raise_floor(floor, list, |list, node| vanish(list, index, node));
        self.reclaim(RECLAIM_PER_WRITE);
    }

    /// Works off at most `versions_max` of what pins had held back; true if more waits. Writes do this a little at
    /// a time; whoever drops a pin of a store that may then rest should call it until it says false.
    pub fn reclaim(&mut self, versions_max: usize) -> bool {
        let Store { list, index, history, .. } = self;
        history.reclaim(versions_max, list, |list, node| vanish(list, index, node))
    }

    /// The lowest version reads are answered at.
    pub fn floor(&self) -> Version {
        self.history.floor()
    }

    /// The highest version written.
    pub fn last_version(&self) -> Version {
        self.last
    }

    /// Keys held, tombstones included.
    pub fn keys(&self) -> usize {
        self.list.len()
    }

    /// Bytes of values that are superseded but above the floor. A function of the writes and floors alone.
    pub fn superseded_bytes(&self) -> u64 {
        self.history.bytes()
    }

    /// The floor that would free the oldest superseded version above the floor.
    pub fn next_superseded(&self) -> Option<Version> {
        self.history.next_due()
    }

    /// Keeps what readers see from the floor of now up to `version`, which is the newest, until the pin is dropped.
    pub fn pin(&mut self, version: Version) -> Result<Pin, TooManyPins> {
        assert!(version >= self.last, "only the newest version can be pinned");
        self.last = version;
        self.history.pin(version)
    }

    /// Whether `pin` was given out by this store.
    pub fn knows(&self, pin: &Pin) -> bool {
        self.history.knows(pin)
    }

    /// Versions held in memory, whoever may still see them; for tests and for measuring.
    pub fn revisions_held(&self) -> usize {
        let mut held = 0;
        let mut tower = self.list.first();
        while tower != HEAD {
            held += self.history.held(&self.list.node_of(tower).content).count();
            tower = self.list.next(tower);
        }
        held
    }

    /// Every key from `from` on, with its versions that exist for readers from `floor` up to `until`, oldest first.
    pub(crate) fn kept<'a>(
        &'a self,
        from: &[u8],
        floor: Version,
        until: Version,
    ) -> impl Iterator<Item = (&'a [u8], impl Iterator<Item = &'a Revision>)> {
        let mut tower = self.list.first_from(from);
        std::iter::from_fn(move || {
            if tower == HEAD {
                return None;
            }
            let node = self.list.node_of(tower);
            tower = self.list.next(tower);
            let revisions = self.history.kept(&node.content, floor);
            Some((&*node.key, revisions.take_while(move |revision| revision.version <= until)))
        })
    }

    /// A store of this floor, to be given its keys in order, each with its versions oldest first: the other end of
    /// [`Store::kept`].
    pub(crate) fn begin_restore(floor: Version, last: Version) -> StoreRestore {
        let mut store = Store::new();
        store.compact_before(floor);
        store.last = last;
        let (end, unindexed) = (End::of_empty(), Vec::with_capacity(INDEXED_AT_ONCE));
        StoreRestore { store, end, unindexed, superseded: Vec::new(), node: None }
    }

    fn begin(&mut self, version: Version) {
        assert!(version >= self.last && version > self.history.floor(), "versions rise");
        self.last = version;
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_hashed(key, self.index.hash(key))
    }

    fn find_hashed(&self, key: &[u8], hash: u32) -> Option<u32> {
        self.index.find(hash, |node| *self.list.node(node).key == *key)
    }

    fn supersede(&mut self, node: u32, revision: Revision) {
        let place = self.history.supersede(self.list.content_mut(node), node, revision);
        self.history.wait(place);
    }
}

/// Removes a key none of whose versions is left.
fn vanish(list: &mut SkipList<Head>, index: &mut Index, node: u32) {
    // The way to the key's tower is the key itself, and the node goes on the way: so it is taken out first.
    let key = list.node(node).key.clone();
    index.remove(index.hash(&key), node);
    list.remove(&key).expect("a node that has versions is linked");
}

/// A store being filled from a snapshot.
#[derive(Debug)]
pub(crate) struct StoreRestore {
    store: Store,
    end: End,
    /// Nodes that the index does not have yet, with the hashes of their keys.
    unindexed: Vec<(u32, u32)>,
    /// Places of older versions, by key.
    superseded: Vec<u32>,
    node: Option<u32>,
}

impl StoreRestore {
    /// Begins the next key with its oldest version. Keys come in rising order.
    pub(crate) fn key(&mut self, key: &[u8], revision: Revision) {
        let node = self.store.list.push(&mut self.end, key.into(), Head::new(revision));
        self.unindexed.push((self.store.index.hash(key), node));
        if self.unindexed.len() == INDEXED_AT_ONCE {
            self.index();
        }
        self.node = Some(node);
    }

    fn index(&mut self) {
        self.store.index.insert_all(&self.unindexed);
        self.unindexed.clear();
    }

    /// Adds a newer version of the key begun last.
    pub(crate) fn newer(&mut self, revision: Revision) {
        let node = self.node.expect("a key was begun");
        let Store { list, history, .. } = &mut self.store;
        self.superseded.push(history.supersede(list.content_mut(node), node, revision));
    }

    /// The store, with the history a replica has that saw all the writes.
    pub(crate) fn finish(mut self) -> Store {
        self.index();
        let history = &mut self.store.history;
        self.superseded.sort_by_key(|place| history.superseded_by(*place));
        for place in self.superseded {
            history.wait(place);
        }
        self.store
    }
}
