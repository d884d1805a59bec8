//! The event loop: one thread that owns sockets, for servers and clients alike.
//!
//! [`Reactor`] is the handle. What happens on its thread is told in `poll_loop`; what other threads may touch is a small
//! type of its own with its own lock: `outbox` (a connection's outgoing half), `mailbox` (commands), `deadlines`.

mod accepting;
pub(crate) mod appending;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod cork;
pub(crate) mod deadlines;
mod line;
pub(crate) mod listener;
pub(crate) mod lock;
pub(crate) mod mailbox;
pub(crate) mod net;
pub(crate) mod outbox;
pub(crate) mod poll_loop;
mod queue;
mod socket_side;
mod spare;
pub(crate) mod spin;
mod stopping;
pub(crate) mod turn;
mod turn_work;
pub(crate) mod world;

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::ReactorConfig;
use crate::error::RpcError;
use crate::primitives::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::primitives::thread::{self, JoinHandle};
use crate::primitives::{Condvar, Mutex};
use crate::simulation::world::SimulatedWorld;
use clock::Nanos;
use deadlines::{Action, Deadlines, Inserted, TimerId};
use lock::lock;
use mailbox::{Command, Mailbox};
use net::Poller;
use poll_loop::PollLoop;
use world::World;

/// Called on the reactor's thread after each poll turn in which frames, replies or timers were dispatched, after the
/// services' own `end_of_turn` and before the turn's one flush per connection.
pub trait EndOfTurn: Send + Sync {
    /// The turn's work is done: what was collected can go on as one batch.
    fn end_of_turn(&self);
}

/// What is told of a panic in a user's code.
type PanicObserver = Arc<dyn Fn(&str) + Send + Sync>;

/// What the handle, the thread, connections and channels share.
pub(crate) struct Shared {
    pub(crate) config: ReactorConfig,
    pub(crate) world: World,
    mailbox: Mailbox,
    pub(crate) deadlines: Deadlines,
    /// Of all channels' connections: what was left after the latest write to each, in bytes.
    unsent_bytes: AtomicU64,
    panic_observer: Mutex<Option<PanicObserver>>,
    ended: (Mutex<bool>, Condvar),
}

impl Shared {
    fn new(config: ReactorConfig, world: World, waker: Option<mio::Waker>) -> Shared {
        Shared {
            mailbox: Mailbox::new(waker),
            deadlines: Deadlines::new(config.timers_max),
            config,
            world,
            unsent_bytes: AtomicU64::new(0),
            panic_observer: Mutex::new(None),
            ended: (Mutex::new(false), Condvar::new()),
        }
    }

    /// Sends a command to the thread; hands it back if the thread has ended.
    pub(crate) fn post(&self, command: Command) -> Result<(), Command> {
        self.mailbox.post(command)
    }

    /// Notes that something is due then, after it has been put where the reactor finds it.
    pub(crate) fn arm(&self, due: Nanos) {
        if self.deadlines.arm(due) {
            self.mailbox.wake_sleeper();
        }
    }

    /// What is left to send on a channel's connection has changed.
    pub(crate) fn note_unsent(&self, before: u64, now: u64) {
        // Relaxed: a number only, which wraps to the right one.
        self.unsent_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Refuses more to send while the channels have too much.
    pub(crate) fn check_unsent(&self) -> Result<(), RpcError> {
        let max = self.config.unsent_bytes_total_max as u64;
        if self.unsent_bytes.load(Ordering::Relaxed) <= max {
            return Ok(());
        }
        Err(RpcError::Busy { limit: "unsent_bytes_total_max", max })
    }

    /// Runs a user's callback. A panic is logged and reported, and goes no further: the other calls of the process have
    /// done nothing wrong, and what the callback owed its caller is answered by the unwinding.
    pub(crate) fn shielded(&self, what: &str, f: impl FnOnce()) {
        let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) else { return };
        let text = panic_text(&*panic);
        log::error!("{what} panicked: {text}");
        let observer = lock(&self.panic_observer).clone();
        if let Some(observer) = observer {
            observer(&format!("{what} panicked: {text}"));
        }
    }

    /// Runs `action` on the reactor's thread after `delay`.
    pub(crate) fn run_after(&self, delay: Duration, action: Action) -> TimerId {
        let due = self.world.nanos().saturating_add(clock::nanos_in(delay));
        match self.deadlines.insert(due, action) {
            Inserted::Waiting(id) => {
                self.arm(due);
                id
            }
            Inserted::Ended(id, action) => {
                drop(action);
                id
            }
            Inserted::Full(id, action) => {
                log::warn!("{} timers are waiting: one more runs at once", self.config.timers_max);
                self.shielded("a timer", action);
                id
            }
        }
    }
}

