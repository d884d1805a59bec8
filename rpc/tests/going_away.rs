//! A server stops while it is being called: nobody gets an error who need not.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use rpc::protocol::encoder::{Names, put_call, put_legacy_call};
use rpc::protocol::reply_decoder::ReplyDecoder;
use rpc::{
    ChannelConfig, ChannelState, ProviderConfig, Reactor, ReactorConfig, RetryConfig, RetryPolicy,
    RpcController, RpcError, RpcProvider,
};

fn patient() -> ProviderConfig {
    ProviderConfig { drain_timeout: LONG, ..ProviderConfig::default() }
}

#[test]
fn callers_move_to_the_next_server_without_an_error() {
    let ends = Ends::with(patient(), TestService::default());
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let (pause_min, pause_max) = (Duration::from_millis(1), Duration::from_millis(10));
    let policy = RetryPolicy { attempts_max: 100_000, pause_min, pause_max };
    let retry = RetryConfig { policy, budget_max: 1_000_000, ..RetryConfig::default() };
    let backoff_max = Duration::from_millis(10);
    let channel = ends.channel_with(ChannelConfig { retry, backoff_max, ..ChannelConfig::default() });
    let old_call = channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("old"));
    kept.recv_timeout(LONG).unwrap();
    let must_stop = AtomicBool::new(false);
    let server = Reactor::start("next", ReactorConfig::default()).unwrap();
    let next = RpcProvider::new(&server, ProviderConfig::default());
    let service = Arc::new(TestService::default());
    next.notify_service(service.clone()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !must_stop.load(Ordering::SeqCst) {
                    assert!(call(&channel, &ECHO, "x").is_ok());
                }
            });
        }
        let stopping = scope.spawn(|| ends.provider.stop());
        let until = Instant::now() + LONG;
        while next.listen(&ends.address.to_string()).is_err() {
            assert!(Instant::now() < until, "the address never becomes free");
        }
        while service.calls.load(Ordering::SeqCst) < 100 {
            assert!(Instant::now() < until, "nobody calls the next server");
            thread::yield_now();
        }
        assert!(!stopping.is_finished(), "a call is in flight");
        let (text, reply) = ends.service.kept.lock().unwrap().pop().unwrap();
        reply.send(&text);
        stopping.join().unwrap();
        must_stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(old_call.wait(), Ok(Text::new("old")));
    drop(next);
    server.stop(LONG);
}

#[test]
fn a_call_refused_between_two_servers_does_not_keep_the_channel_from_the_next() {
    let ends = Ends::with(patient(), TestService::default());
    let (sender, kept) = std::sync::mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let backoff_max = Duration::from_millis(10);
    let channel =
        ends.channel_with(ChannelConfig { calls_in_flight_max: 1, backoff_max, ..ChannelConfig::default() });
    let old_call = channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("old"));
    kept.recv_timeout(LONG).unwrap();
    let next = RpcProvider::new(&ends.server, ProviderConfig::default());
    next.notify_service(Arc::new(TestService::default())).unwrap();
    let until = Instant::now() + LONG;
    thread::scope(|scope| {
        scope.spawn(|| ends.provider.stop());
        while channel.state() != ChannelState::Idle || next.listen(&ends.address.to_string()).is_err() {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
        let busy = RpcError::Busy { limit: "calls_in_flight_max", max: 1 };
        assert_eq!(call(&channel, &ECHO, "one too many"), Err(busy));
        let (text, reply) = ends.service.kept.lock().unwrap().pop().unwrap();
        reply.send(&text);
    });
    assert_eq!(old_call.wait(), Ok(Text::new("old")));
    assert_eq!(call(&channel, &ECHO, "at the next server").unwrap(), Text::new("at the next server"));
}

#[test]
fn a_connection_that_says_nothing_is_told_to_leave_and_then_closed_the_origins_are_kept() {
    let idle_timeout = Duration::from_millis(50);
    let ends =
        Ends::with(ProviderConfig { idle_timeout, ..ProviderConfig::default() }, TestService::default());
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "x").is_ok());
    let mut origin = raw::connect(ends.address);
    let mut call_of_origin = Vec::new();
    put_legacy_call(&mut call_of_origin, Names::Plain("test", "Echo"), &Text::new("x"), 3);
    origin.write_all(&call_of_origin).unwrap();
    assert_eq!(origin.read(&mut [0; 16]).unwrap(), 3);
    let mut stays = raw::connect(ends.address);
    stays.write_all(&raw::request("Echo", 1, b"x")).unwrap();
    // Its reply, the word that it should leave, and the end.
    let mut received = Vec::new();
    stays.read_to_end(&mut received).unwrap();
    assert!(received.ends_with(&[0xff, 0x01, 0x30, 1]), "{received:x?}");
    let until = Instant::now() + LONG;
    while channel.state() != ChannelState::Idle {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    assert!(call(&channel, &ECHO, "on a new connection").is_ok());
    origin.write_all(&call_of_origin).unwrap();
    assert_eq!(origin.read(&mut [0; 16]).unwrap(), 3);
}

#[test]
fn an_idle_client_leaves_at_once_and_the_stop_is_quick() {
    let ends = Ends::with(patient(), TestService::default());
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "x").is_ok());
    let begun = Instant::now();
    ends.provider.stop();
    assert!(begun.elapsed() < LONG / 2);
    let until = Instant::now() + LONG;
    while channel.state() != ChannelState::Idle {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
}

#[test]
fn calls_that_were_on_their_way_are_served_and_peers_that_stay_are_closed_in_the_end() {
    let drain_timeout = Duration::from_millis(300);
    let ends =
        Ends::with(ProviderConfig { drain_timeout, ..ProviderConfig::default() }, TestService::default());
    let mut stream = TcpStream::connect(ends.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let frame = |call_id| {
        let mut buffer = Vec::new();
        put_call(&mut buffer, Names::Plain("test", "Echo"), call_id, 1000, &Text::default(), 0);
        buffer
    };
    let mut decoder = ReplyDecoder::new(1000);
    let mut next_frame = |stream: &mut TcpStream| {
        let mut byte = [0];
        loop {
            if let Some(frame) = decoder.next_frame().unwrap() {
                return Some(frame);
            }
            if stream.read(&mut byte).unwrap() == 0 {
                return None;
            }
            decoder.feed(&byte);
        }
    };
    stream.write_all(&frame(1)).unwrap();
    assert_eq!(next_frame(&mut stream).unwrap().head.call_id, 1);
    let provider = ends.provider.clone();
    let stopping = thread::spawn(move || provider.stop());
    let word = next_frame(&mut stream).unwrap();
    assert!(word.head.going_away && word.head.call_id == u64::MAX);
    stream.write_all(&frame(2)).unwrap();
    let reply = next_frame(&mut stream).unwrap();
    assert_eq!((reply.head.call_id, reply.head.status), (2, 0));
    assert_eq!(next_frame(&mut stream), None, "cut when the time is over");
    stopping.join().unwrap();
}
