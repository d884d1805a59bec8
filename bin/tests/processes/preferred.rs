//! A node that should rather lead does so once it has caught up.

use std::fs::OpenOptions;
use std::io::Write;

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

#[test]
fn the_leader_hands_over_to_the_preferred_node_whenever_that_comes_back() {
    let mut cluster = Cluster::prepare(3, "election_min_ms=100\nelection_max_ms=150\n");
    let mut file = OpenOptions::new().append(true).open(cluster.file()).unwrap();
    writeln!(file, "node2priority=1").unwrap();
    [0, 1].into_iter().for_each(|id| cluster.start_node(id));
    // The cluster begins when all its nodes have been seen.
    cluster.start_node(2);
    let clerk = cluster.clerk();
    for round in 0..2 {
        until("the preferred node leads", LONG, || cluster.leader() == 2);
        clerk.put("k", format!("{round}")).unwrap();
        cluster.kill_node(2);
        let other = cluster.leader_among(&[0, 1]);
        clerk.put("k", "while it was away").unwrap();
        cluster.start_node(2);
        until("it takes over again", LONG, || cluster.leader() == 2);
        assert!(cluster.log(other).contains("node 2 should rather lead"), "the log says why");
    }
    assert_eq!(clerk.get("k").unwrap().as_deref(), Some(&b"while it was away"[..]));
}
