//! The planted mistakes: no build has them unless it asks, the list is in order, and with the feature some of the
//! quickest are found here and now (all of them by the table in `README.md`).

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
            let defines = line.starts_with("planted_bugs = [");
            assert!(defines || !line.contains("planted_bugs"), "{}: {line}", manifest.display());
        }
    }
}

#[test]
fn the_list_is_long_sorted_and_without_doubles() {
    assert!(PLANTED_BUGS.len() >= 25);
    assert!(PLANTED_BUGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(sim::plant("no-such-mistake"), None);
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
fn with_the_feature_the_quickest_are_found() {
    for name in ["reply-sent-twice", "pre-vote-raises-the-term", "append-acknowledged-before-the-sync"] {
        assert!(sim::plant(name).is_some(), "{name}");
        let found =
            (0..20).any(|seed| sim::run(&sim::Plan::draw(seed, None), sim::Trace::Off).violation.is_some());
        assert!(found, "{name} is not found in twenty seeds");
    }
}
