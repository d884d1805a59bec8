//! Seeds by the hundred, those that failed once, and that a seed is a seed: the same bytes, every time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Counters, FAULTS, Plan, Trace, Workload, run};

/// The seeds that every test run goes through.
const SEEDS: u64 = 300;

/// The floor of issue 3 for each of them.
const OPERATIONS_MIN: u64 = 1_000;
const CLIENTS_MIN: u64 = 5;
const SIMULATED_US_MIN: u64 = 60_000_000;

#[test]
fn three_hundred_seeds_break_no_rule_and_meet_every_kind_of_fault() {
    let next = AtomicU64::new(0);
    let results: Mutex<(Counters, Vec<String>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    let plan = Plan::draw(seed, None);
                    let report = run(&plan, Trace::Off);
                    let mut results = results.lock().unwrap();
                    results.0.add(&report.counters);
                    match report.violation {
                        Some(violation) => results.1.push(format!("seed {seed}: {violation}")),
                        None => {
                            assert!(report.counters.operations >= OPERATIONS_MIN, "seed {seed}: too few");
                            assert!(report.counters.clients_at_once >= CLIENTS_MIN, "seed {seed}: too few");
                            assert!(
                                report.counters.simulated_us >= SIMULATED_US_MIN,
                                "seed {seed}: too short"
                            );
                        }
                    }
                }
            });
        }
    });
    let (sum, violations) = results.into_inner().unwrap();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    println!("{sum}");
    for fault in FAULTS {
        assert!(sum.of(fault) > 0, "{fault} never happened");
    }
    for (change, count) in sum.changes() {
        assert!(count > 0, "nobody was {change}");
    }
    for (kind, count) in sum.reads.by_name() {
        assert!(count > 0, "there were no {kind}");
    }
    assert!(
        sum.snapshots > 0
            && sum.refusals > 0
            && sum.convalescents > 0
            && sum.healed > 0
            && sum.returned > 0
            && sum.kept_out > 0
            && sum.unknown > 0
            && sum.lulls > 0,
        "{sum}"
    );
}

#[test]
fn every_seed_that_ever_failed_is_clean() {
    for line in include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let seed: u64 = words.next().unwrap().parse().unwrap();
        let workload = words.next().unwrap();
        assert!(words.next().is_some(), "a line says what its seed found: {line}");
        let workload = (workload != "drawn").then(|| Workload::named(workload).unwrap());
        let report = run(&Plan::draw(seed, workload), Trace::Off);
        assert_eq!(report.violation, None, "{line}");
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_byte() {
    for seed in [1, 2, 3, 65] {
        let trace = || {
            let mut text = String::new();
            let mut keep = |line: &str| {
                text.push_str(line);
                text.push('\n');
            };
            let plan = Plan::draw(seed, None);
            let report = run(&plan, Trace::To(&mut keep));
            (text, report)
        };
        let (first, second) = (trace(), trace());
        assert!(first.0.lines().count() > 10_000, "seed {seed} does something");
        assert!(first == second, "seed {seed} runs differently the second time");
    }
}

#[test]
fn a_plan_can_be_made_without_some_kinds_of_faults() {
    let plan = Plan::draw(4, None);
    assert!(!plan.faults.is_empty());
    let calm = plan.without(&FAULTS);
    assert!(calm.faults.is_empty());
    assert_eq!((calm.loss_permille, calm.duplication_permille, calm.slow_permille), (0, 0, 0));
    let report = run(&calm, Trace::Off);
    assert_eq!(report.violation, None);
    assert_eq!(FAULTS.iter().map(|fault| report.counters.of(*fault)).filter(|count| *count > 0).count(), 1);
}
