//! What a provider keeps for some of its services, whoever else comes.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::raw::*;
use common::*;
use rpc::{Call, ProviderConfig, Reserve, Responder, Service, Status};

/// The service that the reserve is for: it echoes.
struct Vital;

impl Service for Vital {
    fn name(&self) -> &str {
        "vital"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        rpc::dispatch(call, responder, |request: Text, reply| reply.send(&request));
    }
}

fn ends(config: ProviderConfig) -> Ends {
    let ends = Ends::with(config, TestService::default());
    ends.provider.notify_service(Arc::new(Vital)).unwrap();
    ends
}

fn reserve() -> Reserve {
    Reserve {
        services: vec!["vital".to_owned()],
        connections: 1,
        first_call_timeout: LONG,
        calls: 1,
        unfinished_bytes: 1 << 20,
    }
}

fn status_of(reply: &rpc::protocol::reply_decoder::ReplyFrame) -> Status {
    Status::from_code(reply.head.status)
}

#[test]
fn a_connection_beyond_the_limit_is_for_a_reserved_service_or_refused() {
    let ends = ends(ProviderConfig { connections_max: 1, reserve: reserve(), ..ProviderConfig::default() });
    let mut ordinary = connect(ends.address);
    ordinary.write_all(&request("Echo", 1, b"me")).unwrap();
    read_replies(&mut ordinary, 1);

    let mut refused = connect(ends.address);
    refused.write_all(&request("Echo", 1, b"me, too")).unwrap();
    let reply = &read_replies(&mut refused, 1)[0];
    assert_eq!(status_of(reply), Status::Overloaded);
    assert!(String::from_utf8_lossy(&reply.head.error_text).contains("connections_max"));
    assert_closed(&mut refused);

    let mut vital = connect(ends.address);
    vital.write_all(&request_to("vital", "Echo", 1, b"vital")).unwrap();
    assert_eq!(text_of(&read_replies(&mut vital, 1)[0]), Text::new("vital"));
    vital.write_all(&request("Echo", 2, b"proven")).unwrap();
    assert_eq!(text_of(&read_replies(&mut vital, 1)[0]), Text::new("proven"));

    // The reserve has a bound, too: the next one waits until a place is free.
    let mut waiting = connect(ends.address);
    waiting.write_all(&request_to("vital", "Echo", 1, b"later")).unwrap();
    vital.write_all(&request("Echo", 3, b"again")).unwrap();
    read_replies(&mut vital, 1);
    waiting.set_nonblocking(true).unwrap();
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    drop(ordinary);
    assert_eq!(text_of(&read_replies(&mut waiting, 1)[0]), Text::new("later"));
}

#[test]
fn a_server_with_all_its_connections_says_so_at_once_unless_one_has_ended_meanwhile() {
    let ends = Ends::with(
        ProviderConfig { connections_max: 1, ..ProviderConfig::default() },
        TestService::default(),
    );
    let mut ordinary = connect(ends.address);
    ordinary.write_all(&request("Echo", 1, b"me")).unwrap();
    read_replies(&mut ordinary, 1);
    let mut refused = connect(ends.address);
    refused.write_all(&request("Echo", 1, b"me, too")).unwrap();
    assert_eq!(status_of(&read_replies(&mut refused, 1)[0]), Status::Overloaded);
    assert_closed(&mut refused);

    let mut next = connect(ends.address);
    next.write_all(&[4, 0x20, 7, 0x30, 2]).unwrap();
    assert_eq!(read_replies(&mut next, 1)[0].head.call_id, 7, "a ping, to know that it has been accepted");
    drop(ordinary);
    while ends.provider.gauges().connections > 1 {
        thread::yield_now();
    }
    for call_id in 1..3 {
        next.write_all(&request("Echo", call_id, b"me")).unwrap();
        assert_eq!(text_of(&read_replies(&mut next, 1)[0]), Text::new("me"));
    }
}

#[test]
fn a_place_of_the_reserve_is_not_for_those_who_say_nothing() {
    let reserve = Reserve { first_call_timeout: Duration::from_millis(50), ..reserve() };
    let ends = ends(ProviderConfig { connections_max: 0, reserve, ..ProviderConfig::default() });
    let mut silent = connect(ends.address);
    let mut vital = connect(ends.address);
    vital.write_all(&request_to("vital", "Echo", 1, b"vital")).unwrap();
    assert_closed(&mut silent);
    assert_eq!(text_of(&read_replies(&mut vital, 1)[0]), Text::new("vital"));
    // A ping is no call.
    drop(vital);
    let mut pinging = connect(ends.address);
    pinging.write_all(&[4, 0x20, 7, 0x30, 2]).unwrap();
    assert_eq!(read_replies(&mut pinging, 1)[0].head.call_id, 7);
    assert_closed(&mut pinging);
}

#[test]
fn calls_of_reserved_services_are_taken_beyond_the_limit() {
    let ends =
        ends(ProviderConfig { calls_in_flight_max: 1, reserve: reserve(), ..ProviderConfig::default() });
    let mut stream = connect(ends.address);
    stream.write_all(&request("Keep", 1, b"")).unwrap();
    stream.write_all(&request("Echo", 2, b"")).unwrap();
    assert_eq!(status_of(&read_replies(&mut stream, 1)[0]), Status::Overloaded);
    stream.write_all(&request_to("vital", "Echo", 3, b"vital")).unwrap();
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("vital"));
}

#[test]
fn requests_of_reserved_services_come_in_when_others_hold_all_the_memory() {
    let config =
        ProviderConfig { unfinished_bytes_max: 100_000, reserve: reserve(), ..ProviderConfig::default() };
    let ends = ends(config);
    // Each alone would be beyond the bound.
    for (service, status) in [("test", Status::Overloaded), ("vital", Status::Ok)] {
        let mut stream = connect(ends.address);
        let large = request_to(service, "Echo", 1, &[7; 500_000]);
        let (begin, rest) = large.split_at(300_000);
        stream.write_all(begin).unwrap();
        stream.write_all(rest).unwrap();
        assert_eq!(status_of(&read_replies(&mut stream, 1)[0]), status, "{service}");
    }
}
