//! The first thing a user does: start three nodes with one command, put and get, kill the leader, lose nothing, restart
//! everything, find everything. Only the shipped programs are used.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::cluster::take_turn;
use crate::support::process::{Process, clerk, raft_core_run, run, run_with_input, send};
use crate::support::wait::{LONG, eventually, until};

fn launch(folder: &Path) -> Process {
    let mut command = raft_core_run();
    command.args(["-n", "3", "-f", "test.conf"]).current_dir(folder);
    Process::start(command, &folder.join("launcher.log"))
}

fn clerk_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = clerk();
    command.args(arguments).current_dir(folder);
    run(command, LONG)
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Runs the clerk until it succeeds: right after a start or a kill there is no leader for a moment.
fn insist(folder: &Path, arguments: &[&str]) -> String {
    eventually(&format!("clerk {arguments:?} succeeds"), LONG, || {
        let output = clerk_in(folder, arguments);
        output.status.success().then(|| said(&output).to_owned())
    })
}

/// The rows of `clerk status --json`.
fn status(folder: &Path) -> Vec<Value> {
    let output = clerk_in(folder, &["status", "--json"]);
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap_or_default()
}

/// Number and process of the node that leads.
fn leader(folder: &Path) -> (u64, u32) {
    eventually("a leader in clerk status", LONG, || {
        let rows = status(folder);
        let row = rows.iter().find(|row| row["role"] == "leader")?;
        Some((row["node"].as_u64()?, u32::try_from(row["pid"].as_u64()?).ok()?))
    })
}

#[test]
fn what_was_put_survives_the_leaders_death_and_a_restart_of_everything() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut launcher = launch(folder);
    until("the launcher says that there is a leader", LONG, || launcher.log().contains(" leads in term "));

    insist(folder, &["put", "colour", "red"]);
    assert_eq!(insist(folder, &["get", "colour"]), "red\n");
    insist(folder, &["append", "colour", "dish"]);
    assert_eq!(insist(folder, &["get", "colour", "--raw"]), "reddish");
    insist(folder, &["put", "gone", "soon"]);
    insist(folder, &["delete", "gone"]);
    assert_eq!(
        clerk_in(folder, &["get", "gone"]).status.code(),
        Some(1),
        "a key that is not there is exit code 1"
    );
    assert_eq!(clerk_in(folder, &["frobnicate"]).status.code(), Some(2), "wrong usage is exit code 2");

    let (dead, pid) = leader(folder);
    send(pid, Signal::KILL);
    until("the launcher says who died and how", LONG, || {
        launcher.log().contains(&format!("node {dead} has died: killed by SIGKILL; 2 of 3 nodes are left"))
    });
    let (next, _) =
        eventually("another leader", LONG, || Some(leader(folder)).filter(|(node, _)| *node != dead));
    assert_eq!(insist(folder, &["get", "colour", "--raw"]), "reddish");
    insist(folder, &["put", "after", "the kill"]);
    until("the launcher announces the next leader", LONG, || {
        launcher.log().contains(&format!("node {next} leads in term "))
    });

    launcher.signal(Signal::TERM);
    assert!(launcher.ended(LONG).success(), "{}", launcher.log());
    let unavailable = clerk_in(folder, &["get", "colour", "--timeout-ms", "300"]);
    assert_eq!(unavailable.status.code(), Some(3), "no cluster is exit code 3");

    let mut launcher = launch(folder);
    assert_eq!(insist(folder, &["get", "colour", "--raw"]), "reddish");
    assert_eq!(insist(folder, &["get", "after"]), "the kill\n");
    assert_eq!(clerk_in(folder, &["get", "gone"]).status.code(), Some(1), "a deleted key stays deleted");
    launcher.signal(Signal::INT);
    assert!(launcher.ended(LONG).success(), "{}", launcher.log());
}

#[test]
fn the_origins_loop_and_the_table_of_nodes_are_there() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let launcher = launch(folder);
    leader(folder);
    let output = run_with_input(
        {
            let mut command = clerk();
            command.args(["put", "input", "-"]).current_dir(folder);
            command
        },
        b"from\0standard\ninput".to_vec(),
        LONG,
    );
    assert!(output.status.success());
    let raw = clerk_in(folder, &["get", "input", "--raw"]);
    assert_eq!(raw.stdout, b"from\0standard\ninput");

    let text = insist(folder, &["loop"]);
    let lines: Vec<&str> = text.lines().collect();
    let expected: Vec<String> = (0..500).rev().map(|n| format!("get return :{{{n}}}")).collect();
    assert_eq!(&lines[..500], expected.as_slice());
    assert!(lines.len() > 500, "the loop ends with a line of figures");

    let rows = eventually("three nodes in clerk status", LONG, || {
        Some(status(folder)).filter(|rows| rows.len() == 3)
    });
    for row in &rows {
        for key in ["node", "address", "role", "pid", "term", "commit", "applied", "lag"] {
            assert!(row.get(key).is_some(), "{key} is missing in {row}");
        }
    }
    assert!(insist(folder, &["status"]).contains("leader"));
    drop(launcher);
}
