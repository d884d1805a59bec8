//! No connection gets more than its share of a turn.

use super::common::raw::request_to;
use super::*;
use rpc::{Call, Responder, Service};

/// Notes whose calls it got, turn by turn, and answers them.
#[derive(Default)]
struct Turns {
    /// The connections of the calls of each turn; the last one goes on.
    calls: Mutex<Vec<Vec<u64>>>,
    reply_bytes: usize,
}

impl Service for Turns {
    fn name(&self) -> &str {
        "turns"
    }

    fn call(&self, _: Call<'_>, responder: Responder) {
        let mut calls = self.calls.lock().unwrap();
        if calls.is_empty() {
            calls.push(Vec::new());
        }
        calls.last_mut().unwrap().push(responder.context().connection_id);
        drop(calls);
        responder.send(&Text::new(vec![7; self.reply_bytes]));
    }

    fn end_of_turn(&self) {
        self.calls.lock().unwrap().push(Vec::new());
    }
}

#[test]
fn a_busy_connection_is_read_so_often_a_turn_and_the_others_have_their_turns_between() {
    let (read_bytes_max, reads_per_turn_max) = (4_096, 3);
    let world = Arc::new(Simulation::new(1));
    let config = ReactorConfig { read_bytes_max, reads_per_turn_max, ..ReactorConfig::default() };
    let reactor = world.reactor(config);
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    let turns = Arc::new(Turns::default());
    provider.notify_service(turns.clone()).unwrap();
    provider.listen(SERVER).unwrap();
    world.set_pipe_bytes_max(1 << 21);
    world.set_piece_bytes_max(1 << 21);

    let busy = world.connect(server_address());
    let call = request_to("turns", "Any", 1, &[7; 100]);
    let calls = (1 << 20) / call.len();
    let calls_per_turn_max = (read_bytes_max * reads_per_turn_max).div_ceil(call.len());
    let others: Vec<_> = (0..3).map(|_| world.connect(server_address())).collect();
    let all =
        (1..=calls as u64).flat_map(|id| request_to("turns", "Any", id, &[7; 100])).collect::<Vec<u8>>();
    assert_eq!(busy.send(&all), all.len());
    // All that was sent is there before anything is read of it.
    while turns.calls.lock().unwrap().len() < 2 {
        assert!(world.step());
    }
    others.iter().for_each(|other| assert_eq!(other.send(&call), call.len()));
    world.settle();

    let turns = turns.calls.lock().unwrap();
    let most_used = turns[0][0];
    let of_busy = |turn: &&Vec<u64>| turn.iter().filter(|id| **id == most_used).count();
    assert_eq!(turns.iter().map(|turn| of_busy(&turn)).sum::<usize>(), calls);
    assert!(turns.iter().all(|turn| of_busy(&turn) <= calls_per_turn_max), "at most {calls_per_turn_max}");
    let last_of_others = turns.iter().rposition(|turn| turn.iter().any(|id| *id != most_used)).unwrap();
    let turns_needed = calls / calls_per_turn_max;
    assert!(last_of_others < turns_needed / 2, "turn {last_of_others} of {turns_needed}");
}

#[test]
fn a_connection_whose_replies_are_large_has_one_high_water_mark_of_them_a_turn_however_fast_they_leave() {
    let world = Arc::new(Simulation::new(2));
    let reactor = world.reactor(ReactorConfig::default());
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    let turns = Arc::new(Turns { reply_bytes: 100_000, ..Turns::default() });
    provider.notify_service(turns.clone()).unwrap();
    provider.listen(SERVER).unwrap();
    world.set_pipe_bytes_max(100 << 20);

    let busy = world.connect(server_address());
    let calls = 200;
    let all: Vec<u8> = (1..=calls).flat_map(|id| request_to("turns", "Any", id, b"x")).collect();
    assert_eq!(busy.send(&all), all.len());
    let mut received = 0;
    while received < 100_000 * calls as usize {
        assert!(world.step());
        received += busy.receive().len();
    }
    let turns = turns.calls.lock().unwrap();
    assert_eq!(turns.iter().map(Vec::len).sum::<usize>(), calls as usize);
    let most = turns.iter().map(Vec::len).max().unwrap();
    // 1 MiB, and the reply that goes beyond.
    assert!(most <= (1 << 20) / 100_000 + 1, "{most} calls in a turn");
}

#[test]
fn a_call_that_is_large_leaves_a_part_in_each_turn_and_small_ones_of_other_channels_between() {
    const LARGE: usize = 16 << 20;
    let world = Arc::new(Simulation::new(3));
    let reactor = world.reactor(ReactorConfig::default());
    world.set_pipe_bytes_max(2 * LARGE);
    world.set_piece_bytes_max(2 * LARGE);
    let [large_at, small_at] = [SERVER, "10.0.0.2:80"].map(|address| (address, address.parse().unwrap()));
    let listeners = [&large_at, &small_at].map(|(_, address)| world.listen(*address));
    let [large, small] =
        [large_at, small_at].map(|(name, _)| RpcChannel::new(&reactor, name, ChannelConfig::default()));
    // Connections first: what is measured are writes.
    for channel in [&large, &small] {
        channel.call_async(
            &Method::new("a", "A"),
            &RpcController::new(),
            &Text::new("x"),
            |_: Result<Text, _>| {},
        );
    }
    world.settle();
    let [large_end, small_end] = listeners.map(|listener| listener.accept().unwrap());
    assert!(!large_end.receive().is_empty() && !small_end.receive().is_empty());

    let text = Text::new(vec![7; LARGE]);
    large.call_async(&Method::new("a", "A"), &RpcController::new(), &text, |_: Result<Text, _>| {});
    small.call_async(&Method::new("a", "A"), &RpcController::new(), &Text::new("x"), |_: Result<Text, _>| {});
    let mut received = 0;
    while small_end.receive().is_empty() {
        assert!(world.step());
        received += large_end.receive().len();
    }
    assert!(received < LARGE / 2, "{received} bytes came before the small call");
    world.settle();
    received += large_end.receive().len();
    assert!((LARGE..LARGE + 100).contains(&received), "{received} bytes");
}

#[test]
fn whatever_is_written_at_a_time_all_of_it_arrives_in_order() {
    for write_bytes_per_turn_max in [1, 7, 1_000, 70_000] {
        let world = Arc::new(Simulation::new(4));
        let config = ReactorConfig { write_bytes_per_turn_max, ..ReactorConfig::default() };
        let [server, client] = [(); 2].map(|()| world.reactor(config.clone()));
        let provider = RpcProvider::new(&server, ProviderConfig::default());
        provider.notify_service(Arc::new(TestService::default())).unwrap();
        provider.listen(SERVER).unwrap();
        let channel = RpcChannel::new(&client, SERVER, ChannelConfig::default());
        let answered = Arc::new(Mutex::new(0));
        let sizes = [0, 1, 40_000, 3, 100, 20_000];
        for size in sizes {
            let text = Text::new((0..size).map(|place| (place % 251) as u8).collect::<Vec<u8>>());
            let (expected, answered) = (text.clone(), answered.clone());
            let method = common::ECHO;
            channel.call_async(
                &method,
                &RpcController::new(),
                &text,
                move |reply: Result<Text, RpcError>| {
                    assert_eq!(reply.unwrap(), expected);
                    *answered.lock().unwrap() += 1;
                },
            );
        }
        world.settle();
        assert_eq!(*answered.lock().unwrap(), sizes.len(), "{write_bytes_per_turn_max} bytes at a time");
    }
}
