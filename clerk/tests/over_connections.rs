//! The library over real connections, against fake nodes in this process: what the machine's tests cannot see is whether
//! the shell carries its actions out, gives errors their right names, and ends everything it began.

mod fake;

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use clerk::{Clerk, ClerkConfig, ClerkError, Operation, Refusal};
use fake::{FakeCluster, quick};
use rpc::{Reactor, ReactorConfig};

/// Far longer than anything here takes; a wait this long is a hang.
const HANG: Duration = Duration::from_secs(30);

fn put(key: &str, value: &str) -> Operation {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Operation::Put { key, value }
}

#[test]
fn the_blocking_operations_do_what_they_say_with_any_bytes() {
    let cluster = FakeCluster::start(1);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    assert_eq!(clerk.get("x").unwrap(), None);
    assert!(!clerk.delete("x").unwrap());
    assert!(clerk.put("x", "").unwrap() < clerk.put("x", "1").unwrap());
    clerk.append("x", "2").unwrap();
    clerk.append("new", "begun").unwrap();
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"12"[..]));
    assert_eq!(clerk.get("new").unwrap().as_deref(), Some(&b"begun"[..]));
    assert!(clerk.delete("x").unwrap());
    assert_eq!(clerk.get("x").unwrap(), None);
    let large: Vec<u8> = (0..1 << 20).map(|place: u32| (place % 251) as u8).collect();
    clerk.put(&b"\0\xff key"[..], large.clone()).unwrap();
    assert_eq!(clerk.get(&b"\0\xff key"[..]).unwrap().as_deref(), Some(&large[..]));
    assert_eq!(cluster.shared.lock().unwrap().sessions, 1);
}

#[test]
fn hints_lead_to_the_leader_and_the_clerk_stays_there() {
    let cluster = FakeCluster::start(3);
    cluster.set(|shared| shared.leader = 2);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    for _ in 0..10 {
        clerk.put("x", "1").unwrap();
    }
    assert_eq!(cluster.shared.lock().unwrap().calls, [1, 0, 11]);
    // One endpoint is enough: the hint names the rest.
    let one = Clerk::connect(&cluster.addresses[..1], quick()).unwrap();
    assert_eq!(one.get("x").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn without_hints_the_leader_is_found_by_asking_around() {
    let cluster = FakeCluster::start(3);
    cluster.set(|shared| {
        shared.leader = 2;
        shared.faults.no_hints = true;
    });
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    clerk.put("x", "1").unwrap();
    cluster.set(|shared| shared.leader = 1);
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_write_whose_reply_is_lost_runs_once() {
    let cluster = FakeCluster::start(3);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    for _ in 0..5 {
        cluster.set(|shared| shared.faults.lost_replies = 1);
        clerk.append("x", "a").unwrap();
    }
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"aaaaa"[..]));
}

#[test]
fn a_silent_node_is_given_up_for_another_attempt() {
    let cluster = FakeCluster::start(2);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    clerk.append("x", "a").unwrap();
    cluster.set(|shared| shared.faults.silences = 1);
    clerk.append("x", "b").unwrap();
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"ab"[..]));
}

#[test]
fn a_dead_leader_is_left_for_the_next_one() {
    let cluster = FakeCluster::start(3);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    clerk.append("x", "a").unwrap();
    cluster.set(|shared| shared.leader = 1);
    cluster.kill(0);
    clerk.append("x", "b").unwrap();
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"ab"[..]));
}

#[test]
fn busy_is_waited_for_and_a_refusal_is_told() {
    let cluster = FakeCluster::start(1);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    cluster.set(|shared| shared.faults.busy = 3);
    assert_eq!(clerk.get("x").unwrap(), None);
    cluster.set(|shared| shared.faults.invalid = 1);
    let error = clerk.get("x").unwrap_err();
    assert!(matches!(error, ClerkError::Refused { reason: Refusal::Invalid, .. }), "{error}");
    assert!(error.to_string().ends_with("the key is empty"), "{error}");
}

#[test]
fn an_expired_session_is_replaced_unless_the_write_may_have_run() {
    let cluster = FakeCluster::start(1);
    let clerk = Clerk::connect(&cluster.addresses, quick()).unwrap();
    clerk.append("x", "a").unwrap();
    cluster.set(|shared| shared.expired = 1);
    clerk.append("x", "b").unwrap();
    // The first attempt is met with silence, the second with a server that has forgotten the session: nobody can say.
    cluster.set(|shared| {
        shared.faults.silences = 1;
        shared.expired = 2;
    });
    assert_eq!(clerk.append("x", "unknown").unwrap_err(), ClerkError::SessionExpired);
    clerk.append("x", "c").unwrap();
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"abc"[..]));
    assert_eq!(cluster.shared.lock().unwrap().sessions, 3);
}

