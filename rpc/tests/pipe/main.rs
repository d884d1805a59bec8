//! Both ends in one thread: real reactors over pipes in memory, under a scripted clock. No sockets, no sleeps, and every
//! time is known to the nanosecond.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

#[path = "../common/mod.rs"]
mod common;

mod cancellation;
mod connections;
mod corked;
mod credits;
mod deadlines;
mod fairness;
mod flows;
mod going_away;
mod large;
mod model;
mod parts;
mod pool;
mod progress;
mod reconnecting;
mod retries;
mod silence;
mod turns;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{TestService, Text};
use rpc::{
    ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError,
    RpcProvider, Simulation,
};

/// Where the server is.
const SERVER: &str = "10.0.0.1:80";

const MILLISECOND: Duration = Duration::from_millis(1);

const NANOSECOND: Duration = Duration::from_nanos(1);

fn server_address() -> SocketAddr {
    SERVER.parse().unwrap()
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A served [`TestService`] and a reactor for clients.
struct Pair {
    service: Arc<TestService>,
    provider: RpcProvider,
    client: Reactor,
    server: Reactor,
    world: Arc<Simulation>,
}

impl Pair {
    fn new() -> Pair {
        Pair::with(1, ProviderConfig::default())
    }

    fn with(seed: u64, config: ProviderConfig) -> Pair {
        let world = Arc::new(Simulation::new(seed));
        let [server, client] = [(); 2].map(|()| world.reactor(ReactorConfig::default()));
        let service = Arc::new(TestService::default());
        let provider = RpcProvider::new(&server, config);
        provider.notify_service(service.clone()).unwrap();
        provider.listen(SERVER).unwrap();
        Pair { service, provider, client, server, world }
    }

    fn channel(&self) -> RpcChannel {
        self.channel_with(ChannelConfig::default())
    }

    fn channel_with(&self, config: ChannelConfig) -> RpcChannel {
        RpcChannel::new(&self.client, SERVER, config)
    }

    /// Begins a call whose answer is noted with its time.
    fn begin(&self, channel: &RpcChannel, method: &Method, timeout: Duration) -> Begun {
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (noted, world) = (answers.clone(), self.world.clone());
        channel.call_async(method, &controller, &Text::new("x"), move |reply: Result<Text, RpcError>| {
            noted.lock().unwrap().push((world.now(), reply));
        });
        Begun { controller, answers }
    }

    /// Answers all calls that were kept.
    fn answer_kept(&self) {
        let kept = std::mem::take(&mut *self.service.kept.lock().unwrap());
        kept.into_iter().for_each(|(text, reply)| reply.send(&text));
    }
}

/// When a call was answered, and how.
type Answer = (Duration, Result<Text, RpcError>);

/// A call, and all answers that it got.
struct Begun {
    controller: RpcController,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Begun {
    fn is_answered(&self) -> bool {
        !self.answers.lock().unwrap().is_empty()
    }

    /// The one answer.
    fn answer(&self) -> Answer {
        let answers = self.answers.lock().unwrap();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].clone()
    }
}
