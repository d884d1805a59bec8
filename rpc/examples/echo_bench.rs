//! A quick look at the framework's speed: an echo service and its clients in one process, a reactor thread for each side.
//!
//! `cargo run --release -p rpc --example echo_bench -- CONNECTIONS IN_FLIGHT PAYLOAD_BYTES SECONDS`
//!
//! A closed loop: each completion begins the next call of its lane. Prints calls per second.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rpc::{
    Call, ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig, Responder, RpcChannel,
    RpcController, RpcError, RpcProvider, Service, corked,
};

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

struct Echo;

impl Service for Echo {
    fn name(&self) -> &str {
        "bench"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        rpc::dispatch(call, responder, |payload: Payload, reply| reply.send(&payload));
    }
}

const ECHO: Method = Method::generated("bench", "Echo", b"\x0a\x05bench\x12\x04Echo");

struct Lane {
    channel: RpcChannel,
    controller: RpcController,
    payload: Payload,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    errors: AtomicU64,
    must_stop: AtomicBool,
}

fn next_call(lane: Arc<Lane>) {
    let (channel, controller) = (lane.channel.clone(), lane.controller.clone());
    let for_reply = lane.clone();
    channel.call_async(&ECHO, &controller, &lane.payload, move |reply: Result<Payload, RpcError>| {
        let tally = &for_reply.tally;
        match reply {
            // Relaxed: counters only.
            Ok(_) => tally.calls.fetch_add(1, Ordering::Relaxed),
            Err(_) => tally.errors.fetch_add(1, Ordering::Relaxed),
        };
        if !tally.must_stop.load(Ordering::Relaxed) {
            next_call(for_reply);
        }
    });
}

fn main() -> Result<(), RpcError> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (connections, in_flight) = (number(0, 1), number(1, 64));
    let (payload_bytes, seconds) = (number(2, 16), number(3, 3));

    let server = Reactor::start("server", ReactorConfig::default())?;
    let client = Reactor::start("client", ReactorConfig::default())?;
    let provider = RpcProvider::new(&server, ProviderConfig::default());
    provider.notify_service(Arc::new(Echo))?;
    let address = provider.listen("127.0.0.1:0")?.to_string();

    let tally = Arc::new(Tally::default());
    for _ in 0..connections {
        let channel = RpcChannel::new(&client, &address, ChannelConfig::default());
        for _ in 0..in_flight {
            let payload = Payload { bytes: vec![7; payload_bytes].into() };
            let (channel, tally) = (channel.clone(), tally.clone());
            let lane = Lane { channel, controller: RpcController::new(), payload, tally };
            corked(|| next_call(Arc::new(lane)));
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let (begun, before) = (Instant::now(), tally.calls.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(seconds as u64));
    let calls = tally.calls.load(Ordering::Relaxed) - before;
    let per_second = calls as f64 / begun.elapsed().as_secs_f64();
    tally.must_stop.store(true, Ordering::Relaxed);
    println!(
        "{connections} x {in_flight}, {payload_bytes} B: {per_second:.0} calls/s, {} errors",
        tally.errors.load(Ordering::Relaxed)
    );
    client.stop(Duration::from_secs(1));
    server.stop(Duration::from_secs(1));
    Ok(())
}
