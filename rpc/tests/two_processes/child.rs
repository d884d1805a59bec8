//! What the other processes do: each is this very test program again, told by its environment which part it plays.
//!
//! A child says `@WORD NUMBER` on its standard output when it has something to say, and does what lines on its standard input
//! ask for; when that ends, its parent is gone, and it ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rpc::{
    Call, ChannelConfig, PendingReply, ProviderConfig, Reactor, ReactorConfig, Responder, RpcChannel,
    RpcController, RpcProvider, Service,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{ECHO, LONG, TestService, Text};

/// Names the part in a child's environment, with its settings: `server stalled_ms=500`.
pub const PART: &str = "RPC_TWO_PROCESSES_PART";

/// Connections that the clients make before they are told to make the others.
pub const WARM: u64 = 150;

/// What a part was told, by name.
struct Settings(BTreeMap<String, u64>);

impl Settings {
    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    fn duration(&self, name: &str, default: Duration) -> Duration {
        self.number(name).map_or(default, Duration::from_millis)
    }
}

/// Plays the part that this process was started for, and does not return; does nothing in the first process.
pub fn play() {
    let Ok(part) = std::env::var(PART) else { return };
    let mut words = part.split(' ');
    let name = words.next().unwrap();
    let pair =
        |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    let settings = Settings(words.filter_map(pair).collect());
    match name {
        "server" => serve(&settings),
        "clients" => connect_clients(&settings),
        other => panic!("there is no part {other}"),
    }
    std::process::exit(0);
}

/// Tells the parent something.
fn say(word: &str, number: impl std::fmt::Display) {
    // In one write, whole or not at all: the process may be killed at any moment.
    let line = format!("@{word} {number}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The parent's orders, until it has gone.
fn orders() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}

/// Says of each call, before it is answered, that it has run; the arguments are its number.
struct Marks;

impl Service for Marks {
    fn name(&self) -> &str {
        "marks"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        rpc::dispatch(call, responder, |request: Text, reply| {
            say("mark", String::from_utf8_lossy(&request.text));
            reply.send(&request);
        });
    }
}

fn serve(settings: &Settings) {
    let default = ProviderConfig::default();
    let config = ProviderConfig {
        stalled_timeout: settings.duration("stalled_ms", default.stalled_timeout),
        unfinished_timeout: settings.duration("unfinished_ms", default.unfinished_timeout),
        idle_timeout: settings.duration("idle_ms", default.idle_timeout),
        half_closed_timeout: settings.duration("half_closed_ms", default.half_closed_timeout),
        connections_max: settings.number("connections").map_or(default.connections_max, |max| max as usize),
        ..default
    };
    let server = Reactor::start("server", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&server, config);
    let service = Arc::new(TestService::default());
    provider.notify_service(service.clone()).unwrap();
    provider.notify_service(Arc::new(Marks)).unwrap();
    let address = provider.listen("127.0.0.1:0").unwrap();
    match settings.number("descriptors") {
        None => {
            raise_descriptor_limit();
        }
        Some(limit) => {
            setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
        }
    }
    say("port", address.port());
    for order in orders() {
        match order.as_str() {
            "kept" => say("kept", service.kept.lock().unwrap().len()),
            "calls" => say("calls", service.calls.load(Ordering::SeqCst)),
            "answer" => {
                for (request, reply) in std::mem::take(&mut *service.kept.lock().unwrap()) {
                    reply.send(&request);
                }
            }
            other => panic!("there is no order {other}"),
        }
    }
}

/// Has so many channels, each with a connection that was used: by one call, or by a burst of some.
fn connect_clients(settings: &Settings) {
    raise_descriptor_limit();
    let (port, count) = (settings.number("port").unwrap(), settings.number("count").unwrap());
    let address = format!("127.0.0.1:{port}");
    let client = Reactor::start("client", ReactorConfig::default()).unwrap();
    let burst = settings.number("burst").unwrap_or(1);
    let text = Text::new(vec![7; settings.number("bytes").unwrap_or(5) as usize]);
    let connect = || {
        let channel = RpcChannel::new(&client, &address, ChannelConfig::default());
        let calls: Vec<PendingReply<Text>> =
            rpc::corked(|| (0..burst).map(|_| channel.begin(&ECHO, &RpcController::new(), &text)).collect());
        assert!(calls.into_iter().all(|call| call.wait().unwrap() == text));
        channel
    };
    // What each thread keeps for its connections together has a bound; it is no part of what each of them costs.
    let mut channels: Vec<RpcChannel> = (0..WARM).map(|_| connect()).collect();
    say("ready", channels.len());
    for order in orders() {
        assert_eq!(order, "connect");
        channels.extend((WARM..count).map(|_| connect()));
        say("ready", channels.len());
    }
    drop(channels);
    client.stop(LONG);
}

/// Sets the soft limit of open files to the hard one, as a server does.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}
