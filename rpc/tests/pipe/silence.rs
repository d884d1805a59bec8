//! Peers that have vanished: found within a bound while they owe something, left alone while they do not.

use super::common::raw::request;
use super::common::*;
use super::*;
use rpc::protocol::encoder::{put_going_away, put_pong};
use rpc::{ChannelState, Step};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_server_that_vanishes_while_it_owes_a_reply_is_found_within_its_bound() {
    for seed in 0..20 {
        let pair = Pair::with(seed, ProviderConfig::default());
        let channel = pair.channel();
        pair.begin(&channel, &ECHO, ms(100));
        pair.world.advance(ms(3_000));
        let call = pair.begin(&channel, &KEEP, HOUR);
        pair.world.settle();
        pair.world.cut(server_address());
        // 10 s of silence since the call was begun, and a second for the answer to the ping.
        pair.world.advance(ms(11_000) - NANOSECOND);
        assert!(!call.is_answered());
        pair.world.advance(NANOSECOND);
        let (when, answer) = call.answer();
        assert_eq!(when, ms(14_000));
        let error = answer.unwrap_err();
        assert!(error.to_string().contains("no sign of life") && error.may_have_run(), "{error}");
        pair.world.mend(server_address());
        assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
        assert_eq!(pair.world.attempts(server_address()), 2);
    }
}

#[test]
fn a_server_that_is_slow_but_alive_is_asked_and_kept() {
    let pair = Pair::new();
    let channel = pair.channel();
    let call = pair.begin(&channel, &KEEP, HOUR);
    pair.world.advance(HOUR - MILLISECOND);
    pair.answer_kept();
    pair.world.settle();
    assert_eq!(call.answer(), (HOUR - MILLISECOND, Ok(Text::new("x"))));
    assert_eq!(pair.world.attempts(server_address()), 1);
}

#[test]
fn a_server_that_takes_a_long_call_slowly_is_kept_until_it_takes_nothing_more() {
    const LARGE: usize = 4 << 20;
    let pair = Pair::new();
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
    let controller = RpcController::new();
    controller.set_timeout(HOUR);
    let call = channel.begin::<_, Text>(&KEEP, &controller, &Text::new(vec![7; LARGE]));
    pair.world.settle();
    let server = listener.accept().unwrap();
    let mut received = server.receive().len();
    while received < LARGE {
        assert!(!server.has_ended(), "cut after {received} bytes, at {:?}", pair.world.now());
        pair.world.advance(ms(500));
        received += server.receive().len();
    }
    let taken = pair.world.now();
    assert!(taken > ms(30_000));
    let error = call.wait().unwrap_err();
    assert!(error.to_string().contains("no sign of life") && error.may_have_run(), "{error}");
    assert!(matches!(error, RpcError::Closed { step: Step::KeepAlive, .. }), "{error:?}");
    assert!(pair.world.now() - taken <= ms(2_000), "the ping was the last to leave");
}

#[test]
fn a_call_that_is_late_has_a_silent_server_asked_at_once() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.begin(&channel, &ECHO, ms(100));
    pair.world.settle();
    pair.world.cut(server_address());
    let [late, long] = [ms(200), HOUR].map(|timeout| pair.begin(&channel, &KEEP, timeout));
    pair.world.advance(HOUR);
    assert_eq!(late.answer().0, ms(200));
    assert_eq!(long.answer().0, ms(1_200), "not only after keep_alive");
}

#[test]
fn a_server_that_goes_away_is_listened_to_for_itself_until_its_last_reply() {
    let pair = Pair::new();
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
    let connect = || {
        let call = pair.begin(&channel, &KEEP, HOUR);
        pair.world.settle();
        (call, listener.accept().unwrap())
    };
    let (of_old, old) = connect();
    let (mut going_away, mut pong) = (Vec::new(), Vec::new());
    put_going_away(&mut going_away);
    put_pong(&mut pong, 7);
    old.send(&going_away);
    pair.world.settle();
    let (of_next, _next) = connect();
    // What the old one says is no word of the next one's.
    for _ in 0..12 {
        pair.world.advance(ms(1_000));
        old.send(&pong);
    }
    let [when_of_next, when_of_old] = [of_next, of_old].map(|call| {
        pair.world.advance(ms(11_000));
        let (when, answer) = call.answer();
        assert!(answer.unwrap_err().to_string().contains("no sign of life"));
        when
    });
    assert_eq!((when_of_next, when_of_old), (ms(11_000), ms(23_000)));
}

