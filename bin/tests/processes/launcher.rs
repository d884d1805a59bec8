//! The launcher as its user knows it: it writes the file, says what happens to the nodes, and leaves no process behind,
//! however it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use conf::Config;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::cluster::{free_ports, take_turn};
use crate::support::process::{Process, children_of, full_pipe, is_alive, raft_core_run, send, send_at_once};
use crate::support::wait::{LONG, eventually, until};

/// A launcher in a folder of its own.
struct Launched {
    process: Process,
    folder: TempDir,
}

impl Launched {
    fn start(arguments: &[&str]) -> Launched {
        Launched::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(folder: TempDir, arguments: &[&str]) -> Launched {
        let mut command = raft_core_run();
        command.args(arguments).current_dir(folder.path());
        let process = Process::start(command, &folder.path().join("launcher.log"));
        Launched { process, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until the launcher has announced a leader `times` times.
    fn wait_for_leader(&self, times: usize) {
        until("the launcher announces a leader", LONG, || {
            self.process.log().matches(" leads in term ").count() >= times
        });
    }

    /// The nodes' processes, `count` of them.
    fn children(&self, count: usize) -> Vec<u32> {
        eventually(&format!("{count} children"), LONG, || {
            Some(children_of(self.process.pid())).filter(|children| children.len() == count)
        })
    }

    /// Signals the launcher and waits for its clean end and that of its children.
    fn stop(&mut self, signal: Signal) {
        let children = children_of(self.process.pid());
        self.process.signal(signal);
        let status = self.process.ended(LONG);
        assert!(status.success(), "{status}: {}", self.process.log());
        assert_gone(&children);
    }
}

fn assert_gone(pids: &[u32]) {
    let left: Vec<&u32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "processes {left:?} are left behind");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_written_logs_carry_their_node_and_a_restart_uses_both_file_and_data() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3", "-f", "test.conf"]);
    launched.wait_for_leader(1);
    let config = Config::load(&launched.path("test.conf")).unwrap();
    assert_eq!(config.nodes.len(), 3);
    assert!(
        config.nodes.iter().all(|node| node.host == "127.0.0.1" && (10_000..30_000).contains(&node.port))
    );
    for folder in ["test-data", "test-data/node0", "test-data/node1", "test-data/node2"] {
        assert_eq!(mode(&launched.path(folder)), 0o700, "{folder}");
    }
    assert_eq!(launched.children(3).len(), 3);
    launched.stop(Signal::TERM);
    let log = launched.process.log();
    let speakers = ["[launcher] ", "[node 0] ", "[node 1] ", "[node 2] "];
    for line in log.lines() {
        let said = speakers.iter().find_map(|speaker| line.strip_prefix(speaker));
        let said = said.unwrap_or_else(|| panic!("nobody says {line:?}"));
        let is_utc = said.len() > 24 && said.as_bytes()[10] == b'T' && said.as_bytes()[23] == b'Z';
        assert!(is_utc, "no UTC time in {line:?}");
    }

    let text = fs::read_to_string(launched.path("test.conf")).unwrap();
    let Launched { folder, process } = launched;
    drop(process);
    let mut again = Launched::start_in(folder, &[]);
    again.wait_for_leader(2);
    assert_eq!(
        fs::read_to_string(again.path("test.conf")).unwrap(),
        text,
        "a file that names nodes is never changed"
    );
    again.stop(Signal::HUP);
}

#[test]
fn a_file_with_settings_only_is_completed_and_another_data_directory_is_used_when_named() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let settings = "# mine\nheartbeat_ms=20\ncluster_id=mine\n";
    fs::write(folder.path().join("kv.conf"), settings).unwrap();
    let mut launched = Launched::start_in(folder, &["-n", "1", "-f", "kv.conf", "--data-dir", "elsewhere"]);
    launched.wait_for_leader(1);
    let text = fs::read_to_string(launched.path("kv.conf")).unwrap();
    assert!(text.starts_with(settings), "{text}");
    assert!(!text.contains("cluster_id=mine\ncluster_id"), "{text}");
    assert!(launched.path("elsewhere/node0").is_dir());
    assert!(!launched.path("kv-data").exists());
    launched.stop(Signal::INT);
}

#[test]
fn no_process_outlives_a_launcher_that_was_killed_not_even_a_stopped_one() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    let children = launched.children(3);
    send(children[1], Signal::STOP);
    launched.process.kill();
    until("all nodes are gone", LONG, || children.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_stopped_node_does_not_keep_the_launcher_from_ending() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    send(launched.children(3)[0], Signal::STOP);
    launched.stop(Signal::TERM);
}

#[test]
fn a_signal_to_all_processes_at_once_is_one_order_to_stop() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    launched.children(3).into_iter().for_each(|pid| send(pid, Signal::TERM));
    launched.stop(Signal::TERM);
    assert!(!launched.process.log().contains("did not stop in order"), "{}", launched.process.log());
}

#[test]
fn two_signals_at_the_same_time_are_one_order_to_stop() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    let children = launched.children(3);
    send_at_once(launched.process.pid(), [Signal::TERM, Signal::HUP]);
    let status = launched.process.ended(LONG);
    assert!(status.success(), "{status}: {}", launched.process.log());
    assert_gone(&children);
    assert!(launched.process.log().contains("all nodes have stopped"), "{}", launched.process.log());
}

