//! A majority of the nodes is gone for good: what is left becomes a new cluster when somebody says so, nothing is deleted,
//! and nothing of the old cluster can come back into it.

use std::fs;
use std::process::Output;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, raft_core_run, run};
use crate::support::wait::{LONG, until};

fn recover(cluster: &Cluster, more: &[&str]) -> Output {
    let mut command = raft_core_run();
    command.args(["recover", "-f"]).arg(cluster.file()).args(more);
    run(command, LONG)
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn member(cluster: &Cluster, words: &[&str]) {
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).args(["--timeout-ms", "20000", "member"]).args(words);
    let output = run(command, LONG);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
}

#[test]
fn of_one_of_three_nodes_a_new_cluster_is_made_that_the_old_nodes_cannot_join() {
    let mut cluster = Cluster::start(3, "");
    let first = cluster.clerk();
    let mut last = 0;
    for key in 0..50 {
        last = first.put(format!("k{key}"), format!("v{key}")).unwrap();
    }
    (0..3).for_each(|node| cluster.wait_until_applied(node, last));
    let running = recover(&cluster, &["--from", "2", "--yes"]);
    assert_eq!(running.status.code(), Some(1), "{}", said(&running));
    assert!(said(&running).contains("is in use by another process"), "{}", said(&running));

    (0..3).for_each(|node| cluster.kill_node(node));
    let old = cluster.data_dir(1).with_extension("elsewhere");
    fs::rename(cluster.data_dir(1), &old).unwrap();
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();

    let unasked = recover(&cluster, &[]);
    assert_eq!(unasked.status.code(), Some(2), "{}", said(&unasked));
    let text = said(&unasked);
    assert!(text.contains("its directory is not on this host"), "{text}");
    assert!(
        text.contains("members") && text.contains("is lost") && text.contains("--from 2 --yes"),
        "{text}"
    );
    assert!(text.contains("nothing was changed"), "{text}");
    assert_eq!(recover(&cluster, &["--yes"]).status.code(), Some(2));
    let wrong = recover(&cluster, &["--from", "0", "--yes"]);
    assert!(said(&wrong).contains("nothing can be recovered from node 0"), "{}", said(&wrong));

    let base = cluster.data_dir(2).parent().unwrap().to_owned();
    let done = recover(&cluster, &["--data-dir", base.to_str().unwrap(), "--from", "2", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    // Started on another directory the node would begin with nothing.
    let places = format!("-f {} --data-dir {}", cluster.file().display(), base.display());
    assert!(said(&done).contains(&format!("--node 2 {places}\n")), "{}", said(&done));
    assert!(said(&done).contains(&format!("--node I {places} --join")), "{}", said(&done));
    let kept = fs::read_dir(&base).unwrap().flatten();
    let kept: Vec<_> =
        kept.filter(|entry| entry.file_name().to_string_lossy().contains(".before-recovery-")).collect();
    assert_eq!(kept.len(), 1, "the old directory is kept");
    assert!(kept[0].path().join("wal-0000000000000001.log").exists());

    cluster.start_node(2);
    until("it leads alone", LONG, || cluster.status(2).is_some_and(|status| status.role == "leader"));
    let again = cluster.clerk();
    for key in 0..50 {
        assert_eq!(again.get(format!("k{key}")).unwrap().unwrap(), format!("v{key}"));
    }
    again.put("after", "v").unwrap();

    // The old node comes back with its data: this is another cluster.
    fs::rename(&old, cluster.data_dir(1)).unwrap();
    cluster.start_node(1);
    until("the old node is refused", LONG, || cluster.log(1).contains("belongs to cluster \"process-test\""));
    assert!(cluster.status(1).is_none());
    cluster.kill_node(1);

    // With an empty directory it joins as a new one.
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();
    cluster.start_joining(1);
    until("it listens", LONG, || cluster.status(1).is_some());
    member(&cluster, &["add", "1", &cluster.address(1)]);
    member(&cluster, &["promote", "1"]);
    let index = again.put("with two", "v").unwrap();
    cluster.wait_until_applied(1, index);
}

#[test]
fn what_the_file_does_not_name_is_not_passed_over_and_a_file_that_cannot_be_written_is_told_what_to_say() {
    let mut cluster = Cluster::start(3, "");
    let last = cluster.clerk().put("k", "v").unwrap();
    (0..3).for_each(|node| cluster.wait_until_applied(node, last));
    (0..3).for_each(|node| cluster.kill_node(node));
    let whole = fs::read_to_string(cluster.file()).unwrap();
    let without: String = whole.split_inclusive('\n').filter(|line| !line.starts_with("node2")).collect();
    fs::write(cluster.file(), without).unwrap();
    let refused = recover(&cluster, &["--from", "0", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("the file names no node 2: add node2ip"), "{}", said(&refused));
    assert!((0..3).all(|node| cluster.data_dir(node).exists()), "nothing was changed");
    fs::write(cluster.file(), whole).unwrap();

    // Nobody can write a file in the place of this.
    let in_the_way = cluster.file().with_file_name(".test.conf.tmp");
    fs::create_dir(&in_the_way).unwrap();
    let done = recover(&cluster, &["--from", "0", "--yes"]);
    let text = said(&done);
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("kept: ") && text.contains("all else is done"), "{text}");
    let (_, line) = text.split_once("write ").unwrap();
    let line = line.split_whitespace().next().unwrap();
    let whole = fs::read_to_string(cluster.file()).unwrap();
    let others: String = whole.split_inclusive('\n').filter(|line| !line.starts_with("cluster_id")).collect();
    fs::write(cluster.file(), format!("{others}{line}\n")).unwrap();
    cluster.start_node(0);
    until("it leads alone", LONG, || cluster.status(0).is_some_and(|status| status.role == "leader"));
    assert_eq!(cluster.clerk().get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Turns a bit of the record that holds `value`, in each file of the node's log that has it.
fn damage(cluster: &Cluster, node: usize, value: &str) {
    for entry in fs::read_dir(cluster.data_dir(node)).unwrap().flatten() {
        let mut bytes = fs::read(entry.path()).unwrap();
        let place = bytes.windows(value.len()).position(|window| window == value.as_bytes());
        if let Some(place) = place {
            bytes[place] ^= 1;
            fs::write(entry.path(), bytes).unwrap();
        }
    }
}

#[test]
fn of_three_nodes_whose_logs_are_all_damaged_everything_that_was_acknowledged_is_put_together() {
    let mut cluster = Cluster::start(3, "");
    let writer = cluster.clerk();
    let mut last = 0;
    for key in 0..60 {
        last = writer.put(format!("k{key}"), format!("value number {key} of sixty")).unwrap();
    }
    (0..3).for_each(|node| cluster.wait_until_applied(node, last));
    (0..3).for_each(|node| cluster.kill_node(node));
    for node in 0..3 {
        damage(&cluster, node, &format!("value number {} of sixty", 10 + 20 * node));
    }

    let unasked = recover(&cluster, &[]);
    let text = said(&unasked);
    assert!(text.contains("is damaged at byte") && text.contains("--from all --yes"), "{text}");
    let one = recover(&cluster, &["--from", "1", "--yes"]);
    assert!(said(&one).contains("nothing can be recovered from node 1"), "{}", said(&one));

    // A start that sets aside what is damaged changes nothing about it: nobody leads, and nothing is thrown away.
    (0..3).for_each(|node| cluster.start_node(node));
    until("all know that something is missing", LONG, || {
        (0..3).all(|node| cluster.status(node).is_some_and(|status| status.convalescent))
    });
    (0..3).for_each(|node| cluster.kill_node(node));
    let done = recover(&cluster, &["--from", "all", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));

    cluster.start_node(0);
    until("it leads alone", LONG, || cluster.status(0).is_some_and(|status| status.role == "leader"));
    let again = cluster.clerk();
    for key in 0..60 {
        let value = again.get(format!("k{key}")).unwrap();
        assert_eq!(value.unwrap(), format!("value number {key} of sixty"), "k{key}");
    }
}
