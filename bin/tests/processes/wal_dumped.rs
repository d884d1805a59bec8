//! `wal-dump` on the directories of real nodes: refused while one runs, sound after a stop and after a kill.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::process::{raft_core_run, run};
use crate::support::wait::LONG;

/// Its exit code, what it printed and what it complained of.
fn dump(directory: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wal-dump"));
    command.env_clear().arg(directory).args(["--entries", ".."]);
    let output = run(command, LONG);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_nodes_directory_is_refused_while_it_runs_and_sound_after_a_kill_and_after_a_stop() {
    let mut cluster = Cluster::start(1, "");
    cluster.clerk().put("colour", "red").unwrap();
    let directory = cluster.data_dir(0);
    let (code, text, complaint) = dump(&directory);
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(complaint.contains("is in use; stop the node first"), "{complaint}");

    cluster.kill_node(0);
    let (code, text, _) = dump(&directory);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(" command ") && text.contains("takes part"), "{text}");

    cluster.start_node(0);
    cluster.clerk().put("colour", "blue").unwrap();
    cluster.stop_node(0);
    let (code, text, _) = dump(&directory);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.lines().any(|line| line.contains(".log ") && line.ends_with("  sealed")), "{text}");

    // And the node is none the worse for it.
    cluster.start_node(0);
    assert_eq!(cluster.clerk().get("colour").unwrap().as_deref(), Some(&b"blue"[..]));
}

#[test]
fn a_node_that_refuses_a_damaged_log_names_the_command_that_shows_it_and_both_say_the_same() {
    let mut cluster = Cluster::start(1, "");
    cluster.clerk().put("colour", "red").unwrap();
    cluster.stop_node(0);
    let directory = cluster.data_dir(0);
    let segment = directory.join("wal-0000000000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    fs::write(&segment, bytes).unwrap();

    let mut command = raft_core_run();
    command.args(["--node", "0", "--file"]).arg(cluster.file());
    let refused = run(command, LONG);
    assert_eq!(refused.status.code(), Some(1));
    let sentence = String::from_utf8(refused.stderr).unwrap();
    assert!(
        sentence.contains(&format!("; `wal-dump {}` shows what is there", directory.display())),
        "{sentence}"
    );
    let (code, text, _) = dump(&directory);
    assert_eq!(code, Some(1), "{text}");
    let damage = text.lines().find_map(|line| line.strip_prefix("damaged: ")).unwrap();
    assert!(sentence.contains(damage), "{damage}\n{sentence}");
}