impl Shared {
    /// Like [`Shared::run_after`], but where there is no place for it, or the reactor has ended, `action` is dropped.
    pub(crate) fn run_after_if_room(&self, delay: Duration, action: Action) -> Option<TimerId> {
        let due = self.world.nanos().saturating_add(clock::nanos_in(delay));
        match self.deadlines.insert(due, action) {
            Inserted::Waiting(id) => {
                self.arm(due);
                Some(id)
            }
            Inserted::Ended(..) | Inserted::Full(..) => None,
        }
    }
}

/// The text of a panic, as far as it has one.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without text"
    }
}

/// One event-loop thread serving providers and channels. A clone is another handle to the same thread; when the last
/// handle is dropped, the thread ends as by [`Reactor::stop`]. Channels and providers do not keep it alive.
///
/// A panic in a handler, a completion, a timer or a hook is caught, logged as an error and told to
/// [`Reactor::on_panic`]'s observer; a handler's call is answered `INTERNAL`. The thread goes on: whether the process
/// should is the observer's to say.
#[derive(Clone)]
pub struct Reactor {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stopped: AtomicBool,
}

/// How long the thread may flush when nobody has said.
const STOP_ON_DROP: Duration = Duration::from_millis(200);

impl Reactor {
    /// Starts the thread and calls it `name`.
    ///
    /// # Errors
    /// [`RpcError::Start`] when the system gives no poll or no thread.
    pub fn start(name: &str, config: ReactorConfig) -> Result<Reactor, RpcError> {
        let start_error = |error: std::io::Error| RpcError::Start { cause: error.to_string() };
        let (poller, waker) = Poller::of_system().map_err(start_error)?;
        let shared = Arc::new(Shared::new(config, World::System, Some(waker)));
        let for_thread = shared.clone();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || PollLoop::new(poller, for_thread).run())
            .map_err(start_error)?;
        Ok(Reactor::of(shared, Some(thread)))
    }

    /// A reactor of a simulated world, which turns it.
    pub(crate) fn simulated(world: &Arc<SimulatedWorld>, mut config: ReactorConfig) -> Reactor {
        // There no time passes while somebody looks.
        config.spin = Duration::ZERO;
        let shared = Arc::new(Shared::new(config, World::Simulated(world.clone()), None));
        world.add(|poller| PollLoop::new(poller, shared.clone()));
        Reactor::of(shared, None)
    }

    fn of(shared: Arc<Shared>, thread: Option<JoinHandle<()>>) -> Reactor {
        let (thread, stopped) = (Mutex::new(thread), AtomicBool::new(false));
        Reactor { handle: Arc::new(Handle { shared, thread, stopped }) }
    }

    /// Ends the thread: what is queued is flushed for at most `within`, connections are closed, every pending call is
    /// answered with [`RpcError::Stopped`], timers are dropped. Returns when the thread has ended; called from a callback
    /// on that thread, it only begins the end. Idempotent.
    pub fn stop(&self, within: Duration) {
        self.handle.stop(within);
    }

    /// Registers a hook; it is forgotten when its owner is dropped.
    pub fn on_end_of_turn(&self, hook: Weak<dyn EndOfTurn>) {
        // A reactor that has stopped has no turns.
        let _ = self.handle.shared.post(Command::Hook(hook));
    }

    /// Runs `action` on the reactor's thread after `delay`. When [`ReactorConfig::timers_max`] timers are waiting, it
    /// runs at once, on the calling thread: early rather than never. A stopped reactor drops it.
    pub fn run_after(&self, delay: Duration, action: Box<dyn FnOnce() + Send>) -> TimerId {
        self.handle.shared.run_after(delay, action)
    }

    /// Takes a timer back. Returns whether it had not run yet.
    pub fn cancel_timer(&self, timer: TimerId) -> bool {
        self.handle.shared.deadlines.remove(timer).is_some()
    }

    /// Has `observer` told of every panic caught in a user's code on this reactor, on the thread that panicked.
    pub fn on_panic(&self, observer: impl Fn(&str) + Send + Sync + 'static) {
        *lock(&self.handle.shared.panic_observer) = Some(Arc::new(observer));
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Handle {
    fn stop(&self, within: Duration) {
        if !self.stopped.swap(true, Ordering::SeqCst) {
            // Already ended is what is wanted.
            let _ = self.shared.post(Command::Stop(within));
        }
        if clock::is_reactor_thread() {
            return;
        }
        let (ended, condvar) = &self.shared.ended;
        if self.shared.world.runs_until(|| *lock(ended)) {
            return;
        }
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the reactor's thread had panicked");
        }
        let guard = lock(ended);
        drop(condvar.wait_while(guard, |ended| !*ended));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop(STOP_ON_DROP);
    }
}
