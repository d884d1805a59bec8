//! Leadership is handed over: when an operator asks for it, and when a leader is stopped.

use std::process::Output;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::LONG;

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
