//! Servers that stop: what was begun is finished, and what comes goes elsewhere.

use super::common::raw::request;
use super::common::*;
use super::*;
use rpc::{ChannelState, RetryConfig, RetryPolicy};

#[test]
fn calls_in_flight_end_well_and_the_next_ones_go_to_the_next_server() {
    for seed in 0..50 {
        let pair = Pair::with(seed, ProviderConfig::default());
        let retry =
            RetryConfig { policy: RetryPolicy::attempts(20), budget_max: 1000, ..RetryConfig::default() };
        let channel = pair.channel_with(ChannelConfig { retry, ..ChannelConfig::default() });
        let old: Vec<_> = (0..10).map(|_| pair.begin(&channel, &KEEP, ms(5_000))).collect();
        pair.world.settle();
        let Pair { provider, service, .. } = &pair;
        let next = RpcProvider::new(&pair.server, ProviderConfig::default());
        next.notify_service(service.clone()).unwrap();
        // While it stops, its address is taken over and its clients go on.
        let answers = service.clone();
        pair.client.run_after(
            ms(300),
            Box::new(move || {
                answers.kept.lock().unwrap().drain(..).for_each(|(text, reply)| reply.send(&text));
            }),
        );
        let during: Vec<_> = (0..10).map(|_| pair.begin(&channel, &ECHO, ms(5_000))).collect();
        provider.stop();
        next.listen(SERVER).unwrap();
        let later: Vec<_> = (0..10).map(|_| pair.begin(&channel, &ECHO, ms(5_000))).collect();
        pair.world.advance(ms(5_000));
        for call in old.iter().chain(&during).chain(&later) {
            assert_eq!(call.answer().1, Ok(Text::new("x")), "seed {seed}");
        }
        assert!(old.iter().all(|call| call.answer().0 >= ms(300)));
    }
}

#[test]
fn a_stop_waits_for_calls_in_flight_up_to_its_bound() {
    let pair = Pair::new();
    let channel = pair.channel();
    let call = pair.begin(&channel, &KEEP, ms(60_000));
    pair.world.settle();
    pair.provider.stop();
    let waited = pair.world.now();
    assert!(waited >= ms(1000) && waited <= ms(1005), "{waited:?}");
    pair.world.settle();
    let error = call.answer().1.unwrap_err();
    assert!(matches!(error, RpcError::Closed { may_have_run: true, .. }), "{error:?}");
}

#[test]
fn a_stop_without_calls_in_flight_takes_no_time_and_clients_leave() {
    let pair = Pair::new();
    let channel = pair.channel();
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
    pair.provider.stop();
    assert!(pair.world.now() <= ms(5), "{:?}", pair.world.now());
    pair.world.settle();
    assert_eq!(channel.state(), ChannelState::Idle);
    let refused = pair.begin(&channel, &ECHO, ms(100));
    pair.world.settle();
    assert!(matches!(refused.answer().1, Err(RpcError::Connect { .. })));
}

#[test]
fn what_was_on_its_way_is_served_and_who_stays_is_closed_in_the_end() {
    // Whichever comes first, the call or the word that the server stops.
    for seed in 0..30 {
        let pair = Pair::with(seed, ProviderConfig::default());
        let peer = pair.world.connect(server_address());
        peer.send(&request("Echo", 1, b"x"));
        pair.world.settle();
        peer.receive();
        peer.send(&request("Echo", 2, b"on its way"));
        pair.provider.stop();
        assert_eq!(pair.world.now(), ms(1000));
        pair.world.settle();
        let received = peer.receive();
        assert!(received.windows(10).any(|part| part == b"on its way"), "seed {seed}");
        assert!(peer.has_ended());
    }
}
