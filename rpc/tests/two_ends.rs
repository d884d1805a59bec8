//! Client and server over real loopback sockets: what a user sees when all goes well, and what when it does not.

mod common;

use std::sync::mpsc;

use common::*;
use rpc::{RpcController, RpcError, Status, corked};

#[test]
fn a_blocking_call_gets_its_reply() {
    let ends = Ends::new();
    let channel = ends.channel();
    for text in ["", "a", "some text"] {
        assert_eq!(call(&channel, &ECHO, text).unwrap(), Text::new(text));
    }
}

#[test]
fn many_calls_in_flight_on_one_connection_are_matched_by_id() {
    let ends = Ends::new();
    let channel = ends.channel();
    let (sender, receiver) = mpsc::channel();
    corked(|| {
        for number in 0..1000 {
            let sender = sender.clone();
            let text = Text::new(format!("{number}"));
            let expected = text.clone();
            channel.call_async(&ECHO, &RpcController::new(), &text, move |reply| {
                sender.send(reply == Ok(expected)).unwrap();
            });
        }
    });
    for _ in 0..1000 {
        assert!(receiver.recv_timeout(LONG).unwrap());
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let ends = Ends::new();
    let channel = ends.channel();
    let status_of = |method: &rpc::Method| match call(&channel, method, "x") {
        Err(RpcError::Status { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status_of(&MISSING), Status::NoSuchMethod);
    assert_eq!(status_of(&rpc::Method::new("nobody", "Echo")), Status::NoSuchService);
    assert_eq!(status_of(&DROP), Status::Internal);
    assert_eq!(status_of(&PANIC), Status::Internal);
    assert_eq!(call(&channel, &ECHO, "still there").unwrap(), Text::new("still there"));
}
