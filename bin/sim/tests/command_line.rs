//! The program from outside: exit codes, first and last line, the same bytes twice.

use std::process::{Command, Output, Stdio};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program speaks UTF-8")
}

#[test]
fn a_clean_seed_is_named_first_and_last_with_its_counters_and_exits_with_0() {
    let (first, second) = (sim(&["--seed", "3"]), sim(&["--seed", "3"]));
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stdout));
    assert_eq!(first, second);
    let out = text(&first.stdout);
    assert!(out.lines().next().unwrap().starts_with("seed 3: "), "{out}");
    let last = out.lines().last().unwrap();
    assert!(
        last.starts_with("seed 3: clean ") && last.contains(" operations=") && last.contains(" rolled="),
        "{out}"
    );
    assert!(first.stderr.is_empty(), "{}", text(&first.stderr));
}

#[test]
fn a_traced_seed_gives_the_same_bytes_twice_and_each_line_between_the_first_and_the_last_is_an_event() {
    let arguments = ["--seed", "3", "--trace", "--trouble-ms", "3000"];
    let (first, second) = (sim(&arguments), sim(&arguments));
    assert_eq!(first.status.code(), Some(0));
    assert!(first == second, "the second run differs");
    let out = text(&first.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() > 1_000, "{} lines", lines.len());
    let mut before = 0;
    for line in &lines[1..lines.len() - 1] {
        let mut columns = line.split_whitespace();
        let at: u64 = columns.next().unwrap().parse().expect("the virtual time in microseconds");
        assert!(at >= before, "time goes one way: {line}");
        before = at;
        let who = columns.next().unwrap();
        let is_known = who == "!" || (who.starts_with(['n', 'c']) && who[1..].parse::<u64>().is_ok());
        assert!(is_known, "who it is about: {line}");
        assert!(columns.next().is_some(), "what happened: {line}");
    }
}

#[test]
fn several_seeds_are_named_first_and_last() {
    let arguments = ["--seeds", "7..9", "--workload", "reads"];
    let (out, again) = (sim(&arguments), sim(&arguments));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    assert_eq!(out, again, "nothing depends on the time of day");
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
    let out = text(&out.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "seeds 7..9"), "{out}");
    assert!(lines[1].starts_with("seeds 7..9: seeds=2 violations=0 "), "{out}");
}

#[test]
fn no_seed_begins_after_the_minutes_are_over() {
    let out = sim(&["--minutes", "0"]);
    assert_eq!(out.status.code(), Some(0));
    let out = text(&out.stdout);
    assert!(out.starts_with("seeds 0..\nseeds 0..0: seeds=0 violations=0 "), "{out}");
}

#[test]
fn only_the_faults_that_are_asked_for_happen() {
    let out = text(&sim(&["--seed", "3", "--faults", "none", "--trouble-ms", "2000"]).stdout);
    let first = out.lines().next().unwrap();
    assert!(first.ends_with(" faults none"), "{out}");
    assert!(out.contains(" killed=0 ") && out.contains(" lost=0 "), "{out}");
}

#[test]
fn a_clean_seed_is_not_minimized() {
    let arguments = ["--seed", "3", "--trouble-ms", "1000"];
    let minimized = sim(&[&arguments[..], &["--minimize"]].concat());
    assert_eq!(minimized, sim(&arguments));
}

#[test]
fn the_list_of_planted_bugs_is_printed_by_any_build() {
    let out = sim(&["--list-planted-bugs"]);
    assert_eq!(out.status.code(), Some(0));
    let out = text(&out.stdout);
    assert_eq!(out.lines().count(), sim::PLANTED_BUGS.len());
    assert!(out.lines().all(|line| line.split_whitespace().count() > 3), "{out}");
}

#[test]
fn the_help_names_every_workload() {
    let out = text(&sim(&["--help"]).stdout);
    for workload in sim::Workload::ALL {
        assert!(out.contains(workload.name()) && out.contains(workload.description()), "{out}");
    }
}

#[test]
fn a_trace_that_nobody_reads_ends() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--seed", "3", "--trace"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &[][..],
        &["--seed", "x"],
        &["--seeds", "5..5"],
        &["--seeds", "5"],
        &["--workload", "x", "--seed", "1"],
        &["--faults", "x", "--seed", "1"],
        &["--seed", "1", "--seeds", "1..2"],
        &["--trace", "yes", "--seed", "1"],
        &["--planted-bug", "no-such-mistake", "--seed", "1"],
        &["--bad"],
    ] {
        let out = sim(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(!out.stderr.is_empty(), "{arguments:?} is told what is wrong");
    }
}

/// A mistake that every seed finds, so that there is something to make small.
#[cfg(feature = "planted_bugs")]
#[test]
fn a_violation_is_told_with_seed_rule_and_last_events_and_made_small() {
    let bug = ["--planted-bug", "second-vote-in-a-term"];
    let found = sim(&[&bug[..], &["--seeds", "0..500"]].concat());
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    let out = text(&found.stdout);
    let failed = out.lines().find(|line| line.contains(": VIOLATION of ")).expect("the rule is told");
    let seed = failed.strip_prefix("seed ").unwrap().split(':').next().unwrap();
    assert!(out.lines().filter(|line| line.starts_with("  ")).count() >= sim::LAST_LINES, "{out}");

    let arguments = [&bug[..], &["--seed", seed, "--minimize"]].concat();
    let (first, second) = (sim(&arguments), sim(&arguments));
    assert_eq!(first.status.code(), Some(1));
    assert!(first == second, "the second search differs");
    let out = text(&first.stdout);
    let again = out.lines().find_map(|line| line.strip_prefix("  again: sim ")).expect("how to run it again");
    let smaller: Vec<&str> = again.split_whitespace().filter(|word| *word != "--trace").collect();
    let out = sim(&smaller);
    assert_eq!(out.status.code(), Some(1), "{again}: {}", text(&out.stdout));
    let place = smaller.iter().position(|word| *word == "--trouble-ms").expect("less time") + 1;
    assert!(smaller[place].parse::<u64>().unwrap() < 60_000, "{again}");
}
