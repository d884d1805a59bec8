//! Channels with several connections.

use super::common::*;
use super::*;
use rpc::ChannelState;

fn pool_of(connections_max: usize) -> ChannelConfig {
    ChannelConfig { connections_max, ..ChannelConfig::default() }
}

/// Calls that are kept, by the server's connection.
fn kept_by_connection(pair: &Pair) -> Vec<usize> {
    let mut ids: Vec<u64> =
        pair.service.kept.lock().unwrap().iter().map(|(_, reply)| reply.context().connection_id).collect();
    ids.sort_unstable();
    ids.chunk_by(|a, b| a == b).map(<[u64]>::len).collect()
}

#[test]
fn a_further_connection_is_made_when_all_have_something_to_do_and_no_more_than_there_may_be() {
    let pair = Pair::new();
    let channel = pair.channel_with(pool_of(3));
    let attempts = || pair.world.attempts(server_address());
    for _ in 0..10 {
        assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
    }
    assert_eq!(attempts(), 1, "one call at a time needs one");
    for (calls, expected) in
        [(1, vec![1]), (2, vec![1, 1]), (3, vec![1, 1, 1]), (4, vec![1, 1, 2]), (9, vec![3, 3, 3])]
    {
        while pair.service.kept.lock().unwrap().len() < calls {
            pair.begin(&channel, &KEEP, ms(1000));
            pair.world.settle();
        }
        let mut kept = kept_by_connection(&pair);
        kept.sort_unstable();
        assert_eq!(kept, expected);
    }
    assert_eq!(attempts(), 3);
}

#[test]
fn each_connection_comes_back_alone_and_calls_avoid_the_one_that_waits() {
    let pair = Pair::new();
    let channel = pair.channel_with(pool_of(2));
    let calls = [(); 2].map(|()| pair.begin(&channel, &KEEP, ms(1000)));
    pair.world.settle();
    assert_eq!(channel.state(), ChannelState::Ready);
    pair.world.reset(server_address());
    pair.world.settle();
    assert!(calls.iter().all(|call| call.answer().1.is_err()));
    let again = [(); 2].map(|()| pair.begin(&channel, &ECHO, ms(1000)));
    pair.world.settle();
    assert!(again.iter().all(|call| call.answer().1.is_ok()));
    assert_eq!(pair.world.attempts(server_address()), 4);
    channel.close();
    assert_eq!(channel.state(), ChannelState::Closed);
}

#[test]
fn a_pool_lets_an_origin_server_have_several_calls_at_a_time() {
    let pair = Pair::new();
    let channel = pair.channel_with(ChannelConfig { legacy: true, ..pool_of(2) });
    let calls = [(); 3].map(|()| pair.begin(&channel, &KEEP, ms(1000)));
    pair.world.settle();
    assert_eq!(kept_by_connection(&pair), [1, 1], "one on each");
    pair.answer_kept();
    pair.world.settle();
    pair.answer_kept();
    pair.world.settle();
    assert!(calls.iter().all(|call| call.answer().1.is_ok()));
}

#[test]
fn a_stream_stays_on_the_connection_that_it_began_on() {
    let pair = Pair::new();
    pair.provider.notify_service(Arc::new(super::flows::Flows::default())).unwrap();
    let channel = pair.channel_with(pool_of(3));
    let begin = || channel.call_client_stream::<Text, Text>(&super::flows::TALLY, &RpcController::new());
    let mut streams = [(); 3].map(|()| begin());
    for number in 0..100 {
        streams.iter_mut().for_each(|(writer, _)| writer.send(&super::flows::message(number)).unwrap());
    }
    for (writer, tally) in streams {
        writer.end();
        assert_eq!(tally.wait(), Ok(Text::new("100")));
    }
    assert_eq!(pair.world.attempts(server_address()), 3);
}
