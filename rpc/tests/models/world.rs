//! What the scenarios have in common: a server, and a world that one thread has go on while others do what they do.

use std::sync::Arc;
use std::time::Duration;

use crate::primitives::atomic::{AtomicUsize, Ordering};
use crate::primitives::{Mutex, thread};
use crate::protocol::encoder::{CallFields, Names, put_call_with};
use crate::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use crate::{
    Call, Method, ProviderConfig, Reactor, ReactorConfig, Responder, RpcChannel, RpcController, RpcError,
    RpcProvider, Service, Simulation,
};

/// Where the server listens.
pub const ADDRESS: &str = "10.0.0.1:80";

/// Keeps the calls of `Keep`, answers the others at once.
#[derive(Default)]
pub struct TestService {
    pub kept: Mutex<Vec<Responder>>,
    /// Calls that have come.
    pub calls: AtomicUsize,
}

impl Service for TestService {
    fn name(&self) -> &str {
        "test"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match call.method {
            b"Keep" => self.kept.lock().unwrap().push(responder),
            _ => responder.send(&()),
        }
    }
}

/// A simulated world with one reactor.
pub struct World {
    pub simulation: Arc<Simulation>,
    pub reactor: Reactor,
}

impl World {
    pub fn new() -> World {
        World::with(ReactorConfig::default())
    }

    pub fn with(config: ReactorConfig) -> World {
        let simulation = Arc::new(Simulation::new(7));
        let reactor = simulation.reactor(config);
        World { simulation, reactor }
    }

    /// A server of one service.
    pub fn serve(&self, service: Arc<dyn Service>) -> RpcProvider {
        let provider = RpcProvider::new(&self.reactor, ProviderConfig::default());
        provider.notify_service(service).unwrap();
        provider.listen(ADDRESS).unwrap();
        provider
    }

    /// Has so many things happen, if there are any.
    pub fn turn(&self, steps: usize) {
        for _ in 0..steps {
            self.simulation.step();
        }
    }

    /// Has the world go on until something is so. To be called by one thread at a time.
    pub fn turn_until(&self, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            if !self.simulation.step() {
                thread::yield_now();
            }
        }
    }

    /// The same, while time passes now and then, an hour at most.
    pub fn turn_and_pass_time_until(&self, mut is_so: impl FnMut() -> bool) {
        let mut looks = 0;
        self.turn_until(|| {
            looks += 1;
            if looks % 16 == 0 && self.simulation.now() < Duration::from_secs(3600) {
                self.simulation.advance(Duration::from_secs(2));
            }
            is_so()
        });
    }

    /// Everything ends.
    pub fn end(self) {
        self.reactor.stop(Duration::ZERO);
    }
}

/// How a call has ended, as often as it has.
pub type Ends = Arc<Mutex<Vec<Result<(), RpcError>>>>;

/// Begins a call whose ends are noted.
pub fn begin(channel: &RpcChannel, method: &Method) -> (RpcController, Ends) {
    let (controller, ends) = (RpcController::new(), Ends::default());
    let told = ends.clone();
    channel.call_async(method, &controller, &(), move |end| told.lock().unwrap().push(end));
    (controller, ends)
}

/// A call's frame.
pub fn call_frame(method: &str, call_id: u64, timeout_ms: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let fields = CallFields { call_id, timeout_ms, ..CallFields::default() };
    put_call_with(&mut frame, Names::Plain("test", method), &fields, &(), 0);
    frame
}

/// The replies that bytes are.
pub fn replies_of(bytes: &[u8]) -> Vec<ReplyFrame> {
    let mut decoder = ReplyDecoder::new(1 << 20);
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}
