//! How other threads speak to a reactor: a list of commands, and a wake-up only if the reactor sleeps.
//!
//! The list is bounded by what can be in it: one connect per channel, one flush list per corked scope, one next part, one
//! resumption and one stall per connection, one word per change of a watched channel, and the rare commands of setting up
//! and taking down.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mio::Waker;

use super::EndOfTurn;
use super::lock::lock;
use super::net::Listener;
use super::outbox::Outbox;
use crate::client::core::Core;
use crate::error::RpcError;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicBool, Ordering};
use crate::server::provider::ProviderCore;

/// Something to be done on the reactor's thread.
pub(crate) enum Command {
    /// Make the connection that the channel waits for.
    Connect(Arc<Core>),
    /// The name of the channel's server has been looked up.
    Resolved(Arc<Core>, Result<Vec<SocketAddr>, RpcError>),
    /// The channel has been closed: end its connection.
    CloseChannel(Arc<Core>),
    /// Tell the channel's observer how its connection stands.
    TellState(Arc<Core>),
    /// Flush these.
    Flush(Vec<Arc<Outbox>>),
    /// Of what waits on this connection write the next part at the turn's end.
    WriteOn(Arc<Outbox>),
    /// This connection may be read again: its origin client has its answer, or its peer has taken its replies.
    Resume(mio::Token),
    /// This connection's peer takes no replies at present.
    WatchStall(mio::Token),
    /// Tell this provider when the reactor ends.
    Provider(Weak<ProviderCore>),
    /// Serve what comes here.
    Listen(Listener, Arc<ProviderCore>),
    /// Stop accepting for this provider, let its connections finish.
    StopProvider(Arc<ProviderCore>),
    /// Call this at the end of turns.
    Hook(Weak<dyn EndOfTurn>),
    /// End the reactor, which may take so long to write what is queued.
    Stop(Duration),
}

/// The list and the wake-up.
pub(crate) struct Mailbox {
    /// `None` once the reactor has ended.
    commands: Mutex<Option<Vec<Command>>>,
    /// Whether the reactor is about to wait, or waits.
    sleeping: AtomicBool,
    /// `None` where whoever turns the reactor looks for commands, too.
    waker: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn new(waker: Option<Waker>) -> Mailbox {
        Mailbox { commands: Mutex::new(Some(Vec::new())), sleeping: AtomicBool::new(false), waker }
    }

    /// Adds a command; returns it if the reactor has ended.
    pub(crate) fn post(&self, command: Command) -> Result<(), Command> {
        match lock(&self.commands).as_mut() {
            Some(commands) => commands.push(command),
            None => return Err(command),
        }
        self.wake_sleeper();
        Ok(())
    }

    /// Wakes the reactor if it sleeps.
    pub(crate) fn wake_sleeper(&self) {
        // SeqCst here and in `announce_sleep`: either the reactor sees what we did before, or we see it sleep.
        if self.sleeping.load(Ordering::SeqCst)
            && self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(waker) = &self.waker
            && let Err(error) = waker.wake()
        {
            log::error!("the reactor cannot be woken: {error}");
        }
    }

    /// The reactor says that it is about to wait. Returns whether there is work, so that it must not.
    pub(crate) fn announce_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        self.has_commands()
    }

    /// Whether there is work for the reactor.
    pub(crate) fn has_commands(&self) -> bool {
        lock(&self.commands).as_ref().is_some_and(|commands| !commands.is_empty())
    }

    /// The reactor is awake.
    pub(crate) fn announce_awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Takes all commands, leaving `empty` in their place.
    pub(crate) fn take(&self, empty: Vec<Command>) -> Vec<Command> {
        debug_assert!(empty.is_empty());
        match lock(&self.commands).as_mut() {
            Some(commands) if !commands.is_empty() => std::mem::replace(commands, empty),
            _ => empty,
        }
    }

    /// Takes what is left and refuses everything from now on.
    pub(crate) fn close(&self) -> Vec<Command> {
        lock(&self.commands).take().unwrap_or_default()
    }
}
