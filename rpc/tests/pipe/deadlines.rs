//! Deadlines of both sides, to the nanosecond of the script.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::common::raw::{request, request_within};
use super::common::*;
use super::*;
use rpc::protocol::decoder::RequestDecoder;
use rpc::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use rpc::{Peer, Status};

fn frame(method: &str, call_id: u64, timeout_ms: u64) -> Vec<u8> {
    request_within(timeout_ms, ("test", method), call_id, b"x")
}

fn replies(peer: &Peer) -> Vec<ReplyFrame> {
    let mut decoder = ReplyDecoder::new(1 << 20);
    decoder.feed(&peer.receive());
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

#[test]
fn a_caller_is_told_at_its_deadline_not_before_and_not_after() {
    let pair = Pair::new();
    let channel = pair.channel();
    let calls: Vec<_> =
        [40, 10, 1000, 25, 1].map(|timeout| (ms(timeout), pair.begin(&channel, &KEEP, ms(timeout)))).into();
    pair.world.settle();
    pair.world.advance(MILLISECOND - NANOSECOND);
    assert!(calls.iter().all(|(_, call)| !call.is_answered()));
    pair.world.advance(ms(1000));
    for (timeout, call) in calls {
        let (when, answer) = call.answer();
        assert_eq!(when, timeout);
        assert_eq!(answer, Err(RpcError::DeadlineExceeded { timeout, may_have_run: true }));
    }
}

#[test]
fn however_many_are_late_one_after_the_other_each_is_told_within_its_bound() {
    let pair = Pair::new();
    let channel = pair.channel();
    let timeout = |number: u64| ms(1_000) + Duration::from_micros(3 * number);
    let calls: Vec<_> =
        (0..30_000).map(|number| (timeout(number), pair.begin(&channel, &KEEP, timeout(number)))).collect();
    pair.world.advance(ms(2_000));
    let mut looks = BTreeSet::new();
    for (timeout, call) in calls {
        let (when, answer) = call.answer();
        looks.insert(when);
        assert!(when >= timeout && when <= timeout + ms(3), "{timeout:?}: told at {when:?}");
        assert!(matches!(answer, Err(RpcError::DeadlineExceeded { .. })));
    }
    // The last thousand are few enough to be looked for one by one.
    assert!(looks.len() < 3_000, "{} looks through so many calls", looks.len());
}

#[test]
fn a_call_that_could_not_leave_in_time_has_not_run_and_never_will() {
    let pair = Pair::new();
    pair.world.cut(server_address());
    let channel = pair.channel();
    let call = pair.begin(&channel, &ECHO, ms(7));
    pair.world.advance(ms(7));
    assert_eq!(
        call.answer(),
        (ms(7), Err(RpcError::DeadlineExceeded { timeout: ms(7), may_have_run: false }))
    );
    // The connection that it waited for is made, and other calls leave on it.
    pair.world.mend(server_address());
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 1, "the promise is kept");
}

#[test]
fn a_call_that_waited_for_its_connection_says_what_is_left_of_its_time() {
    let pair = Pair::new();
    let refusing: SocketAddr = "10.0.0.3:80".parse().unwrap();
    pair.world.cut(refusing);
    pair.world.set_name("store:80", &[refusing, server_address()]);
    let channel = RpcChannel::new(&pair.client, "store:80", ChannelConfig::default());
    let told = |call: usize| pair.service.kept.lock().unwrap()[call].1.context().timeout;
    let first = pair.begin(&channel, &KEEP, ms(5000));
    pair.world.advance(ms(1200) + NANOSECOND);
    let second = pair.begin(&channel, &KEEP, ms(5000));
    channel.send_one_way(&KEEP, &Text::new("one way")).unwrap();
    let large = RpcController::new();
    large.set_timeout(ms(3000));
    let third = channel.begin::<_, Text>(&KEEP, &large, &Text::new(vec![7; 20_000]));
    // The first address has had its two seconds.
    pair.world.advance(ms(800) - NANOSECOND);
    assert_eq!([0, 1, 2, 3].map(told), [ms(3000), ms(4201), ms(4201), ms(2201)], "rounded up");
    let fourth = pair.begin(&channel, &KEEP, ms(5000));
    pair.world.settle();
    assert_eq!(told(4), ms(5000));
    pair.answer_kept();
    pair.world.settle();
    assert!(third.wait().is_ok());
    assert!([first, second, fourth].iter().all(|call| call.answer().1.is_ok()));
}

