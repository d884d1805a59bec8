//! The house rules as tests: what may call what, how long things may be, and what must not stand anywhere.
//!
//! A failure lists every place as `file:line: what`. If a rule is in the way, change it here, in a commit of its own that says
//! why. The rules look at text with a small scanner (`source`), not at syntax trees: they need no compiler and
//! are held against made-up sources at the end of this file.

#![expect(unreachable_pub, reason = "modules of one test program; `pub` says what they share")]
#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;

/// The folders of design.md §1; whatever is not a folder of the house is a defect.
const FOLDERS: [&str; 8] = [".ci", "bin", "clerk", "conf", "kvserver", "proto", "raft", "rpc"];

/// Which of our crates a crate may name in its manifest: the arrows, all pointing down.
const ARROWS: [(&str, &str, &[&str]); 16] = [
    ("rpc", "rpc", &[]),
    ("rpc/codegen", "rpc-codegen", &[]),
    ("rpc/fuzz", "rpc-fuzz", &["rpc"]),
    ("proto", "proto", &["rpc", "rpc-codegen"]),
    ("raft/core", "raft-core", &[]),
    ("raft", "raft", &["raft-core", "rpc", "proto"]),
    ("raft/fuzz", "raft-fuzz", &["raft", "proto"]),
    ("kvserver", "kvserver", &["raft", "rpc", "proto"]),
    ("kvserver/fuzz", "kvserver-fuzz", &["kvserver"]),
    ("clerk", "clerk", &["rpc", "proto"]),
    ("conf", "conf", &[]),
    ("bin", "raft-kv", &["raft-core", "raft", "kvserver", "clerk", "rpc", "proto", "conf"]),
    ("bin/bench", "rpc-bench", &["rpc", "rpc-codegen"]),
    ("bin/bench/peers", "rpc-bench-peers", &["rpc-bench"]),
    ("bin/cluster-bench", "cluster-bench", &["clerk", "rpc", "proto", "conf"]),
    ("bin/sim", "sim", &["raft-core", "raft", "kvserver", "clerk", "rpc", "proto", "conf"]),
];

/// What the pure core must not know: clocks (a length of time is none), threads, sockets, files, processes, and maps without an order.
const IMPURE: [&str; 9] = [
    "Instant",
    "SystemTime",
    "std::thread",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the package lies in the workspace").to_owned()
}

/// Every file below `folder` with this ending, build products left out, in a fixed order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let root = root();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        Source::new(&name, &fs::read_to_string(&path).unwrap())
    };
    files(&root, "rs").into_iter().map(read).collect()
}

fn verdict(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}\n", offences.join("\n  "));
}

/// Applies a rule to every source and fails with all offences.
fn hold(rule: &str, check: impl Fn(&Source) -> Vec<String>) {
    let all = sources();
    assert!(all.len() > 50, "only {} sources found: the walk is broken", all.len());
    verdict(rule, &all.iter().flat_map(check).collect::<Vec<_>>());
}

fn long_files(source: &Source) -> Vec<String> {
    let lines = source.line_count();
    let text = format!("{}:{lines}: the file has {lines} lines", source.name);
    if lines > FILE_LINES_MAX { vec![text] } else { Vec::new() }
}

fn long_functions(source: &Source) -> Vec<String> {
    let functions = source.functions();
    let long = functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.map(|function| source.at(function.line, &format!("{} has {} lines", function.name, function.lines)))
        .collect()
}

fn missing_opening(source: &Source) -> Vec<String> {
    if source.opens_with_story() { Vec::new() } else { vec![source.at(1, "the file does not open with //!")] }
}

/// Programs and examples are run by people. The generator runs in build scripts and speaks to cargo.
fn is_program(source: &Source) -> bool {
    let is_program = ["bin/src/", "bin/sim/src/", "bin/bench/", "bin/cluster-bench/", "rpc/codegen/"]
        .iter()
        .any(|folder| source.name.starts_with(folder));
    is_program || source.name.contains("/examples/")
}

/// Programs may print; so may a test, which is shown when it fails; debug prints may nobody.
fn stray_prints(source: &Source) -> Vec<String> {
    let mut offences = source.places("dbg!");
    for print in ["println!", "eprintln!", "print!", "eprint!"] {
        let lines = source.lines_with(print).into_iter();
        let stray = lines.filter(|line| !is_program(source) && !source.is_test(*line));
        offences.extend(stray.map(|line| source.at(line, print)));
    }
    offences
}

fn unwraps(source: &Source) -> Vec<String> {
    let lines = source.lines_with(".unwrap()").into_iter().filter(|line| !source.is_test(*line));
    lines.map(|line| source.at(line, "unwrap() outside tests; expect(\"why it cannot happen\")")).collect()
}

