//! The simulator's command line: which seeds, and what is printed.
//!
//! Nothing that is printed depends on the time of day or on the machine: the same arguments give the same bytes (but for
//! `--minutes`, which ends by the clock). Exit code 0: all clean; 1: a rule was broken; 2: wrong usage.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks on its standard streams")]

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use sim::{Counters, PLANTED_BUGS, Plan, Report, Trace, Workload, minimize, note_panics, plant, run};

/// Runs simulated clusters with the shipped code and checks what they do.
#[derive(Debug, Parser)]
#[command(name = "sim", version, about)]
struct Arguments {
    /// Run this seed.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Run the seeds from A up to, but not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<(u64, u64)>,
    /// Run seeds for so long, from the first of --seeds or from 0.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Go on, with --minutes or --seeds, only as long as no rule is broken.
    #[arg(long)]
    until_failure: bool,
    /// What the clients do; drawn by the seed if not given. One of default, reads, appends, large, churn.
    #[arg(long, value_name = "NAME", value_parser = parse_workload)]
    workload: Option<Workload>,
    /// Run without faults: three nodes, fifty operations per simulated second.
    #[arg(long)]
    calm: bool,
    /// Print every event: microseconds, who, what.
    #[arg(long)]
    trace: bool,
    /// Look for the shortest run with the fewest kinds of faults that still breaks a rule.
    #[arg(long)]
    minimize: bool,
    /// Make this mistake, and stop at the first seed that finds it; needs a build with the feature planted_bugs.
    #[arg(long, value_name = "NAME")]
    planted_bug: Option<String>,
    /// Name the mistakes that can be made, and what each does wrong.
    #[arg(long)]
    list_planted_bugs: bool,
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("\"{text}\" is not of the form A..B");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
    if first < end { Ok((first, end)) } else { Err(format!("there is no seed in {text}")) }
}

fn parse_workload(name: &str) -> Result<Workload, String> {
    let names = Workload::ALL.map(Workload::name).join(", ");
    Workload::named(name).ok_or_else(|| format!("there is no workload {name}; there are {names}"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    note_panics();
    if arguments.list_planted_bugs {
        PLANTED_BUGS.iter().for_each(|(name, what)| println!("{name:<42} {what}"));
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
    let (first, end) = match (arguments.seed, arguments.seeds, arguments.minutes) {
        (Some(seed), ..) => (seed, seed + 1),
        (None, Some(seeds), None) => seeds,
        (None, seeds, Some(_)) => (seeds.map_or(0, |(first, _)| first), u64::MAX),
        (None, None, None) => {
            eprintln!("sim: give --seed, --seeds or --minutes; --help says more");
            return ExitCode::from(2);
        }
    };
    if run_seeds(&arguments, first, end) { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Runs them; whether no rule was broken.
fn run_seeds(arguments: &Arguments, first: u64, end: u64) -> bool {
    let begun = Instant::now();
    let patience = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut sum = Counters::default();
    let (mut seeds, mut broken) = (0, Vec::new());
    for seed in first..end {
        if patience.is_some_and(|patience| begun.elapsed() >= patience) {
            break;
        }
        let report = run_seed(arguments, seed);
        seeds += 1;
        sum.add(&report.counters);
        if report.violation.is_some() {
            broken.push(seed);
            if arguments.until_failure || arguments.planted_bug.is_some() {
                break;
            }
        }
    }
    if arguments.seed.is_none() {
        println!("seeds={seeds} violations={} {sum}", broken.len());
        if !broken.is_empty() {
            println!("failed seeds: {broken:?}");
        }
    }
    broken.is_empty()
}

fn plan_of(arguments: &Arguments, seed: u64) -> Plan {
    if arguments.calm { Plan::calm(seed) } else { Plan::draw(seed, arguments.workload) }
}

fn run_seed(arguments: &Arguments, seed: u64) -> Report {
    let plan = plan_of(arguments, seed);
    let mut print = |line: &str| println!("{line}");
    let is_alone = arguments.seed.is_some();
    if is_alone {
        println!(
            "seed {seed}: {} nodes, {} clients, workload {}, faults {}",
            plan.nodes,
            plan.clients,
            plan.workload.name(),
            fault_names(&plan)
        );
    }
    let trace = if arguments.trace { Trace::To(&mut print) } else { Trace::Off };
    let report = run(&plan, trace);
    match &report.violation {
        None if is_alone => println!("seed {seed}: clean {}", report.counters),
        None => {}
        Some(violation) => {
            println!("seed {seed}: VIOLATION of {violation}");
            if !arguments.trace {
                print_last_lines(&plan);
            }
            if arguments.minimize {
                print_minimized(&plan);
            }
            println!("seed {seed}: failed {}", report.counters);
        }
    }
    report
}

fn fault_names(plan: &Plan) -> String {
    let names: Vec<&str> = plan.faults.iter().map(|fault| fault.name()).collect();
    names.join(",")
}

/// Runs once more, keeping the last lines.
fn print_last_lines(plan: &Plan) {
    let mut lines = VecDeque::new();
    run(plan, Trace::Last(&mut lines));
    lines.iter().for_each(|line| println!("  {line}"));
}

fn print_minimized(plan: &Plan) {
    let Some((small, report)) = minimize(plan) else { return };
    println!(
        "  minimized: trouble for {} ms, faults {}: {}",
        small.trouble_us / 1_000,
        fault_names(&small),
        report.violation.map_or_else(String::new, |violation| violation.to_string())
    );
    print_last_lines(&small);
}
