//! An echo server on this framework, as a user would write one: generated service, public API, defaults on.
//!
//! Its first line says where it listens. SIGTERM or Ctrl-C ends it as they end any program: nothing is left to be done.

#![expect(clippy::print_stdout, reason = "a program")]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rpc::{CallMetrics, MiddlewareStack, ProviderConfig, Reactor, ReactorConfig, Reply, RpcProvider};
use rpc_bench::echo::{Bench, BenchDispatcher, Echo};

/// Answers each call with its own payload.
#[derive(Parser)]
#[command(name = "rpc-bench-server", version)]
struct Arguments {
    /// Address to listen on, HOST:PORT; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: String,
    /// Looks for so long before it sleeps, in microseconds; 0 sleeps at once.
    #[arg(long, default_value_t = 0)]
    spin_us: u64,
}

struct EchoService;

impl Bench for EchoService {
    fn echo(&self, request: Echo, reply: Reply<Echo>) {
        reply.send(&request);
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let spin = Duration::from_micros(arguments.spin_us);
    let reactor = Reactor::start("reactor-0", ReactorConfig { spin, ..ReactorConfig::default() })?;
    let config = ProviderConfig {
        middleware: MiddlewareStack::default().with(Arc::new(CallMetrics::default())),
        ..ProviderConfig::default()
    };
    let provider = RpcProvider::new(&reactor, config);
    provider.notify_service(Arc::new(BenchDispatcher::new(Arc::new(EchoService))))?;
    println!("listening on {}", provider.listen(&arguments.addr)?);
    provider.run();
    Ok(())
}
