//! `raft-core-run`: starts a cluster on this machine, or one node of a cluster in the foreground.
//!
//! `raft-core-run -n 3 -f test.conf` is the origin's command and does what it did: three nodes, each a process of its
//! own, found by clients through the file. Beyond that it keeps watch: it says when there is a leader, says how a
//! node died, and leaves no process behind. Real hosts run `--node I`, the same code the children run.
//!
//! This program takes arguments in, makes library calls and hands exit codes out; it must never hold a decision of
//! the store. Exit codes: 0 clean, 1 something failed while starting or running, 2 usage or configuration.

mod advice;
mod arguments;
mod child;
mod cluster_file;
mod data_dir;
mod failure;
mod leader_watch;
mod logging;
mod node;
mod orphan;
mod outlet;
mod parent;
mod recover;
mod resources;
mod server_adapter;

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;

use crate::arguments::{Arguments, Order};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (&arguments.order, arguments.node) {
        (Some(Order::Recover(arguments)), _) => recover::run(arguments),
        (None, Some(id)) => node::run(&arguments, id),
        (None, None) => parent::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match arguments.parent_pid {
                Some(_) => say_last(child::failed_line(&failure), std::io::stdout()),
                None => say_last(format!("raft-core-run: {failure}"), std::io::stderr()),
            }
            failure.exit_code()
        }
    }
}

/// How long the last sentence waits for a reader.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// Writes a line, by a thread of its own: a pipe that nobody empties must not keep the process.
fn say_last(line: String, mut target: impl Write + Send + 'static) {
    let (done, written) = mpsc::channel();
    let body = move || {
        // Nobody is left to tell if even this cannot be written.
        let _ = writeln!(target, "{line}");
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(body).is_ok() {
        let _ = written.recv_timeout(LAST_WORD_WITHIN);
    }
}

/// What a run of the launcher ends with.
type Outcome = Result<(), Failure>;
