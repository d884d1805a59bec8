//! A world in one thread: reactors whose time is a script's and whose connections are pipes in memory, so that a test of
//! clients and servers takes no sockets and no sleeps, and is the same run again for the same seed.
//!
//! What runs is what is shipped: the same loop turns, the same connections read and write. Only what [`World`] and the
//! files `net` and `world` of the reactor have from the system comes from here. Nothing happens by itself: [`Simulation`]
//! picks, by its seed, one thing after another that may happen now, a reactor's turn or the arrival of a piece of what was
//! sent.
//!
//! [`World`]: crate::reactor::world::World

pub(crate) mod network;
pub(crate) mod pipe;
pub(crate) mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ReactorConfig;
use crate::reactor::Reactor;
use crate::reactor::clock::nanos_in;
use pipe::{Pipe, PipeListener};
use world::SimulatedWorld;

/// A world of its own, with its time and its network; for tests of services, of their callers, and of this crate.
///
/// Whatever waits, be it [`RpcChannel::call`](crate::RpcChannel::call) or [`Reactor::stop`], lets the world go on until it
/// need not wait any more, and lets time pass if nothing else happens. A wait that nothing can end panics. All of it is for
/// one thread; handlers run on that thread, too, and those of a [`ThreadPool`](crate::ThreadPool) do not belong here.
///
/// ```
/// use std::time::Duration;
/// use rpc::{ChannelConfig, ChannelState, Method, ReactorConfig, RpcChannel, RpcController, RpcError, Simulation};
///
/// let world = Simulation::new(7);
/// let reactor = world.reactor(ReactorConfig::default());
/// world.cut("10.0.0.1:80".parse().unwrap());
/// let channel = RpcChannel::new(&reactor, "10.0.0.1:80", ChannelConfig::default());
/// let reply: Result<(), RpcError> = channel.call(&Method::new("a", "B"), &RpcController::new(), &());
/// assert!(matches!(reply, Err(RpcError::Connect { .. })));
/// assert_eq!(world.now(), Duration::from_secs(2), "the time that an attempt may take");
/// assert!(matches!(channel.state(), ChannelState::Waiting { .. }));
/// ```
pub struct Simulation {
    world: Arc<SimulatedWorld>,
}

impl Simulation {
    /// A world at its beginning. The same seed, under the same script, gives the same run.
    pub fn new(seed: u64) -> Simulation {
        Simulation { world: Arc::new(SimulatedWorld::new(seed)) }
    }

    /// A reactor of this world. It has no thread: it turns when the world goes on.
    pub fn reactor(&self, config: ReactorConfig) -> Reactor {
        Reactor::simulated(&self.world, config)
    }

    /// How much time has passed.
    pub fn now(&self) -> Duration {
        self.world.passed()
    }

    /// Has one thing happen that may happen now. Returns whether there was any.
    pub fn step(&self) -> bool {
        self.world.step()
    }

    /// Has all happen that may happen now; no time passes.
    pub fn settle(&self) {
        while self.step() {}
    }

    /// Lets time pass, from one moment at which something is due to the next, and has all happen that may happen then.
    pub fn advance(&self, by: Duration) {
        self.world.advance(by);
    }

    /// Time passes in which nothing else happens: for a handler that is to take so long.
    pub fn work(&self, time: Duration) {
        self.world.work(nanos_in(time));
    }

    /// The process of all reactors is stopped for so long (SIGSTOP): what is on its way arrives and nobody reads it. Then each of
    /// them wakes, and is told of nothing yet.
    pub fn pause(&self, time: Duration) {
        self.world.pause(nanos_in(time));
    }

    /// Reading and writing takes a reactor so long for each KiB; no time at first.
    pub fn set_copying(&self, per_kib: Duration) {
        self.world.set_copying(nanos_in(per_kib));
    }

    /// What is sent arrives in pieces of at most so many bytes; 64 KiB at first.
    pub fn set_piece_bytes_max(&self, bytes: usize) {
        self.world.network.set_piece_bytes_max(bytes);
    }

    /// Each direction of a connection holds so many bytes that were sent and not read; 64 KiB at first.
    pub fn set_pipe_bytes_max(&self, bytes: usize) {
        self.world.network.set_pipe_bytes_max(bytes);
    }

    /// While it is so, there are no descriptors for connections that come: they wait at their listeners.
    pub fn set_exhausted(&self, is_exhausted: bool) {
        self.world.network.set_exhausted(is_exhausted);
    }

    /// Gives `HOST:PORT` its addresses; a name without any cannot be resolved.
    pub fn set_name(&self, name: &str, addresses: &[SocketAddr]) {
        self.world.network.set_name(name, addresses);
    }

    /// Cuts the cable of an address: nothing arrives from there or gets there, and nobody is told.
    pub fn cut(&self, address: SocketAddr) {
        self.world.network.set_cut(address, true);
    }

    /// Mends the cable: what was sent meanwhile arrives.
    pub fn mend(&self, address: SocketAddr) {
        self.world.network.set_cut(address, false);
    }

    /// Breaks all connections that were made to an address; both ends are told at once.
    pub fn reset(&self, address: SocketAddr) {
        self.world.network.reset(address);
    }

    /// How often a connection to an address has been begun.
    pub fn attempts(&self, address: SocketAddr) -> u64 {
        self.world.network.attempts(address)
    }

    /// A server that is made by hand.
    ///
    /// # Panics
    /// When somebody listens there already.
    pub fn listen(&self, address: SocketAddr) -> PeerListener {
        let listener = PipeListener::bind(&self.world, address).expect("somebody listens there already");
        PeerListener { listener }
    }

    /// A client that is made by hand.
    pub fn connect(&self, address: SocketAddr) -> Peer {
        Peer { pipe: Pipe::connect(&self.world, address) }
    }
}

/// A listener without a reactor. Dropping it closes it.
pub struct PeerListener {
    listener: PipeListener,
}

impl PeerListener {
    /// Takes a connection, if one has come.
    pub fn accept(&self) -> Option<Peer> {
        self.listener.accept().ok().map(|(pipe, _)| Peer { pipe })
    }
}

/// One end of a connection, without a reactor: for peers that are made by hand, byte by byte. Dropping it closes it; if
/// something has come that was not received, the other end finds its connection reset.
pub struct Peer {
    pipe: Pipe,
}

impl Peer {
    /// Sends bytes. Returns how many there was room for.
    pub fn send(&self, bytes: &[u8]) -> usize {
        self.pipe.write(bytes).unwrap_or(0)
    }

    /// All that has come since the last time.
    pub fn receive(&self) -> Vec<u8> {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.pipe.read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
        }
        received
    }

    /// Whether nothing more comes, all that has come being received.
    pub fn has_ended(&self) -> bool {
        self.pipe.has_ended()
    }

    /// Sends nothing more; what comes can still be received.
    pub fn end(&self) {
        self.pipe.end();
    }
}