#[test]
fn a_call_without_time_says_so_and_not_that_the_server_may_decide() {
    let pair = Pair::new();
    let channel = pair.channel();
    let call = pair.begin(&channel, &KEEP, Duration::ZERO);
    pair.world.settle();
    pair.world.advance(NANOSECOND);
    assert!(matches!(call.answer(), (NANOSECOND, Err(RpcError::DeadlineExceeded { .. }))));
    let kept = pair.service.kept.lock().unwrap();
    assert!(kept.iter().all(|(_, reply)| reply.context().timeout == MILLISECOND));
}

#[test]
fn a_server_ends_late_calls_itself_each_at_its_time() {
    let pair = Pair::new();
    let peer = pair.world.connect(server_address());
    for (call_id, timeout_ms) in [(1, 30), (2, 10), (3, 20), (4, 0)] {
        peer.send(&frame("Keep", call_id, timeout_ms));
    }
    pair.world.settle();
    for (call_id, after) in [(2, 10), (3, 10), (1, 10), (4, 4970)] {
        pair.world.advance(ms(after) - NANOSECOND);
        assert_eq!(replies(&peer), []);
        pair.world.advance(NANOSECOND);
        let ended: Vec<_> = replies(&peer).iter().map(|it| (it.head.call_id, it.head.status)).collect();
        assert_eq!(ended, [(call_id, u64::from(Status::DeadlineExceeded.code()))]);
    }
    assert_eq!(pair.world.now(), ms(5000), "the last one had the server's default");
    pair.answer_kept();
    pair.world.settle();
    assert_eq!(replies(&peer), [], "they have had their replies");
}

#[test]
fn a_handler_is_told_what_is_left_and_its_calls_get_no_more() {
    let pair = Pair::new();
    let channel = pair.channel();
    let call = pair.begin(&channel, &KEEP, ms(100));
    pair.world.settle();
    let context = pair.service.kept.lock().unwrap()[0].1.context().clone();
    assert_eq!(context.remaining(), ms(100));
    pair.world.advance(ms(60));
    assert_eq!(context.remaining(), ms(40));
    let nested = context.scope(|| pair.begin(&channel, &KEEP, ms(1000)));
    pair.world.settle();
    let told = pair.service.kept.lock().unwrap()[1].1.context().timeout;
    assert_eq!(told, ms(40));
    pair.world.advance(ms(40));
    assert_eq!((call.answer().0, nested.answer().0), (ms(100), ms(100)));
    let refused = context.scope(|| pair.begin(&channel, &ECHO, ms(1000)));
    assert!(matches!(refused.answer().1, Err(RpcError::DeadlineExceeded { may_have_run: false, .. })));
}

#[test]
fn a_slow_cable_costs_the_call_its_time_and_the_late_reply_nobody() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.begin(&channel, &ECHO, ms(100));
    pair.world.settle();
    pair.world.cut(server_address());
    let late = pair.begin(&channel, &ECHO, ms(30));
    pair.world.advance(ms(30));
    assert!(matches!(late.answer(), (at, Err(RpcError::DeadlineExceeded { .. })) if at == ms(30)));
    let next = pair.begin(&channel, &ECHO, ms(500));
    pair.world.mend(server_address());
    pair.world.settle();
    assert_eq!(next.answer(), (ms(30), Ok(Text::new("x"))));
    assert!(late.is_answered() && late.answers.lock().unwrap().len() == 1);
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 3);
}

#[test]
fn a_frame_that_does_not_become_whole_ends_its_connection_at_its_time() {
    let pair = Pair::new();
    let peer = pair.world.connect(server_address());
    let whole = request("Echo", 1, &[7; 100]);
    peer.send(&whole[..50]);
    pair.world.advance(ms(9_999));
    assert!(!peer.has_ended());
    // A byte a second is no progress.
    peer.send(&whole[50..51]);
    pair.world.advance(MILLISECOND);
    assert!(peer.has_ended());
}

