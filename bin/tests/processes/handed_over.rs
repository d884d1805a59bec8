//! Leadership is handed over: when an operator asks for it, and when a leader is stopped.

use std::process::Output;

use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, until};

fn transfer_leader(cluster: &Cluster, node: usize) -> Output {
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).arg("transfer-leader").arg(node.to_string());
    run(command, LONG)
}

#[test]
fn leadership_goes_to_the_node_that_is_named_and_to_nobody_that_cannot_have_it() {
    let cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "before").unwrap();
    let next = cluster.others(cluster.leader())[0];
    let told = transfer_leader(&cluster, next);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(cluster.leader(), next);
    let reason = cluster.status(next).unwrap().election_reason;
    assert!(reason.contains("handed leadership to it"), "{reason}");
    assert!(transfer_leader(&cluster, next).status.success(), "who leads already need do nothing");
    let refused = transfer_leader(&cluster, 9);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("node 9 is not a member"), "{said}");
    clerk.put("k", "after").unwrap();
}

#[test]
fn an_order_that_cannot_be_carried_out_says_so_at_once_and_keeps_no_write_waiting_for_long() {
    let mut cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "v").unwrap();
    let leader = cluster.leader();
    let [silent, dead] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.kill_node(dead);
    until("the leader misses it", LONG, || !is_answering(&cluster, leader, dead));
    let refused = transfer_leader(&cluster, dead);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains(&format!("node {dead} does not answer the leader; start it")), "{said}");
    cluster.start_node(dead);
    until("it is back", LONG, || is_answering(&cluster, leader, dead));

    // A node that was heard a moment ago is waited for, for one election timeout, however patient who asks is.
    cluster.put_to_sleep(silent);
    let given_up = transfer_leader(&cluster, silent);
    let said = String::from_utf8(given_up.stderr).unwrap();
    assert!(matches!(given_up.status.code(), Some(2 | 3)), "{said}");
    assert!(!said.contains("not done within"), "{said}");
    clerk.put("k", "w").unwrap();
    assert_eq!(cluster.leader(), leader);
    assert!(cluster.log(leader).matches(&format!("hands leadership to node {silent}")).count() <= 1);
    cluster.signal(silent, Signal::CONT);
}

fn is_answering(cluster: &Cluster, leader: usize, node: usize) -> bool {
    let status = cluster.status(leader).unwrap();
    status.followers.iter().any(|follower| follower.node == node as u64 && follower.active)
}

#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    let mut cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "v").unwrap();
    let leader = cluster.leader();
    let others = cluster.others(leader);
    cluster.stop_node(leader);
    let next = cluster.leader_among(&others);
    let reason = cluster.status(next).unwrap().election_reason;
    assert!(reason.contains(&format!("node {leader} handed leadership to it")), "{reason}");
    assert_eq!(clerk.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}
