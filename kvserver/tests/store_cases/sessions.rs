//! Exactly once: a request that is sent again after its leader is gone, after restarts and after snapshots, runs once and
//! gets the first answer.

use bytes::Bytes;
use kvserver::Outcome;
use kvserver::state_machine::{Command, Reply, Stamp};

use crate::client::{Client, Mailbox, Wish, carry_out};
use crate::cluster::{Cluster, settings};

/// Sends a command to whoever leads until it is applied.
fn insist(cluster: &mut Cluster, command: &Bytes) -> Reply {
    for _ in 0..200 {
        let leader = cluster.wait_for_leader();
        let mailbox = Mailbox::default();
        cluster.intake(leader).unwrap().write(command.clone(), Box::new(mailbox.clone()));
        cluster.pass(20_000);
        if let Some(Outcome::Applied(reply)) = mailbox.outcome() {
            return reply;
        }
    }
    panic!("nobody applies a command");
}

fn open_session(cluster: &mut Cluster) -> u64 {
    match insist(cluster, &Command::OpenSession.encode()) {
        Reply::SessionOpened { client_id } => client_id,
        other => panic!("{other:?}"),
    }
}

fn value(cluster: &mut Cluster) -> String {
    let mut reader = Client::new(0, cluster.ids());
    carry_out(cluster, &mut reader, Wish::Get("k".to_owned())).value.unwrap()
}

/// Many writes of other clients, so that every node takes snapshots.
fn fill(cluster: &mut Cluster) {
    let mut other = Client::new(0, cluster.ids());
    for number in 0..80 {
        carry_out(cluster, &mut other, Wish::Put(format!("other {}", number % 5), "x".repeat(150)));
    }
}

#[test]
fn a_request_repeated_after_a_change_of_leader_a_restart_and_a_snapshot_runs_once() {
    let mut cluster = Cluster::start(settings(3, 50));
    let client_id = open_session(&mut cluster);
    let stamp = Stamp { client_id, seq: 1, acked_below: 1 };
    let append = Command::Append { stamp, key: b"k", value: b"once" }.encode();
    let first = insist(&mut cluster, &append);

    let leader = cluster.wait_for_leader();
    cluster.crash(leader);
    assert_eq!(insist(&mut cluster, &append), first, "after a change of leader");
    cluster.restart(leader);

    cluster.ids().into_iter().for_each(|id| cluster.crash(id));
    cluster.ids().into_iter().for_each(|id| cluster.restart(id));
    assert_eq!(insist(&mut cluster, &append), first, "after a restart of all");

    fill(&mut cluster);
    let snapshots = cluster.ids().into_iter().map(|id| cluster.status(id).unwrap().snapshot_index);
    assert!(snapshots.min().unwrap().0 > 0, "everybody has a snapshot");
    cluster.ids().into_iter().for_each(|id| cluster.crash(id));
    cluster.ids().into_iter().for_each(|id| cluster.restart(id));
    assert_eq!(insist(&mut cluster, &append), first, "after a snapshot and a restart from it");
    assert_eq!(value(&mut cluster), "once");
}

#[test]
fn a_request_whose_leader_died_before_answering_runs_once_wherever_it_got_to() {
    for seed in 51..71 {
        let mut cluster = Cluster::start(settings(3, seed));
        let client_id = open_session(&mut cluster);
        let stamp = Stamp { client_id, seq: 1, acked_below: 1 };
        let append = Command::Append { stamp, key: b"k", value: b"once" }.encode();
        let leader = cluster.wait_for_leader();
        let mailbox = Mailbox::default();
        cluster.intake(leader).unwrap().write(append.clone(), Box::new(mailbox.clone()));
        // It dies after another number of steps in each round: before, while and after it replicates.
        (0..seed - 51).for_each(|_| cluster.step());
        cluster.crash(leader);
        insist(&mut cluster, &append);
        cluster.restart(leader);
        cluster.pass(500_000);
        assert_eq!(value(&mut cluster), "once", "seed {seed}");
    }
}
