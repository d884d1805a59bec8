//! The program `clerk` where no cluster is needed: what it says and which exit code it gives when it cannot do its work.
//! Scripts rely on the codes, people on the sentences.

#![expect(clippy::unwrap_used, reason = "test code: what fails here fails the test")]

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use serde_json::Value;

/// An address where nobody listens: it was free a moment ago.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn clerk(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clerk"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAFT_KV_")) {
        command.env_remove(name);
    }
    command.args(words).output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_missing_file_is_named_with_two_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.conf");
    let output = clerk(&["-f", file.to_str().unwrap(), "get", "k"]);
    assert_eq!(output.status.code(), Some(2));
    let text = complaint(&output);
    for part in [file.to_str().unwrap(), "raft-core-run -n 3 -f", "--endpoints"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn nobody_there_is_exit_code_3_and_one_sentence() {
    let address = nobody();
    for words in [&["get", "k"][..], &["put", "k", "v"], &["delete", "k"], &["loop"], &[]] {
        let mut all = vec!["--endpoints", &address, "--timeout-ms", "150"];
        all.extend(words);
        let output = clerk(&all);
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let expected = format!("clerk: no node of {address} answered within 150 ms: ");
        assert!(complaint(&output).starts_with(&expected), "{words:?}: {}", complaint(&output));
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let address = nobody();
    let wrong = [
        &["frobnicate"][..],
        &["put", "k"],
        &["get"],
        &["bench", "--op", "nothing"],
        &["--timeout-ms", "0", "get", "k"],
        &["--endpoints", "nonsense", "get", "k"],
        &["--endpoints", &address, "bench", "--clients", "0"],
        &["--endpoints", &address, "bench", "--seconds", "0"],
    ];
    for words in wrong {
        let output = clerk(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", complaint(&output));
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn status_of_nodes_that_are_down_is_still_a_whole_list() {
    let (first, second) = (nobody(), nobody());
    let both = format!("{first},{second}");
    let output = clerk(&["--endpoints", &both, "status", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0]["address"].as_str(), rows[1]["address"].as_str()), (Some(&*first), Some(&*second)));
    assert!(rows.iter().all(|row| row["role"] == "down" && row["pid"].is_null() && row["lag"].is_null()));
}

#[test]
fn bench_json_prints_nothing_but_results() {
    let output = clerk(&["--endpoints", &nobody(), "--timeout-ms", "150", "bench", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
}

#[test]
fn flags_may_come_from_the_environment() {
    let address = nobody();
    let output = Command::new(env!("CARGO_BIN_EXE_clerk"))
        .env("RAFT_KV_ENDPOINTS", &address)
        .env("RAFT_KV_TIMEOUT_MS", "123")
        .args(["get", "k"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        complaint(&output).contains(&format!("{address} answered within 123 ms")),
        "{}",
        complaint(&output)
    );
}

#[test]
fn help_and_version_are_exit_code_0() {
    for words in [&["--help"][..], &["bench", "--help"], &["--version"]] {
        let output = clerk(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn an_address_without_a_port_is_wrong_usage_of_the_consumer() {
    let consumer = Command::new(env!("CARGO_BIN_EXE_consumer")).args(["--addr", "foo"]).output().unwrap();
    assert_eq!(consumer.status.code(), Some(2));
    assert!(complaint(&consumer).contains("write HOST:PORT"), "{}", complaint(&consumer));
}

#[test]
fn a_node_that_takes_the_connection_and_says_nothing_is_not_called_down() {
    // The system takes the connection; nobody reads what comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = clerk(&["--endpoints", &address, "--timeout-ms", "150", "status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("{address} is not answering: no reply within 150 ms")), "{text}");
    let json = clerk(&["--endpoints", &address, "--timeout-ms", "150", "status", "--json"]);
    assert!(String::from_utf8(json.stdout).unwrap().contains("\"role\":\"down\""));
}

#[test]
fn a_closed_standard_input_is_no_value_and_an_empty_one_is() {
    let address = nobody();
    let put_from = |input: &str| {
        let script = format!("exec \"$0\" --endpoints {address} --timeout-ms 150 put k - {input}");
        Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_clerk")]).output().unwrap()
    };
    let closed = put_from("<&-");
    assert_eq!(closed.status.code(), Some(2), "{}", complaint(&closed));
    assert!(complaint(&closed).contains("standard input is closed"), "{}", complaint(&closed));
    for empty in ["< /dev/null", "<<'END'\nEND\n"] {
        let output = put_from(empty);
        assert_eq!(output.status.code(), Some(3), "it gets as far as the nodes: {}", complaint(&output));
    }
}

#[test]
fn output_that_cannot_be_written_is_not_the_users_mistake() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clerk"));
    let output = command.args(["--endpoints", &nobody(), "status", "--json"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    assert!(complaint(&output).contains("standard output cannot be written"), "{}", complaint(&output));
}
