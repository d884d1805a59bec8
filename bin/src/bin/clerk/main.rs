//! The clerk: the store from a terminal or a script.
//!
//! Puts, gets, appends and deletes; the origin's loop; the state of the cluster; a benchmark. The program only reads
//! its arguments, calls the library `clerk` and turns ends into exit codes; it holds no protocol of its own. Nothing but
//! what was asked for goes to standard output, so that scripts can trust it.

mod arguments;
mod bench;
mod explain;
mod failure;
mod interrupt;
mod loop_command;
mod member;
mod order;
mod single;
mod status;
mod target;

use std::{io::Write, process::ExitCode};

use clap::Parser;

use crate::{
    arguments::{Arguments, Command},
    failure::Failure,
};

fn main() -> ExitCode {
    // What goes wrong is told in one sentence at the end; the libraries' own words only when asked for.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                // If standard error is closed as well, the exit code must do.
                let _ = writeln!(std::io::stderr(), "clerk: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let target = &arguments.target;
    match arguments.command.as_ref().unwrap_or(&Command::Loop) {
        Command::Loop => loop_command::run(target),
        Command::Put { key, value } => single::put(target, key, value),
        Command::Append { key, value } => single::append(target, key, value),
        Command::Get { key, raw, sees } => single::get(target, key, *raw, sees.consistency()?),
        Command::Delete { key } => single::delete(target, key),
        Command::Status { json, explain } => status::run(target, *json, *explain),
        Command::Member { command } => member::run(target, command),
        Command::TransferLeader { node } => order::transfer_leader(target, *node),
        Command::Bench(plan) => bench::run(target, plan),
    }
}
