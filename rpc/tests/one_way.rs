//! Calls without an answer.

mod common;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use common::*;
use rpc::{ChannelConfig, RpcError};

#[test]
fn a_one_way_call_reaches_its_handler_and_brings_nothing_back() {
    let ends = Ends::new();
    let channel = ends.channel();
    // The first makes the connection, and so do its like on a channel that calls nothing else.
    for sent in 1..=3 {
        channel.send_one_way(&ECHO, &Text::new("heard")).unwrap();
        let until = Instant::now() + LONG;
        while ends.service.calls.load(Ordering::SeqCst) < sent {
            assert!(Instant::now() < until, "call {sent} does not come");
            thread::yield_now();
        }
    }
    for method in [&MISSING, &DROP, &PANIC] {
        channel.send_one_way(method, &Text::new("x")).unwrap();
    }
    channel.send_one_way(&ECHO, &Text::new([7; 100_000])).unwrap();
    assert_eq!(call(&channel, &ECHO, "answered").unwrap(), Text::new("answered"));
    assert_eq!(ends.service.calls.load(Ordering::SeqCst), 8, "in order, on one connection");
}

#[test]
fn what_keeps_a_one_way_call_here_is_said() {
    let ends = Ends::new();
    let channel = ends.channel_with(ChannelConfig { args_bytes_max: 10, ..ChannelConfig::default() });
    let error = channel.send_one_way(&ECHO, &Text::new([7; 100])).unwrap_err();
    assert!(
        matches!(error, RpcError::TooLarge { bytes: 102, max: 10, may_have_run: false, .. }),
        "{error:?}"
    );
    channel.close();
    let error = channel.send_one_way(&ECHO, &Text::new("x")).unwrap_err();
    assert_eq!(error, RpcError::Stopped { may_have_run: false });
    let legacy = ends.channel_with(ChannelConfig { legacy: true, ..ChannelConfig::default() });
    assert!(matches!(legacy.send_one_way(&ECHO, &Text::new("x")), Err(RpcError::Refused { .. })));
    assert_eq!(ends.service.calls.load(Ordering::SeqCst), 0);
}
