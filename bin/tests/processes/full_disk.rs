//! A small file system that fills up: writes are turned away with a sentence, reads are served, nothing that was
//! acknowledged is lost, and all goes on by itself when there is room. As a follower, the node holds nobody up.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clerk::{Clerk, ClerkConfig, ClerkError, Refusal};

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, eventually, until};

/// Room for twelve segments of the log: five are full when writes are turned away, four are the reserve that is whole
/// again later, one may be on its way. The rest is for two snapshots of a few values.
const FILE_SYSTEM_BYTES: u64 = 192 << 20;

/// What the log can take when its reserve is whole is more than this: three and three quarters of its four segments.
const WHOLE_RESERVE_BYTES: u64 = 60 << 20;

const VALUE_BYTES: usize = 512 << 10;

/// So few that a snapshot of all of them always finds its place beside the log.
const KEYS: usize = 8;

/// Takes all the room there is.
fn fill_up(directory: &Path) -> PathBuf {
    let path = directory.join("somebody-elses-data");
    let mut filler = File::create(&path).unwrap();
    for bytes in [1 << 20, 1 << 12] {
        while filler.write_all(&vec![1; bytes]).is_ok() {}
    }
    path
}

fn explain(cluster: &Cluster) -> String {
    let mut command = clerk();
    command.arg("-f").arg(cluster.file()).args(["status", "--explain"]);
    String::from_utf8(run(command, LONG).stdout).unwrap()
}

/// The value that the `count`th write writes.
fn value(count: usize) -> Vec<u8> {
    vec![count as u8; VALUE_BYTES]
}

/// Writes values until one is refused; how many were not, and why that one was.
fn write_until_refused(clerk: &Clerk) -> (usize, ClerkError) {
    let mut count = 0;
    loop {
        match clerk.put(format!("k{}", count % KEYS), value(count)) {
            Ok(_) => count += 1,
            Err(error) => return (count, error),
        }
        assert!(count < 1_000, "a full disk takes writes for ever");
    }
}

/// Every key has the last value that was acknowledged.
fn check_values(clerk: &Clerk, count: usize) {
    for last in count - KEYS..count {
        assert_eq!(clerk.get(format!("k{}", last % KEYS)).unwrap().unwrap(), value(last));
    }
}

#[test]
fn a_full_disk_turns_writes_away_serves_reads_and_takes_writes_again_when_there_is_room() {
    let mut cluster = Cluster::prepare(1, "snapshot_log_bytes=1048576");
    let directory = cluster.start_in_small_file_system(0, FILE_SYSTEM_BYTES);
    cluster.leader();
    let clerk = cluster.clerk();
    clerk.put("before", "v").unwrap();
    until("the reserve is whole", LONG, || {
        cluster.status(0).is_some_and(|status| status.log_room_bytes > WHOLE_RESERVE_BYTES)
    });
    let filler = fill_up(&directory);

    let (count, error) = write_until_refused(&clerk);
    let ClerkError::Refused { reason: Refusal::NoSpace, text, may_have_run: false } = &error else {
        panic!("{error}")
    };
    assert!(text.contains("the disk of ") && text.contains("node0 is full"), "{text}");
    assert!(text.contains(" bytes more and needs "), "{text}");
    assert!(count > 100, "the reserve was of use: {count} values");
    check_values(&clerk, count);
    assert!(explain(&cluster).contains("disk full on node 0"), "{}", explain(&cluster));
    assert!(cluster.log(0).contains("is put off"), "no snapshot was tried: {}", cluster.log(0));

    fs::remove_file(filler).unwrap();
    let patient = ClerkConfig { operation_timeout: Duration::from_secs(30), ..ClerkConfig::default() };
    let patient = Clerk::connect(&cluster.addresses(), patient).unwrap();
    eventually("writes are taken again", LONG, || patient.put("after", "v").ok());
    until("the status is well again", LONG, || cluster.status(0).is_some_and(|status| !status.disk_full));
    check_values(&clerk, count);
}

/// Has a node lead whose disk has room.
fn lead_elsewhere(cluster: &Cluster) {
    if cluster.leader() == 2 {
        let mut command = clerk();
        command.arg("-f").arg(cluster.file()).args(["transfer-leader", "0"]);
        run(command, LONG);
    }
}

#[test]
fn a_follower_with_a_full_disk_holds_nobody_up_and_catches_up_when_it_has_room() {
    let mut cluster = Cluster::prepare(3, "");
    let directory = cluster.start_in_small_file_system(2, FILE_SYSTEM_BYTES);
    (0..2).for_each(|id| cluster.start_node(id));
    let clerk = cluster.clerk();
    // The machine's own disk may stall, and then leadership goes to the small one.
    let put = |count: usize| {
        while let Err(error) = clerk.put(format!("k{count}"), value(count)) {
            assert!(matches!(error, ClerkError::Refused { reason: Refusal::NoSpace, .. }), "{error}");
            lead_elsewhere(&cluster);
        }
    };
    lead_elsewhere(&cluster);
    until("the reserve is whole", LONG, || {
        cluster.status(2).is_some_and(|status| status.log_room_bytes > WHOLE_RESERVE_BYTES)
    });
    let filler = fill_up(&directory);
    let mut count = 0;
    until("the follower is full", LONG, || {
        put(count);
        count += 1;
        explain(&cluster).contains("room: its disk is full")
    });
    for _ in 0..10 {
        put(count);
        count += 1;
    }
    assert!(cluster.status(2).unwrap().disk_full, "it takes part, and says what it lacks");

    fs::remove_file(filler).unwrap();
    let index = clerk.put("after", "v").unwrap();
    cluster.wait_until_applied(2, index);
}
