//! Looking again and again for a while before sleeping, as long as that pays.
//!
//! To be woken takes a thread tens of microseconds, more than a whole call over the loopback. Who looks for so long instead
//! saves them if it has a core to itself. If not, each look is taken from somebody's work, maybe from that of the thread
//! that is waited for. So whoever spins watches how it goes: a spin in vain makes the next ones rarer, twice as rare each
//! time; one that finds something makes up for all before it; and one that lost its core meanwhile, which shows that others
//! want it, is the last for long.

use super::clock::{MILLISECOND, Nanos};

/// Spins in vain in a row that count: of 2^10 waits one is a spin then.
const IN_VAIN_MAX: u32 = 10;

/// A thread that is so long from one look to the next has lost its core in between: a look takes a hundredth of it.
const INTERRUPTION: Nanos = MILLISECOND / 5;

/// How the spins of one thread have gone.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    /// Spins in vain since one has found something.
    in_vain: u32,
    /// Waits without a spin that come before the next one.
    to_skip: u32,
}

impl Spin {
    /// Looks until something is there, for as long as `most`, or only once. Returns whether it is there.
    pub(crate) fn until(
        &mut self,
        most: Nanos,
        now: impl Fn() -> Nanos,
        mut is_there: impl FnMut() -> bool,
    ) -> bool {
        // What need not be waited for does not show whether to spin.
        if is_there() {
            return true;
        }
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return false;
        }
        let begun = now();
        let mut looked_at = begun;
        loop {
            std::hint::spin_loop();
            let has_come = is_there();
            let before = std::mem::replace(&mut looked_at, now());
            if looked_at - before >= INTERRUPTION {
                self.in_vain = IN_VAIN_MAX;
            } else if has_come {
                self.in_vain = 0;
            } else if looked_at - begun >= most {
                self.in_vain = (self.in_vain + 1).min(IN_VAIN_MAX);
            } else {
                continue;
            }
            self.to_skip = (1 << self.in_vain) - 1;
            return has_come;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MICROSECOND: Nanos = 1_000;

    /// Waits, of which the ones for what comes within the time of a spin find it.
    fn spins_of(spin: &mut Spin, comes_after: &[Nanos], look: Nanos) -> Vec<bool> {
        let wait = |after: &Nanos| {
            let clock = Cell::new(0);
            let (now, is_there) = (|| clock.get(), || clock.replace(clock.get() + look) >= *after);
            spin.until(50 * MICROSECOND, now, is_there);
            clock.get() > look
        };
        comes_after.iter().map(wait).collect()
    }

    #[test]
    fn what_comes_soon_is_always_waited_for_by_looking() {
        let mut spin = Spin::default();
        assert_eq!(spins_of(&mut spin, &[40 * MICROSECOND; 100], MICROSECOND), [true; 100]);
    }

    #[test]
    fn what_never_comes_soon_is_waited_for_so_ever_more_rarely_and_looked_for_now_and_then() {
        let spun = spins_of(&mut Spin::default(), &[60 * MICROSECOND; 5_000], MICROSECOND);
        let at: Vec<usize> = (0..spun.len()).filter(|wait| spun[*wait]).collect();
        assert_eq!(at[..8], [0, 2, 6, 14, 30, 62, 126, 254]);
        let last = at.len() - 1;
        assert_eq!(at[last] - at[last - 1], 1 << IN_VAIN_MAX);
    }

    #[test]
    fn one_that_finds_something_makes_up_for_those_in_vain() {
        let mut spin = Spin::default();
        let late = 60 * MICROSECOND;
        spins_of(&mut spin, &[late; 31], MICROSECOND);
        let spun = spins_of(&mut spin, &[vec![40 * MICROSECOND; 40], vec![late; 3]].concat(), MICROSECOND);
        assert_eq!(spun.iter().position(|it| *it), Some(31));
        assert_eq!(spun[31..], [true, true, true, true, true, true, true, true, true, true, false, true]);
    }

    #[test]
    fn a_spin_whose_core_others_want_is_the_last_for_long() {
        let mut spin = Spin::default();
        spins_of(&mut spin, &[2 * INTERRUPTION], INTERRUPTION);
        let spun = spins_of(&mut spin, &[40 * MICROSECOND; 1_024], MICROSECOND);
        assert_eq!(spun.iter().position(|it| *it), Some(1_023));
    }

    #[test]
    fn what_is_there_already_says_nothing() {
        let mut spin = Spin::default();
        spins_of(&mut spin, &[60 * MICROSECOND; 3], MICROSECOND);
        let (vain, skip) = (spin.in_vain, spin.to_skip);
        assert!(spin.until(50 * MICROSECOND, || 0, || true));
        assert_eq!((spin.in_vain, spin.to_skip), (vain, skip));
    }
}
