//! The client's handle: calls out, replies in, over one connection that is made when needed and made again when broken.

use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;

use super::core::Core;
use super::pending_call::{BlockedCaller, Completion, Outcome};
use super::pool::Pool;
use super::state::ChannelState;
use crate::config::ChannelConfig;
use crate::controller::{RpcController, Whereabouts};
use crate::error::RpcError;
use crate::protocol::encoder::{Body, Names};
use crate::reactor::{Reactor, clock};

/// A method's names on the wire. Generated code has one constant per method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Short name of the service.
    pub service: &'static str,
    /// Name of the method.
    pub name: &'static str,
    /// Fields 1 and 2 of the request header, encoded; empty when they are to be encoded at each call.
    header: &'static [u8],
    is_idempotent: bool,
}

impl Method {
    /// A method by its names.
    pub const fn new(service: &'static str, name: &'static str) -> Method {
        Method { service, name, header: &[], is_idempotent: false }
    }

    /// For generated code: `header` is the encoded form of both names.
    pub const fn generated(service: &'static str, name: &'static str, header: &'static [u8]) -> Method {
        Method { service, name, header, is_idempotent: false }
    }

    /// The method may run twice for one call: a call whose outcome is unknown may be repeated ([`RetryPolicy`]). Generated
    /// code says so of methods with the option `idempotency_level`.
    ///
    /// [`RetryPolicy`]: crate::RetryPolicy
    #[must_use]
    pub const fn idempotent(self) -> Method {
        Method { is_idempotent: true, ..self }
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    pub(crate) fn names(&self) -> Names<'static> {
        if self.header.is_empty() {
            Names::Plain(self.service, self.name)
        } else {
            Names::Encoded(self.header)
        }
    }
}

/// A connection to one server, or a few ([`ChannelConfig::connections_max`]), shared by all its clones; when the last one is
/// dropped it is closed.
///
/// It connects at the first call. If the connection breaks, every call in flight is answered once, and the next call
/// connects again. After a failed attempt calls fail at once with the cause until a pause is over, which doubles with each
/// failure up to a maximum, with jitter. Calls made while connecting are queued, within the limits.
#[derive(Clone)]
pub struct RpcChannel {
    pool: Arc<Pool>,
}

impl RpcChannel {
    /// A channel to `address`, `HOST:PORT`, whose connection `reactor` makes. Nothing is done before the first call.
    pub fn new(reactor: &Reactor, address: &str, config: ChannelConfig) -> RpcChannel {
        RpcChannel { pool: Arc::new(Pool::new(reactor.shared(), address, config)) }
    }

    /// Calls and waits for the reply.
    ///
    /// # Errors
    /// See [`RpcError`].
    ///
    /// # Panics
    /// On a reactor's thread, which must not wait.
    pub fn call<M, R>(&self, method: &Method, controller: &RpcController, args: &M) -> Result<R, RpcError>
    where
        M: Body,
        R: Message + Default,
    {
        assert!(
            !clock::is_reactor_thread(),
            "a blocking call on a reactor's thread would stop it: use call_async"
        );
        if controller.is_cancelled() {
            return note(controller, Err(RpcError::Cancelled { may_have_run: false }));
        }
        let core = self.core();
        let caller = BlockedCaller::of_this_thread();
        let completion = Completion::Blocked(caller.clone());
        core.start_repeatable(method, controller, args, completion);
        note(controller, decode(core.wait_for(&caller)))
    }

    /// Calls; `done` runs exactly once: on the reactor's thread when the reply, a failure or the deadline comes; on this
    /// thread, before this returns, when the call is refused; on the cancelling thread when it is cancelled. It must not
    /// block. A panic in it is caught, see [`Reactor`].
    pub fn call_async<M, R>(
        &self,
        method: &Method,
        controller: &RpcController,
        args: &M,
        done: impl FnOnce(Result<R, RpcError>) + Send + 'static,
    ) where
        M: Body,
        R: Message + Default,
    {
        if controller.is_cancelled() {
            return done(note(controller, Err(RpcError::Cancelled { may_have_run: false })));
        }
        let core = self.core();
        let for_outcome = controller.clone();
        let callback = move |outcome: Outcome| done(note(&for_outcome, decode(outcome)));
        let completion = Completion::Callback(Box::new(callback));
        core.start_repeatable(method, controller, args, completion);
    }

