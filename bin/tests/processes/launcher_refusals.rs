//! What cannot be started is said in one sentence, with an exit code that tells whose turn it is: 2 for what the user wrote, 1
//! for what the machine would not do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::cluster::{free_ports, take_turn};
use crate::support::process::{Process, raft_core_run, run, run_without_files};
use crate::support::wait::{LONG, until};

/// A folder with a `test.conf`.
fn folder_with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.conf"), text).unwrap();
    folder
}

fn nodes(ports: &[u16]) -> String {
    let lines = ports.iter().enumerate();
    lines.map(|(id, port)| format!("node{id}ip=127.0.0.1\nnode{id}port={port}\n")).collect()
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = raft_core_run();
    command.args(arguments).current_dir(folder);
    command
}

/// What the program itself said at its end.
fn sentences(text: &str) -> Vec<&str> {
    assert!(!text.contains("panicked"), "{text}");
    text.lines().filter_map(|line| line.strip_prefix("raft-core-run: ")).collect()
}

/// Runs the program to its end: its exit code, and its last line without the program's name, which must be there.
fn refusal_of(command: Command) -> (i32, String) {
    let output = run(command, LONG);
    let text = String::from_utf8(output.stderr).unwrap();
    let ends = sentences(&text);
    assert_eq!(ends.len(), 1, "not one sentence: {text}");
    (output.status.code().expect("it ended by itself"), ends[0].to_owned())
}

fn refusal(folder: &Path, arguments: &[&str]) -> (i32, String) {
    refusal_of(program(folder, arguments))
}

#[test]
fn another_number_of_nodes_than_the_file_names_is_usage() {
    let folder = folder_with(&nodes(&[29016, 29017, 29018]));
    let (code, text) = refusal(folder.path(), &["-n", "5"]);
    assert_eq!(code, 2);
    assert_eq!(text, "test.conf names 3 nodes but -n asks for 5; use -n 3, or name another file with -f");
    assert_eq!(refusal(folder.path(), &["--node", "3"]).0, 2);
    assert_eq!(refusal(folder.path(), &["--node", "0", "-f", "absent.conf"]).0, 2);
    assert!(!folder.path().join("absent.conf").exists());
    for bad in [["-n", "0"], ["-n", "8"], ["-n", "x"], ["--no-such", "flag"]] {
        let output = run(program(folder.path(), &bad), LONG);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn a_wrong_line_in_the_file_is_named_with_what_to_write_instead() {
    let good = nodes(&[29016]);
    let folder = folder_with(&format!("{good}heartbeet_ms=25\n"));
    let expected = "test.conf, line 3: there is no setting \"heartbeet_ms\"; did you mean heartbeat_ms?";
    for arguments in [&["-n", "1"][..], &["--node", "0"]] {
        assert_eq!(refusal(folder.path(), arguments), (2, expected.to_owned()));
    }
    for (line, hint) in [
        (
            "election_min_ms=soon",
            "line 3: election_min_ms is \"soon\"; write a whole number from 10 to 60000",
        ),
        (
            "node1ip=127.0.0.1\nnode1port=29016",
            "line 3: node1 has the address 127.0.0.1:29016 of node0 (line 1)",
        ),
        ("node2ip=127.0.0.1", "line 3: node2port is missing; add for instance node2port=29018"),
    ] {
        let folder = folder_with(&format!("{good}{line}\n"));
        let (code, text) = refusal(folder.path(), &[]);
        assert_eq!(code, 2);
        assert!(text.contains(hint), "{text}");
    }
}

#[test]
fn a_port_in_use_ends_the_start_with_the_address_and_leaves_nothing_running() {
    let _turn = take_turn();
    let ports = free_ports(3);
    let folder = folder_with(&nodes(&ports));
    let _holder = TcpListener::bind(("127.0.0.1", ports[1])).unwrap();
    let (code, text) = refusal(folder.path(), &["--node", "1"]);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("127.0.0.1:{}", ports[1])), "{text}");

    let output = run(program(folder.path(), &[]), LONG);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said = sentences(&text);
    assert!(said.len() == 1 && !text.contains("] raft-core-run: "), "not one sentence: {text}");
    assert!(said[0].starts_with("node 1 did not start, so none is kept running: cannot listen on"), "{text}");
    assert!(
        text.contains("each of the others can be run by") && text.contains("--node I -f test.conf"),
        "{text}"
    );
    assert!(text.contains(&format!("127.0.0.1:{}", ports[1])), "{text}");
    until("the other ports are free again", LONG, || {
        [ports[0], ports[2]].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    });
}

