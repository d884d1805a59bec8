//! Calls that are sent again: which, how often, and for how long.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use rpc::{
    ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig, RetryConfig, RetryPolicy, RpcChannel,
    RpcController, RpcError, RpcProvider, Status,
};

fn quick(attempts_max: u32) -> RetryPolicy {
    let (pause_min, pause_max) = (Duration::from_millis(1), Duration::from_millis(5));
    RetryPolicy { attempts_max, pause_min, pause_max }
}

fn config(policy: RetryPolicy, methods: Vec<(Method, RetryPolicy)>, budget_max: u32) -> ChannelConfig {
    let retry = RetryConfig { policy, methods, budget_max, ..RetryConfig::default() };
    let (backoff_min, backoff_max) = (Duration::from_millis(1), Duration::from_millis(2));
    ChannelConfig { retry, backoff_min, backoff_max, ..ChannelConfig::default() }
}

/// Takes connections, reads a call from each and closes it. Returns its address and a count of them.
fn closing_server(connections: usize) -> (String, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        for _ in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            stream.peek(&mut [0]).unwrap();
        }
        connections
    });
    (address, server)
}

#[test]
fn a_refused_call_is_repeated_as_often_as_its_method_may_and_others_are_not() {
    let ends = Ends::new();
    let channel = ends.channel_with(config(RetryPolicy::ONCE, vec![(WAIT, quick(4))], 100));
    let calls = || ends.service.calls.load(std::sync::atomic::Ordering::SeqCst);
    let error = call(&channel, &WAIT, "").unwrap_err();
    assert!(matches!(error, RpcError::Status { status: Status::Overloaded, .. }), "{error:?}");
    assert_eq!(calls(), 4);
    assert!(call(&channel, &DROP, "").is_err());
    assert_eq!(calls(), 5, "its policy is to be sent once");
}

#[test]
fn what_may_have_run_is_repeated_only_if_it_is_idempotent() {
    let ends = Ends::new();
    for (method, attempts) in [(ECHO, 1), (ECHO.idempotent(), 3)] {
        let (address, server) = closing_server(attempts);
        let channel = RpcChannel::new(&ends.client, &address, config(quick(3), Vec::new(), 100));
        let error = call(&channel, &method, "x").unwrap_err();
        assert!(matches!(error, RpcError::Closed { may_have_run: true, .. }), "{error:?}");
        assert_eq!(server.join().unwrap(), attempts);
    }
}

#[test]
fn a_server_that_comes_late_is_reached_without_an_error() {
    reach_late_server(config(quick(100_000), Vec::new(), 100_000));
    let wait_for_ready = ChannelConfig { wait_for_ready: true, ..ChannelConfig::default() };
    reach_late_server(wait_for_ready);
}

#[test]
fn a_call_that_waits_for_its_server_ends_with_its_deadline_and_the_cause() {
    let ends = Ends::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = ChannelConfig { wait_for_ready: true, ..ChannelConfig::default() };
    let channel = RpcChannel::new(&ends.client, &address, config);
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(200));
    let begun = Instant::now();
    let error = channel.call::<_, Text>(&ECHO, &controller, &Text::new("x")).unwrap_err();
    assert!(matches!(error, RpcError::Connect { .. }), "{error:?}");
    assert!(begun.elapsed() > Duration::from_millis(50), "more than the first pause");
}

fn reach_late_server(config: ChannelConfig) {
    let ends = Ends::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let channel = RpcChannel::new(&ends.client, &address, config);
    let states = channel.clone();
    let (sender, is_waiting) = mpsc::sync_channel(1);
    states.on_state_change(move |state| {
        if matches!(state, rpc::ChannelState::Waiting { .. }) {
            let _ = sender.try_send(());
        }
    });
    let caller = thread::spawn(move || call(&channel, &ECHO, "patient"));
    is_waiting.recv_timeout(LONG).unwrap();
    let server = Reactor::start("server", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&server, ProviderConfig::default());
    provider.notify_service(ends.service.clone()).unwrap();
    provider.listen(&address).unwrap();
    assert_eq!(caller.join().unwrap(), Ok(Text::new("patient")));
}

#[test]
fn repetitions_end_with_the_deadline_and_with_the_budget() {
    let ends = Ends::new();
    let calls = || ends.service.calls.load(std::sync::atomic::Ordering::SeqCst);
    let channel = ends.channel_with(config(quick(1000), Vec::new(), 5));
    assert!(call(&channel, &WAIT, "").is_err());
    assert_eq!(calls(), 6, "the budget of five is spent");
    assert!(call(&channel, &WAIT, "").is_err());
    assert_eq!(calls(), 7, "a fifth of a repetition has been earned since");
    let channel = ends.channel_with(config(quick(u32::MAX), Vec::new(), u32::MAX));
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(50));
    let begun = Instant::now();
    assert!(channel.call::<_, Text>(&WAIT, &controller, &Text::new("")).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5) && calls() > 8);
}

#[test]
fn a_call_between_two_attempts_ends_when_it_is_cancelled_or_its_reactor_stops() {
    let ends = Ends::new();
    let hour = Duration::from_secs(3600);
    let policy = RetryPolicy { attempts_max: 2, pause_min: hour, pause_max: hour };
    let channel = ends.channel_with(config(policy, Vec::new(), 5));
    let controller = RpcController::new();
    controller.set_timeout(hour * 3);
    let (sender, receiver) = mpsc::channel();
    channel.call_async(&WAIT, &controller, &Text::new(""), move |reply: Result<Text, _>| {
        sender.send(reply.unwrap_err()).unwrap();
    });
    // A second call's answer comes after the first one's.
    assert!(call(&channel, &ECHO, "").is_ok());
    assert!(receiver.try_recv().is_err(), "it rests");
    ends.client.stop(LONG);
    let error = receiver.recv_timeout(LONG).unwrap();
    assert!(matches!(error, RpcError::Status { status: Status::Overloaded, .. }), "{error:?}");

    let ends = Ends::new();
    let channel = ends.channel_with(config(quick(u32::MAX), Vec::new(), u32::MAX));
    let controller = RpcController::new();
    let (sender, receiver) = mpsc::channel();
    channel.call_async(&WAIT, &controller, &Text::new(""), move |reply: Result<Text, _>| {
        sender.send(reply.unwrap_err()).unwrap();
    });
    controller.cancel();
    assert!(matches!(receiver.recv_timeout(LONG).unwrap(), RpcError::Cancelled { .. }));
}
