//! The members change while the cluster runs: it grows from one node and shrinks again under load, and a node that lost its
//! data does not come back under its number.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, until};

/// Clients that append while the members change.
const WRITERS: usize = 4;

fn member(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).args(["--timeout-ms", "20000", "member"]).args(words);
    run(command, LONG)
}

fn must(cluster: &Cluster, words: &[&str]) -> String {
    let output = member(cluster, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(cluster: &Cluster, words: &[&str]) -> String {
    let output = member(cluster, words);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Adds a node that waits for it, and has it vote.
fn grow(cluster: &mut Cluster) -> usize {
    let node = cluster.join_node();
    until(&format!("node {node} listens"), LONG, || cluster.status(node).is_some());
    let added = must(cluster, &["add", &node.to_string(), &cluster.address(node)]);
    assert!(added.contains("learner"), "{added}");
    must(cluster, &["promote", &node.to_string()]);
    node
}

#[test]
fn a_cluster_grows_from_one_node_to_five_and_shrinks_to_three_under_load() {
    let mut cluster = Cluster::start(1, "");
    let stop = AtomicBool::new(false);
    let clerks: Vec<_> = (0..WRITERS).map(|_| cluster.clerk()).collect();
    thread::scope(|scope| {
        let writers: Vec<_> = clerks
            .iter()
            .enumerate()
            .map(|(number, clerk)| {
                let (stop, key) = (&stop, format!("key{number}"));
                scope.spawn(move || {
                    let mut appended = 0;
                    while !stop.load(Ordering::Relaxed) {
                        clerk.append(key.clone(), "x").unwrap();
                        appended += 1;
                    }
                    appended
                })
            })
            .collect();
        for _ in 0..4 {
            grow(&mut cluster);
        }
        assert_eq!(must(&cluster, &["list"]).matches("voter").count(), 5);
        let first = cluster.leader();
        must(&cluster, &["remove", &first.to_string()]);
        let second = cluster.leader_among(&cluster.others(first));
        must(&cluster, &["remove", &second.to_string()]);
        stop.store(true, Ordering::Relaxed);
        for (number, writer) in writers.into_iter().enumerate() {
            let appended: usize = writer.join().unwrap();
            let value = cluster.clerk().get(format!("key{number}")).unwrap().unwrap();
            assert_eq!(value.len(), appended, "each append is there, once");
            assert!(appended > 0);
        }
        let list = must(&cluster, &["list"]);
        assert_eq!(list.matches("voter").count(), 3, "{list}");
    });
}

#[test]
fn a_node_that_lost_its_data_stays_out_under_its_number_and_joins_under_another() {
    let mut cluster = Cluster::start(1, "");
    let lost = grow(&mut cluster);
    grow(&mut cluster);
    cluster.kill_node(lost);
    std::fs::remove_dir_all(cluster.data_dir(lost)).unwrap();
    cluster.start_joining(lost);
    until("it is found out", LONG, || cluster.log(lost).contains("with other data"));
    let text = refused(&cluster, &["add", &lost.to_string(), &cluster.address(lost)]);
    assert!(text.contains("under a number that was never used"), "{text}");
    must(&cluster, &["remove", &lost.to_string()]);
    // Nor when nobody remembers any more that the number had other data: its directory does.
    let text = refused(&cluster, &["add", &lost.to_string(), &cluster.address(lost)]);
    assert!(text.contains("stays out") && text.contains("under a number that was never used"), "{text}");
    cluster.kill_node(lost);
    let new = grow(&mut cluster);
    assert_eq!(must(&cluster, &["list"]).matches("voter").count(), 3);
    // Also who follows says who takes part.
    for node in cluster.others(lost) {
        until(&format!("node {node} knows {new}"), LONG, || {
            cluster.log(node).contains("the members are 0 2 3, by entry")
        });
    }
}

#[test]
fn the_first_node_that_lost_its_data_begins_no_second_cluster_though_its_file_names_it_alone() {
    let mut cluster = Cluster::start(1, "");
    let first_file = std::fs::read(cluster.file()).unwrap();
    grow(&mut cluster);
    grow(&mut cluster);
    cluster.clerk().put("k", "v").unwrap();
    cluster.kill_node(0);
    cluster.leader_among(&[1, 2]);
    std::fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    std::fs::write(cluster.file(), first_file).unwrap();
    cluster.start_node(0);
    let (status, said) = cluster.wait_for_end(0);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("knows node 0 with other data") && said.contains("clerk member remove 0"),
        "{said}"
    );
}

#[test]
fn what_would_lose_the_quorum_or_makes_no_sense_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(3, "");
    let leader = cluster.leader();
    let [dead, alive] = cluster.others(leader)[..] else { panic!("three nodes") };
    assert!(refused(&cluster, &["add", "7", "nonsense"]).contains("HOST:PORT"));
    assert!(refused(&cluster, &["promote", "7"]).contains("node 7 is not a learner"));
    for (node, elsewhere) in [(leader, alive), (alive, leader)] {
        let text = refused(&cluster, &["add", &node.to_string(), &cluster.address(elsewhere)]);
        assert!(
            text.contains(&format!("the message is for node {node}, this is node {elsewhere}")),
            "{text}"
        );
    }
    assert!(member(&cluster, &["add", &leader.to_string(), &cluster.address(leader)]).status.success());
    let nothing = member(&cluster, &["remove", "7"]);
    assert!(nothing.status.success(), "who asks a second time is not told of a failure");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("node 7 is no member: nothing has changed"));
    assert_eq!(nothing.stdout, member(&cluster, &["list"]).stdout);
    cluster.kill_node(dead);
    until("the leader misses it", LONG, || {
        let status = cluster.status(leader).unwrap();
        status.followers.iter().any(|follower| follower.node == dead as u64 && !follower.active)
    });
    let text = refused(&cluster, &["remove", &alive.to_string()]);
    assert!(text.contains("only 1 of the 2 voters"), "{text}");
    must(&cluster, &["remove", &dead.to_string()]);
}
