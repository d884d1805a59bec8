//! Time as a reactor counts it: nanoseconds since the process first asked, in one word that atomics can hold.
//!
//! On a reactor's thread the time of the turn is used, so that a call costs no look at the clock. Which clock that is, the
//! reactor's [`World`](super::world::World) says.

use crate::primitives::thread_local;
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment, in nanoseconds since the process' first; `NEVER` is later than all others.
pub(crate) type Nanos = u64;

/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// No moment at all.
pub(crate) const NEVER: Nanos = u64::MAX;

static EPOCH: OnceLock<Instant> = OnceLock::new();

thread_local! {
    /// On a reactor's thread: when its turn began.
    static TURN: Cell<Option<Nanos>> = const { Cell::new(None) };
}

/// The moment of an instant.
pub(crate) fn nanos_of(instant: Instant) -> Nanos {
    let epoch = *EPOCH.get_or_init(|| instant);
    instant.saturating_duration_since(epoch).as_nanos() as Nanos
}

/// When the turn of the calling thread began, if it is a reactor's.
pub(crate) fn turn_begun() -> Option<Nanos> {
    TURN.with(Cell::get)
}

/// A turn of the calling thread begins, which thereby is a reactor's thread.
pub(crate) fn begin_turn(now: Nanos) {
    TURN.with(|turn| turn.set(Some(now)));
}

/// The calling thread is no reactor's thread any more.
pub(crate) fn leave() {
    TURN.with(|turn| turn.set(None));
}

/// Whether the calling thread is a reactor's.
pub(crate) fn is_reactor_thread() -> bool {
    turn_begun().is_some()
}

/// A duration in nanoseconds, saturating.
pub(crate) fn nanos_in(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
