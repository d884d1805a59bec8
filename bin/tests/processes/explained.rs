//! `clerk status --explain` on a running cluster: what it says is what was done to the cluster.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, eventually};

fn explain(cluster: &Cluster, more: &[&str]) -> String {
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).args(["status", "--explain"]).args(more);
    String::from_utf8(run(command, LONG).stdout).unwrap()
}

/// What one node says of itself.
fn explained(cluster: &Cluster, node: usize) -> Option<Value> {
    let rows: Vec<Value> = serde_json::from_str(&explain(cluster, &["--json"])).ok()?;
    rows.into_iter().find(|row| row["node"] == node && !row["pid"].is_null())
}

/// What the leader says of one follower.
fn follower(cluster: &Cluster, leader: usize, node: usize) -> Option<Value> {
    let followers = explained(cluster, leader)?["followers"].take();
    followers.as_array()?.iter().find(|follower| follower["node"] == node).cloned()
}

/// Why the node began its last election, as its log has it.
fn last_election_in_log(cluster: &Cluster, node: usize) -> Option<String> {
    let log = cluster.log(node);
    let begun = log.lines().rev().find(|line| line.contains(": pre-candidate in term "))?;
    begun.split_once("no leader known: ").map(|(_, reason)| reason.to_owned())
}

#[test]
fn a_killed_leaders_successor_says_why_it_was_elected_and_that_it_waits_for_a_follower_that_sleeps() {
    let mut cluster = Cluster::start(3, "");
    let dead = cluster.leader();
    cluster.kill_node(dead);
    let leader = cluster.leader_among(&cluster.others(dead));
    let row = eventually("the new leader explains itself", LONG, || explained(&cluster, leader));
    assert_eq!(row["role"], "leader");
    assert_eq!(row["reason"], "a majority voted for it");
    // As a rule that the process is gone; but a leader may die before it is watched, and then the timeout notices.
    assert_eq!(row["election_reason"], *last_election_in_log(&cluster, leader).unwrap());
    assert!(row["fdatasync_p50_us"].as_u64() <= row["fdatasync_max_us"].as_u64(), "{row}");

    cluster.start_node(dead);
    eventually("the restarted node has all", LONG, || {
        follower(&cluster, leader, dead).filter(|follower| follower["waits_for"] == "nothing")
    });
    cluster.put_to_sleep(dead);
    eventually("the sleeper is waited for", LONG, || {
        let follower = follower(&cluster, leader, dead)?;
        (follower["active"] == false && follower["waits_for"].as_str()?.contains("sign of life"))
            .then_some(())
    });
    let text = explain(&cluster, &[]);
    assert!(text.contains("its last election began because") && text.contains("sign of life"), "{text}");
    cluster.signal(dead, Signal::CONT);
}