/// The time-outs that the calls of a stream of requests say.
fn timeouts(bytes: &[u8]) -> Vec<u64> {
    let mut decoder = RequestDecoder::new(1 << 20);
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.head.timeout_ms).collect()
}

#[test]
fn a_call_that_waits_behind_a_server_that_takes_nothing_says_what_is_left_when_it_leaves() {
    let pair = Pair::new();
    let address: SocketAddr = "10.0.0.9:80".parse().unwrap();
    let listener = pair.world.listen(address);
    let channel = RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default());
    channel.send_one_way(&KEEP, &Text::new("x")).unwrap();
    pair.world.settle();
    let server = listener.accept().unwrap();
    let mut received = server.receive();
    let frame_bytes = received.len() + 2; // with a call's number
    pair.world.set_pipe_bytes_max(2 * frame_bytes + 5);
    let begin = |timeout| pair.begin(&channel, &KEEP, timeout);
    let first = [(); 5].map(|()| begin(ms(5_000)));
    // Two have left and the third has begun to when nothing is taken for 300 ms and a bit.
    pair.world.advance(ms(300) + MILLISECOND / 5);
    let next = begin(ms(5_000));
    let large = RpcController::new();
    large.set_timeout(ms(3_000));
    let last = channel.begin::<_, Text>(&KEEP, &large, &Text::new(vec![7; 20_000]));
    received.extend(server.receive());
    // The rest of the third and a whole one have left, the next has begun to.
    pair.world.advance(ms(700));
    pair.world.set_pipe_bytes_max(1 << 20);
    received.extend(server.receive());
    pair.world.settle();
    received.extend(server.receive());
    let said = timeouts(&received);
    assert_eq!(said, [5_000, 5_000, 5_000, 5_000, 4_700, 4_700, 4_301, 2_301]);
    // Nothing waits any more.
    let none = begin(ms(1_000));
    pair.world.settle();
    assert_eq!(timeouts(&server.receive()), [1_000]);
    drop((first, next, last, none));
}

#[test]
fn calls_whose_connections_wait_for_their_turn_to_be_written_say_what_is_left_when_they_leave() {
    const CALLS: usize = 40;
    let (pair, timeout) = (Pair::new(), ms(1_000));
    pair.world.set_pipe_bytes_max(1 << 20);
    let listener = pair.world.listen("10.0.0.9:80".parse().unwrap());
    let channels: Vec<_> =
        (0..CALLS).map(|_| RpcChannel::new(&pair.client, "10.0.0.9:80", ChannelConfig::default())).collect();
    channels.iter().for_each(|channel| channel.send_one_way(&KEEP, &Text::new("x")).unwrap());
    pair.world.settle();
    let servers: Vec<_> = std::iter::from_fn(|| listener.accept()).collect();
    servers.iter().for_each(|server| assert!(!server.receive().is_empty()));
    // One is written in a turn, or two.
    pair.world.set_copying(MILLISECOND / 100);
    let callers = channels.clone();
    let call_all = move || {
        for channel in callers {
            let (controller, text) = (RpcController::new(), Text::new(vec![7; 64 << 10]));
            controller.set_timeout(timeout);
            channel.call_async(&KEEP, &controller, &text, |_: Result<Text, _>| {});
        }
    };
    pair.client.run_after(Duration::ZERO, Box::new(call_all));
    pair.world.settle();
    let took = pair.world.now();
    assert!(took > ms(20), "{took:?}");
    let said: Vec<u64> = servers.iter().flat_map(|server| timeouts(&server.receive())).collect();
    assert_eq!(said.len(), CALLS);
    let left = (timeout - took).as_millis() as u64;
    let least = said.iter().min().copied();
    assert!(
        least.is_some_and(|least| (left..left + 4).contains(&least)),
        "{left} ms were left, {least:?} were said"
    );
}
