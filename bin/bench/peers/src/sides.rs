//! The two sides of a peer, as its command line names them.

use clap::{Parser, Subcommand};
use rpc_bench::load::Load;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    side: Side,
}

#[derive(Subcommand)]
enum Side {
    /// Echoes until it is killed.
    Server {
        #[arg(long, default_value = "127.0.0.1:0")]
        addr: String,
    },
    /// A closed loop.
    Client(Load),
}

/// Is the side that the command line asks for; a client's report is the last line printed.
///
/// # Errors
/// Those of the side.
pub fn run(
    serve: impl FnOnce(&str) -> anyhow::Result<()>,
    call: impl FnOnce(&Load) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    match Arguments::parse().side {
        Side::Server { addr } => serve(&addr),
        Side::Client(load) => call(&load).map(|line| println!("{line}")),
    }
}
