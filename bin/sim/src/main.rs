//! The simulator's command line: which seeds, and what is printed.
//!
//! Nothing that is printed depends on the time of day or on the machine: the same arguments give the same bytes (but for
//! `--minutes`, where the time decides how many seeds there are). Exit code 0: all clean; 1: a rule was broken; 2: wrong
//! usage, or nobody reads what is printed.

#![expect(clippy::print_stderr, reason = "a program says on standard error what is wrong with its arguments")]

mod arguments;

use std::collections::VecDeque;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use sim::minimize::minimize;
use sim::{Counters, PLANTED_BUGS, Plan, Report, Trace, note_panics, plant, run};

use crate::arguments::{Arguments, fault_names};

/// Seeds between two lines that say how far a long run has come.
const SEEDS_PER_LINE: u64 = 1_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    note_panics();
    if arguments.list_planted_bugs {
        PLANTED_BUGS.iter().for_each(|(name, what)| say(&format!("{name:<42} {what}")));
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &arguments.planted_bug
        && plant(name).is_none()
    {
        eprintln!(
            "sim: there is no mistake {name}, or this program was built without the feature planted_bugs"
        );
        return ExitCode::from(2);
    }
    let is_clean = match (arguments.seed, arguments.range()) {
        (Some(seed), _) => run_seed(&arguments, seed, true).violation.is_none(),
        (None, Some((first, end))) => run_seeds(&arguments, first, end),
        (None, None) => {
            eprintln!("sim: give --seed, --seeds, --minutes or --until-failure; --help says more");
            return ExitCode::from(2);
        }
    };
    if is_clean { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Prints a line. A run that nobody looks at any more ends.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(2);
    }
}

/// Runs them; whether no rule was broken.
fn run_seeds(arguments: &Arguments, first: u64, end: u64) -> bool {
    let begun = Instant::now();
    let patience = arguments.minutes.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
    let stops_at_failure = arguments.until_failure || arguments.planted_bug.is_some();
    match end {
        u64::MAX => say(&format!("seeds {first}..")),
        end => say(&format!("seeds {first}..{end}")),
    }
    let mut sum = Counters::default();
    let (mut next, mut broken) = (first, Vec::new());
    while next < end && patience.is_none_or(|patience| begun.elapsed() < patience) {
        let report = run_seed(arguments, next, false);
        sum.add(&report.counters);
        if report.violation.is_some() {
            broken.push(next);
        }
        next += 1;
        if report.violation.is_some() && stops_at_failure {
            break;
        }
        if (next - first).is_multiple_of(SEEDS_PER_LINE) && next < end {
            say(&format!("seeds {first}..{next}: violations={}", broken.len()));
        }
    }
    if !broken.is_empty() {
        say(&format!("failed seeds: {broken:?}"));
    }
    say(&format!("seeds {first}..{next}: seeds={} violations={} {sum}", next - first, broken.len()));
    broken.is_empty()
}

fn run_seed(arguments: &Arguments, seed: u64, is_alone: bool) -> Report {
    let plan = arguments.plan(seed);
    if is_alone {
        say(&format!(
            "seed {seed}: {} nodes, {} clients, workload {}, faults {}",
            plan.nodes,
            plan.clients,
            plan.workload.name(),
            fault_names(&plan.faults)
        ));
    }
    let mut print = |line: &str| say(line);
    let trace = if arguments.trace { Trace::To(&mut print) } else { Trace::Off };
    let report = run(&plan, trace);
    match &report.violation {
        None if is_alone => say(&format!("seed {seed}: clean {}", report.counters)),
        None => {}
        Some(violation) => {
            say(&format!("seed {seed}: VIOLATION of {violation}"));
            if !arguments.trace {
                print_last_lines(&plan);
            }
            if arguments.minimize {
                print_minimized(arguments, &plan);
            }
            say(&format!("seed {seed}: failed {}", report.counters));
        }
    }
    report
}

/// Runs once more, keeping the last lines.
fn print_last_lines(plan: &Plan) {
    let mut lines = VecDeque::new();
    run(plan, Trace::Last(&mut lines));
    lines.iter().for_each(|line| say(&format!("  {line}")));
}

fn print_minimized(arguments: &Arguments, plan: &Plan) {
    let mut progress = |line: &str| say(&format!("  {line}"));
    let Some((small, report)) = minimize(plan, &mut progress) else { return };
    if let Some(violation) = report.violation {
        say(&format!("  minimized: {violation}"));
    }
    print_last_lines(&small);
    say(&format!("  again: {}", arguments.command_of(&small)));
}
