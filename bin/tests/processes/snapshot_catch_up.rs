//! A follower that was away while the log was compacted gets what it missed as a snapshot, and is as good as the others.

use bytes::Bytes;
use rustix::process::Signal;

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

/// The smallest bound that the configuration takes, so that little data makes many snapshots.
const SETTINGS: &str = "snapshot_log_bytes=64KiB\n";
const KEYS: usize = 64;
const VALUE_BYTES: usize = 64 << 10;

fn value(round: usize, key: usize) -> Bytes {
    let text = format!("round {round} of key {key} ");
    let repeats = VALUE_BYTES / text.len() + 1;
    Bytes::from(text.repeat(repeats)).slice(..VALUE_BYTES)
}

/// Writes every key anew; the index of the last write.
fn write_round(clerk: &clerk::Clerk, round: usize) -> u64 {
    (0..KEYS).map(|key| clerk.put(format!("key{key}"), value(round, key)).unwrap()).max().unwrap_or_default()
}

/// Makes `wanted` the leader by stopping whoever else leads, for as long as it takes to be succeeded.
fn let_lead(cluster: &Cluster, wanted: usize) {
    for _ in 0..40 {
        let leader = cluster.leader();
        if leader == wanted {
            return;
        }
        cluster.put_to_sleep(leader);
        cluster.leader_among(&cluster.others(leader));
        cluster.signal(leader, Signal::CONT);
        until("the woken node follows", LONG, || {
            cluster.status(leader).is_some_and(|status| status.role == "follower" && status.has_leader)
        });
    }
    panic!("node {wanted} never came to lead");
}

#[test]
fn a_follower_that_missed_the_log_catches_up_by_snapshot_and_can_lead() {
    let mut cluster = Cluster::start(3, SETTINGS);
    let clerk = cluster.clerk();
    clerk.put("deleted", "early").unwrap();
    let seen = write_round(&clerk, 0);
    let away = cluster.others(cluster.leader())[0];
    cluster.wait_until_applied(away, seen);
    cluster.kill_node(away);

    clerk.delete("deleted").unwrap();
    let mut index = seen;
    let mut rounds = 0;
    until("the others compact the log beyond what the absent node has", LONG, || {
        rounds += 1;
        index = write_round(&clerk, rounds);
        let compacted = |id: usize| cluster.status(id).is_some_and(|status| status.first > seen + 1);
        cluster.others(away).into_iter().all(compacted)
    });

    cluster.start_node(away);
    cluster.wait_until_applied(away, index);
    let came = cluster.log(away).contains("the state is now that of the snapshot at index");
    assert!(came, "it caught up without a snapshot: {:?}", cluster.status(away));

    // What it serves is what the others had: it leads, so it answers the reads.
    let_lead(&cluster, away);
    for key in 0..KEYS {
        assert_eq!(clerk.get(format!("key{key}")).unwrap(), Some(value(rounds, key)), "key{key}");
    }
    assert_eq!(clerk.get("deleted").unwrap(), None, "a deleted key came back with the snapshot");

    // And what the snapshot brought is on its disk.
    (0..cluster.size()).for_each(|id| cluster.kill_node(id));
    (0..cluster.size()).for_each(|id| cluster.start_node(id));
    let_lead(&cluster, away);
    for key in 0..KEYS {
        assert_eq!(
            clerk.get(format!("key{key}")).unwrap(),
            Some(value(rounds, key)),
            "key{key} after a restart"
        );
    }
}