    /// Begins a call whose reply is asked for later, or given up by dropping what this returns. It
    /// is sent once, whatever the channel's retry policy says.
    pub fn begin<M, R>(&self, method: &Method, controller: &RpcController, args: &M) -> PendingReply<R>
    where
        M: Body,
        R: Message + Default,
    {
        let (core, step) = (self.core(), controller.next_step());
        let caller = Arc::new(BlockedCaller::default());
        let completion = Completion::Blocked(caller.clone());
        let call_id = if controller.is_cancelled() {
            completion.run(core.reactor(), Err(RpcError::Cancelled { may_have_run: false }));
            None
        } else {
            let started = core.start(method, controller.timeout(), args, completion, core.inherited());
            started.map(|(call_id, _)| call_id)
        };
        if let Some(call_id) = call_id {
            controller.note(step, core, Whereabouts::InFlight(call_id));
        }
        PendingReply {
            core: core.clone(),
            call_id,
            caller,
            controller: controller.clone(),
            reply: PhantomData,
        }
    }

    /// The connection for one more call.
    pub(super) fn core(&self) -> &Arc<Core> {
        self.pool.for_call()
    }

    /// How the connection stands now; of several, the best.
    pub fn state(&self) -> ChannelState {
        self.pool.state()
    }

    /// Has `observer` told of the connection's state now and at every change, on the reactor's thread; it must not block.
    /// Of several connections it is told of each, without a word which. It takes the place of an earlier one.
    pub fn on_state_change(&self, observer: impl Fn(&ChannelState) + Send + Sync + 'static) {
        let observer = Arc::new(observer);
        self.pool.all().for_each(|core| core.observe(observer.clone()));
    }

    /// The server's address, as it was given.
    pub fn address(&self) -> &str {
        self.pool.first().address()
    }

    /// Closes the channel for all its clones: calls in flight are answered [`RpcError::Stopped`], later ones refused so.
    pub fn close(&self) {
        self.pool.all().for_each(|core| core.close());
    }
}

/// A call that has been begun. Dropping it cancels the call, and the server is told; the other calls of the channel do
/// not notice.
#[must_use = "dropping it cancels the call"]
pub struct PendingReply<R> {
    pub(super) core: Arc<Core>,
    /// `None` once nothing is left to cancel.
    pub(super) call_id: Option<u64>,
    pub(super) caller: Arc<BlockedCaller>,
    pub(super) controller: RpcController,
    pub(super) reply: PhantomData<fn() -> R>,
}

impl<R: Message + Default> PendingReply<R> {
    /// Waits for the reply.
    ///
    /// # Errors
    /// See [`RpcError`].
    ///
    /// # Panics
    /// On a reactor's thread, which must not wait.
    pub fn wait(mut self) -> Result<R, RpcError> {
        assert!(!clock::is_reactor_thread(), "waiting on a reactor's thread would stop it");
        self.call_id = None;
        self.core.flush();
        note(&self.controller, decode(self.core.wait_for(&self.caller)))
    }
}

impl<R> Drop for PendingReply<R> {
    fn drop(&mut self) {
        if let Some(call_id) = self.call_id {
            self.core.cancel(call_id);
        }
    }
}

/// The reply's message.
fn decode<R: Message + Default>(outcome: Outcome) -> Result<R, RpcError> {
    R::decode(outcome?).map_err(|error| RpcError::BadReply { cause: error.to_string() })
}

/// Tells the controller of a failure.
fn note<R>(controller: &RpcController, result: Result<R, RpcError>) -> Result<R, RpcError> {
    if let Err(error) = &result {
        controller.note_failure(error);
    }
    result
}
