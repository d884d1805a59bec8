//! What happens on a reactor's thread, turn by turn.
//!
//! A turn: wait for news; do what other threads asked for; visit the sockets that have something, while there is time; expire
//! what is due; let the services and hooks end the turn; then one write per connection touched, while there is time. Who has
//! had no turn keeps its place in the [`Line`]. Nothing in a turn waits for anything.
//!
//! State of the loop is touched on its thread only. Sockets are named by slot and generation, so that a late event for a
//! slot that has been given to another socket is ignored.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mio::Token;
use slab::Slab;

use super::clock::{self, NEVER, Nanos};
use super::connection::{After, Connection, Side};
use super::cork::TurnScope;
use super::deadlines::Action;
use super::line::Line;
use super::listener::Listener;
use super::lock::lock;
use super::mailbox::Command;
use super::net::{News, Poller};
use super::outbox::Outbox;
use super::spin::Spin;
use super::turn::Turn;
use super::{EndOfTurn, Shared};
use crate::client::core::Core;
use crate::error::{End, Step};
use crate::server::provider::ProviderCore;

/// How often connections that are about to end are looked at.
pub(super) const LINGER_CHECK: Duration = Duration::from_millis(5);

/// How often a stopping reactor looks whether everything has been sent.
pub(super) const FLUSH_CHECK: Duration = Duration::from_millis(2);

/// Connections that have no more to send are written before others, in bytes.
const LITTLE_BYTES: u64 = 16 * 1024;

pub(super) struct Slot {
    generation: u32,
    pub(super) stands_in_line: bool,
    pub(super) entry: Entry,
}

impl Slot {
    /// Whether it is to join the line, in which it does not stand yet.
    fn stand_in_line(&mut self) -> bool {
        !std::mem::replace(&mut self.stands_in_line, true)
    }
}

pub(super) enum Entry {
    Listener(Listener),
    Connection(Box<Connection>),
}

/// The slot of a socket's name, unless it is another's by now.
pub(super) fn slot_of(slots: &mut Slab<Slot>, token: Token) -> Option<&mut Slot> {
    let slot = slots.get_mut(token.0 & u32::MAX as usize)?;
    (slot.generation as usize == token.0 >> 32).then_some(slot)
}

/// See the module's text.
pub(crate) struct PollLoop {
    pub(super) poller: Poller,
    /// What the poller has told of.
    pub(super) news: Vec<News>,
    pub(super) shared: Arc<Shared>,
    spin: Spin,
    pub(super) slots: Slab<Slot>,
    next_generation: u32,
    pub(super) turn: Turn,
    pub(super) listeners: Vec<Token>,
    /// Sockets to be visited.
    line: Line<Token>,
    /// Connections to be written.
    pub(super) writes: Line<Arc<Outbox>>,
    /// Connections that end once they owe nothing.
    pub(super) lingering: Vec<Token>,
    /// When these are looked at next: not in every turn, since they may be many.
    pub(super) linger_look: Nanos,
    /// Connection attempts.
    pub(super) opening: Vec<Token>,
    pub(super) channels: Slab<Weak<Core>>,
    pub(super) providers: Vec<Weak<ProviderCore>>,
    pub(super) hooks: Vec<Weak<dyn EndOfTurn>>,
    /// Providers that are stopping, and until when they may.
    pub(super) stopping: Vec<(Arc<ProviderCore>, Nanos)>,
    /// Not done yet.
    pub(super) commands: VecDeque<Command>,
    /// Room for those that come.
    pub(super) commands_room: Vec<Command>,
    pub(super) actions: Vec<Action>,
    /// The reactor has been told to end: until when what is queued may be written.
    pub(super) flush_until: Option<Nanos>,
    /// When it is written next then.
    pub(super) next_flush: Nanos,
}

impl PollLoop {
    pub(crate) fn new(poller: Poller, shared: Arc<Shared>) -> PollLoop {
        let turn = Turn::new(&shared.config, shared.world.clone());
        PollLoop {
            poller,
            news: Vec::new(),
            shared,
            spin: Spin::default(),
            slots: Slab::new(),
            next_generation: 0,
            turn,
            listeners: Vec::new(),
            line: Line::new(),
            writes: Line::new(),
            lingering: Vec::new(),
            linger_look: 0,
            opening: Vec::new(),
            channels: Slab::new(),
            providers: Vec::new(),
            hooks: Vec::new(),
            stopping: Vec::new(),
            commands: VecDeque::new(),
            commands_room: Vec::new(),
            actions: Vec::new(),
            flush_until: None,
            next_flush: 0,
        }
    }