#[test]
fn who_owes_nothing_is_not_asked() {
    let pair = Pair::new();
    let config = ChannelConfig { idle_timeout: HOUR * 2, ..ChannelConfig::default() };
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", config);
    channel.send_one_way(&ECHO, &Text::new("x")).unwrap();
    pair.world.settle();
    let peer = listener.accept().unwrap();
    assert!(!peer.receive().is_empty());
    pair.world.advance(ms(10_000));
    assert!(!peer.receive().is_empty(), "it was asked whether it is there for what it was told");
    let mut pong = Vec::new();
    put_pong(&mut pong, 7);
    peer.send(&pong);
    pair.world.advance(HOUR);
    assert_eq!(peer.receive(), [], "no further ping");
    assert_eq!(channel.state(), ChannelState::Ready);
}

#[test]
fn a_server_that_vanishes_from_one_who_only_tells_it_things_is_found() {
    let pair = Pair::new();
    let channel = pair.channel();
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
    pair.world.cut(server_address());
    pair.world.advance(ms(60_000));
    channel.send_one_way(&ECHO, &Text::new("x")).unwrap();
    pair.world.advance(ms(5_000));
    channel.send_one_way(&ECHO, &Text::new("x")).unwrap();
    pair.world.advance(ms(6_000) - NANOSECOND);
    assert_eq!(channel.state(), ChannelState::Ready);
    pair.world.advance(NANOSECOND);
    assert_eq!(
        channel.state(),
        ChannelState::Idle,
        "10 s of silence since it was told, a second for an answer"
    );
}

#[test]
fn an_origin_server_is_never_pinged_and_its_connection_never_closed_for_silence() {
    let pair = Pair::new();
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let config = ChannelConfig { legacy: true, ..ChannelConfig::default() };
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", config);
    let call = pair.begin(&channel, &ECHO, HOUR * 3);
    pair.world.settle();
    let peer = listener.accept().unwrap();
    assert!(!peer.receive().is_empty());
    pair.world.advance(HOUR);
    assert_eq!(peer.receive(), []);
    peer.send(&[0x0a, 1, b'y']);
    pair.world.settle();
    assert_eq!(call.answer(), (HOUR, Ok(Text::new("y"))));
    pair.world.advance(HOUR * 24);
    assert!(!peer.has_ended());
    assert_eq!(channel.state(), ChannelState::Ready);
}

#[test]
fn a_client_that_vanishes_costs_the_server_nothing_but_a_connection_until_it_is_idle() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.begin(&channel, &KEEP, ms(2_000));
    pair.world.settle();
    let context = pair.service.kept.lock().unwrap()[0].1.context().clone();
    pair.world.cut(server_address());
    pair.world.advance(ms(2_000));
    assert!(context.is_cancelled(), "its time is over, whoever is there");
}

#[test]
fn what_a_server_said_while_the_process_was_stopped_is_heard_before_its_silence_is_judged() {
    let pair = Pair::new();
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
    let call = pair.begin(&channel, &KEEP, HOUR);
    pair.world.settle();
    let peer = listener.accept().unwrap();
    assert!(!peer.receive().is_empty());
    pair.world.advance(ms(10_000));
    assert!(!peer.receive().is_empty(), "it is asked for a sign of life");
    let mut pong = Vec::new();
    put_pong(&mut pong, 7);
    peer.send(&pong);
    pair.world.pause(ms(5_000));
    pair.world.settle();
    assert!(!peer.has_ended() && !call.is_answered());
}

#[test]
fn what_a_client_did_while_the_process_was_stopped_counts_before_the_clock_judges() {
    let timeout = ms(300);
    let config = ProviderConfig {
        unfinished_timeout: timeout,
        stalled_timeout: timeout,
        idle_timeout: timeout,
        ..ProviderConfig::default()
    };
    let pair = Pair::with(1, config);
    let request = request("Bytes", 1, b"500000");
    let peer = pair.world.connect(server_address());
    peer.send(&request[..10]);
    pair.world.advance(ms(200));
    peer.send(&request[10..]);
    // The rest of the request has come; then the peer has taken what there was of the reply, over and over.
    let mut received = 0;
    while received < 500_000 {
        pair.world.pause(2 * timeout);
        pair.world.settle();
        assert!(!peer.has_ended(), "cut when {received} bytes of the reply had been taken");
        received += peer.receive().len();
    }
}
