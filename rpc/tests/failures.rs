//! Calls that do not get their reply: each is answered exactly once, with what is known about it.

mod common;

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use rpc::{
    ChannelConfig, ProviderConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError, RpcProvider,
};

#[test]
fn a_server_that_dies_answers_its_calls_in_flight_once_each() {
    let ends = Ends::new();
    let (kept_sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(kept_sender);
    let channel = ends.channel();
    let (sender, receiver) = mpsc::channel();
    for _ in 0..64 {
        let sender = sender.clone();
        channel.call_async(&KEEP, &RpcController::new(), &Text::new("x"), move |reply: Result<Text, _>| {
            sender.send(reply).unwrap();
        });
    }
    for _ in 0..64 {
        kept.recv_timeout(LONG).unwrap();
    }
    ends.server.stop(Duration::ZERO);
    for _ in 0..64 {
        let error = receiver.recv_timeout(LONG).unwrap().unwrap_err();
        assert!(matches!(error, RpcError::Closed { may_have_run: true, .. }), "{error:?}");
    }
    drop(sender);
    assert!(receiver.recv().is_err(), "no call is answered twice");
}

#[test]
fn a_channel_connects_again_when_its_server_is_back() {
    let ends = Ends::new();
    let address = ends.address.to_string();
    let config = ChannelConfig { backoff_max: Duration::from_millis(20), ..ChannelConfig::default() };
    let channel = ends.channel_with(config);
    assert!(call(&channel, &ECHO, "before").is_ok());
    ends.server.stop(LONG);
    let error = loop {
        match call(&channel, &ECHO, "while it is away") {
            Err(error @ RpcError::Connect { .. }) => break error,
            Err(RpcError::Closed { .. }) => thread::yield_now(),
            other => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains(&address), "{error}");
    assert!(!error.may_have_run());
    let server = Reactor::start("server", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&server, ProviderConfig::default());
    provider.notify_service(ends.service.clone()).unwrap();
    provider.listen(&address).unwrap();
    let until = Instant::now() + LONG;
    while let Err(error) = call(&channel, &ECHO, "after") {
        assert!(matches!(error, RpcError::Connect { .. }), "{error:?}");
        assert!(Instant::now() < until, "{error:?}");
        thread::yield_now();
    }
    drop(provider);
    server.stop(LONG);
}

#[test]
fn calls_fail_at_once_while_a_channel_waits_for_its_next_attempt() {
    let ends = Ends::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let backoff = Duration::from_secs(60);
    let config = ChannelConfig { backoff_min: backoff, backoff_max: backoff, ..ChannelConfig::default() };
    let channel = RpcChannel::new(&ends.client, &address, config);
    let first = call(&channel, &ECHO, "x").unwrap_err();
    assert!(matches!(first, RpcError::Connect { .. }), "{first:?}");
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(call(&channel, &ECHO, "x").unwrap_err(), first);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_attempt_has_its_own_time_limit() {
    let ends = Ends::new();
    // A listener whose backlog (of 128, as mio makes it) is full does not answer further attempts.
    let listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let short = Duration::from_millis(200);
    while let Ok(filler) = std::net::TcpStream::connect_timeout(&address, short) {
        fillers.push(filler);
        assert!(fillers.len() < 1_000, "this backlog has no end");
    }
    let config = ChannelConfig { connect_timeout: Duration::from_millis(50), ..ChannelConfig::default() };
    let channel = RpcChannel::new(&ends.client, &address.to_string(), config);
    let error = call(&channel, &ECHO, "x").unwrap_err();
    assert!(matches!(&error, RpcError::Connect { cause, .. } if cause == "timed out"), "{error:?}");
}

#[test]
fn a_deadline_ends_a_call_in_time_and_its_late_reply_is_ignored() {
    let ends = Ends::new();
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "connected").is_ok());
    for timeout_ms in [1, 20, 50] {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_millis(timeout_ms));
        let begun = Instant::now();
        let error = channel.call::<_, Text>(&KEEP, &controller, &Text::new("x")).unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(timeout_ms));
        assert!(matches!(error, RpcError::DeadlineExceeded { may_have_run: true, .. }), "{error:?}");
        assert!(controller.failed());
        assert_eq!(controller.error_text(), format!("no reply within {timeout_ms} ms"));
    }
    let until = Instant::now() + LONG;
    while ends.service.kept.lock().unwrap().len() < 3 {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    for (text, reply) in ends.service.kept.lock().unwrap().drain(..) {
        reply.send(&text);
    }
    assert_eq!(call(&channel, &ECHO, "mine").unwrap(), Text::new("mine"));
}

