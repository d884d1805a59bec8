//! Clients that append and read together while the network and the nodes do their worst: appends are there, once, in each
//! client's order, and the whole history is linearizable.

use std::ops::Range;

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::client::{Client, Wish, carry_out, finish};
use crate::cluster::{Cluster, settings};
use crate::history;

/// What goes wrong in a run.
#[derive(Clone, Copy, Default)]
struct Trouble {
    nodes: u64,
    clients: usize,
    /// A tenth of the requests and of the replies is lost, and messages take up to 26 ms.
    unreliable: bool,
    /// Every second the cluster is cut in two anew.
    partitions: bool,
    /// Every two seconds all servers lose their power and start again.
    restarts: bool,
    seconds: u64,
}

/// How long an operation may take when everything is well again, elections included.
const FINISH_US: u64 = 10_000_000;

/// After all servers have lost their power the first is up again after so long, and each other one so much later.
const OUTAGE_US: u64 = 100_000;
const STAGGER_US: u64 = 20_000;

/// Between two operations a client thinks, up to this long from the beginning of the first.
const THINK_US_MAX: u64 = 20_000;

/// Who is down starts again, one after the other from the beginning of `from_us` on.
fn come_back(cluster: &mut Cluster, from_us: u64) {
    for id in cluster.ids() {
        if cluster.node(id).is_none() && cluster.now_us() >= from_us + id * STAGGER_US {
            cluster.restart(id);
        }
    }
}

/// Lets clients work through the trouble, heals everything, and judges. How many operations there were.
fn run(trouble: Trouble, seed: u64) -> usize {
    let Trouble { nodes, clients, unreliable, partitions, restarts, seconds } = trouble;
    let mut cluster = Cluster::start(settings(nodes, seed));
    if unreliable {
        (cluster.loss_permille, cluster.delay_us) = (100, (0, 26_000));
    }
    let mut clients: Vec<Client> = (0..clients).map(|number| Client::new(number, cluster.ids())).collect();
    let mut appended = vec![0; clients.len()];
    let mut thinks_until = vec![0; clients.len()];
    let mut second = 0;
    while cluster.now_us() < seconds * 1_000_000 {
        cluster.step();
        if cluster.now_us() / 1_000_000 > second {
            second += 1;
            if partitions {
                let mut ids = cluster.ids();
                ids.shuffle(&mut cluster.random);
                ids.truncate(cluster.random.random_range(0..ids.len()));
                cluster.partition(&ids);
            }
            if restarts && second % 2 == 0 {
                cluster.ids().into_iter().for_each(|id| cluster.crash(id));
            }
        }
        come_back(&mut cluster, second * 1_000_000 + OUTAGE_US);
        for (number, client) in clients.iter_mut().enumerate() {
            if client.is_idle() && cluster.now_us() >= thinks_until[number] {
                thinks_until[number] = cluster.now_us() + cluster.random.random_range(0..THINK_US_MAX);
                let wish = if cluster.random.random_range(0..2) == 0 {
                    appended[number] += 1;
                    Wish::Append("k".to_owned(), format!("{number}.{};", appended[number]))
                } else {
                    Wish::Get("k".to_owned())
                };
                client.begin(wish, &cluster);
            }
            client.act(&mut cluster);
        }
    }
    come_back(&mut cluster, 0);
    cluster.heal();
    (cluster.loss_permille, cluster.delay_us) = (0, (100, 400));
    finish(&mut cluster, &mut clients, FINISH_US, "all clients' last operations");
    let mut reader = Client::new(0, cluster.ids());
    let last = carry_out(&mut cluster, &mut reader, Wish::Get("k".to_owned())).value.unwrap_or_default();
    let pieces = last.split_inclusive(';').count();
    assert_eq!(pieces, appended.iter().sum::<usize>(), "each append is there, once");
    for (number, count) in appended.iter().enumerate() {
        let own = last.split_inclusive(';').filter(|piece| piece.starts_with(&format!("{number}.")));
        let expected = (1..=*count).map(|place| format!("{number}.{place};"));
        assert!(own.eq(expected), "client {number}'s appends are out of order");
    }
    history::check(&clients, &last)
}

/// The same trouble with each of these seeds; each run gets through at least so many operations.
fn run_each(seeds: Range<u64>, trouble: Trouble, operations_min: usize) {
    for seed in seeds {
        let operations = run(trouble, seed);
        assert!(operations > operations_min, "seed {seed}: {operations} operations");
    }
}

#[test]
fn one_client_sees_its_own_appends_in_order() {
    run_each(1..2, Trouble { nodes: 3, clients: 1, seconds: 3, ..Trouble::default() }, 150);
}

#[test]
fn many_clients_share_a_linearizable_key() {
    run_each(2..3, Trouble { nodes: 5, clients: 10, seconds: 1, ..Trouble::default() }, 500);
}

#[test]
fn an_unreliable_network_loses_no_append_and_repeats_none() {
    let trouble = Trouble { nodes: 3, clients: 5, unreliable: true, seconds: 8, ..Trouble::default() };
    run_each(3..6, trouble, 100);
}

#[test]
fn partitions_that_change_every_second_lose_no_append_and_repeat_none() {
    let trouble = Trouble { nodes: 5, clients: 5, partitions: true, seconds: 8, ..Trouble::default() };
    run_each(6..9, trouble, 300);
}

#[test]
fn restarts_of_all_servers_lose_no_append_and_repeat_none() {
    let trouble = Trouble { nodes: 3, clients: 5, restarts: true, seconds: 8, ..Trouble::default() };
    run_each(9..12, trouble, 300);
}

#[test]
fn fifteen_clients_on_seven_servers_survive_all_of_it_at_once() {
    let (unreliable, partitions, restarts) = (true, true, true);
    run_each(12..14, Trouble { nodes: 7, clients: 15, unreliable, partitions, restarts, seconds: 12 }, 100);
}

#[test]
fn ten_appends_of_each_of_five_clients_are_all_there_once() {
    let mut cluster = Cluster::start(settings(3, 14));
    let mut clients: Vec<Client> = (0..5).map(|number| Client::new(number, cluster.ids())).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.begin(Wish::Append("k".to_owned(), format!("{number}.{round};")), &cluster);
        }
        finish(&mut cluster, &mut clients, FINISH_US, "a round of appends");
    }
    let mut reader = Client::new(0, cluster.ids());
    let last = carry_out(&mut cluster, &mut reader, Wish::Get("k".to_owned())).value.unwrap();
    assert_eq!(history::check(&clients, &last), 50);
    assert_eq!(last.split_inclusive(';').count(), 50);
}
