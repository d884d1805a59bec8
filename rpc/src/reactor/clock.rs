//! Time as the reactor counts it: nanoseconds since the process first asked, in one word that atomics can hold.
//!
//! On a reactor's thread the time of the turn is used, so that a call costs no look at the clock.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment, in nanoseconds since the process' first; `NEVER` is later than all others.
pub(crate) type Nanos = u64;

/// No moment at all.
pub(crate) const NEVER: Nanos = u64::MAX;

static EPOCH: OnceLock<Instant> = OnceLock::new();

thread_local! {
    /// On a reactor's thread: when its turn began.
    static TURN: Cell<Option<(Instant, Nanos)>> = const { Cell::new(None) };
}

/// The moment of an instant.
pub(crate) fn nanos_of(instant: Instant) -> Nanos {
    let epoch = *EPOCH.get_or_init(|| instant);
    instant.saturating_duration_since(epoch).as_nanos() as Nanos
}

/// Now, by the clock.
pub(crate) fn read_clock() -> (Instant, Nanos) {
    let now = Instant::now();
    (now, nanos_of(now))
}

/// Now; on a reactor's thread the time its turn began.
pub(crate) fn now_nanos() -> Nanos {
    TURN.get().map_or_else(|| read_clock().1, |(_, nanos)| nanos)
}

/// Reads the clock for a turn of the calling thread, which thereby is a reactor's thread.
pub(crate) fn begin_turn() -> (Instant, Nanos) {
    let now = read_clock();
    TURN.set(Some(now));
    now
}

/// The calling thread is no reactor's thread any more.
pub(crate) fn leave() {
    TURN.set(None);
}

/// Whether the calling thread is a reactor's.
pub(crate) fn is_reactor_thread() -> bool {
    TURN.get().is_some()
}

/// A duration in nanoseconds, saturating.
pub(crate) fn nanos_in(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
