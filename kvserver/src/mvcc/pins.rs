//! Instants that somebody still reads: each keeps one version, with its history, from being freed.
//!
//! A pin is given up by being dropped, wherever its holder fails or finishes; nobody has to remember to say so. The
//! store looks at its next write whether holders are gone.

use std::sync::Arc;

use super::Version;

/// Pins at once. One is a snapshot being written, others are ones being sent; beyond this, a typed refusal.
pub const PINS_MAX: usize = 8;

/// Too many instants are pinned already ([`PINS_MAX`]); try again when a snapshot is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PINS_MAX} instants are pinned already")]
pub struct TooManyPins;

/// Keeps one version, with its history down to the floor of then, readable until it is dropped.
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

#[derive(Debug)]
struct State {
    version: Version,
    floor: Version,
    /// Shared with the pin: alone with it, the pin was dropped.
    token: Arc<()>,
}

/// The pins of one store.
#[derive(Debug, Default)]
pub(super) struct Pins {
    states: Vec<State>,
}

impl Pins {
    /// Pins `version`, whose floor is `floor`.
    pub(super) fn pin(&mut self, version: Version, floor: Version) -> Result<Pin, TooManyPins> {
        if self.states.len() == PINS_MAX {
            return Err(TooManyPins);
        }
        let token = Arc::new(());
        self.states.push(State { version, floor, token: Arc::clone(&token) });
        Ok(Pin { version, floor, token })
    }

    /// Whether `pin` was given out here.
    pub(super) fn knows(&self, pin: &Pin) -> bool {
        self.states.iter().any(|state| Arc::ptr_eq(&state.token, &pin.token))
    }

    /// Forgets the pins that were dropped; true if there were any.
    pub(super) fn reap(&mut self) -> bool {
        let before = self.states.len();
        self.states.retain(|state| Arc::strong_count(&state.token) > 1);
        self.states.len() < before
    }

    /// Whether a pin needs `version`, which `next` supersedes: whether some reader from the pin's floor up to its
    /// version sees it. Without `next` it is about a tombstone with nothing older, which is of no use at or below a
    /// floor.
    pub(super) fn need(&self, version: Version, next: Option<Version>) -> bool {
        self.states.iter().any(|pin| {
            let is_born = version <= pin.version;
            match next {
                Some(next) => is_born && next > pin.floor,
                None => is_born && version > pin.floor,
            }
        })
    }
}