fn leftovers(source: &Source) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    words.iter().flat_map(|word| source.raw_places(word)).collect()
}

fn forbidden_everywhere(source: &Source) -> Vec<String> {
    ["#[ignore", "unsafe", "todo!", "unimplemented!"].iter().flat_map(|text| source.places(text)).collect()
}

/// A program may sleep between two looks; a library has something to wait for, and a test has a condition.
fn sleeps(source: &Source) -> Vec<String> {
    let places = source.lines_with("thread::sleep").into_iter();
    let wrong = places.filter(|line| !is_program(source) || source.is_test(*line));
    wrong.map(|line| source.at(line, "thread::sleep: wait for what you wait for")).collect()
}

fn impurities(source: &Source) -> Vec<String> {
    let is_core = source.name.starts_with("raft/core/src/");
    let words: &[&str] = if is_core { &IMPURE } else { &[] };
    words.iter().flat_map(|word| source.places(word)).collect()
}

/// Sockets are the business of rpc and of the programs.
fn sockets(source: &Source) -> Vec<String> {
    let is_upstairs =
        ["raft/", "kvserver/src", "clerk/src"].iter().any(|folder| source.name.starts_with(folder));
    let words: &[&str] = if is_upstairs { &["TcpStream", "TcpListener", "UdpSocket", "mio::"] } else { &[] };
    words.iter().flat_map(|word| source.places(word)).collect()
}

/// The workspace's crates that a manifest names as dependencies, with the line.
fn dependencies_on(manifest: &str, crates: &[&str]) -> Vec<(usize, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (position, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let name: String =
            line.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        if section.ends_with("dependencies]") && crates.contains(&name.as_str()) {
            found.push((position + 1, name));
        }
    }
    found
}

fn wrong_arrows(manifests: &BTreeMap<&str, String>) -> Vec<String> {
    let crates: Vec<&str> = ARROWS.iter().map(|(_, name, _)| *name).collect();
    let mut offences = Vec::new();
    for (folder, name, allowed) in ARROWS {
        let manifest = manifests.get(folder).map_or("", String::as_str);
        for (line, dependency) in dependencies_on(manifest, &crates) {
            // A crate's own tests may generate services with the generator.
            let is_allowed = allowed.contains(&dependency.as_str())
                || (name, dependency.as_str()) == ("rpc", "rpc-codegen");
            if !is_allowed {
                offences.push(format!("{folder}/Cargo.toml:{line}: {name} must not depend on {dependency}"));
            }
        }
    }
    offences
}

#[test]
fn arrows_between_crates_point_down() {
    let root = root();
    let mut manifests = BTreeMap::new();
    for path in files(&root, "toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest = fs::read_to_string(&path).unwrap();
        let folder = path.parent().unwrap().strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if folder.is_empty() {
            continue;
        }
        let entry = ARROWS.iter().find(|(known, _, _)| *known == folder);
        let (folder, name, _) = entry.unwrap_or_else(|| panic!("{folder} is not in the table of arrows"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder} is not {name}");
        manifests.insert(*folder, manifest);
    }
    assert!(manifests.len() >= 9, "only {} packages found: the walk is broken", manifests.len());
    verdict("a dependency that points up", &wrong_arrows(&manifests));
}

#[test]
fn the_top_level_folders_are_those_of_the_house() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strange: Vec<String> = names
        .filter(|name| !FOLDERS.contains(&name.as_str()) && name != "target" && name != ".git")
        .collect();
    verdict("a folder that is not in the plan", &strange);
}

#[test]
fn files_tell_one_story_of_bounded_length() {
    hold("files are at most 450 lines long", long_files);
}

#[test]
fn functions_are_of_bounded_length() {
    hold("functions are at most 70 lines long", long_functions);
}

#[test]
fn every_file_says_what_it_is() {
    hold("a file opens with what it is, why, and what it must never do", missing_opening);
}

#[test]
fn libraries_do_not_print() {
    hold("libraries log, programs print", stray_prints);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    hold("no unwrap() outside tests", unwraps);
}

#[test]
fn nothing_is_left_for_later_ignored_or_unsafe() {
    hold("no notes for later", leftovers);
    hold("never in this house", forbidden_everywhere);
}

#[test]
fn tests_and_libraries_never_sleep() {
    hold("no sleeping", sleeps);
}

#[test]
fn the_core_is_pure_and_only_rpc_knows_sockets() {
    hold("the core knows no clock, thread, socket, file, environment or unordered map", impurities);
    hold("sockets belong to rpc", sockets);
}

/// The words in backquotes that are sentences: names of tests, some with their module before them.
fn named_tests(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| !word.contains([' ', '/', '.']) && word.matches('_').count() >= 3).collect()
}

