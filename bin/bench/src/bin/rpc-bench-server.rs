//! An echo server on this framework, as a user would write one: generated service, public API, defaults on.
//!
//! Its first line says where it listens. It ends on SIGTERM or Ctrl-C.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rpc::{CallMetrics, MiddlewareStack, ProviderConfig, Reactor, ReactorConfig, Reply, RpcProvider};
use rpc_bench::echo::{Bench, BenchDispatcher, Echo};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Answers each call with its own payload.
#[derive(Parser)]
#[command(name = "rpc-bench-server", version)]
struct Arguments {
    /// Address to listen on, HOST:PORT; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: String,
}

struct EchoService;

impl Bench for EchoService {
    fn echo(&self, request: Echo, reply: Reply<Echo>) {
        reply.send(&request);
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let reactor = Reactor::start("reactor-0", ReactorConfig::default())?;
    let config = ProviderConfig {
        middleware: MiddlewareStack::default().with(Arc::new(CallMetrics::default())),
        ..ProviderConfig::default()
    };
    let provider = RpcProvider::new(&reactor, config);
    provider.notify_service(Arc::new(BenchDispatcher::new(Arc::new(EchoService))))?;
    println!("listening on {}", provider.listen(&arguments.addr)?);
    signals.forever().next();
    provider.stop();
    reactor.stop(Duration::from_secs(1));
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = serve(&Arguments::parse()) else { return ExitCode::SUCCESS };
    eprintln!("rpc-bench-server: {error:#}");
    ExitCode::FAILURE
}
