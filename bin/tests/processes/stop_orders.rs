//! The second order to stop: whoever does not want to wait for the orderly end need not. And a node whose log nobody reads
//! serves and stops all the same.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;

use clerk::{Clerk, ClerkConfig};
use conf::Config;
use rustix::process::Signal;

use crate::support::cluster::{Cluster, free_ports, take_turn};
use crate::support::process::{
    Process, children_of, clerk, full_pipe, is_alive, raft_core_run, run, send_at_once,
};
use crate::support::wait::{LONG, eventually, until};
use crate::support::wire;

/// As large as a value may be: its reply does not fit into what the system holds for a connection.
const VALUE_BYTES: usize = 8 << 20;

/// A client that asks for much and reads nothing. A stop waits for it as long as it waits for anybody, a second.
fn client_that_does_not_read(config: &Config) -> TcpStream {
    let addresses = config.addresses();
    let store = Clerk::connect(&addresses, ClerkConfig::default()).unwrap();
    eventually("the node leads and takes the value", LONG, || store.put("k", vec![b'x'; VALUE_BYTES]).ok());
    let mut client = TcpStream::connect(&addresses[0]).unwrap();
    let get = wire::Message::default().bytes(1, b"k").done();
    for call in 1..=8 {
        client.write_all(&wire::request("kv", "Get", Some(call), &get)).unwrap();
    }
    // The first bytes of the first reply show that the node is at it.
    until("the replies come", LONG, || client.peek(&mut [0]).is_ok_and(|count| count > 0));
    client
}

fn folder_with_one_node() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1)[0];
    let text = format!("node0ip=127.0.0.1\nnode0port={port}\n");
    fs::write(folder.path().join("test.conf"), text).unwrap();
    folder
}

fn start(folder: &Path, arguments: &[&str]) -> Process {
    let mut command = raft_core_run();
    command.args(arguments).current_dir(folder);
    Process::start(command, &folder.join("log"))
}

/// SIGTERM again and again, as by somebody who does not want to wait. Those of the first half second are one order.
fn insist_on_the_end(process: &mut Process) -> Option<i32> {
    eventually("the process ends", LONG, || {
        process.signal(Signal::TERM);
        process.has_ended().then_some(())
    });
    process.ended(LONG).code()
}

#[test]
fn a_node_that_is_asked_a_second_time_ends_at_once_and_has_lost_nothing() {
    let _turn = take_turn();
    let folder = folder_with_one_node();
    let config = Config::load(&folder.path().join("test.conf")).unwrap();
    let mut node = start(folder.path(), &["--node", "0"]);
    let _client = client_that_does_not_read(&config);
    assert_eq!(insist_on_the_end(&mut node), Some(1), "{}", node.log());
    assert!(node.log().contains("asked a second time, ending at once"), "{}", node.log());

    let _again = start(folder.path(), &["--node", "0"]);
    let store = Clerk::connect(&config.addresses(), ClerkConfig::default()).unwrap();
    let value = eventually("the node serves again", LONG, || store.get("k").ok());
    assert_eq!(value.map(|value| value.len()), Some(VALUE_BYTES));
}

#[test]
fn a_launcher_that_is_asked_a_second_time_kills_its_nodes_and_says_so() {
    let _turn = take_turn();
    let folder = folder_with_one_node();
    let config = Config::load(&folder.path().join("test.conf")).unwrap();
    let mut launcher = start(folder.path(), &["-n", "1"]);
    let _client = client_that_does_not_read(&config);
    let children = children_of(launcher.pid());
    assert_eq!(children.len(), 1);
    assert_eq!(insist_on_the_end(&mut launcher), Some(1), "{}", launcher.log());
    let sentence = "raft-core-run: asked a second time (SIGTERM): node 0 was killed";
    assert!(launcher.log().contains(sentence), "{}", launcher.log());
    assert!(!is_alive(children[0]));
}

#[test]
fn a_log_that_nobody_reads_keeps_no_node_from_serving_or_stopping() {
    let _turn = take_turn();
    let folder = folder_with_one_node();
    let (_reader, writer) = full_pipe();
    let mut command = raft_core_run();
    command.args(["--node", "0"]).current_dir(folder.path());
    let mut node = Process::start_into(command, writer);
    until("the node takes a write", LONG, || {
        let mut put = clerk();
        put.args(["put", "k", "v"]).current_dir(folder.path());
        run(put, LONG).status.success()
    });
    node.signal(Signal::TERM);
    assert!(node.ended(LONG).success());
}

#[test]
fn a_benchmark_that_gets_two_signals_at_once_still_prints_what_it_has_measured() {
    let cluster = Cluster::start(1, "");
    let output = cluster.file().with_extension("out");
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).args(["bench", "--json", "--op", "put", "--clients", "2"]);
    command.args(["--keys", "8", "--warmup", "0", "--seconds", "3600"]);
    command.stdout(fs::File::create(&output).unwrap());
    let mut bench = Running(command.spawn().unwrap());
    let filled = cluster.status(0).expect("the node answers").commit + 100;
    until("it measures", LONG, || cluster.status(0).is_some_and(|status| status.commit > filled));
    send_at_once(bench.0.id(), [Signal::TERM, Signal::HUP]);
    let status = eventually("the benchmark ends", LONG, || bench.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    let text = fs::read_to_string(output).unwrap();
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(row["ops_per_s"].as_u64() > Some(0), "{text}");
}

/// A process that the test may leave behind on no path.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
