//! A node whose data directory is gone has forgotten what it voted for and what it acknowledged. It must not count towards any
//! majority, and says so; with its directory back it takes part again.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use clerk::{Clerk, ClerkConfig};

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

/// A clerk that gives up soon.
fn impatient_clerk(cluster: &Cluster) -> Clerk {
    let config = ClerkConfig { operation_timeout: Duration::from_millis(1500), ..ClerkConfig::default() };
    Clerk::connect(&cluster.addresses(), config).unwrap()
}

#[test]
fn a_node_that_lost_its_directory_counts_for_nothing_until_it_is_back() {
    let mut cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "v").unwrap();
    let leader = cluster.leader();
    let [robbed, other] = cluster.others(leader)[..] else { panic!("a cluster of three") };
    let directory = cluster.data_dir(robbed);
    let aside = directory.with_extension("aside");

    cluster.kill_node(robbed);
    fs::rename(&directory, &aside).unwrap();
    cluster.start_node(robbed);
    until("the node says that it does not vote", LONG, || {
        cluster.log(robbed).contains("this node does not vote")
    });
    until("the node is seen to wait", LONG, || {
        cluster.status(robbed).is_some_and(|status| status.role == "waiting")
    });
    clerk.put("k", "with two of three").unwrap();

    // One node and one that counts for nothing are no majority.
    cluster.kill_node(other);
    assert!(impatient_clerk(&cluster).put("k", "with one of three").is_err());
    cluster.start_node(other);
    cluster.leader_among(&[leader, other]);
    clerk.put("k", "with two again").unwrap();

    cluster.kill_node(robbed);
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    cluster.start_node(robbed);
    let index = clerk.put("k", "with all").unwrap();
    cluster.wait_until_applied(robbed, index);
    assert_eq!(clerk.get("k").unwrap(), Some(Bytes::from_static(b"with all")));
}

#[test]
fn a_new_cluster_begins_when_every_listed_node_has_been_seen() {
    let mut cluster = Cluster::prepare(3, "");
    cluster.start_node(0);
    cluster.start_node(1);
    until("the nodes say whom they wait for", LONG, || {
        (0..2).all(|id| cluster.log(id).contains("waiting for node 2"))
    });
    assert!(impatient_clerk(&cluster).put("k", "v").is_err(), "two of three new nodes made a cluster");
    cluster.start_node(2);
    cluster.leader();
    cluster.clerk().put("k", "v").unwrap();
}
