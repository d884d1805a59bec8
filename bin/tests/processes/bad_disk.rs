//! Disks that stall and disks that fail, under the shipped program: a leader with such a disk does not stay in the others'
//! way, and a node never goes on as if a failed sync had not been one.

use std::time::Instant;

use raft::net::PEER_TIMEOUT;

use crate::support::bad_disk::Order;
use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

#[test]
fn a_leader_whose_disk_stalls_is_replaced_and_says_that_it_was_the_disk() {
    let cluster = Cluster::start_on_bad_disks(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "before").unwrap();
    let leader = cluster.leader();
    cluster.disks().order(leader, Order::Stall);
    // The first of these is what its disk does not finish; the others are enough for a majority.
    clerk.put("k", "meanwhile").unwrap();
    until("the leader steps down", LONG, || cluster.log(leader).contains("disk"));
    let next = cluster.leader_among(&cluster.others(leader));
    let last = clerk.put("k", "after").unwrap();
    assert_ne!(next, leader);
    let said = cluster.log(leader);
    let word = said.lines().find(|line| line.contains("disk")).unwrap();
    assert!(word.contains("follower"), "{word}");
    cluster.disks().order(leader, Order::Work);
    cluster.wait_until_applied(leader, last);
    assert_eq!(clerk.get("k").unwrap().as_deref(), Some(&b"after"[..]));
}

#[test]
fn a_follower_whose_disk_stalls_shows_it_and_its_leader_does_not_fill_its_log_with_it() {
    let cluster = Cluster::start_on_bad_disks(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "before").unwrap();
    let leader = cluster.leader();
    let slow = cluster.others(leader)[0];
    cluster.disks().order(slow, Order::Stall);
    // Many appends stay unanswered for longer than a message may take, while heartbeats are answered.
    let begun = Instant::now();
    let mut last = 0;
    while begun.elapsed() < 2 * PEER_TIMEOUT {
        last = clerk.put("k", "meanwhile").unwrap();
    }
    let status = cluster.status(slow).unwrap();
    assert!(status.fdatasync_under_way_us > 1_000_000, "{status:?}");
    let said = cluster.log(leader);
    assert!(said.matches("does not answer").count() <= 2, "{said}");
    cluster.disks().order(slow, Order::Work);
    cluster.wait_until_applied(slow, last);
}

#[test]
fn a_node_whose_disk_fails_stops_with_a_word_and_serves_again_when_the_disk_does() {
    let mut cluster = Cluster::start_on_bad_disks(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "before").unwrap();
    let leader = cluster.leader();
    cluster.disks().order(leader, Order::Error);
    clerk.put("k", "after").unwrap();
    let (status, said) = cluster.wait_for_end(leader);
    assert_eq!(status.code(), Some(1), "{said}");
    let last =
        said.lines().rfind(|line| line.starts_with("raft-core-run")).unwrap_or_else(|| panic!("{said}"));
    assert!(last.contains("wal-") && last.contains("os error 5"), "{last}");
    cluster.disks().order(leader, Order::Work);
    cluster.start_node(leader);
    let index = clerk.put("k", "in the end").unwrap();
    cluster.wait_until_applied(leader, index);
}
