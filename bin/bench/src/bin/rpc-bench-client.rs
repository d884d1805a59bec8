//! A closed-loop echo client on this framework: each answer begins the next call of its lane. The last line is JSON.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use rpc::{
    CallMetrics, ChannelConfig, MiddlewareStack, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError,
    corked,
};
use rpc_bench::echo::{BenchStub, Echo};
use rpc_bench::load::Load;
use rpc_bench::tally::Tally;

/// Calls an echo server as fast as it answers.
#[derive(Parser)]
#[command(name = "rpc-bench-client", version)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Each call in flight is that of a thread which waits for it, instead of a completion's.
    #[arg(long)]
    blocking: bool,
    /// Whoever waits looks for so long before it sleeps, in microseconds; 0 sleeps at once.
    #[arg(long, default_value_t = 0)]
    spin_us: u64,
}

struct Run {
    request: Echo,
    tally: Mutex<(Tally, u32)>,
    ended: Condvar,
}

impl Run {
    fn tally(&self) -> MutexGuard<'_, (Tally, u32)> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. Returns whether its lane goes on.
    fn count(&self, started: Instant, now: Instant, result: Result<Echo, RpcError>) -> bool {
        let mut tally = self.tally();
        let goes_on = match result {
            Ok(echo) if echo.payload == self.request.payload => tally.0.answered(started, now),
            Ok(_) | Err(_) => {
                tally.0.failed();
                false
            }
        };
        if !goes_on {
            tally.1 -= 1;
            if tally.1 == 0 {
                self.ended.notify_one();
            }
        }
        goes_on
    }
}

/// One call in flight, again and again.
struct Lane {
    run: Arc<Run>,
    stub: BenchStub,
    controller: RpcController,
}

impl Lane {
    fn next(self: Arc<Lane>, started: Instant) {
        let lane = Arc::clone(&self);
        self.stub
            .echo_async(&self.controller, &self.run.request, move |result| lane.answered(started, result));
    }

    fn answered(self: Arc<Lane>, started: Instant, result: Result<Echo, RpcError>) {
        let now = Instant::now();
        if self.run.count(started, now, result) {
            self.next(now);
        }
    }

    /// The same, by a thread that waits.
    fn run_blocking(&self) {
        let mut started = Instant::now();
        loop {
            let result = self.stub.echo(&self.controller, &self.run.request);
            let now = Instant::now();
            if !self.run.count(started, now, result) {
                return;
            }
            started = now;
        }
    }
}

fn measure(Arguments { load, blocking, spin_us }: &Arguments) -> anyhow::Result<String> {
    let spin = Duration::from_micros(*spin_us);
    let reactor = Reactor::start("client", ReactorConfig { spin, ..ReactorConfig::default() })?;
    let run = Arc::new(Run {
        request: Echo { payload: load.payload().into() },
        tally: Mutex::new((Tally::begin(load), load.lanes())),
        ended: Condvar::new(),
    });
    let config = ChannelConfig {
        middleware: MiddlewareStack::default().with(Arc::new(CallMetrics::default())),
        ..ChannelConfig::default()
    };
    let channels: Vec<RpcChannel> =
        (0..load.conns).map(|_| RpcChannel::new(&reactor, &load.addr, config.clone())).collect();
    for channel in &channels {
        corked(|| {
            for _ in 0..load.inflight {
                let (run, stub) = (Arc::clone(&run), BenchStub::new(channel.clone()));
                let lane = Arc::new(Lane { run, stub, controller: RpcController::new() });
                if *blocking {
                    std::thread::spawn(move || lane.run_blocking());
                } else {
                    lane.next(Instant::now());
                }
            }
        });
    }
    let mut tally = run.tally();
    while tally.1 > 0 {
        tally = run.ended.wait(tally).unwrap_or_else(PoisonError::into_inner);
    }
    let report = tally.0.report(load.measured());
    drop(tally);
    reactor.stop(Duration::from_secs(1));
    Ok(report.line())
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rpc-bench-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}
