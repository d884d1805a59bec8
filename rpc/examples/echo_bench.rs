//! A quick look at the framework's speed: an echo service and its clients in one process, a reactor thread for each side.
//!
//! `cargo run --release -p rpc --example echo_bench -- CONNECTIONS IN_FLIGHT PAYLOAD_BYTES CALLS`
//!
//! A closed loop: each completion begins the next call of its lane, until so many calls have been made, after a tenth as
//! many for warming up. Prints calls per second and what a call costs in CPU time of both sides together. Since calls are
//! counted, not seconds, an instruction counter under two different CALLS gives the instructions of one call.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
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

/// Counts the calls of all lanes.
struct Tally {
    ended: AtomicU64,
    errors: AtomicU64,
    /// The calls after which time begins to count, and those after which it ends.
    marks: [u64; 2],
    has_reached: Sender<()>,
}

impl Tally {
    /// A call has ended. Returns whether its lane goes on.
    fn count(&self, is_error: bool) -> bool {
        // Relaxed: counters only.
        if is_error {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        if self.marks.contains(&ended) {
            // Whoever asked has gone: then nobody wants to know.
            let _ = self.has_reached.send(());
        }
        ended < self.marks[1]
    }
}

fn next_call(lane: Arc<Lane>) {
    let (channel, controller) = (lane.channel.clone(), lane.controller.clone());
    let for_reply = lane.clone();
    channel.call_async(&ECHO, &controller, &lane.payload, move |reply: Result<Payload, RpcError>| {
        if for_reply.tally.count(reply.is_err()) {
            next_call(for_reply);
        }
    });
}

/// Now, and the CPU time that the process has used.
fn clocks() -> (Instant, Duration) {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (Instant::now(), Duration::new(used.tv_sec as u64, used.tv_nsec as u32))
}

fn main() -> Result<(), RpcError> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (connections, in_flight) = (number(0, 1), number(1, 64));
    let (payload_bytes, calls) = (number(2, 16), number(3, 3_000_000) as u64);

    let server = Reactor::start("server", ReactorConfig::default())?;
    let client = Reactor::start("client", ReactorConfig::default())?;
    let provider = RpcProvider::new(&server, ProviderConfig::default());
    provider.notify_service(Arc::new(Echo))?;
    let address = provider.listen("127.0.0.1:0")?.to_string();

    let warm_up = (calls / 10).max(1);
    let (has_reached, reached) = mpsc::channel();
    let (ended, errors) = (AtomicU64::new(0), AtomicU64::new(0));
    let tally = Arc::new(Tally { ended, errors, marks: [warm_up, warm_up + calls], has_reached });
    for _ in 0..connections {
        let channel = RpcChannel::new(&client, &address, ChannelConfig::default());
        for _ in 0..in_flight {
            let payload = Payload { bytes: vec![7; payload_bytes].into() };
            let (channel, tally) = (channel.clone(), tally.clone());
            let lane = Lane { channel, controller: RpcController::new(), payload, tally };
            corked(|| next_call(Arc::new(lane)));
        }
    }
    let await_mark = || reached.recv().map(|()| clocks()).expect("the tally holds the other end");
    let (begun, used_before) = await_mark();
    let (ended, used) = await_mark();
    let seconds = ended.duration_since(begun).as_secs_f64();
    println!(
        "{connections} x {in_flight}, {payload_bytes} B: {:.0} calls/s, {:.3} us of CPU each, {} errors",
        calls as f64 / seconds,
        (used - used_before).as_secs_f64() * 1e6 / calls as f64,
        tally.errors.load(Ordering::Relaxed)
    );
    client.stop(Duration::from_secs(1));
    server.stop(Duration::from_secs(1));
    Ok(())
}
