//! Prints the table of planted bugs for `bin/sim/README.md`: for each the first seed that finds it, and the rule that it
//! broke.
//!
//! `cargo run --release -p sim --features planted_bugs --example planted_table`; with names, only those. What is found goes
//! to stderr at once, the table to stdout at the end. It exits with 1 if one of them is not found.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks on its standard streams")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sim::{PLANTED_BUGS, Plan, Trace, note_panics, plant, run};

/// Within so many seeds each must be found.
const SEEDS: u64 = 500;

fn main() -> ExitCode {
    note_panics();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let names = PLANTED_BUGS.iter().map(|(name, _)| *name);
    let names: Vec<&str> =
        names.filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)).collect();
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<Option<String>>> = Mutex::new(vec![None; names.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let place = names.iter().position(|other| other == name);
                    let row = first_seed(name).map(|(seed, rule)| format!("| `{name}` | {seed} | {rule} |"));
                    eprintln!("{name}: {row:?}");
                    let mut rows = rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    place.into_iter().for_each(|place| rows[place].clone_from(&row));
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("| bug | seed | rule that was broken |\n|---|---|---|");
    for (name, row) in names.iter().zip(&rows) {
        println!("{}", row.clone().unwrap_or_else(|| format!("| `{name}` | not found | |")));
    }
    if rows.iter().all(Option::is_some) { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// The first seed that finds the mistake, and the rule it broke.
fn first_seed(name: &str) -> Option<(u64, &'static str)> {
    plant(name)?;
    (0..SEEDS).find_map(|seed| {
        let violation = run(&Plan::draw(seed, None), Trace::Off).violation?;
        Some((seed, violation.rule))
    })
}
