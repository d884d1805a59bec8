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
