//! What happens on a reactor's thread, turn by turn.
//!
//! A turn: wait for news; visit every ready socket; do what other threads asked for; expire what is due; let the services
//! and hooks end the turn; then one write per connection touched. Nothing in a turn waits for anything.
//!
//! State of the loop is touched on its thread only. Sockets are named by slot and generation, so that a late event for a
//! slot that has been given to another socket is ignored.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mio::Token;
use slab::Slab;

use super::clock::{self, NEVER, Nanos};
use super::connection::{After, Connection, Side};
use super::cork::Scope;
use super::deadlines::Action;
use super::listener::{Accepted, Listener};
use super::lock::lock;
use super::mailbox::Command;
use super::net::{News, Poller, Stream};
use super::outbox::{Outbox, ServerOwner};
use super::spin::Spin;
use super::{EndOfTurn, Shared};
use crate::client::core::Core;
use crate::client::pending_call::Answered;
use crate::error::{End, Step};
use crate::protocol::reply_decoder::ReplyFrame;
use crate::server::dispatcher::ServerSide;
use crate::server::in_flight::Stages;
use crate::server::provider::{ProviderCore, ServiceEntry, Standing};
use crate::server::streams::Streams;

/// How often connections that are about to end are looked at.
pub(super) const LINGER_CHECK: Duration = Duration::from_millis(5);

/// How often a stopping reactor looks whether everything has been sent.
pub(super) const FLUSH_CHECK: Duration = Duration::from_millis(2);

/// Numbers connections, all reactors' together.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// What a visit of a socket may use, and what it leaves for the turn's end.
pub(crate) struct Turn {
    /// When the turn began.
    pub(crate) now: Instant,
    pub(crate) nanos: Nanos,
    pub(crate) number: u64,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) reads_max: usize,
    /// Services called in this turn.
    pub(crate) called: Vec<Arc<ServiceEntry>>,
    /// Whether something was dispatched, so that the hooks run.
    pub(crate) has_dispatched: bool,
    /// Servers' connections with calls that have a deadline.
    pub(crate) timed: Vec<Token>,
    /// Room for a client connection's replies.
    pub(crate) replies: Vec<ReplyFrame>,
    /// Room for calls that are answered.
    pub(crate) answered: Vec<Answered>,
}

pub(super) struct Slot {
    generation: u32,
    pub(super) entry: Entry,
}

pub(super) enum Entry {
    Listener(Listener),
    Connection(Box<Connection>),
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
    /// Connections with more to read.
    again: Vec<Token>,
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
    pub(super) commands: Vec<Command>,
    pub(super) actions: Vec<Action>,
    /// The reactor has been told to end: until when what is queued may be written.
    pub(super) flush_until: Option<Nanos>,
    /// When it is written next then.
    pub(super) next_flush: Nanos,
}

impl PollLoop {
    pub(crate) fn new(poller: Poller, shared: Arc<Shared>) -> PollLoop {
        let now = shared.world.now();
        let turn = Turn {
            now,
            nanos: clock::nanos_of(now),
            number: 0,
            scratch: vec![0; shared.config.read_bytes_max.max(1)].into(),
            reads_max: shared.config.reads_per_turn_max.max(1),
            called: Vec::new(),
            has_dispatched: false,
            timed: Vec::new(),
            replies: Vec::new(),
            answered: Vec::new(),
        };
        PollLoop {
            poller,
            news: Vec::new(),
            shared,
            spin: Spin::default(),
            slots: Slab::new(),
            next_generation: 0,
            turn,
            listeners: Vec::new(),
            again: Vec::new(),
            lingering: Vec::new(),
            linger_look: 0,
            opening: Vec::new(),
            channels: Slab::new(),
            providers: Vec::new(),
            hooks: Vec::new(),
            stopping: Vec::new(),
            commands: Vec::new(),
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
        let scope = Scope::of_turn();
        for token in std::mem::take(&mut self.again) {
            self.visit(token, |connection, turn| {
                connection.is_in_line = false;
                connection.read(turn)
            });
        }
        let mut news = std::mem::take(&mut self.news);
        for news in news.drain(..) {
            self.on_news(news);
        }
        self.news = news;
        self.take_commands();
        if self.turn.nanos >= self.shared.deadlines.armed() {
            self.expire();
        }
        self.end_turn();
        drop(scope);
        if !self.lingering.is_empty() && self.turn.nanos >= self.linger_look {
            self.check_lingering();
        }
        if !self.stopping.is_empty() {
            self.check_stopping();
        }
        true
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
        self.turn.now = self.shared.world.now();
        self.turn.nanos = clock::nanos_of(self.turn.now);
        clock::begin_turn(self.turn.nanos);
        self.turn.number += 1;
        self.turn.has_dispatched = false;
    }

    /// Whether a turn is due now, though there may be no news.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        self.next_look() <= now || self.flush_until.is_none() && self.shared.mailbox.has_commands()
    }

