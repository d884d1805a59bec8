//! `kill -9` of the leader, again and again under load, and of everybody at the end: nothing acknowledged is lost, nothing
//! runs twice, nobody reads the past.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use clerk::Clerk;

use crate::support::cluster::Cluster;
use crate::support::history::History;
use crate::support::linearizability;
use crate::support::wait::{LONG, until};

const CLERKS: usize = 8;
const ROUNDS: usize = 10;
/// Operations that must succeed between two kills, so that every leader has something to lose.
const OPERATIONS_PER_ROUND: u64 = 40;
/// Few keys, so that the clerks meet on each.
const REGISTERS: usize = 3;

/// What one clerk appended to the shared list: the token, and whether it was acknowledged.
struct Appended {
    token: String,
    is_certain: bool,
}

struct Load<'a> {
    history: &'a History,
    done: &'a AtomicU64,
    is_over: &'a AtomicBool,
}

/// One clerk's work until the load is over: puts and gets on shared registers, appends to a shared list.
fn work(number: usize, clerk: &Clerk, load: &Load<'_>) -> Vec<Appended> {
    let mut appended = Vec::new();
    for turn in 0_usize.. {
        if load.is_over.load(Ordering::Acquire) {
            break;
        }
        let register = format!("register{}", (number + turn) % REGISTERS);
        let token = format!("[{number}.{turn}]");
        let succeeded = match turn % 4 {
            0 => load.history.put(clerk, &register, Bytes::from(token)).is_ok(),
            1 => {
                let result = load.history.append(clerk, "list", Bytes::from(token.clone()));
                let is_certain = result.is_ok();
                if is_certain || result.is_err_and(|error| error.may_have_run()) {
                    appended.push(Appended { token, is_certain });
                }
                is_certain
            }
            2 => load.history.append(clerk, &register, Bytes::from(token)).is_ok(),
            _ => load.history.get(clerk, &register).is_some(),
        };
        load.done.fetch_add(u64::from(succeeded), Ordering::AcqRel);
    }
    appended
}

/// Kills the leader `ROUNDS` times while operations go on, each time starting it again.
fn kill_leaders(cluster: &mut Cluster, done: &AtomicU64) {
    for round in 0..ROUNDS {
        let before = done.load(Ordering::Acquire);
        let what = format!("{OPERATIONS_PER_ROUND} operations in round {round}");
        until(&what, LONG, || done.load(Ordering::Acquire) >= before + OPERATIONS_PER_ROUND);
        let leader = cluster.leader();
        cluster.kill_node(leader);
        let next = cluster.leader_among(&cluster.others(leader));
        assert_ne!(next, leader);
        cluster.start_node(leader);
    }
}

fn check_list(list: &str, appended: &[Vec<Appended>]) {
    for of_one_clerk in appended {
        let mut last = 0;
        for Appended { token, is_certain } in of_one_clerk {
            let count = list.matches(token.as_str()).count();
            let expected = if *is_certain { 1..=1 } else { 0..=1 };
            assert!(expected.contains(&count), "{token} is there {count} times, certain: {is_certain}");
            if let Some(position) = list.find(token.as_str()) {
                assert!(position >= last, "{token} stands before an earlier append of the same clerk");
                last = position;
            }
        }
    }
    let tokens = list.matches('[').count();
    let asked: usize = appended.iter().map(Vec::len).sum();
    assert!(tokens <= asked, "{tokens} appends are there, {asked} were asked for");
}

#[test]
fn ten_dead_leaders_and_a_restart_of_all_lose_nothing_and_repeat_nothing() {
    let mut cluster = Cluster::start(3, "");
    let history = History::start();
    let (done, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let load = Load { history: &history, done: &done, is_over: &is_over };
    let clerks: Vec<Clerk> = (0..CLERKS).map(|_| cluster.clerk()).collect();
    let appended: Vec<Vec<Appended>> = thread::scope(|scope| {
        let load = &load;
        let workers: Vec<_> = clerks
            .iter()
            .enumerate()
            .map(|(number, clerk)| scope.spawn(move || work(number, clerk, load)))
            .collect();
        let _stop = StopOnDrop(&is_over);
        kill_leaders(&mut cluster, &done);
        (0..cluster.size()).for_each(|id| cluster.kill_node(id));
        (0..cluster.size()).for_each(|id| cluster.start_node(id));
        cluster.leader();
        let after = done.load(Ordering::Acquire) + OPERATIONS_PER_ROUND;
        until("operations after the restart of all", LONG, || done.load(Ordering::Acquire) >= after);
        is_over.store(true, Ordering::Release);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });

    let last_look = cluster.clerk();
    (0..REGISTERS).for_each(|register| _ = history.get(&last_look, &format!("register{register}")));
    let list = history.get(&last_look, "list").expect("the list was appended to");
    check_list(std::str::from_utf8(&list).unwrap(), &appended);
    let operations = history.operations();
    assert!(operations.len() as u64 >= (ROUNDS as u64 + 1) * OPERATIONS_PER_ROUND);
    assert_eq!(linearizability::check(&operations), Ok(()));
}

/// Ends the load also when the test fails, or its threads would never be joined.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
