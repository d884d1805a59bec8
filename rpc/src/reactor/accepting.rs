//! How connections come in: taken from their listeners a share in each turn, and given a side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mio::Token;

use super::connection::{Connection, Side};
use super::listener::Accepted;
use super::net::Stream;
use super::outbox::{Outbox, ServerOwner};
use super::poll_loop::{Entry, PollLoop};
use crate::server::dispatcher::ServerSide;
use crate::server::in_flight::Stages;
use crate::server::provider::{ProviderCore, Standing};
use crate::server::streams::Streams;

/// Numbers connections, all reactors' together.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl PollLoop {
    /// Takes some of the connections that wait at a listener.
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
        self.line_up_again(token);
    }

    /// The listeners may go on: a place, a descriptor or the time has come.
    pub(super) fn accept_again(&mut self) {
        for position in 0..self.listeners.len() {
            let token = self.listeners[position];
            if matches!(self.entry(token), Some(Entry::Listener(listener)) if listener.is_ready) {
                self.line_up_again(token);
            }
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
        stream.ask_if_silent(provider.config.stalled_timeout);
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
