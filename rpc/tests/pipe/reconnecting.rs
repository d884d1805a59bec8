//! Attempts to connect: how often, how long apart, and what a channel says of them.

use super::common::*;
use super::*;
use rpc::ChannelState;

/// The pause that a channel says it makes.
fn pause_of(channel: &RpcChannel) -> Option<Duration> {
    match channel.state() {
        ChannelState::Waiting { pause, error: RpcError::Connect { .. } } => Some(pause),
        _ => None,
    }
}

#[test]
fn pauses_double_with_jitter_up_to_the_cap_and_calls_fail_at_once_meanwhile() {
    let mut first_pauses = Vec::new();
    for seed in 0..50 {
        let pair = Pair::with(seed, ProviderConfig::default());
        let address: SocketAddr = "10.0.0.9:80".parse().unwrap();
        let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
        for attempt in 1..=12 {
            let call = pair.begin(&channel, &ECHO, ms(10_000));
            pair.world.settle();
            let (_, error) = call.answer();
            assert!(matches!(error, Err(RpcError::Connect { .. })), "{error:?}");
            assert_eq!(pair.world.attempts(address), attempt);
            let whole = ms(10 << (attempt - 1)).min(ms(1000));
            let pause = pause_of(&channel).unwrap();
            assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
            if attempt == 1 {
                first_pauses.push(pause);
            }
            pair.world.advance(pause - NANOSECOND);
            assert_eq!(pause_of(&channel), Some(NANOSECOND));
            assert_eq!(pair.begin(&channel, &ECHO, ms(10)).answer().1, error, "the same cause, at once");
            pair.world.advance(NANOSECOND);
        }
    }
    first_pauses.sort_unstable();
    first_pauses.dedup();
    assert!(first_pauses.len() > 40, "no jitter");
    assert!(first_pauses[0] < ms(6) && first_pauses[first_pauses.len() - 1] > ms(9));
}

#[test]
fn a_server_that_is_back_is_found_and_the_pauses_begin_anew() {
    let pair = Pair::new();
    let config = ChannelConfig { wait_for_ready: true, ..ChannelConfig::default() };
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", config);
    let call = pair.begin(&channel, &ECHO, Duration::from_secs(60));
    pair.world.advance(Duration::from_secs(20));
    assert!(!call.is_answered());
    let attempts = pair.world.attempts("10.0.0.9:80".parse().unwrap());
    assert!((25..60).contains(&attempts), "{attempts} attempts in 20 s at a cap of 1 s");
    pair.provider.listen("10.0.0.9:80").unwrap();
    pair.world.advance(ms(1010));
    assert_eq!(call.answer().1, Ok(Text::new("x")));
    pair.world.reset("10.0.0.9:80".parse().unwrap());
    pair.world.settle();
    assert_eq!(channel.state(), ChannelState::Idle);
}

#[test]
fn an_attempt_that_hangs_ends_at_its_time_and_its_callers_with_it() {
    let pair = Pair::new();
    pair.world.cut(server_address());
    let channel = pair.channel();
    let call = pair.begin(&channel, &ECHO, ms(10_000));
    pair.world.advance(ms(1999));
    assert_eq!(channel.state(), ChannelState::Connecting);
    pair.world.advance(MILLISECOND);
    let (when, answer) = call.answer();
    assert_eq!(when, ms(2000));
    let timed_out = RpcError::Connect { address: SERVER.to_owned(), cause: "timed out".to_owned() };
    assert_eq!(answer, Err(timed_out));
}

#[test]
fn a_server_that_takes_connections_and_drops_them_is_not_stormed() {
    let pair = Pair::new();
    let address: SocketAddr = "10.0.0.9:80".parse().unwrap();
    let listener = pair.world.listen(address);
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
    let mut ended = 0;
    for _ in 0..10_000 {
        let call = pair.begin(&channel, &ECHO, ms(100));
        pair.world.settle();
        drop(listener.accept());
        pair.world.settle();
        ended += usize::from(call.is_answered());
        pair.world.advance(MILLISECOND);
    }
    assert_eq!(ended, 10_000);
    let attempts = pair.world.attempts(address);
    assert!((10..40).contains(&attempts), "{attempts} attempts in 10 s");
}
