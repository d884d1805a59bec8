//! The program from outside: exit codes, first and last line, the same bytes twice.

use std::process::{Command, Output};

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
fn several_seeds_end_with_one_line_for_all() {
    let out = sim(&["--seeds", "7..9", "--workload", "reads"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    assert!(text(&out.stdout).starts_with("seeds=2 violations=0 "), "{}", text(&out.stdout));
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &[][..],
        &["--seed", "x"],
        &["--seeds", "5..5"],
        &["--seeds", "5"],
        &["--workload", "x", "--seed", "1"],
        &["--bad"],
    ] {
        let out = sim(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(!out.stderr.is_empty(), "{arguments:?} is told what is wrong");
    }
}
