//! `wal-dump`: what is in a node's data directory, and where any of it is torn or damaged.
//!
//! The reading is that of the node itself (`raft::storage::inspect`); this program takes arguments in and prints. It must
//! never write into the directory. Exit codes: 0 sound, 1 damaged, 2 nothing could be said.

mod arguments;
mod report;
mod survey;
mod text;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use raft_kv::output::{self, OutputError};

use crate::arguments::Arguments;
use crate::report::Report;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) if report.is_sound => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(text) => {
            // If standard error is closed as well, the exit code must do.
            let _ = writeln!(std::io::stderr(), "wal-dump: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let report = survey::survey(&arguments.directory, arguments.entries.clone())?;
    let printed = match arguments.json {
        true => serde_json::to_string(&report).expect("rows of numbers and texts always make JSON"),
        false => text::render(&report),
    };
    match output::line(&printed) {
        // Whoever reads has seen enough; the exit code is still worth something.
        Ok(()) | Err(OutputError::Closed) => Ok(report),
        Err(error) => Err(error.to_string()),
    }
}
