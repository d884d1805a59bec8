//! What the clients of a cluster see when its leader is killed, stopped or paused, how soon a node is up to date again,
//! and what two more nodes cost. The nodes are the shipped program, each a process, on this machine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod bulk;
mod failover;
mod figure;
mod load;
mod nodes;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use crate::figure::Figure;

/// The clients' view of a leader's end, of catching up and of cluster sizes, as medians of many trials.
#[derive(Parser)]
#[command(
    name = "cluster-bench",
    version,
    after_help = "\
Needs raft-core-run beside itself: cargo build --release --workspace. The data goes into a new folder, which is removed.
Leave the machine alone meanwhile; every figure is printed beside the same clients' without an incident."
)]
struct Arguments {
    /// What to measure, separated by commas; all of it if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// How often each is done.
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// How many keys of 256 bytes there are when nodes catch up.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Where the data goes: a disk whose fdatasync is what you want to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Nothing happens; the longest wait for a write in a window.
    Calm,
    /// `kill -9` of the leader.
    Killed,
    /// SIGTERM of the leader.
    Stopped,
    /// SIGSTOP of the leader.
    Paused,
    /// A follower that was killed is started again.
    CatchUp,
    /// A node joins under writes.
    Learner,
    /// Writes on five nodes and on three.
    FiveNodes,
}

/// What all trials share.
struct Setting {
    /// Where `raft-core-run` is.
    program: PathBuf,
    dir: PathBuf,
    trials: usize,
    keys: u64,
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let setting = Setting {
        program: own.with_file_name("raft-core-run"),
        dir: arguments.dir,
        trials: arguments.trials.max(1),
        keys: arguments.keys,
    };
    let wanted = match arguments.only.is_empty() {
        true => What::value_variants().to_vec(),
        false => arguments.only,
    };
    let mut figures: Vec<Figure> = Vec::new();
    for what in wanted {
        match what {
            What::Calm | What::Killed | What::Stopped | What::Paused => {
                figures.push(failover::measure(&setting, what)?);
            }
            What::CatchUp => figures.push(bulk::catch_up(&setting)?),
            What::Learner => figures.extend(bulk::learner(&setting)?),
            What::FiveNodes => figures.push(bulk::five_nodes(&setting)?),
        }
    }
    println!("{}", figure::table(&figures));
    Ok(())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
