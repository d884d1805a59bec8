//! A leader that is stopped (SIGSTOP), succeeded by another and woken again believes for a moment that it still leads. It
//! must not show what was true before it slept.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use proto::kv::{Code, GetReply, GetRequest, KvStub};
use rpc::{RpcChannel, RpcController, RpcError};
use rustix::process::Signal;

use crate::support::cluster::{Cluster, channel_config};
use crate::support::wait::{LONG, eventually};

/// Gets that wait in the sleeping leader's sockets, and are the first thing it sees.
const GETS_WAITING: usize = 20;

/// Asks one node directly, without a clerk that would go elsewhere.
fn ask(stub: &KvStub) -> Receiver<Result<GetReply, RpcError>> {
    let (sender, receiver) = channel();
    let controller = RpcController::new();
    controller.set_timeout(LONG);
    let request = GetRequest { key: Bytes::from_static(b"k"), ..GetRequest::default() };
    // The receiver is there until the answer is.
    stub.get_async(&controller, &request, move |reply| drop(sender.send(reply)));
    receiver
}

/// What a node showed: the value, or nothing if it refused.
fn shown(reply: Result<GetReply, RpcError>) -> Option<Bytes> {
    let reply = reply.ok()?;
    let code = reply.outcome.map_or(Code::Ok as i32, |outcome| outcome.code);
    (code == Code::Ok as i32).then_some(reply.value)
}

#[test]
fn a_leader_that_slept_through_its_reigns_end_never_shows_the_old_value() {
    let cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "old").unwrap();
    let sleeper = cluster.leader();
    let stub = KvStub::new(RpcChannel::new(cluster.reactor(), &cluster.address(sleeper), channel_config()));
    // The connection stands before the leader sleeps.
    let before = ask(&stub).recv_timeout(LONG).unwrap();
    assert_eq!(shown(before), Some(Bytes::from_static(b"old")));

    cluster.put_to_sleep(sleeper);
    let next = cluster.leader_among(&cluster.others(sleeper));
    assert_ne!(next, sleeper);
    clerk.put("k", "new").unwrap();
    // These begin after the put was acknowledged, and are the first thing the sleeper finds.
    let waiting: Vec<_> = (0..GETS_WAITING).map(|_| ask(&stub)).collect();
    cluster.signal(sleeper, Signal::CONT);

    for answer in waiting {
        let seen = shown(answer.recv_timeout(LONG).unwrap());
        assert_ne!(seen, Some(Bytes::from_static(b"old")), "the woken leader showed the past");
    }
    // Until it knows its place again, every answer is a refusal or the new value.
    eventually("the woken node follows", LONG, || {
        let seen = shown(ask(&stub).recv_timeout(LONG).unwrap());
        assert_ne!(seen, Some(Bytes::from_static(b"old")), "the woken leader showed the past");
        cluster.status(sleeper).filter(|status| status.role == "follower" && status.has_leader)
    });
    assert_eq!(clerk.get("k").unwrap(), Some(Bytes::from_static(b"new")));
}

#[test]
fn a_follower_that_slept_disturbs_nobody_and_catches_up() {
    let cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "before").unwrap();
    let leader = cluster.leader();
    let sleeper = cluster.others(leader)[0];
    let term = cluster.status(leader).expect("the leader answers").term;
    cluster.put_to_sleep(sleeper);
    let mut index = 0;
    for round in 0..200 {
        index = clerk.put(format!("key{round}"), vec![b'x'; 512]).unwrap();
    }
    cluster.signal(sleeper, Signal::CONT);
    cluster.wait_until_applied(sleeper, index);
    let status = eventually("the leader's status", Duration::from_secs(10), || cluster.status(leader));
    assert_eq!(
        (status.role.as_str(), status.term),
        ("leader", term),
        "the sleeper's return made an election"
    );
}
