//! Partitions, lost leaders, paused leaders, shutdown: who is answered, who is not, and how soon after.

use bytes::Bytes;
use kvserver::state_machine::Command;
use kvserver::{Outcome, Refusal};

use crate::client::{Client, Mailbox, Wish, carry_out, finish};
use crate::cluster::{Cluster, settings};

fn put(value: &str) -> Wish {
    Wish::Put("k".to_owned(), value.to_owned())
}

fn get() -> Wish {
    Wish::Get("k".to_owned())
}

#[test]
fn the_majority_goes_on_the_minority_answers_neither_and_both_finish_soon_after_healing() {
    let mut cluster = Cluster::start(settings(5, 30));
    let leader = cluster.wait_for_leader();
    let mut everywhere = Client::new(0, cluster.ids());
    carry_out(&mut cluster, &mut everywhere, put("before"));
    // The old leader is with the minority.
    let minority = [leader, (leader + 1) % 5];
    let majority: Vec<u64> = cluster.ids().into_iter().filter(|id| !minority.contains(id)).collect();
    cluster.partition(&minority);
    let mut cut_off = [Client::new(0, minority.to_vec()), Client::new(0, minority.to_vec())];
    cut_off[0].begin(put("from the minority"), &cluster);
    cut_off[1].begin(get(), &cluster);
    let mut served = Client::new(0, majority);
    for number in 0..20 {
        carry_out(&mut cluster, &mut served, put(&format!("{number}")));
        let seen = carry_out(&mut cluster, &mut served, get()).value;
        assert_eq!(seen, Some(number.to_string()));
        cut_off.iter_mut().for_each(|client| client.act(&mut cluster));
    }
    let end = cluster.now_us() + 2_000_000;
    while cluster.now_us() < end {
        cluster.step();
        cut_off.iter_mut().for_each(|client| client.act(&mut cluster));
    }
    assert!(cut_off.iter().all(|client| !client.is_idle()), "the minority has answered");
    cluster.heal();
    cut_off.iter_mut().for_each(|client| client.nodes = cluster.ids());
    finish(&mut cluster, &mut cut_off, 3_000_000, "the minority's operations after healing");
    let last = carry_out(&mut cluster, &mut everywhere, get()).value;
    assert_eq!(last.as_deref(), Some("from the minority"));
    let seen = cut_off[1].done[0].value.clone().unwrap();
    assert!(["19", "from the minority"].contains(&seen.as_str()), "a get after healing sees {seen}");
}

#[test]
fn submits_that_are_lost_with_their_leader_end_with_a_typed_answer_and_none_hangs() {
    let mut cluster = Cluster::start(settings(3, 31));
    let leader = cluster.wait_for_leader();
    cluster.partition(&[leader]);
    let intake = cluster.intake(leader).unwrap();
    let writes: Vec<Mailbox> = (0..20).map(|_| Mailbox::default()).collect();
    let reads: Vec<Mailbox> = (0..20).map(|_| Mailbox::default()).collect();
    for (write, read) in writes.iter().zip(&reads) {
        intake.write(Command::OpenSession.encode(), Box::new(write.clone()));
        intake.read(Bytes::from_static(b"k"), Box::new(read.clone()));
    }
    cluster.pass(1_000_000);
    for write in &writes {
        let lost =
            matches!(write.outcome(), Some(Outcome::Refused(Refusal::NotLeader { may_have_run: true, .. })));
        assert!(lost, "{:?}", write.outcome());
    }
    for read in &reads {
        assert!(matches!(read.outcome(), Some(Outcome::Refused(_))), "{:?}", read.outcome());
    }
    assert!(cluster.node(leader).unwrap().parts.waiters.is_empty());
}

/// A write and a read, asked of this node.
fn ask(cluster: &Cluster, id: u64) -> [Mailbox; 2] {
    let intake = cluster.intake(id).unwrap();
    let (write, read) = (Mailbox::default(), Mailbox::default());
    intake.write(Command::OpenSession.encode(), Box::new(write.clone()));
    intake.read(Bytes::from_static(b"k"), Box::new(read.clone()));
    [write, read]
}

#[test]
fn shutdown_ends_every_waiter() {
    for waits_for_the_apply_loop in [false, true] {
        let mut cluster = Cluster::start(settings(3, 32));
        let leader = cluster.wait_for_leader();
        cluster.pass(100_000);
        match waits_for_the_apply_loop {
            true => cluster.applies = false,
            false => cluster.partition(&[leader]),
        }
        let before = cluster.status(leader).unwrap().commit_index;
        let [write, _] = ask(&cluster, leader);
        cluster.pass(20_000);
        // What has committed meanwhile is what this read waits for.
        let [other_write, read] = ask(&cluster, leader);
        cluster.pass(20_000);
        let is_committed = cluster.status(leader).unwrap().commit_index > before;
        assert_eq!(is_committed, waits_for_the_apply_loop);
        let all = vec![write, other_write, read];
        assert!(
            all.iter().all(|waiter| waiter.outcome().is_none()),
            "they wait for a majority, or to be applied"
        );
        let not_taken_yet = ask(&cluster, leader);
        let parts = &cluster.node(leader).unwrap().parts;
        parts.node.stop();
        parts.shut_down();
        let too_late = ask(&cluster, leader);
        parts.intake.end_of_turn();
        for waiter in [all, not_taken_yet.to_vec(), too_late.to_vec()].concat() {
            let is_ended = matches!(waiter.outcome(), Some(Outcome::Refused(Refusal::ShuttingDown { .. })));
            assert!(is_ended, "{:?}", waiter.outcome());
        }
    }
}

#[test]
fn a_leader_that_slept_past_its_reign_serves_no_stale_read() {
    for seed in 33..43 {
        let mut cluster = Cluster::start(settings(3, seed));
        let leader = cluster.wait_for_leader();
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let mut client = Client::new(0, cluster.ids());
        carry_out(&mut cluster, &mut client, put("old"));
        cluster.pause(leader, true);
        // Reads that arrive before, and wait in its sockets while it sleeps.
        let reads: Vec<Mailbox> = (0..5).map(|_| Mailbox::default()).collect();
        let intake = cluster.intake(leader).unwrap();
        let mut served = Client::new(0, others);
        carry_out(&mut cluster, &mut served, put("new"));
        for read in &reads {
            intake.read(Bytes::from_static(b"k"), Box::new(read.clone()));
        }
        if seed % 2 == 0 {
            // It wakes before it hears of the other leader.
            cluster.partition(&[leader]);
        }
        cluster.pause(leader, false);
        cluster.pass(1_000_000);
        for read in &reads {
            match read.outcome() {
                Some(Outcome::Refused(_)) => {}
                Some(Outcome::Found { value, .. }) => assert_eq!(value, "new"),
                other => panic!("{other:?}"),
            }
        }
    }
}