#[test]
fn an_earlier_deadline_is_seen_behind_a_later_one() {
    let ends = Ends::new();
    let channel = ends.channel();
    let (sender, receiver) = mpsc::channel();
    for timeout_ms in [10_000_u64, 5_000, 40, 20] {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_millis(timeout_ms));
        let sender = sender.clone();
        channel.call_async(&KEEP, &controller, &Text::new("x"), move |reply: Result<Text, _>| {
            let _ = sender.send((timeout_ms, reply));
        });
    }
    assert_eq!(receiver.recv_timeout(Duration::from_secs(4)).unwrap().0, 20);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(4)).unwrap().0, 40);
    assert!(receiver.try_recv().is_err());
}

#[test]
fn the_server_is_told_the_deadline() {
    let ends = Ends::new();
    let channel = ends.channel();
    // What it takes to connect would be taken off.
    assert!(call(&channel, &ECHO, "x").is_ok());
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(1234));
    let error = channel.call::<_, Text>(&WAIT, &controller, &Text::new("x")).unwrap_err();
    assert!(error.to_string().contains("1234 ms"), "{error}");
    assert!(!error.may_have_run(), "OVERLOADED promises that");
}

#[test]
fn a_cancelled_call_is_answered_at_once_and_only_once() {
    let ends = Ends::new();
    let channel = ends.channel();
    let controller = RpcController::new();
    let answers = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = mpsc::channel();
    let counted = answers.clone();
    channel.call_async(&KEEP, &controller, &Text::new("x"), move |reply: Result<Text, _>| {
        counted.fetch_add(1, Ordering::SeqCst);
        sender.send(reply).unwrap();
    });
    controller.cancel();
    let error = receiver.try_recv().expect("answered by cancel itself").unwrap_err();
    assert!(matches!(error, RpcError::Cancelled { .. }), "{error:?}");
    controller.cancel();
    let refused = channel.call::<_, Text>(&ECHO, &controller, &Text::new("x"));
    assert_eq!(refused, Err(RpcError::Cancelled { may_have_run: false }), "until it is reset");
    controller.reset();
    assert!(!controller.failed() && controller.error_text().is_empty());
    assert_eq!(channel.call(&ECHO, &controller, &Text::new("y")), Ok(Text::new("y")));
    for (text, reply) in ends.service.kept.lock().unwrap().drain(..) {
        reply.send(&text);
    }
    assert!(call(&channel, &ECHO, "z").is_ok());
    assert_eq!(answers.load(Ordering::SeqCst), 1);
}

#[test]
fn a_blocked_caller_can_be_cancelled_by_another_thread() {
    let ends = Ends::new();
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let channel = ends.channel();
    let controller = RpcController::new();
    thread::scope(|scope| {
        let caller = scope.spawn(|| channel.call::<_, Text>(&KEEP, &controller, &Text::new("x")));
        kept.recv_timeout(LONG).unwrap();
        controller.cancel();
        let error = caller.join().unwrap().unwrap_err();
        assert_eq!(error, RpcError::Cancelled { may_have_run: true });
    });
}

#[test]
fn what_is_too_large_or_too_much_is_refused_before_it_is_sent() {
    let ends = Ends::new();
    let config = ChannelConfig { args_bytes_max: 100, calls_in_flight_max: 2, ..ChannelConfig::default() };
    let channel = ends.channel_with(config);
    let error = call(&channel, &ECHO, [0; 200]).unwrap_err();
    assert_eq!(error, RpcError::TooLarge { what: "arguments", bytes: 203, max: 100, may_have_run: false });
    let (sender, receiver) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        channel.call_async(&KEEP, &RpcController::new(), &Text::new("x"), move |reply: Result<Text, _>| {
            let _ = sender.send(reply);
        });
    }
    let busy = RpcError::Busy { limit: "calls_in_flight_max", max: 2 };
    assert_eq!(receiver.try_recv().unwrap(), Err(busy));
    assert!(receiver.try_recv().is_err());
}

#[test]
fn a_reply_that_is_too_large_fails_its_call_only() {
    let ends = Ends::new();
    let channel = ends.channel_with(ChannelConfig { reply_bytes_max: 1000, ..ChannelConfig::default() });
    let error = call(&channel, &ECHO, [0; 100_000]).unwrap_err();
    assert_eq!(error, RpcError::TooLarge { what: "a reply", bytes: 100_004, max: 1000, may_have_run: true });
    assert!(call(&channel, &ECHO, "small").is_ok());
}

#[test]
fn calls_that_never_left_have_not_run() {
    let ends = Ends::new();
    // This server takes the connection and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let channel = RpcChannel::new(&ends.client, &address, ChannelConfig::default());
    let (sender, receiver) = mpsc::channel();
    let (bytes, calls) = (1 << 20, 64);
    for number in 0..calls {
        let sender = sender.clone();
        let text = Text::new(vec![1; bytes]);
        channel.call_async(&ECHO, &RpcController::new(), &text, move |reply: Result<Text, RpcError>| {
            sender.send((number, reply.unwrap_err())).unwrap();
        });
    }
    let (mut stream, _) = listener.accept().unwrap();
    // The first request has arrived as a whole; the last cannot have left: no system buffers 63 MiB.
    stream.read_exact(&mut vec![0; bytes + 100]).unwrap();
    drop(stream);
    for _ in 0..calls {
        let (number, error) = receiver.recv_timeout(LONG).unwrap();
        assert!(matches!(error, RpcError::Closed { .. }), "{error:?}");
        assert!(number != 0 || error.may_have_run(), "the first has arrived");
        assert!(number != calls - 1 || !error.may_have_run(), "the last has not left");
    }
}

