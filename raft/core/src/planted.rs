//! Mistakes planted on purpose, so that the simulator can be shown to find them.
//!
//! Each is the classic way of getting one thing wrong, behind one question [`is`] at the place where it is right. Without
//! the feature `planted_bugs`, which no package enables, the answer is a constant and nothing of it is compiled. What the
//! simulator finds within 500 seeds is listed in `bin/sim`, with what it does wrong; the others have tests beside the code.

#[cfg(feature = "planted_bugs")]
mod switch {
    use std::cell::RefCell;

    std::thread_local! {
        static PLANTED: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// From now on, on this thread, the mistake of this name is made; an empty name means none.
    pub fn plant(name: &str) {
        PLANTED.with(|planted| name.clone_into(&mut planted.borrow_mut()));
    }

    /// Whether the mistake of this name is to be made.
    pub fn is(name: &str) -> bool {
        PLANTED.with(|planted| *planted.borrow() == name)
    }
}

#[cfg(feature = "planted_bugs")]
pub use switch::{is, plant};

/// Never: mistakes are planted only with the feature `planted_bugs`.
#[cfg(not(feature = "planted_bugs"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}