    /// Turns until told to stop. Whatever happens, every pending call is answered and whoever waits is told.
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        let turning = std::panic::AssertUnwindSafe(|| while self.turn() {});
        if std::panic::catch_unwind(turning).is_err() {
            shared.shielded("the reactor", || panic!("the reactor's thread is broken and ends"));
        }
        self.end();
    }

    /// The reactor has had its last turn.
    pub(crate) fn end(&mut self) {
        self.shut_down();
        clock::leave();
        let (ended, condvar) = &self.shared.ended;
        *lock(ended) = true;
        condvar.notify_all();
    }

    /// One turn. Returns whether there is to be another one.
    pub(crate) fn turn(&mut self) -> bool {
        if let Some(until) = self.flush_until {
            return self.flush_before_stop(until);
        }
        self.wait();
        let scope = TurnScope::begin();
        let mut news = std::mem::take(&mut self.news);
        for news in news.drain(..) {
            self.on_news(news);
        }
        self.news = news;
        self.take_commands();
        let mut round = self.line.round();
        while let Some(token) = self.line.next(&mut round, || self.turn.has_time()) {
            self.visit(token);
        }
        if self.turn.nanos >= self.shared.deadlines.armed() {
            self.expire();
        }
        self.end_turn();
        self.write(scope);
        if !self.lingering.is_empty() && self.turn.nanos >= self.linger_look {
            self.check_lingering();
        }
        if !self.stopping.is_empty() {
            self.check_stopping();
        }
        true
    }

    /// Writes to the connections that have something to send.
    fn write(&mut self, scope: TurnScope) {
        scope.end(|outbox| {
            // Much has little before it.
            let is_little = outbox.unsent_hint() <= LITTLE_BYTES;
            if is_little { self.writes.join(outbox) } else { self.writes.join_again(outbox) }
        });
        if self.writes.is_empty() {
            return;
        }
        self.turn.begin_writing();
        let mut round = self.writes.round();
        while let Some(outbox) = self.writes.next(&mut round, || self.turn.has_time()) {
            outbox.flush_in_turn();
        }
    }

    /// Waits for news, commands or the next deadline.
    fn wait(&mut self) {
        let is_due = self.spin();
        let has_commands = self.shared.mailbox.announce_sleep();
        let timeout = match self.next_look() {
            _ if is_due || has_commands => Some(Duration::ZERO),
            NEVER => None,
            // NB: by the clock. The turn may have been long, and a spin.
            look => Some(Duration::from_nanos(look.saturating_sub(self.shared.world.nanos()))),
        };
        self.poll(timeout);
    }

    /// Looks for news, commands and the next deadline again and again, as far as that is wanted. Returns whether a turn is due.
    fn spin(&mut self) -> bool {
        let most = clock::nanos_in(self.shared.config.spin);
        if most == 0 {
            return false;
        }
        let shared = self.shared.clone();
        let now = || shared.world.nanos();
        let mut spin = std::mem::take(&mut self.spin);
        let is_due = spin.until(most, now, || {
            self.take_news(Some(Duration::ZERO));
            !self.news.is_empty() || self.is_due(now())
        });
        self.spin = spin;
        is_due
    }

    fn take_news(&mut self, timeout: Option<Duration>) {
        if let Err(error) = self.poller.wait(timeout, &mut self.news) {
            assert!(error.kind() == io::ErrorKind::Interrupted, "the poll of the reactor is broken: {error}");
        }
    }

    /// Takes the news there are, waiting for some as long as it may. A turn begins.
    pub(super) fn poll(&mut self, timeout: Option<Duration>) {
        self.take_news(timeout);
        self.shared.mailbox.announce_awake();
        self.turn.begin();
        // NB: after the clock. A process that was stopped wakes late and is told of nothing: who has spoken meanwhile must be
        // heard before the clock judges of silence.
        if self.turn.nanos >= self.shared.deadlines.armed() {
            self.take_news(Some(Duration::ZERO));
        }
    }

    /// Whether a turn is due now, though there may be no news.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        self.next_look() <= now || self.flush_until.is_none() && self.shared.mailbox.has_commands()
    }

    /// When the next turn is due though nothing comes.
    pub(crate) fn next_look(&self) -> Nanos {
        let after = |pause| self.turn.nanos + clock::nanos_in(pause);
        if self.flush_until.is_some() {
            return self.next_flush;
        }
        if !self.line.is_empty() || !self.writes.is_empty() || !self.commands.is_empty() {
            return 0;
        }
        let lingering = if self.lingering.is_empty() { NEVER } else { self.linger_look };
        let stopping = if self.stopping.is_empty() { NEVER } else { after(LINGER_CHECK) };
        self.shared.deadlines.armed().min(lingering).min(stopping)
    }

    fn on_news(&mut self, news: News) {
        let Some(slot) = slot_of(&mut self.slots, news.token) else { return };
        let has_something = match &mut slot.entry {
            Entry::Listener(listener) => {
                listener.is_ready = true;
                true
            }
            Entry::Connection(connection) => {
                if news.is_writable && connection.is_open() && connection.outbox.on_writable() {
                    self.writes.join_again(connection.outbox.clone());
                }
                connection.note(news)
            }
        };
        if has_something && slot.stand_in_line() {
            self.line.join(news.token);
        }
    }

    /// A socket is to be visited again, after those that have news.
    pub(super) fn line_up_again(&mut self, token: Token) {
        if slot_of(&mut self.slots, token).is_some_and(Slot::stand_in_line) {
            self.line.join_again(token);
        }
    }

    /// The socket of a name, unless its slot is another's by now.
    pub(super) fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        slot_of(&mut self.slots, token).map(|slot| &mut slot.entry)
    }

    /// It is a socket's turn.
    fn visit(&mut self, token: Token) {
        let Some(slot) = slot_of(&mut self.slots, token) else { return };
        slot.stands_in_line = false;
        let Entry::Connection(connection) = &mut slot.entry else { return self.accept(token) };
        match connection.go_on(&mut self.turn) {
            After::Keep => {}
            After::Again => self.line_up_again(token),
            After::Linger => {
                if !self.lingering.contains(&token) {
                    self.lingering.push(token);
                }
            }
            After::Close(cause) => self.close(token, End { step: Step::Read, cause: &cause }),
        }
    }

    /// The name of the socket that [`PollLoop::insert`] takes next.
    pub(super) fn next_token(&mut self) -> Token {
        // The highest generation is left out: with the highest slot it would be the waker's name.
        self.next_generation = (self.next_generation + 1) % u32::MAX;
        Token(self.slots.vacant_key() | (self.next_generation as usize) << 32)
    }

    /// Puts the socket named `token` into its slot.
    pub(super) fn insert(&mut self, token: Token, entry: Entry) {
        let key =
            self.slots.insert(Slot { generation: (token.0 >> 32) as u32, stands_in_line: false, entry });
        assert_eq!(key, token.0 & u32::MAX as usize, "a slot was given away between naming and inserting");
    }

    /// Takes a connection down and tells its side.
    pub(super) fn close(&mut self, token: Token, end: End<'_>) {
        if !matches!(self.entry(token), Some(Entry::Connection(_))) {
            return;
        }
        let Entry::Connection(connection) = self.slots.remove(token.0 & u32::MAX as usize).entry else {
            return;
        };
        let Connection { stream, outbox, side, .. } = *connection;
        if matches!(side, Side::Server(_)) {
            // What this turn has answered is owed to the peer, also when it is the peer's fault that this ends.
            outbox.flush_owed();
        }
        // NB: an attempt's outbox is the next attempt's, too; it has no socket yet.
        let (written, write_error) =
            if matches!(side, Side::Opening(_)) { (0, None) } else { outbox.close() };
        let write_error = write_error.map(|error| format!("writing: {error}"));
        let end = write_error.as_deref().map_or(end, |cause| End { step: Step::Write, cause });
        self.poller.close(stream);
        match side {
            Side::Server(mut side) => {
                side.on_closed(&outbox, end);
                log::debug!("{}: {}", side.peer(), end.cause);
                self.accept_again();
            }
            Side::Client(side) => {
                side.core.on_closed(&outbox, written, end, &mut self.turn.answered);
                self.run_answered(&side.core);
            }
            Side::Opening(opening) => self.open(opening, Some(end.cause.to_owned())),
        }
    }
}