#[test]
fn a_server_that_has_vanished_is_noticed_by_its_silence() {
    let ends = Ends::new();
    // This server takes the connection and reads, but never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = ChannelConfig { ping_timeout: Duration::from_millis(30), ..ChannelConfig::default() };
    let channel = RpcChannel::new(&ends.client, &address, config);
    let (sender, receiver) = mpsc::channel();
    for timeout_ms in [20_u64, 60_000] {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_millis(timeout_ms));
        let sender = sender.clone();
        channel.call_async(&ECHO, &controller, &Text::new("x"), move |reply: Result<Text, RpcError>| {
            sender.send((timeout_ms, reply.unwrap_err())).unwrap();
        });
    }
    let (mut stream, _) = listener.accept().unwrap();
    let (first, error) = receiver.recv_timeout(LONG).unwrap();
    assert!(first == 20 && matches!(error, RpcError::DeadlineExceeded { .. }), "{error:?}");
    let (second, error) = receiver.recv_timeout(LONG).unwrap();
    assert!(second == 60_000 && error.may_have_run(), "{error:?}");
    assert!(error.to_string().contains("no sign of life"), "{error}");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received.ends_with(&[0x30, 2]), "the last it was sent is a ping");
}

#[test]
fn a_server_that_answers_pings_keeps_its_connection() {
    let ends = Ends::new();
    let config = ChannelConfig { ping_timeout: Duration::from_millis(30), ..ChannelConfig::default() };
    let channel = ends.channel_with(config);
    let (sender, receiver) = mpsc::channel();
    channel.call_async(&KEEP, &RpcController::new(), &Text::new("patient"), move |reply: Result<Text, _>| {
        sender.send(reply).unwrap();
    });
    for _ in 0..3 {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_millis(40));
        assert!(channel.call::<_, Text>(&KEEP, &controller, &Text::new("x")).is_err());
    }
    for (text, reply) in ends.service.kept.lock().unwrap().drain(..) {
        reply.send(&text);
    }
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Ok(Text::new("patient")));
}

#[test]
fn a_deadline_is_kept_that_was_set_in_a_long_turn() {
    const LATEST: Duration = Duration::from_millis(1_600);
    let ends = Ends::new();
    let channel = ends.channel();
    call(&channel, &ECHO, "connects").unwrap();
    let (sender, receiver) = mpsc::channel();
    let (_nobody, nothing) = mpsc::channel::<()>();
    let (begun, channel_of_turn) = (Instant::now(), channel.clone());
    let long_turn = move || {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_secs(1));
        channel_of_turn.call_async(&KEEP, &controller, &Text::new("x"), move |reply: Result<Text, _>| {
            sender.send((reply, begun.elapsed())).unwrap();
        });
        assert!(nothing.recv_timeout(Duration::from_millis(700)).is_err());
    };
    ends.client.run_after(Duration::ZERO, Box::new(long_turn));
    let (reply, after) = receiver.recv_timeout(LONG).unwrap();
    assert!(matches!(reply, Err(RpcError::DeadlineExceeded { .. })), "{reply:?}");
    assert!(after < LATEST, "told after {after:?}");
}

#[test]
fn names_are_resolved_and_unknown_ones_said() {
    let ends = Ends::new();
    let address = format!("localhost:{}", ends.address.port());
    let channel = RpcChannel::new(&ends.client, &address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "by name").is_ok());
    // Where the system has IPv6.
    if let Ok(address) = ends.provider.listen("[::1]:0") {
        let channel = RpcChannel::new(&ends.client, &address.to_string(), ChannelConfig::default());
        assert!(address.is_ipv6() && call(&channel, &ECHO, "by its long address").is_ok());
    }
    for address in ["no-such-host.invalid:80", "no port", ""] {
        let channel = RpcChannel::new(&ends.client, address, ChannelConfig::default());
        let error = call(&channel, &ECHO, "x").unwrap_err();
        assert!(matches!(error, RpcError::Resolve { .. }), "{address}: {error:?}");
    }
}

#[test]
fn a_port_in_use_is_said_with_its_address() {
    let ends = Ends::new();
    let address = ends.address.to_string();
    let error = ends.provider.listen(&address).unwrap_err();
    assert!(matches!(error, RpcError::Listen { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn a_name_is_registered_once() {
    let ends = Ends::new();
    let error = ends.provider.notify_service(Arc::new(TestService::default())).unwrap_err();
    assert_eq!(error, RpcError::NameTaken { name: "test".to_owned() });
}