/// Each file's name with the names of its functions.
fn functions_by_file(all: &[Source]) -> Vec<(String, BTreeSet<String>)> {
    let names = |source: &Source| source.functions().into_iter().map(|function| function.name).collect();
    all.iter().map(|source| (source.name.clone(), names(source))).collect()
}

/// Whether such a test, or such a script, exists: a module is the file of that name.
fn is_a_test(name: &str, all: &[(String, BTreeSet<String>)], scripts: &[String]) -> bool {
    let (module, function) = name.rsplit_once("::").unwrap_or(("", name));
    let in_module = |file: &str| module.is_empty() || file.ends_with(&format!("/{module}.rs"));
    let is_there = all.iter().any(|(file, functions)| in_module(file) && functions.contains(function));
    is_there || scripts.iter().any(|script| script == name)
}

#[test]
fn the_tables_of_the_cores_tests_name_only_tests_that_exist() {
    let folder = root().join("raft/core/tests");
    let scripts = fs::read_dir(folder.join("scripts")).unwrap();
    let scripts: Vec<String> =
        scripts.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let all = functions_by_file(&sources());
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let named = named_tests(&text);
    assert!(named.len() > 100, "only {} tests found: the reading is broken", named.len());
    let unknown = named.into_iter().filter(|name| !is_a_test(name, &all, &scripts)).map(str::to_owned);
    verdict("raft/core/tests/README.md names a test that is not there", &unknown.collect::<Vec<_>>());
    let known = [Source::new("raft/core/tests/suite/a.rs", "fn one_two_three_four() {}\n")];
    let known = functions_by_file(&known);
    let is_known = |name| is_a_test(name, &known, &["five_six_seven_eight".to_owned()]);
    assert!(is_known("a::one_two_three_four") && is_known("five_six_seven_eight"));
    assert!(!is_known("b::one_two_three_four") && !is_known("a::one_two_three_five"));
}

#[test]
fn the_rules_find_what_they_forbid() {
    let offending =
        |name: &str, text: &str, check: fn(&Source) -> Vec<String>| check(&Source::new(name, text)).len();
    let long = format!("//! x\nfn long() {{\n{}}}\n", "    step();\n".repeat(69));
    assert_eq!(offending("raft/src/a.rs", &long, long_functions), 1);
    let fits = format!("//! x\nfn fits() {{\n{}}}\n", "    step();\n".repeat(68));
    assert_eq!(offending("raft/src/a.rs", &fits, long_functions), 0);
    assert_eq!(offending("raft/src/a.rs", &"\n".repeat(451), long_files), 1);
    assert_eq!(offending("raft/src/a.rs", "use std::fs;\n", missing_opening), 1);
    assert_eq!(offending("raft/src/a.rs", "fn a() { println!(\"x\"); }", stray_prints), 1);
    assert_eq!(offending("bin/src/bin/a.rs", "fn a() { println!(\"x\"); dbg!(1); }", stray_prints), 1);
    assert_eq!(offending("rpc/codegen/src/a.rs", "fn a() { println!(\"cargo::x\"); }", stray_prints), 0);
    let tested = "fn a() { b.unwrap() }\n#[cfg(test)]\nmod tests {\n fn c() { d.unwrap() }\n}\n";
    assert_eq!(offending("raft/src/a.rs", tested, unwraps), 1);
    assert_eq!(offending("raft/tests/a.rs", tested, unwraps), 0);
    assert_eq!(offending("raft/src/a.rs", concat!("// TO", "DO: later\n"), leftovers), 1);
    assert_eq!(offending("raft/src/a.rs", "#[ignore]\nunsafe fn a() {}\n", forbidden_everywhere), 2);
    assert_eq!(
        offending("raft/src/a.rs", "// \"unsafe\"\nlet a = \"unsafe\"; unsafe_code();", forbidden_everywhere),
        0
    );
    assert_eq!(offending("clerk/tests/a.rs", "fn a() { std::thread::sleep(b) }", sleeps), 1);
    assert_eq!(offending("bin/src/bin/a.rs", "fn a() { std::thread::sleep(b) }", sleeps), 0);
    assert_eq!(offending("raft/core/src/a.rs", "use std::collections::HashMap;", impurities), 1);
    assert_eq!(offending("clerk/src/a.rs", "use std::net::TcpStream;", sockets), 1);
    let upward =
        BTreeMap::from([("raft", "[dependencies]\nkvserver.workspace = true\nrpc = \"1\"\n".to_owned())]);
    assert_eq!(wrong_arrows(&upward), ["raft/Cargo.toml:2: raft must not depend on kvserver"]);
}
