//! The multi-version ordered map that holds the store's keys: an ordered skip list of our own whose values carry
//! the log index that wrote them.
//!
//! One idea gives four abilities: a point read takes the newest version of a key, a scan reads every key at one
//! version and so sees one instant, a snapshot reads at a pinned version while writes go on, and a later reader
//! can ask what happened since a version. The price is that superseded versions live on for a while; the
//! *floor* says for how long. It is moved by the log alone ([`Store::compact_before`]), so that every node answers
//! the same for the same version; a [`Pin`] delays only the freeing of memory, never an answer.
//!
//! From the bottom up: `arena` and `towers` hand out places by number (no pointers, no `unsafe`), `skip_list` keeps
//! the order, `index` is a short cut to one key, `history` keeps older versions as long as somebody may ask for them,
//! `pins` says who may, `store` is the face, `scan` walks.
//!
//! Nothing here may look at a clock or walk a hash map: the content is the same on every node. Chance decides only
//! how fast something is found: the heights of towers (a generator with a fixed seed) and the index's hash.

mod arena;
mod history;
mod index;
mod pins;
mod scan;
mod skip_list;
mod store;
mod towers;
mod window;

pub use history::RECLAIM_PER_WRITE;
pub use pins::{PINS_MAX, Pin, TooManyPins};
pub use scan::Scan;
pub use store::{KEY_BYTES_MAX, Store};

pub(crate) use history::Revision;
pub(crate) use store::StoreRestore;

use std::fmt;

/// The log index of the entry that wrote a value. Versions of one key rise; zero is before every write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
