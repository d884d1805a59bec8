//! A growing table of values reached by a small number, with reuse of freed places.
//!
//! It grows by whole blocks that never move. A plain `Vec` would double instead: half of it empty on average, and
//! one write in a million would wait for the copy of all nodes.
//!
//! It must never hand out a number twice at the same time; a freed place keeps a default value, so that a number
//! held too long reads as vacant, not as somebody else's memory.

use std::mem;

/// Values per block.
const BLOCK: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: usize = 10;

/// Values of one type in blocks, addressed by `u32`.
#[derive(Debug)]
pub(super) struct Arena<T> {
    /// Every block is full but the last; none ever moves.
    blocks: Vec<Vec<T>>,
    /// Places that were freed, last freed first used: it is the one most likely in the cache.
    free: Vec<u32>,
}

/// Empty.
impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { blocks: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Arena<T> {
    /// The value at `place`.
    pub(super) fn at(&self, place: u32) -> &T {
        &self.blocks[place as usize >> BLOCK_BITS][place as usize & (BLOCK - 1)]
    }

    /// The value at `place`, to change it.
    pub(super) fn at_mut(&mut self, place: u32) -> &mut T {
        &mut self.blocks[place as usize >> BLOCK_BITS][place as usize & (BLOCK - 1)]
    }

    /// Stores `value` and returns where.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            *self.at_mut(place) = value;
            return place;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let block = self.blocks.len() - 1;
        let place = (block << BLOCK_BITS) + self.blocks[block].len();
        let place = u32::try_from(place).expect("four billion keys do not fit into memory");
        self.blocks[block].push(value);
        place
    }

    /// Takes the value at `place` out and lets the place be used again. Freeing a place twice would give it to two
    /// owners: whoever frees one must have unlinked it before.
    pub(super) fn remove(&mut self, place: u32) -> T {
        self.free.push(place);
        mem::take(self.at_mut(place))
    }

    /// How many values are stored.
    pub(super) fn len(&self) -> usize {
        let last = self.blocks.last().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_reads_as_vacant_and_is_used_again() {
        let mut arena = Arena::default();
        let places: Vec<u32> = (0..3000u64).map(|value| arena.insert(value + 1)).collect();
        assert_eq!(arena.len(), 3000);
        assert_eq!(arena.remove(places[1500]), 1501);
        assert_eq!(*arena.at(places[1500]), 0);
        assert_eq!(arena.len(), 2999);
        assert_eq!(arena.insert(7), places[1500]);
        assert_eq!(*arena.at(places[1499]), 1500);
        assert_eq!(*arena.at(places[2999]), 3000);
    }
}
