//! A byte of a node's log is another one, in a part that was acknowledged, or one of each of its snapshots: the node starts,
//! gives no vote and counts for nothing, is repaired by the others, and takes part again.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clerk::{Clerk, ClerkConfig};

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

const KEYS: usize = 100;
const FIRST_SEGMENT: &str = "wal-0000000000000001.log";

fn value(key: usize) -> Vec<u8> {
    vec![key as u8; 1000]
}

fn fill(clerk: &Clerk) {
    for key in 0..KEYS {
        clerk.put(format!("k{key}"), value(key)).unwrap();
    }
}

fn nothing_is_lost(clerk: &Clerk) {
    for key in 0..KEYS {
        assert_eq!(clerk.get(format!("k{key}")).unwrap().unwrap(), value(key));
    }
}

fn starts_like_any_other(cluster: &mut Cluster, node: usize) {
    cluster.kill_node(node);
    cluster.start_node(node);
    until("it starts like any other", LONG, || {
        cluster.status(node).is_some_and(|status| !status.convalescent && status.has_leader)
    });
}

/// Changes a byte of the node's log, well before its end.
fn damage(cluster: &Cluster, node: usize) {
    change_byte(&cluster.data_dir(node).join(FIRST_SEGMENT));
}

fn change_byte(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 20_000).unwrap();
    file.sync_all().unwrap();
}

fn snapshots(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let paths = fs::read_dir(cluster.data_dir(node)).unwrap().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).collect()
}

fn set_aside(cluster: &Cluster, node: usize) -> usize {
    let names = fs::read_dir(cluster.data_dir(node)).unwrap().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-")).count()
}

#[test]
fn a_node_whose_log_is_damaged_does_not_count_until_the_others_have_repaired_it() {
    let mut cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    fill(&clerk);
    let leader = cluster.leader();
    let [damaged, other] = cluster.others(leader)[..] else { panic!("a cluster of three") };
    for node in [damaged, other, leader] {
        cluster.kill_node(node);
    }
    damage(&cluster, damaged);

    // One sound node and a convalescent are no majority, whoever of them has the longer log.
    cluster.start_node(damaged);
    cluster.start_node(other);
    until("the node says what it is", LONG, || {
        cluster.status(damaged).is_some_and(|status| status.convalescent)
    });
    assert!(cluster.log(damaged).contains("neither votes nor counts"), "{}", cluster.log(damaged));
    assert_eq!(set_aside(&cluster, damaged), 1);
    let config = ClerkConfig { operation_timeout: Duration::from_millis(1500), ..ClerkConfig::default() };
    let impatient = Clerk::connect(&cluster.addresses(), config).unwrap();
    assert!(impatient.put("k", "with one of three").is_err());
    assert!(cluster.status(damaged).is_some_and(|status| status.convalescent && status.role == "follower"));

    cluster.start_node(leader);
    until("the log is repaired", LONG, || cluster.status(damaged).is_some_and(|status| !status.convalescent));
    let index = clerk.put("after", "v").unwrap();
    cluster.wait_until_applied(damaged, index);
    until("nothing is left aside", LONG, || set_aside(&cluster, damaged) == 0);

    // It counts again: with it alone the last leader serves everything.
    cluster.kill_node(other);
    clerk.put("k", "with the repaired one").unwrap();
    nothing_is_lost(&clerk);
    starts_like_any_other(&mut cluster, damaged);
}

#[test]
fn a_node_whose_snapshots_are_all_damaged_is_sent_one_by_the_others() {
    let mut cluster = Cluster::start(3, "snapshot_log_bytes=64KiB\n");
    let clerk = cluster.clerk();
    fill(&clerk);
    let leader = cluster.leader();
    let [damaged, other] = cluster.others(leader)[..] else { panic!("a cluster of three") };
    until("the log does not reach back to its beginning", LONG, || {
        clerk.put("large", vec![7; 1 << 20]).unwrap();
        !cluster.data_dir(damaged).join(FIRST_SEGMENT).exists() && snapshots(&cluster, damaged).len() == 2
    });
    cluster.kill_node(damaged);
    snapshots(&cluster, damaged).iter().for_each(|path| change_byte(path));

    cluster.start_node(damaged);
    until("the state is repaired", LONG, || {
        cluster.status(damaged).is_some_and(|status| !status.convalescent && status.has_leader)
    });
    assert!(cluster.log(damaged).contains("neither votes nor counts"), "{}", cluster.log(damaged));
    until("nothing is left aside", LONG, || set_aside(&cluster, damaged) == 0);
    cluster.kill_node(other);
    let index = clerk.put("k", "with the repaired one").unwrap();
    cluster.wait_until_applied(damaged, index);
    nothing_is_lost(&clerk);
    starts_like_any_other(&mut cluster, damaged);
}

#[test]
fn the_log_of_a_node_alone_is_not_repaired_but_refused() {
    let mut cluster = Cluster::start(1, "");
    let clerk = cluster.clerk();
    fill(&clerk);
    cluster.kill_node(0);
    damage(&cluster, 0);
    cluster.start_node(0);
    until("it says what is damaged", LONG, || cluster.log(0).contains("is damaged at byte"));
    assert!(cluster.status(0).is_none());
}
