//! Room for the log on this node's disk: what is accepted must fit what is reserved.
//!
//! Whoever writes the log holds blocks of the disk for what may come, and says here how far they reach. Both sides count
//! the same thing, everything ever handed to the writer, so that the sum cannot drift: what was handed out is what the
//! writer takes. Terms, votes, a leader's first entry and changes of the members are not asked for room: the writer holds
//! some back for them.

use bytes::Bytes;

use crate::entry::{ENTRY_OVERHEAD_BYTES, Entry};
use crate::log::Log;
use crate::planted;
use crate::ready::Persist;

/// What an entry may cost beside its weight: the frame of a batch of its own, its seal and the term that comes with it.
const FRAME_BYTES: u64 = 128;

/// A batch that does not fit what is left of a segment goes to the next one, and what is left is lost: never more than the
/// batch has itself.
const CHARGE_PER_BYTE: u64 = 2;

/// How much of the log the disk has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRoom {
    /// The charge ([`Persist::charge_bytes`]) that everything ever handed to the writer may reach.
    pub charge_max: u64,
    /// The room there is when the reserve is whole and nothing waits.
    pub whole_bytes: u64,
    /// The disk gives no more: the reserve is not whole and cannot be made so.
    pub is_full: bool,
}

/// The room, as the core keeps count of it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// None until the writer has said something: nothing is refused then.
    known: Option<LogRoom>,
    /// The charge of everything handed to the writer.
    handed: u64,
}

impl Persist {
    /// What this may cost of the log's room, at most: [`LogRoom::charge_max`] is counted in it. The hard state and the
    /// snapshot's marker count nothing.
    pub fn charge_bytes(&self) -> u64 {
        charge(self.entries.iter().map(Entry::weight_bytes).sum(), self.entries.len() as u64)
    }
}

/// What entries of this weight cost at most.
fn charge(weight_bytes: u64, count: u64) -> u64 {
    CHARGE_PER_BYTE * (weight_bytes + FRAME_BYTES * count)
}

/// What these entries cost at most.
pub(crate) fn charge_of_entries(entries: &[Entry]) -> u64 {
    charge(entries.iter().map(Entry::weight_bytes).sum(), entries.len() as u64)
}

/// What these commands cost at most once they are entries.
pub(crate) fn charge_of_commands(commands: &[Bytes]) -> u64 {
    let count = commands.len() as u64;
    let bytes: u64 = commands.iter().map(|command| command.len() as u64).sum();
    charge(bytes + ENTRY_OVERHEAD_BYTES * count, count)
}

impl Room {
    pub(crate) fn learn(&mut self, room: LogRoom) {
        self.known = Some(room);
    }

    pub(crate) fn handed_out(&mut self, persist: &Persist) {
        self.handed += persist.charge_bytes();
    }

    /// What is left for entries that are not in `log` yet; none if nothing is known.
    pub(crate) fn left(&self, log: &Log) -> Option<u64> {
        let waiting = log.last_index().distance_from(log.handed());
        let unhanded = charge(log.bytes_after(log.handed()), waiting);
        self.known.map(|room| room.charge_max.saturating_sub(self.handed + unhanded))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.known.is_some_and(|room| room.is_full)
    }

    /// How many of `count` new entries, from the first on, may join `log`; the first so many of them have the charge
    /// `charge_of_first`. One always may where the disk is not known to be full, nothing else waits, and a whole reserve would
    /// not do for it: it never could pass else.
    pub(crate) fn fitting(&self, log: &Log, count: usize, charge_of_first: impl Fn(usize) -> u64) -> usize {
        let (Some(known), Some(left)) = (self.known, self.left(log)) else { return count };
        if charge_of_first(count) <= left || planted::is("room-not-asked-for") {
            return count;
        }
        let (mut fitting, mut too_many) = (0, count);
        while fitting + 1 < too_many {
            let middle = fitting.midpoint(too_many);
            match charge_of_first(middle) <= left {
                true => fitting = middle,
                false => too_many = middle,
            }
        }
        let is_alone = log.persisted() == log.last_index();
        let never_fits = is_alone && !known.is_full && charge_of_first(1) > known.whole_bytes;
        if fitting == 0 && never_fits { 1 } else { fitting }
    }
}
