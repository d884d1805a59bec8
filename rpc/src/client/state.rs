//! What one can see of a channel's connection from outside, and how one is told when it changes.
//!
//! A change is told on the reactor's thread, from a command that whoever made the change leaves there: so an observer hears
//! of changes in their order, one at a time, with no lock held. States that lasted too short may be skipped, the last
//! one never is.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Link};
use crate::error::RpcError;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicBool, Ordering};
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;

/// Where a channel's connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelState {
    /// There is none; the next call makes one.
    Idle,
    /// One is being made; calls are queued.
    Connecting,
    /// There is one.
    Ready,
    /// The latest attempt failed; calls fail at once until the pause is over.
    Waiting {
        /// What is left of the pause.
        pause: Duration,
        /// Why the attempt failed.
        error: RpcError,
    },
    /// The channel or its reactor has been stopped, for ever.
    Closed,
}

/// What is told of a change.
type Observer = Arc<dyn Fn(&ChannelState) + Send + Sync>;

/// The observer and what it was told last.
#[derive(Default)]
pub(super) struct Watch {
    is_watched: AtomicBool,
    observer: Mutex<Option<Observer>>,
    told: Mutex<Option<ChannelState>>,
}

impl Core {
    pub(super) fn channel_state(&self) -> ChannelState {
        match &lock(&self.state).link {
            Link::Idle => ChannelState::Idle,
            Link::Opening(_) => ChannelState::Connecting,
            Link::Ready(_) => ChannelState::Ready,
            Link::Waiting { until, error } => {
                let pause = Duration::from_nanos(until.saturating_sub(self.reactor.world.nanos()));
                ChannelState::Waiting { pause, error: error.clone() }
            }
            Link::Closed => ChannelState::Closed,
        }
    }

    /// What is left of the pause before the next attempt to connect; nothing if there is none.
    pub(super) fn pause_left(&self) -> Duration {
        match self.channel_state() {
            ChannelState::Waiting { pause, .. } => pause,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn observe(self: &Arc<Core>, observer: Observer) {
        *lock(&self.watch.observer) = Some(observer);
        *lock(&self.watch.told) = None;
        self.watch.is_watched.store(true, Ordering::SeqCst);
        self.note_change();
    }

    /// The connection's state may have changed; to be called after that, with no lock held.
    pub(super) fn note_change(self: &Arc<Core>) {
        if self.watch.is_watched.load(Ordering::SeqCst) {
            // A reactor that has stopped has told the last state.
            let _ = self.reactor.post(Command::TellState(self.clone()));
        }
    }

    /// Tells the observer what has changed since it was told last; on the reactor's thread.
    pub(crate) fn tell_state(&self) {
        let Some(observer) = lock(&self.watch.observer).clone() else { return };
        let state = self.channel_state();
        {
            let mut told = lock(&self.watch.told);
            let is_known = match (&*told, &state) {
                // The pause runs on by itself: that is no news.
                (Some(ChannelState::Waiting { error, .. }), ChannelState::Waiting { error: now, .. }) => {
                    error == now
                }
                (Some(told), now) => told == now,
                (None, _) => false,
            };
            if is_known {
                return;
            }
            *told = Some(state.clone());
        }
        self.reactor.shielded("a channel's observer", || observer(&state));
    }
}
