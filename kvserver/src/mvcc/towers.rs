//! The skip list's links: one tower per key, all towers side by side in blocks, apart from keys and values.
//!
//! A search walks towers only. A link is 16 bytes and tells what the search must know of the key it leads to, so
//! the links of 100,000 keys are some 2.7 MB that stay in the processor's cache, whatever the values weigh.
//!
//! A tower is named by the place of its lowest link. Place 0 is the head's; no link leads there, so 0 also means
//! "no further".

use super::window::Window;

/// Levels of the tallest tower. One key in four reaches each next level, so this is enough for 4^16 keys.
pub(super) const HEIGHT_MAX: usize = 16;
/// The tower before the first key; as the end of a link: there is no next tower.
pub(super) const HEAD: u32 = 0;

const BLOCK_BITS: usize = 12;
const BLOCK: usize = 1 << BLOCK_BITS;

/// The way from one tower to the next of the same level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// The next key's bytes from `shared` on.
    pub(super) window: Window,
    /// The next tower, or [`HEAD`] for none.
    pub(super) next: u32,
    /// How many bytes the key this link starts from shares with the next one; 0 for the head.
    pub(super) shared: u16,
}

#[derive(Debug)]
struct Block {
    links: Box<[Link; BLOCK]>,
    /// Which node a tower belongs to, at the place of its lowest link.
    nodes: Box<[u32; BLOCK]>,
}

/// All towers. Those of equal height take each other's place when freed.
#[derive(Debug)]
pub(super) struct Towers {
    blocks: Vec<Block>,
    /// Links of the last block that are given out.
    used: usize,
    /// Freed places by height less one.
    free: [Vec<u32>; HEIGHT_MAX],
}

impl Towers {
    /// Only the head, which leads nowhere.
    pub(super) fn new() -> Towers {
        let mut towers = Towers { blocks: Vec::new(), used: BLOCK, free: Default::default() };
        let head = towers.insert(HEIGHT_MAX, 0);
        assert_eq!(head, HEAD, "the first tower is the head");
        towers
    }

    /// The link of `tower` at `level`, which is below its height.
    pub(super) fn link(&self, tower: u32, level: usize) -> &Link {
        let place = tower as usize + level;
        &self.blocks[place >> BLOCK_BITS].links[place & (BLOCK - 1)]
    }

    /// The link of `tower` at `level`, to change it.
    pub(super) fn link_mut(&mut self, tower: u32, level: usize) -> &mut Link {
        let place = tower as usize + level;
        &mut self.blocks[place >> BLOCK_BITS].links[place & (BLOCK - 1)]
    }

    /// The node that `tower` belongs to.
    pub(super) fn node(&self, tower: u32) -> u32 {
        self.blocks[tower as usize >> BLOCK_BITS].nodes[tower as usize & (BLOCK - 1)]
    }

    /// A tower of `height` links for `node`; its links lead nowhere yet.
    pub(super) fn insert(&mut self, height: usize, node: u32) -> u32 {
        assert!((1..=HEIGHT_MAX).contains(&height), "a tower of {height} levels");
        let tower = self.free[height - 1].pop().unwrap_or_else(|| self.take(height));
        for level in 0..height {
            *self.link_mut(tower, level) = Link::default();
        }
        self.blocks[tower as usize >> BLOCK_BITS].nodes[tower as usize & (BLOCK - 1)] = node;
        tower
    }

    /// Lets a tower's place be used again. Nothing may lead to it any more.
    pub(super) fn remove(&mut self, tower: u32, height: usize) {
        self.free[height - 1].push(tower);
    }

    /// `height` fresh links in a row within one block.
    fn take(&mut self, height: usize) -> u32 {
        if BLOCK - self.used < height {
            if self.used < BLOCK {
                let rest = self.place_of(self.used);
                self.free[BLOCK - self.used - 1].push(rest);
            }
            self.blocks.push(Block { links: boxed(Link::default()), nodes: boxed(0) });
            self.used = 0;
        }
        let place = self.place_of(self.used);
        self.used += height;
        place
    }

    fn place_of(&self, used: usize) -> u32 {
        u32::try_from(((self.blocks.len() - 1) << BLOCK_BITS) + used)
            .expect("three billion keys do not fit into memory")
    }
}

/// A block on the heap, made there: on the stack it would be 64 KiB.
fn boxed<T: Copy + std::fmt::Debug>(value: T) -> Box<[T; BLOCK]> {
    vec![value; BLOCK].into_boxed_slice().try_into().expect("it was made with this length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_never_overlap_and_freed_ones_are_used_again() {
        let mut towers = Towers::new();
        let mut owner = std::collections::BTreeMap::new();
        let mut made = Vec::new();
        for number in 0..5000u32 {
            let height = 1 + number as usize % HEIGHT_MAX;
            let tower = towers.insert(height, number);
            assert_eq!(towers.node(tower), number);
            for level in 0..height {
                assert_eq!(owner.insert(tower + level as u32, number), None);
            }
            made.push((tower, height));
        }
        let (tower, height) = made[77];
        towers.remove(tower, height);
        assert_eq!(towers.insert(height, 9), tower);
    }

    #[test]
    fn a_link_stays_small() {
        assert_eq!(size_of::<Link>(), 16);
    }
}