#[test]
fn many_submitted_at_once_end_once_each_on_one_reactor_shared_by_clerks() {
    let cluster = FakeCluster::start(3);
    cluster.set(|shared| shared.leader = 1);
    let reactor = Reactor::start("many-clerks", ReactorConfig::default()).unwrap();
    let clerks: Vec<Clerk> =
        (0..8).map(|_| Clerk::with_reactor(&reactor, &cluster.addresses, quick()).unwrap()).collect();
    let (sender, receiver) = mpsc::channel();
    for number in 0..800 {
        let sender = sender.clone();
        let key = format!("key {number}");
        clerks[number % 8]
            .submit(put(&key, "value"), move |result| sender.send((number, result.is_ok())).unwrap());
        if number == 400 {
            cluster.set(|shared| shared.leader = 2);
        }
    }
    let ended: BTreeSet<(usize, bool)> = (0..800).map(|_| receiver.recv_timeout(HANG).unwrap()).collect();
    assert_eq!(ended, (0..800).map(|number| (number, true)).collect());
    let shared = cluster.shared.lock().unwrap();
    assert_eq!((shared.data.len(), shared.executed.len()), (800, 800));
    drop(shared);
    drop(clerks);
    reactor.stop(Duration::from_secs(1));
}

#[test]
fn a_completion_may_submit_the_next_operation() {
    fn go_on(clerk: &Arc<Clerk>, left: u32, done: mpsc::Sender<()>) {
        let next = Arc::clone(clerk);
        clerk.submit(put("x", &left.to_string()), move |result| {
            result.unwrap();
            if left == 0 {
                done.send(()).unwrap();
            } else {
                go_on(&next, left - 1, done);
            }
        });
    }
    let cluster = FakeCluster::start(1);
    let clerk = Arc::new(Clerk::connect(&cluster.addresses, quick()).unwrap());
    let (sender, receiver) = mpsc::channel();
    go_on(&clerk, 500, sender);
    receiver.recv_timeout(HANG).unwrap();
    assert_eq!(clerk.get("x").unwrap().as_deref(), Some(&b"0"[..]));
}

#[test]
fn with_nobody_there_the_deadline_ends_it_and_names_the_nodes() {
    let cluster = FakeCluster::start(1);
    cluster.kill(0);
    let config = ClerkConfig { operation_timeout: Duration::from_millis(200), ..quick() };
    let clerk = Clerk::connect(&cluster.addresses, config).unwrap();
    let error = clerk.put("x", "1").unwrap_err();
    assert!(matches!(error, ClerkError::Unavailable { .. }), "{error}");
    let expected = format!("no node of {} answered within 200 ms: ", cluster.addresses[0]);
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
fn a_silent_cluster_ends_in_a_timeout_that_says_whether_the_write_may_have_run() {
    let cluster = FakeCluster::start(1);
    let config = ClerkConfig { operation_timeout: Duration::from_millis(300), ..quick() };
    let clerk = Clerk::connect(&cluster.addresses, config).unwrap();
    clerk.put("x", "1").unwrap();
    cluster.set(|shared| shared.faults.silences = 1000);
    let error = clerk.put("x", "2").unwrap_err();
    assert!(matches!(error, ClerkError::Timeout { may_have_run: true, .. }), "{error}");
}

#[test]
fn dropping_the_clerk_ends_what_is_under_way() {
    let cluster = FakeCluster::start(1);
    cluster.set(|shared| shared.faults.silences = 1000);
    let clerk = Clerk::connect(&cluster.addresses, ClerkConfig::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    clerk.submit(put("x", "1"), move |result| sender.send(result).unwrap());
    drop(clerk);
    let end = receiver.recv_timeout(HANG).unwrap();
    assert_eq!(end, Err(ClerkError::Stopped { may_have_run: false }), "the session was not even open");
    assert!(receiver.recv_timeout(HANG).is_err(), "it ends once");
}

#[test]
fn what_cannot_work_is_refused_at_the_door() {
    let refusal = |endpoints: &[&str]| {
        let endpoints: Vec<String> = endpoints.iter().map(|endpoint| endpoint.to_string()).collect();
        Clerk::connect(&endpoints, ClerkConfig::default()).unwrap_err()
    };
    assert_eq!(refusal(&[]), ClerkError::NoEndpoints);
    let text = refusal(&["127.0.0.1:1", "nonsense"]).to_string();
    assert_eq!(text, "the clerk's configuration is wrong: \"nonsense\" is no address; write HOST:PORT");
}
