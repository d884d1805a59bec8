//! Everything that is left to chance, out of the seed.
//!
//! Each concern has dice of its own, so that leaving one kind of fault out changes the others as little as possible.
//! Nothing in the simulator may draw from anywhere else.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// One stream of random numbers.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of one concern of one seed.
    pub(crate) fn new(seed: u64, concern: u64) -> Dice {
        Dice(generator(seed, concern))
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// A place in a list of `count`.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// True `chance` times in a thousand.
    pub(crate) fn permille(&mut self, chance: u64) -> bool {
        chance > 0 && self.0.random_range(0..1000) < chance
    }

    /// A number that is small more often than large: its order of magnitude is uniform.
    pub(crate) fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let top = self.between(low, high);
        let top = self.between(low, top);
        self.between(low, top)
    }

    /// One of `items`.
    pub(crate) fn one<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.place(items.len())]
    }

    /// Some of `items`, `count` of them, in their order.
    pub(crate) fn some<T: Copy>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut left = items.to_vec();
        while left.len() > count {
            let place = self.place(left.len());
            left.remove(place);
        }
        left
    }

    /// Any 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.random()
    }
}

/// A generator for those who want one of their own.
pub(crate) fn generator(seed: u64, concern: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ concern.wrapping_mul(0xd1b5_4a32_d192_ed03),
    )
}
