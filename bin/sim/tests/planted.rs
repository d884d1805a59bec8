//! The planted mistakes: no build has them unless it asks, the list is in order, the table in `README.md` says of each
//! which seed finds it, and with the feature the quickest are found here and now by those seeds.

use std::fs;
use std::path::{Path, PathBuf};

use sim::PLANTED_BUGS;

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" && name != "src" {
            manifests(&path, found);
        } else if name == "Cargo.toml" {
            found.push(path);
        }
    }
}

#[test]
fn no_package_enables_the_planted_bugs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().parent().unwrap();
    let mut found = Vec::new();
    manifests(root, &mut found);
    assert!(found.len() > 8, "the walk finds the packages");
    for manifest in found {
        for line in fs::read_to_string(&manifest).unwrap().lines() {
            // Defining it and asking for it enable nothing.
            let is_harmless =
                line.starts_with("planted_bugs = [") || line.starts_with("required-features = [");
            assert!(is_harmless || !line.contains("planted_bugs"), "{}: {line}", manifest.display());
        }
    }
}

#[test]
fn the_list_is_long_sorted_and_without_doubles() {
    assert!(PLANTED_BUGS.len() >= 50);
    assert!(PLANTED_BUGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(sim::plant("no-such-mistake"), None);
}

/// The rows of the table in `README.md`: bug, the seed that finds it, and the rule it breaks.
fn table() -> Vec<(&'static str, Option<u64>, &'static str)> {
    let cells = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name, cells.next()?.parse().ok(), cells.next()?))
    };
    let text = include_str!("../README.md");
    let rows = text.split("## Planted bugs").nth(1).expect("the README has a section on them");
    rows.lines().filter_map(cells).collect()
}

#[test]
fn the_table_says_for_every_mistake_which_of_five_hundred_seeds_finds_it() {
    let names: Vec<&str> = table().iter().map(|(name, ..)| *name).collect();
    let listed: Vec<&str> = PLANTED_BUGS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, listed);
    for (name, seed, rule) in table() {
        assert!(seed.is_some_and(|seed| seed < 500) && !rule.is_empty(), "{name}");
    }
}

#[cfg(not(feature = "planted_bugs"))]
#[test]
fn without_the_feature_no_mistake_can_be_made() {
    for (name, _) in PLANTED_BUGS {
        assert_eq!(sim::plant(name), None, "{name}");
        assert!(!raft::core::planted::is(name), "{name}");
    }
}

#[cfg(feature = "planted_bugs")]
#[test]
fn with_the_feature_the_quickest_are_found_by_the_seeds_of_the_table() {
    let found = table().into_iter().filter_map(|(name, seed, rule)| Some((name, seed?, rule)));
    for (name, seed, rule) in found.filter(|(_, seed, _)| *seed < 3) {
        assert!(sim::plant(name).is_some(), "{name}");
        let report = sim::run(&sim::Plan::draw(seed, None), sim::Trace::Off);
        let broken = report.violation.map(|violation| violation.rule);
        // A build with debug assertions looks through more at every call, and may panic first.
        let is_found = broken == Some(rule) || (cfg!(debug_assertions) && broken == Some("no-panic"));
        assert!(is_found, "{name}: {broken:?} instead of {rule}");
    }
}