    /// When the next turn is due though nothing comes.
    pub(crate) fn next_look(&self) -> Nanos {
        let after = |pause| self.turn.nanos + clock::nanos_in(pause);
        if !self.again.is_empty() {
            return 0;
        }
        if self.flush_until.is_some() {
            return self.next_flush;
        }
        let lingering = if self.lingering.is_empty() { NEVER } else { self.linger_look };
        let stopping = if self.stopping.is_empty() { NEVER } else { after(LINGER_CHECK) };
        self.shared.deadlines.armed().min(lingering).min(stopping)
    }

    fn on_news(&mut self, news: News) {
        if let Some(Entry::Listener(listener)) = self.entry(news.token) {
            listener.is_ready = true;
            self.accept(news.token);
        } else {
            self.visit(news.token, |connection, turn| connection.on_news(news, turn));
        }
    }

    /// The socket of a name, unless its slot is another's by now.
    pub(super) fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(token.0 & u32::MAX as usize)?;
        (slot.generation as usize == token.0 >> 32).then_some(&mut slot.entry)
    }

    /// Lets `visit` do something with a connection, and does what it asks for.
    pub(super) fn visit(&mut self, token: Token, visit: impl FnOnce(&mut Connection, &mut Turn) -> After) {
        let Some(slot) = self.slots.get_mut(token.0 & u32::MAX as usize) else { return };
        if slot.generation as usize != token.0 >> 32 {
            return;
        }
        let Entry::Connection(connection) = &mut slot.entry else { return };
        match visit(connection, &mut self.turn) {
            After::Keep => {}
            After::Again => {
                // NB: once. A connection that is named twice would have twice its share of each turn from then on.
                if !std::mem::replace(&mut connection.is_in_line, true) {
                    self.again.push(token);
                }
            }
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
        let key = self.slots.insert(Slot { generation: (token.0 >> 32) as u32, entry });
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

    /// Takes the connections that wait at a listener.
    pub(super) fn accept(&mut self, token: Token) {
        for _ in 0..self.shared.config.accepts_per_turn_max.max(1) {
            let nanos = self.turn.nanos;
            let Some(Entry::Listener(listener)) = self.entry(token) else { return };
            let provider = listener.provider.clone();
            match listener.accept(nanos) {
                Accepted::Connection(stream, peer, standing) => {
                    self.serve((stream, peer), provider, standing)
                }
                Accepted::Nothing => return,
                Accepted::RestUntil(moment) => return self.shared.arm(moment),
            }
        }
        // More are waiting: after the others' turn.
        self.shared.arm(self.turn.nanos + 1);
    }

    /// Visits the listeners: a place, a descriptor or the time has come.
    pub(super) fn accept_again(&mut self) {
        for position in 0..self.listeners.len() {
            self.accept(self.listeners[position]);
        }
    }

    /// Begins to serve an accepted connection.
    fn serve(
        &mut self,
        (mut stream, peer): (Stream, SocketAddr),
        provider: Arc<ProviderCore>,
        standing: Standing,
    ) {
        stream.send_at_once();
        stream.ask_if_silent();
        let token = self.next_token();
        if let Err(error) = self.poller.watch(&mut stream, token) {
            return log::warn!("{peer}: cannot be polled: {error}");
        }
        let stream = Arc::new(stream);
        let (stages, streams) = (Stages::default(), Streams::default());
        let owner = ServerOwner { provider: provider.clone(), token, stages, streams };
        let outbox = Outbox::new(self.shared.clone(), provider.config.unsent_limits(), Some(owner), 0);
        outbox.attach(stream.clone());
        provider.connection_opened(standing);
        // Relaxed: a number only.
        let connection_id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let mut side = ServerSide::new(provider, connection_id, (peer, standing));
        side.await_first_call(token, &mut self.turn);
        let side = Side::Server(side);
        let connection = Connection::new(token, stream, Arc::new(outbox), side);
        self.insert(token, Entry::Connection(Box::new(connection)));
    }
}
