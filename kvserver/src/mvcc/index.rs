//! Finds the node of a key in two looks at memory instead of a walk down the skip list.
//!
//! A linear-hashing table: buckets of one cache line, and one bucket splits when the table has grown by four keys.
//! So it never stops to be rehashed, as an ordinary hash map of a million keys would, for a tenth of a second.
//!
//! It holds numbers of nodes, no keys, and is nothing but a short cut: the order, and all that may depend on it, is
//! the skip list's. Nothing may ever walk this table; its hash has a key of its own in every process, so that nobody
//! can choose keys that all fall into one bucket.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;

use super::arena::Arena;

/// Keys per bucket when the next one splits. A bucket has seven places; what does not fit goes into a further one.
const KEYS_PER_BUCKET: usize = 4;
const SLOTS: usize = 7;
/// No node, no bucket.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The low half of the key's hash; its lowest bits choose the bucket.
    hash: u32,
    /// The key's node, or `NONE`.
    node: u32,
}

/// Slots are filled from the front. The further buckets of a chain are full.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Bucket {
    slots: [Slot; SLOTS],
    further: u32,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { slots: [Slot { hash: 0, node: NONE }; SLOTS], further: NONE }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Index {
    /// The first `used` places are the table; every bucket of a chain but the first is one of `further`.
    table: Arena<Bucket>,
    used: usize,
    further: Arena<Bucket>,
    keys: usize,
    random: RandomState,
    /// Kept between splits, so that they allocate nothing.
    moving: Vec<Slot>,
}

impl Index {
    /// An empty table.
    pub(super) fn new() -> Index {
        let mut table = Arena::default();
        table.insert(Bucket::default());
        Index {
            table,
            used: 1,
            further: Arena::default(),
            keys: 0,
            random: RandomState::new(),
            moving: Vec::new(),
        }
    }

    /// What the other functions want to know of a key.
    pub(super) fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.random.build_hasher();
        hasher.write(key);
        hasher.finish() as u32
    }

    /// The node for which `is_it` holds, among those of keys with this hash.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut bucket = self.table.at(self.place(hash));
        loop {
            let mut filled = bucket.slots.iter().take_while(|slot| slot.node != NONE);
            if let Some(slot) = filled.find(|slot| slot.hash == hash && is_it(slot.node)) {
                return Some(slot.node);
            }
            if bucket.further == NONE {
                return None;
            }
            bucket = self.further.at(bucket.further);
        }
    }

    /// Adds the node of a key that is not there yet.
    pub(super) fn insert(&mut self, hash: u32, node: u32) {
        self.keys += 1;
        if self.keys > self.used * KEYS_PER_BUCKET {
            self.split();
        }
        self.put(Slot { hash, node });
    }

    /// Adds the nodes of many keys that are not there yet, each with its hash.
    ///
    /// Their buckets lie anywhere in memory. All are looked at before the first is changed, so that the processor waits for
    /// many of them at once; after each other, they are the dearest part of filling a store.
    pub(super) fn insert_all(&mut self, nodes: &[(u32, u32)]) {
        self.keys += nodes.len();
        while self.keys > self.used * KEYS_PER_BUCKET {
            self.split();
        }
        let is_short = |(hash, _): &&(u32, u32)| self.table.at(self.place(*hash)).further == NONE;
        black_box(nodes.iter().filter(is_short).count());
        for (hash, node) in nodes {
            self.put(Slot { hash: *hash, node: *node });
        }
    }

    /// Removes a node that is there.
    pub(super) fn remove(&mut self, hash: u32, node: u32) {
        self.take_chain(self.place(hash));
        self.moving.retain(|slot| slot.node != node);
        self.put_moving();
        self.keys -= 1;
    }

    fn place(&self, hash: u32) -> u32 {
        let mask = self.used.next_power_of_two() - 1;
        let place = hash as usize & mask;
        // A bucket that is not there yet still has its keys in the one it will split from.
        let place = if place < self.used { place } else { place & (mask >> 1) };
        u32::try_from(place).expect("it is cut out of 32 bits")
    }

    /// Adds one bucket to the table and moves into it what belongs there from the one it splits from.
    fn split(&mut self) {
        let new = self.used;
        let from = new - (1 << new.ilog2());
        let place = self.table.insert(Bucket::default());
        assert_eq!(place as usize, new, "the table only grows, at its end");
        self.take_chain(u32::try_from(from).expect("below a place"));
        self.used += 1;
        self.put_moving();
    }

    /// Empties a bucket with its further ones into `moving`.
    fn take_chain(&mut self, place: u32) {
        let mut bucket = std::mem::take(self.table.at_mut(place));
        loop {
            self.moving.extend(bucket.slots.iter().filter(|slot| slot.node != NONE));
            if bucket.further == NONE {
                return;
            }
            bucket = self.further.remove(bucket.further);
        }
    }

    fn put_moving(&mut self) {
        while let Some(slot) = self.moving.pop() {
            self.put(slot);
        }
    }

    fn put(&mut self, slot: Slot) {
        let place = self.place(slot.hash);
        let first = self.table.at_mut(place);
        if let Some(free) = first.slots.iter_mut().find(|slot| slot.node == NONE) {
            *free = slot;
            return;
        }
        let full = std::mem::take(first);
        first.slots[0] = slot;
        first.further = self.further.insert(full);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_node_is_found_by_its_key_through_all_splits_and_removals() {
        let (mut index, mut model, mut random) = (Index::new(), BTreeMap::new(), 5u64);
        for round in 0..40_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 40) % if round < 20_000 { 20_000 } else { 500 };
            // Few hashes for some keys, so that chains grow long.
            let hash = if key % 10 == 0 { key as u32 % 3 } else { index.hash(&key.to_le_bytes()) };
            let is_it = |node| model.get(&key) == Some(&node);
            assert_eq!(index.find(hash, is_it), model.get(&key).copied());
            match model.get(&key) {
                Some(node) => {
                    index.remove(hash, *node);
                    model.remove(&key);
                }
                None => {
                    index.insert(hash, round);
                    model.insert(key, round);
                }
            }
        }
        for (key, node) in &model {
            let hash = if key % 10 == 0 { *key as u32 % 3 } else { index.hash(&key.to_le_bytes()) };
            assert_eq!(index.find(hash, |found| found == *node), Some(*node));
        }
        assert_eq!(index.keys, model.len());
    }

    #[test]
    fn nodes_that_come_together_are_found_as_those_that_come_alone() {
        let mut index = Index::new();
        let nodes: Vec<(u32, u32)> = (0..5_000)
            .map(|node| {
                (if node % 9 == 0 { node % 4 } else { index.hash(&[node as u8, (node >> 8) as u8]) }, node)
            })
            .collect();
        for (hash, node) in &nodes[..100] {
            index.insert(*hash, *node);
        }
        for some in nodes[100..].chunks(77) {
            index.insert_all(some);
        }
        index.insert_all(&[]);
        for (hash, node) in &nodes {
            assert_eq!(index.find(*hash, |found| found == *node), Some(*node));
        }
        for (hash, node) in nodes {
            index.remove(hash, node);
            assert_eq!(index.find(hash, |found| found == node), None);
        }
        assert_eq!(index.keys, 0);
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }
}
