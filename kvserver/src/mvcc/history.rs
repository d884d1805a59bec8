//! What has been superseded, since when, and who may still want it.
//!
//! Every write that supersedes a version leaves a line here: *from version `by` on, nobody needs the one before*.
//! When the log moves the floor past `by`, the line is due and the memory is freed, a line or two per write, so that
//! no write ever waits for a sweep. A [`Pin`] holds back lines it needs; they wait aside and are worked off a few per
//! write once it is gone.
//!
//! The lines in the queue, and so the bytes they count, are a function of the log alone. Pins must not change them:
//! what pins delay is kept apart.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Version;

/// Pins at once. One is a snapshot being written, others are ones being sent; beyond this, a typed refusal.
pub const PINS_MAX: usize = 8;
/// Lines that pins held back and that one write works off after they are gone.
pub const RECLAIM_PER_WRITE: usize = 16;

/// Too many instants are pinned already ([`PINS_MAX`]); try again when a snapshot is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PINS_MAX} instants are pinned already")]
pub struct TooManyPins;

/// Keeps one version, with its history down to the floor of then, readable until it is dropped.
///
/// Not `Clone`: it is dropped once, wherever its owner fails or finishes, and the store notices at its next write.
#[derive(Debug)]
pub struct Pin {
    version: Version,
    floor: Version,
    token: Arc<()>,
}

impl Pin {
    /// The version that stays readable.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The floor when it was pinned: readers from here up to [`Pin::version`] see what they saw then.
    pub fn floor(&self) -> Version {
        self.floor
    }
}

/// One superseded version of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Superseded {
    /// The version that superseded it.
    pub(super) by: Version,
    /// The key's node. It may have become another key's when a held line is looked at again; that does no harm.
    pub(super) node: u32,
    /// Bytes of the superseded value.
    pub(super) bytes: u64,
}

#[derive(Debug)]
struct PinState {
    version: Version,
    floor: Version,
    token: Arc<()>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Readers below it are not served any more.
    floor: Version,
    /// Not due yet, oldest first. At most one line per log index above the floor.
    queue: VecDeque<Superseded>,
    /// Sum of the queue's bytes.
    bytes: u64,
    /// Due, but needed by a pin. At most one line per version visible at that pin.
    held: Vec<Superseded>,
    /// Held once, to be worked off now.
    released: VecDeque<Superseded>,
    pins: Vec<PinState>,
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
        self.queue.front().map(|line| line.by)
    }

    /// Notes a superseded version.
    pub(super) fn push(&mut self, line: Superseded) {
        debug_assert!(self.queue.back().is_none_or(|last| last.by <= line.by), "versions rise");
        self.bytes += line.bytes;
        self.queue.push_back(line);
    }

    /// Moves the floor; never back.
    pub(super) fn raise_floor(&mut self, floor: Version) {
        self.floor = self.floor.max(floor);
    }

    /// The next line that the floor made due.
    pub(super) fn pop_due(&mut self) -> Option<Superseded> {
        let line = *self.queue.front().filter(|line| line.by <= self.floor)?;
        self.queue.pop_front();
        self.bytes -= line.bytes;
        Some(line)
    }

    /// The next line that pins held back and no longer do.
    pub(super) fn pop_released(&mut self) -> Option<Superseded> {
        self.released.pop_front()
    }

    /// Whether any released line waits.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Puts a line aside that a pin needs.
    pub(super) fn hold(&mut self, line: Superseded) {
        self.held.push(line);
    }

    /// Pins `version`, the newest there is.
    pub(super) fn pin(&mut self, version: Version) -> Result<Pin, TooManyPins> {
        self.reap_pins();
        if self.pins.len() == PINS_MAX {
            return Err(TooManyPins);
        }
        let token = Arc::new(());
        self.pins.push(PinState { version, floor: self.floor, token: Arc::clone(&token) });
        Ok(Pin { version, floor: self.floor, token })
    }

    /// Whether `pin` is one of this store's, and not of one that was replaced meanwhile.
    pub(super) fn knows(&self, pin: &Pin) -> bool {
        self.pins.iter().any(|state| Arc::ptr_eq(&state.token, &pin.token))
    }

    /// Forgets pins whose holder dropped them, and releases what was held back; what another pin still needs
    /// comes back aside.
    pub(super) fn reap_pins(&mut self) {
        let before = self.pins.len();
        self.pins.retain(|state| Arc::strong_count(&state.token) > 1);
        if self.pins.len() < before {
            self.released.extend(self.held.drain(..));
        }
    }

    /// Whether a pin needs `version`, which `next` supersedes: whether some reader from the pin's floor up to its
    /// version sees it. Without `next` it is about a tombstone with nothing older, which is of no use at or below a floor.
    pub(super) fn is_pinned(&self, version: Version, next: Option<Version>) -> bool {
        self.pins.iter().any(|pin| {
            let is_born = version <= pin.version;
            match next {
                Some(next) => is_born && next > pin.floor,
                None => is_born && version > pin.floor,
            }
        })
    }
}
