//! What a channel's owner can see of its connection, and what silence does to it.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use common::*;
use rpc::protocol::encoder::put_pong;
use rpc::{ChannelConfig, ChannelState, RpcChannel, RpcController, RpcError};

fn watch(channel: &RpcChannel) -> Receiver<ChannelState> {
    let (sender, states) = mpsc::channel();
    let sender = Mutex::new(sender);
    channel.on_state_change(move |state| {
        // The test may be over.
        let _ = sender.lock().unwrap().send(state.clone());
    });
    states
}

/// Waits for a state, whatever comes before.
fn until(states: &Receiver<ChannelState>, wanted: impl Fn(&ChannelState) -> bool) -> ChannelState {
    loop {
        let state = states.recv_timeout(LONG).unwrap();
        if wanted(&state) {
            return state;
        }
    }
}

#[test]
fn a_channel_tells_how_its_connection_stands() {
    let ends = Ends::new();
    let pause = Duration::from_secs(60);
    let config = ChannelConfig { backoff_min: pause, backoff_max: pause, ..ChannelConfig::default() };
    let channel = ends.channel_with(config);
    assert_eq!(channel.state(), ChannelState::Idle);
    let states = watch(&channel);
    assert_eq!(states.recv_timeout(LONG).unwrap(), ChannelState::Idle);
    assert!(call(&channel, &ECHO, "x").is_ok());
    assert_eq!(channel.state(), ChannelState::Ready);
    until(&states, |state| *state == ChannelState::Ready);
    ends.server.stop(LONG);
    until(&states, |state| *state == ChannelState::Idle);
    let error = call(&channel, &ECHO, "x").unwrap_err();
    let ChannelState::Waiting { pause: left, error: why } =
        until(&states, |state| matches!(state, ChannelState::Waiting { .. }))
    else {
        unreachable!("as waited for");
    };
    assert_eq!(why, error);
    assert!(left > Duration::from_secs(10) && left <= pause, "{left:?}");
    channel.close();
    assert_eq!(channel.state(), ChannelState::Closed);
    until(&states, |state| *state == ChannelState::Closed);
}

#[test]
fn the_end_of_a_reactor_is_told() {
    let ends = Ends::new();
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "x").is_ok());
    let states = watch(&channel);
    ends.client.stop(LONG);
    until(&states, |state| *state == ChannelState::Closed);
    assert_eq!(channel.state(), ChannelState::Closed);
}

#[test]
fn a_silent_server_that_owes_a_reply_is_pinged_and_cut_long_before_the_deadline() {
    let ends = Ends::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ChannelConfig {
        keep_alive: Duration::from_millis(40),
        ping_timeout: Duration::from_millis(40),
        ..ChannelConfig::default()
    };
    let channel = RpcChannel::new(&ends.client, &listener.local_addr().unwrap().to_string(), config);
    let controller = RpcController::new();
    controller.set_timeout(LONG * 100);
    let begun = Instant::now();
    let reply = channel.begin::<_, Text>(&ECHO, &controller, &Text::new("x"));
    let (mut stream, _) = listener.accept().unwrap();
    // One ping is answered, which buys time; the next is not.
    let is_ping = |bytes: &[u8]| bytes.ends_with(&[0x30, 2]);
    let mut buffer = [0; 1000];
    let mut received = Vec::new();
    while !is_ping(&received) {
        let count = stream.read(&mut buffer).unwrap();
        received.extend(&buffer[..count]);
    }
    let mut pong = Vec::new();
    put_pong(&mut pong, 1 << 40);
    stream.write_all(&pong).unwrap();
    let error = reply.wait().unwrap_err();
    assert!(matches!(error, RpcError::Closed { may_have_run: true, .. }), "{error:?}");
    assert!(error.to_string().contains("no sign of life"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(120), "two silences and an unanswered ping");
    received.clear();
    stream.read_to_end(&mut received).unwrap();
    assert!(is_ping(&received));
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_made_again_when_needed() {
    let ends = Ends::new();
    let config = ChannelConfig { idle_timeout: Duration::from_millis(30), ..ChannelConfig::default() };
    let channel = ends.channel_with(config);
    for _ in 0..3 {
        let states = watch(&channel);
        let controller = RpcController::new();
        // The reactor looks at its watch at this deadline at the latest, and then when the connection has been idle.
        controller.set_timeout(Duration::from_millis(300));
        assert_eq!(channel.call(&ECHO, &controller, &Text::new("x")), Ok(Text::new("x")));
        until(&states, |state| *state == ChannelState::Ready);
        until(&states, |state| *state == ChannelState::Idle);
    }
}

#[test]
fn a_call_in_flight_keeps_its_connection() {
    let ends = Ends::new();
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let config = ChannelConfig {
        idle_timeout: Duration::from_millis(10),
        keep_alive: Duration::from_millis(20),
        ping_timeout: Duration::from_secs(10),
        ..ChannelConfig::default()
    };
    let channel = ends.channel_with(config);
    let states = watch(&channel);
    let reply = channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("x"));
    kept.recv_timeout(LONG).unwrap();
    until(&states, |state| *state == ChannelState::Ready);
    // Some pings later it is still the same connection.
    assert!(states.recv_timeout(Duration::from_millis(150)).is_err());
    let (text, kept_reply) = ends.service.kept.lock().unwrap().pop().unwrap();
    kept_reply.send(&text);
    assert_eq!(reply.wait(), Ok(text));
}