#[test]
fn several_launchers_started_at_once_make_one_cluster_and_the_late_ones_say_so() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let start = |number: usize| {
        let mut command = raft_core_run();
        command.args(["-n", "3"]).current_dir(folder.path());
        Process::start(command, &folder.path().join(format!("launcher{number}.log")))
    };
    let mut launchers: Vec<Process> = (0..4).map(start).collect();
    until("all but one have ended", LONG, || {
        launchers.iter_mut().map(Process::has_ended).filter(|has_ended| !has_ended).count() == 1
    });
    let place = launchers.iter_mut().position(|launcher| !launcher.has_ended()).unwrap();
    let mut first = launchers.remove(place);
    for mut late in launchers {
        assert_eq!(late.ended(LONG).code(), Some(1), "{}", late.log());
        let log = late.log();
        let expected = "raft-core-run: the data directory test-data is in use by another launcher; stop that one first \
                        or choose another --data-dir\n";
        assert_eq!(log, expected);
    }
    until("the launcher announces a leader", LONG, || first.log().contains(" leads in term "));
    assert_eq!(children_of(first.pid()).len(), 3);
    first.signal(Signal::TERM);
    assert!(first.ended(LONG).success(), "{}", first.log());
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_launcher_from_obeying() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let mut command = raft_core_run();
    command.args(["-n", "2"]).current_dir(folder.path());
    let process = Process::start_into(command, writer);
    let mut launched = Launched { process, folder };
    let children = launched.children(2);
    until("the nodes have their data", LONG, || launched.path("test-data/node1/identity").exists());
    launched.process.signal(Signal::INT);
    assert!(launched.process.ended(LONG).success());
    assert_gone(&children);
}

#[test]
fn a_node_that_dies_is_reported_with_how_and_the_rest_is_kept() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    let children = launched.children(3);
    send(children[0], Signal::KILL);
    until("the death is reported", LONG, || {
        launched.process.log().contains("killed by SIGKILL; 2 of 3 nodes are left")
    });
    let dead = (0..3).find(|id| launched.process.log().contains(&format!("node {id} has died"))).unwrap();
    let again =
        format!("start it again with `{} --node {dead} -f test.conf`", env!("CARGO_BIN_EXE_raft-core-run"));
    assert!(launched.process.log().contains(&again), "{}", launched.process.log());
    assert!(is_alive(children[1]) && is_alive(children[2]));
    send(children[1], Signal::ABORT);
    until("the second death is reported", LONG, || {
        launched.process.log().contains("killed by SIGABRT; 1 of 3 nodes is left, too few to go on")
    });
    assert!(is_alive(children[2]) && !launched.process.has_ended());
    send(children[2], Signal::KILL);
    assert_eq!(launched.process.ended(LONG).code(), Some(1), "nothing is left to watch");
    assert!(launched.process.log().contains("no node is left"));
}

#[test]
fn a_node_that_is_stopped_in_order_has_stopped_and_not_died() {
    let _turn = take_turn();
    let mut launched = Launched::start(&["-n", "3"]);
    launched.wait_for_leader(1);
    send(launched.children(3)[2], Signal::TERM);
    until("the stop is reported", LONG, || {
        launched.process.log().contains("has stopped as it was asked to; 2 of 3 nodes are left")
    });
    assert!(!launched.process.log().contains("has died"), "{}", launched.process.log());
    launched.stop(Signal::TERM);
}

#[test]
fn every_number_of_nodes_up_to_seven_starts_and_an_even_one_is_advised_against_in_a_line() {
    let _turn = take_turn();
    for (count, advices) in [("2", 1), ("7", 0)] {
        let mut launched = Launched::start(&["-n", count]);
        launched.wait_for_leader(1);
        let advice = launched.process.log().matches("an odd number is cheaper").count();
        assert_eq!(advice, advices, "-n {count}");
        launched.stop(Signal::TERM);
    }
}

#[test]
fn one_node_runs_in_the_foreground_and_stops_at_a_signal() {
    let _turn = take_turn();
    let port = free_ports(1)[0];
    let folder = tempfile::tempdir().unwrap();
    let text = format!("node0ip=localhost\nnode0port={port}\nnode0listen=127.0.0.1:{port}\n");
    fs::write(folder.path().join("test.conf"), text).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut command = raft_core_run();
        command.args(["--node", "0"]).current_dir(folder.path());
        let mut node = Process::start(command, &folder.path().join("node.log"));
        until("the node listens", LONG, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        node.signal(signal);
        assert!(node.ended(LONG).success(), "{signal:?}: {}", node.log());
        assert!(node.log().lines().all(|line| line.starts_with("[node 0] ")), "{}", node.log());
    }
}

#[test]
fn children_take_nothing_from_the_launchers_environment() {
    let _turn = take_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut command = raft_core_run();
    command.env("RAFT_KV_NODES", "2").env("RAFT_KV_FILE", "env.conf").env("RAFT_KV_DATA_DIR", "env-data");
    command.current_dir(folder.path());
    let process = Process::start(command, &folder.path().join("launcher.log"));
    let mut launched = Launched { process, folder };
    launched.wait_for_leader(1);
    assert_eq!(Config::load(&launched.path("env.conf")).unwrap().nodes.len(), 2);
    assert!(launched.path("env-data/node1").is_dir());
    launched.stop(Signal::TERM);
}