/// Runs node 0 until it listens.
fn started_node(folder: &Path, port: u16) -> Process {
    let node =
        Process::start(program(folder, &["--node", "0", "--data-dir", "data"]), &folder.join("node.log"));
    until("the node listens", LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    node
}

#[test]
fn a_data_directory_in_use_or_of_another_node_or_cluster_is_refused_and_left_alone() {
    let _turn = take_turn();
    let ports = free_ports(5);
    let folder = folder_with(&nodes(&ports[..1]));
    let path = folder.path();
    let mut node = started_node(path, ports[0]);

    fs::write(path.join("other-port.conf"), nodes(&ports[1..2])).unwrap();
    let in_use = ["--node", "0", "--data-dir", "data", "-f", "other-port.conf"];
    let (code, text) = refusal(path, &in_use);
    assert_eq!(code, 1);
    assert!(text.contains("data/node0") && text.contains("in use"), "{text}");
    node.signal(Signal::TERM);
    assert!(node.ended(LONG).success());

    fs::write(path.join("foreign.conf"), format!("cluster_id=foreign\n{}", nodes(&ports[2..3]))).unwrap();
    let (code, text) = refusal(path, &["--node", "0", "--data-dir", "data", "-f", "foreign.conf"]);
    assert_eq!(code, 1);
    assert!(text.contains("foreign"), "{text}");

    fs::write(path.join("two.conf"), nodes(&ports[3..5])).unwrap();
    fs::rename(path.join("data/node0"), path.join("data/node1")).unwrap();
    let (code, text) = refusal(path, &["--node", "1", "--data-dir", "data", "-f", "two.conf"]);
    assert_eq!(code, 1);
    assert!(text.contains("node 0"), "{text}");

    fs::rename(path.join("data/node1"), path.join("data/node0")).unwrap();
    drop(started_node(path, ports[0]));
}

#[test]
fn a_data_directory_that_cannot_be_made_or_written_is_one_sentence() {
    let _turn = take_turn();
    let folder = folder_with(&nodes(&free_ports(1)));
    fs::write(folder.path().join("a-file"), "").unwrap();
    let (code, text) = refusal(folder.path(), &["--node", "0", "--data-dir", "a-file"]);
    assert_eq!(code, 1);
    assert!(text.contains("a-file/node0"), "{text}");

    // A disk on which nothing fits: no file may grow, and the signal for that is ignored, so that writes fail.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 0; exec \"$0\" --node 0",
        env!("CARGO_BIN_EXE_raft-core-run"),
    ]);
    command.current_dir(folder.path());
    let (status, text) = run_without_files(command, LONG);
    assert_eq!(status.code(), Some(1), "{text}");
    assert_eq!(sentences(&text).len(), 1, "not one sentence: {text}");
}

#[test]
fn help_and_version_are_answers_not_errors() {
    let folder = tempfile::tempdir().unwrap();
    let version = run(program(folder.path(), &["--version"]), LONG);
    assert_eq!(version.stdout, format!("raft-core-run {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    let help = run(program(folder.path(), &["--help"]), LONG);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for part in ["Examples:", "--node", "--data-dir", "RAFT_KV_FILE", "Exit codes:"] {
        assert!(text.contains(part), "{part} is missing in the help");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "asking made files");
}
