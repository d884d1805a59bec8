//! How connections, providers and the reactor itself come to their end: what is owed is paid, up to a bound in time.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{Nanos, nanos_in};
use super::connection::Side;
use super::cork::TurnScope;
use super::listener::Listener;
use super::mailbox::Command;
use super::poll_loop::{Entry, FLUSH_CHECK, LINGER_CHECK, PollLoop};
use crate::client::core::Core;
use crate::error::{End, Step};
use crate::server::provider::ProviderCore;

/// Whether a connection's peer has been told to leave: it may still have sent calls.
fn is_peers_to_end(side: &Side) -> bool {
    matches!(side, Side::Server(side) if side.is_told_to_leave())
}

impl PollLoop {
    /// Ends lingering connections that owe nothing or have taken too long.
    pub(super) fn check_lingering(&mut self) {
        let now = self.turn.nanos;
        self.linger_look = now.saturating_add(nanos_in(LINGER_CHECK));
        for token in std::mem::take(&mut self.lingering) {
            let Some(Entry::Connection(connection)) = self.entry(token) else { continue };
            if connection.is_done() || now >= connection.linger_until {
                self.close(token, End { step: Step::Read, cause: "closed by the peer" });
            } else {
                self.lingering.push(token);
            }
        }
    }

    /// Ends what is done of providers that are stopping.
    pub(super) fn check_stopping(&mut self) {
        let now = self.turn.nanos;
        for (provider, until) in std::mem::take(&mut self.stopping) {
            let is_of_it =
                |side: &Side| matches!(side, Side::Server(it) if Arc::ptr_eq(&it.provider, &provider));
            let ended = self.connections(|it| {
                is_of_it(&it.side) && (it.is_done() && !is_peers_to_end(&it.side) || now >= until)
            });
            for token in ended {
                self.close(token, End { step: Step::Here, cause: "the provider has stopped" });
            }
            if provider.connections() == 0 {
                provider.mark_stopped();
            } else {
                self.stopping.push((provider, until));
            }
        }
    }

    /// Tells the peers of a stopping provider, as far as they understand it.
    pub(super) fn tell_to_leave(&mut self, provider: &Arc<ProviderCore>) {
        for (_, slot) in &mut self.slots {
            if let Entry::Connection(connection) = &mut slot.entry
                && let Side::Server(side) = &mut connection.side
                && Arc::ptr_eq(&side.provider, provider)
            {
                side.tell_to_leave(&connection.outbox);
            }
        }
    }

    /// Closes the listeners that `wanted` wants.
    pub(super) fn close_listeners(&mut self, wanted: impl Fn(&Listener) -> bool) {
        for token in std::mem::take(&mut self.listeners) {
            match self.entry(token) {
                Some(Entry::Listener(listener)) if wanted(listener) => {
                    let removed = self.slots.remove(token.0 & u32::MAX as usize);
                    if let Entry::Listener(listener) = removed.entry {
                        self.poller.close_listener(listener.socket);
                    }
                }
                _ => self.listeners.push(token),
            }
        }
    }

    /// A turn of a reactor that ends: writes what is queued. Returns whether something is left and may still leave.
    pub(super) fn flush_before_stop(&mut self, until: Nanos) -> bool {
        self.close_listeners(|_| true);
        self.flush_line();
        let unsent = self.connections(|connection| {
            connection.outbox.begin_next_part();
            connection.outbox.flush();
            !matches!(connection.side, Side::Opening(_)) && connection.outbox.unsent() > 0
        });
        if unsent.is_empty() || self.turn.nanos >= until {
            return false;
        }
        let has_next_part = !self.connections(|connection| connection.outbox.has_next_part()).is_empty();
        let pause = if has_next_part { Duration::ZERO } else { FLUSH_CHECK };
        self.next_flush = self.turn.nanos.saturating_add(nanos_in(pause));
        self.poll(Some(pause));
        let mut news = std::mem::take(&mut self.news);
        for news in news.drain(..).filter(|news| news.is_writable || news.is_read_closed) {
            // NB: all connections are written in each of these turns.
            if let Some(Entry::Connection(connection)) = self.entry(news.token) {
                connection.outbox.on_writable();
            }
        }
        self.news = news;
        true
    }

    /// Closes everything, answers every call, wakes whoever waits.
    pub(super) fn shut_down(&mut self) {
        let scope = TurnScope::begin();
        self.close_listeners(|_| true);
        let left = self.commands.drain(..).chain(self.shared.mailbox.close()).collect::<Vec<_>>();
        for (_, channel) in std::mem::take(&mut self.channels) {
            if let Some(core) = channel.upgrade() {
                self.stop_channel(&core);
            }
        }
        for slot in std::mem::take(&mut self.slots) {
            if let Entry::Connection(mut connection) = slot.1.entry {
                connection.outbox.close();
                if let Side::Server(side) = &mut connection.side {
                    let end = End { step: Step::Here, cause: "the reactor has stopped" };
                    side.on_closed(&connection.outbox, end);
                }
            }
        }
        for command in left {
            match command {
                Command::Connect(core) | Command::Resolved(core, _) | Command::CloseChannel(core) => {
                    self.stop_channel(&core);
                }
                Command::TellState(core) => core.tell_state(),
                Command::Provider(provider) => self.providers.push(provider),
                _ => {}
            }
        }
        for provider in std::mem::take(&mut self.providers) {
            if let Some(provider) = provider.upgrade() {
                provider.mark_stopped();
            }
        }
        self.shared.deadlines.close();
        scope.end(|outbox| self.writes.join(outbox));
        self.flush_line();
        log::debug!("the reactor ended after {} turns", self.turn.number);
    }

    /// Writes what stands in line, which may be connections of other reactors.
    fn flush_line(&mut self) {
        self.writes.take_all().for_each(|outbox| outbox.flush_in_turn());
    }

    fn stop_channel(&mut self, core: &Core) {
        core.on_stopped(&mut self.turn.answered);
        core.tell_state();
        self.run_answered(core);
    }
}
