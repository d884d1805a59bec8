//! The parts of a reactor's turn that are not about ready sockets: commands of other threads, connection attempts, what
//! is due, and the turn's end.

use std::sync::Arc;

use mio::Token;

use super::clock::{NEVER, nanos_in};
use super::connection::{Connection, Opening, Side};
use super::connector;
use super::listener::Listener;
use super::mailbox::Command;
use super::net;
use super::poll_loop::{Entry, PollLoop, Slot, slot_of};
use crate::client::core::Core;
use crate::error::{End, RpcError, Step};

/// Room for commands kept between turns.
const COMMANDS_KEPT_MAX: usize = 1024;

impl PollLoop {
    /// Does what other threads asked for, while there is time.
    pub(super) fn take_commands(&mut self) {
        let mut commands = self.shared.mailbox.take(std::mem::take(&mut self.commands_room));
        self.commands.extend(commands.drain(..));
        if commands.capacity() <= COMMANDS_KEPT_MAX {
            self.commands_room = commands;
        }
        while let Some(command) = self.commands.pop_front() {
            self.obey(command);
            if !self.commands.is_empty() && !self.turn.has_time() {
                return;
            }
        }
        self.commands.shrink_to(COMMANDS_KEPT_MAX);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Flush(outboxes) => {
                let to_write = outboxes.into_iter().filter(|outbox| outbox.stand_in_line());
                to_write.for_each(|outbox| self.writes.join(outbox));
            }
            Command::WriteOn(outbox) => {
                outbox.begin_next_part();
                if outbox.stand_in_line() {
                    self.writes.join_again(outbox);
                }
            }
            Command::Resume(token) => self.line_up_again(token),
            Command::WatchStall(token) => {
                if let Some(Slot { entry: Entry::Connection(connection), .. }) =
                    slot_of(&mut self.slots, token)
                {
                    connection.watch_stall(&mut self.turn);
                }
            }
            Command::Connect(core) => self.connect(core),
            Command::Resolved(core, Ok(addresses)) => {
                self.open(Opening { core, due: NEVER, others: addresses.into_iter().rev().collect() }, None);
            }
            Command::Resolved(core, Err(error)) => self.connect_failed(&core, error),
            Command::CloseChannel(core) => self.close_channel(&core),
            Command::TellState(core) => core.tell_state(),
            Command::Listen(socket, provider) => self.listen(socket, provider),
            Command::StopProvider(provider) => {
                let until = self.turn.nanos.saturating_add(nanos_in(provider.config.drain_timeout));
                self.close_listeners(|listener| Arc::ptr_eq(&listener.provider, &provider));
                self.tell_to_leave(&provider);
                self.stopping.push((provider, until));
            }
            Command::Provider(provider) => {
                self.providers.retain(|known| known.strong_count() > 0);
                self.providers.push(provider);
            }
            Command::Hook(hook) => self.hooks.push(hook),
            Command::Stop(within) => {
                self.flush_until = Some(self.turn.nanos.saturating_add(nanos_in(within)));
            }
        }
    }

    /// Begins the connection that a channel waits for.
    fn connect(&mut self, core: Arc<Core>) {
        if core.place().is_none() {
            if self.channels.len() >= self.shared.config.channels_max {
                self.channels.retain(|_, channel| channel.strong_count() > 0);
            }
            if self.channels.len() >= self.shared.config.channels_max {
                let max = self.shared.config.channels_max as u64;
                return self.connect_failed(&core, RpcError::Busy { limit: "channels_max", max });
            }
            core.set_place(self.channels.insert(Arc::downgrade(&core)));
        }
        // Its calls may have been due before it was known here.
        let next = core.expire(self.turn.nanos, &mut self.turn.answered);
        self.shared.arm(next);
        self.run_answered(&core);
        if let Some(address) = connector::numeric_address(core.address()) {
            self.open(Opening { core, due: NEVER, others: vec![address] }, None);
        } else if let Err(error) = connector::resolve_aside(&core) {
            let (address, cause) = (core.address().to_owned(), error.to_string());
            self.connect_failed(&core, RpcError::Resolve { address, cause });
        }
    }

    /// Begins an attempt at the next of the addresses that are left; `failure` is why the one before failed.
    pub(super) fn open(&mut self, mut opening: Opening, failure: Option<String>) {
        let mut failure = failure.unwrap_or_else(|| "no address".to_owned());
        let Some(outbox) = opening.core.outbox_to_open() else { return };
        while let Some(address) = opening.others.pop() {
            match self.shared.world.connect(address) {
                Ok(mut stream) => {
                    let token = self.next_token();
                    if let Err(error) = self.poller.watch(&mut stream, token) {
                        failure = error.to_string();
                        continue;
                    }
                    let due = self.turn.nanos.saturating_add(nanos_in(opening.core.config().connect_timeout));
                    opening.due = due;
                    let connection = Connection::new(token, Arc::new(stream), outbox, Side::Opening(opening));
                    self.insert(token, Entry::Connection(Box::new(connection)));
                    self.opening.push(token);
                    return self.shared.arm(due);
                }
                Err(error) => failure = error.to_string(),
            }
        }
        let address = opening.core.address().to_owned();
        self.connect_failed(&opening.core, RpcError::Connect { address, cause: failure });
    }

    fn connect_failed(&mut self, core: &Arc<Core>, error: RpcError) {
        core.on_connect_failed(error, &mut self.turn.answered);
        self.run_answered(core);
    }

    /// Forgets a closed channel. Its connections have been cut, which their sockets tell; what it is just opening is not
    /// waited for.
    fn close_channel(&mut self, core: &Arc<Core>) {
        for token in self.opening.clone() {
            if let Some(Entry::Connection(connection)) = self.entry(token)
                && matches!(&connection.side, Side::Opening(opening) if Arc::ptr_eq(&opening.core, core))
            {
                self.close(token, End { step: Step::Here, cause: "the channel was closed" });
            }
        }
        if let Some(place) = core.take_place() {
            self.channels.try_remove(place);
        }
    }

    fn listen(&mut self, socket: net::Listener, provider: Arc<crate::server::provider::ProviderCore>) {
        if provider.is_stopping() {
            // It was told to stop before this was heard of, and its listeners have been closed.
            return;
        }
        let mut listener = Listener::new(socket, provider);
        let token = self.next_token();
        if let Err(error) = self.poller.watch_listener(&mut listener.socket, token) {
            return log::error!("a listener cannot be polled: {error}");
        }
        self.insert(token, Entry::Listener(listener));
        self.listeners.push(token);
        self.line_up_again(token);
    }

    /// Names of the connections that `wanted` wants.
    pub(super) fn connections(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Token> {
        let token_of = |(_, slot): (usize, &Slot)| match &slot.entry {
            Entry::Connection(connection) if wanted(connection) => Some(connection.token),
            _ => None,
        };
        self.slots.iter().filter_map(token_of).collect()
    }

    /// Expires what is due and arms the next look.
    pub(super) fn expire(&mut self) {
        let now = self.turn.nanos;
        self.shared.deadlines.disarm();
        let mut next = self.shared.deadlines.take_due(now, &mut self.actions);
        let mut channels = std::mem::take(&mut self.channels);
        channels.retain(|_, channel| {
            let Some(core) = channel.upgrade() else { return false };
            next = next.min(core.expire(now, &mut self.turn.answered));
            self.run_answered(&core);
            true
        });
        self.channels = channels;
        for token in std::mem::take(&mut self.turn.timed) {
            let Some(Entry::Connection(connection)) = self.entry(token) else { continue };
            let has_more = connection.has_more();
            let Side::Server(side) = &mut connection.side else { continue };
            match side.expire(now, &connection.outbox, has_more) {
                Ok(NEVER) => {}
                Ok(due) => {
                    self.turn.timed.push(token);
                    next = next.min(due);
                }
                Err(cause) => self.close(token, End { step: Step::Here, cause }),
            }
        }
        for token in std::mem::take(&mut self.opening) {
            let due = match self.entry(token) {
                Some(Entry::Connection(connection)) => match &connection.side {
                    Side::Opening(opening) => opening.due,
                    _ => continue,
                },
                _ => continue,
            };
            if due <= now {
                self.close(token, End { step: Step::Here, cause: "timed out" });
            } else {
                self.opening.push(token);
                next = next.min(due);
            }
        }
        // Those that go on resting say again until when.
        self.accept_again();
        self.shared.arm(next);
        for action in std::mem::take(&mut self.actions) {
            self.turn.has_dispatched = true;
            self.shared.shielded("a timer", action);
        }
    }

    /// Runs the completions of a channel's calls that were answered outside of a visit.
    pub(super) fn run_answered(&mut self, core: &Core) {
        let mut answered = std::mem::take(&mut self.turn.answered);
        for call in answered.drain(..) {
            self.turn.has_dispatched = true;
            call.run(core);
        }
        self.turn.answered = answered;
    }

    /// Lets the services called in this turn, then the hooks, go on with what they collected.
    pub(super) fn end_turn(&mut self) {
        for entry in std::mem::take(&mut self.turn.called) {
            self.shared.shielded("the end of a service's turn", || entry.service.end_of_turn());
        }
        if !self.turn.has_dispatched {
            return;
        }
        let shared = &self.shared;
        self.hooks.retain(|hook| match hook.upgrade() {
            Some(hook) => {
                shared.shielded("an end-of-turn hook", || hook.end_of_turn());
                true
            }
            None => false,
        });
    }
}
