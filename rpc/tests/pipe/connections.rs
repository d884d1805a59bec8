//! How connections come to be and end.

use super::common::raw::request;
use super::common::*;
use super::*;
use rpc::protocol::decoder::HEADER_BYTES_MAX;
use rpc::protocol::encoder::put_legacy_call;
use rpc::{ChannelState, Step};

#[test]
fn a_connection_is_made_by_the_first_call_and_serves_all() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.world.settle();
    assert_eq!((channel.state(), pair.world.attempts(server_address())), (ChannelState::Idle, 0));
    let calls: Vec<_> = (0..100).map(|_| pair.begin(&channel, &ECHO, ms(10))).collect();
    assert_eq!(channel.state(), ChannelState::Connecting);
    pair.world.settle();
    assert_eq!(channel.state(), ChannelState::Ready);
    assert!(calls.iter().all(|call| call.answer().1.is_ok()));
    assert_eq!(pair.world.attempts(server_address()), 1);
}

#[test]
fn a_server_without_descriptors_accepts_when_there_are_some_whatever_was_due_meanwhile() {
    let pair = Pair::new();
    pair.world.set_exhausted(true);
    let _peer = pair.world.connect(server_address());
    pair.world.settle();
    pair.world.set_exhausted(false);
    pair.server.run_after(ms(10), Box::new(|| {}));
    pair.world.advance(ms(49));
    assert_eq!(pair.provider.gauges().connections, 0);
    pair.world.advance(ms(1));
    assert_eq!(pair.provider.gauges().connections, 1);
}

#[test]
fn names_that_fit_no_header_are_refused_and_the_longest_that_do_arrive() {
    let pair = Pair::new();
    let auth_token = rpc::AuthToken::new(vec![b't'; rpc::AUTH_TOKEN_BYTES_MAX]);
    let channel = pair.channel_with(ChannelConfig { auth_token, ..ChannelConfig::default() });
    let max = HEADER_BYTES_MAX - rpc::AUTH_TOKEN_BYTES_MAX - 80;
    // The service's name takes 6 bytes, the tag and length of the method's 3.
    for (bytes, fits) in [(max - 9, true), (max - 8, false)] {
        let name: &'static str = "n".repeat(bytes).leak();
        let answer = pair.begin(&channel, &Method::new("test", name), ms(1_000));
        let sent = channel.send_one_way(&Method::new("test", name), &Text::new("x"));
        pair.world.settle();
        let error = answer.answer().1.unwrap_err();
        let text =
            if fits { "NO_SUCH_METHOD" } else { "a method's names of 1969 bytes, the maximum is 1968" };
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(sent.is_ok(), fits);
    }
}

#[test]
fn a_name_is_looked_up_and_its_addresses_are_tried_in_turn() {
    let pair = Pair::new();
    let channel = RpcChannel::new(&pair.client, "store:80", ChannelConfig::default());
    let unknown = pair.begin(&channel, &ECHO, ms(100));
    pair.world.settle();
    assert!(matches!(unknown.answer().1, Err(RpcError::Resolve { address, .. }) if address == "store:80"));
    let refusing: SocketAddr = "[fd00::1]:80".parse().unwrap();
    let silent: SocketAddr = "10.0.0.3:80".parse().unwrap();
    pair.world.cut(silent);
    pair.world.set_name("store:80", &[refusing, silent, server_address()]);
    pair.world.advance(ms(100));
    let call = pair.begin(&channel, &ECHO, ms(10_000));
    pair.world.advance(ms(5_000));
    assert_eq!(call.answer(), (ms(2_100), Ok(Text::new("x"))), "the time of one attempt");
    assert_eq!([refusing, silent].map(|address| pair.world.attempts(address)), [1, 1]);
}

#[test]
fn an_unused_connection_is_closed_by_its_client_at_its_time() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.begin(&channel, &ECHO, ms(100));
    pair.world.settle();
    pair.world.advance(Duration::from_secs(300) - NANOSECOND);
    assert_eq!(channel.state(), ChannelState::Ready);
    pair.world.advance(NANOSECOND);
    assert_eq!(channel.state(), ChannelState::Idle);
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
    assert_eq!(pair.world.attempts(server_address()), 2);
}

#[test]
fn an_unused_connection_is_told_to_leave_by_its_server_and_then_closed() {
    let pair = Pair::new();
    let peer = pair.world.connect(server_address());
    peer.send(&request("Echo", 1, b"x"));
    let origin = pair.world.connect(server_address());
    let mut call_of_origin = Vec::new();
    put_legacy_call(
        &mut call_of_origin,
        rpc::protocol::encoder::Names::Plain("test", "Echo"),
        &Text::new("x"),
        3,
    );
    origin.send(&call_of_origin);
    pair.world.settle();
    assert!(!peer.receive().is_empty());
    let idle = Duration::from_secs(600);
    pair.world.advance(idle - NANOSECOND);
    assert_eq!(peer.receive(), []);
    pair.world.advance(NANOSECOND);
    assert!(peer.receive().ends_with(&[0x30, 1]), "going away");
    pair.world.advance(idle - NANOSECOND);
    assert!(!peer.has_ended());
    pair.world.advance(NANOSECOND);
    assert!(peer.has_ended());
    origin.receive();
    pair.world.advance(Duration::from_secs(86_400));
    origin.send(&call_of_origin);
    pair.world.settle();
    assert_eq!(origin.receive().len(), 3, "the origin's connections are kept");
}

#[test]
fn a_peer_that_takes_a_long_reply_slowly_is_not_idle() {
    let idle_timeout = ms(2_000);
    let pair = Pair::with(1, ProviderConfig { idle_timeout, ..ProviderConfig::default() });
    let peer = pair.world.connect(server_address());
    peer.send(&request("Bytes", 1, b"1000000"));
    pair.world.settle();
    let mut received = peer.receive();
    while received.len() < 1_000_000 {
        assert!(!peer.has_ended(), "closed after {} bytes at {:?}", received.len(), pair.world.now());
        pair.world.advance(ms(500));
        received.extend(peer.receive());
    }
    assert!(!received.ends_with(&[0x30, 1]), "nor told to leave");
    pair.world.advance(2 * idle_timeout);
    assert!(peer.receive().ends_with(&[0x30, 1]));
}

#[test]
fn a_half_closed_peer_gets_the_replies_that_come_in_time() {
    let pair = Pair::new();
    let peers = [(); 2].map(|()| pair.world.connect(server_address()));
    for peer in &peers {
        peer.send(&request("Keep", 1, b"x"));
        peer.end();
        pair.world.settle();
    }
    pair.world.advance(ms(9_000));
    let (text, reply) = pair.service.kept.lock().unwrap().remove(0);
    reply.send(&text);
    pair.world.advance(ms(999));
    assert!(!peers[0].receive().is_empty() && peers[0].has_ended());
    assert!(!peers[1].has_ended());
    pair.world.advance(ms(6));
    assert!(peers[1].has_ended(), "half_closed_timeout is over");
    assert_eq!(peers[1].receive(), []);
}

#[test]
fn a_channel_that_is_closed_twice_takes_nothing_from_the_one_that_came_after_it() {
    let pair = Pair::new();
    let [closed, next] = [(); 2].map(|()| pair.channel());
    let first = pair.begin(&closed, &KEEP, ms(1000));
    pair.world.settle();
    closed.close();
    pair.world.settle();
    assert!(matches!(first.answer().1, Err(RpcError::Stopped { .. })));
    let late = pair.begin(&next, &KEEP, ms(50));
    pair.world.settle();
    closed.close();
    drop(closed);
    pair.world.advance(ms(50));
    assert!(matches!(late.answer(), (at, Err(RpcError::DeadlineExceeded { .. })) if at == ms(50)));
}

#[test]
fn what_waits_for_its_turn_at_an_origin_server_is_bounded_in_bytes() {
    let pair = Pair::new();
    let config = ChannelConfig { legacy: true, unsent_bytes_max: 1_000, ..ChannelConfig::default() };
    let channel = pair.channel_with(config);
    let call =
        |bytes: usize| channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new(vec![7; bytes]));
    let outstanding = call(10);
    let waiting: Vec<_> = (0..3).map(|_| call(600)).collect();
    let full = RpcError::Busy { limit: "unsent_bytes_max", max: 1_000 };
    assert_eq!(call(10).wait(), Err(full.clone()), "two of them are beyond, and the third was refused, too");
    let mut waiting = waiting.into_iter();
    assert!(waiting.next_back().is_some_and(|third| third.wait() == Err(full)));
    // Given up, they make room.
    drop(waiting);
    let next = call(10);
    pair.world.settle();
    pair.answer_kept();
    assert!(outstanding.wait().is_ok());
    pair.world.settle();
    pair.answer_kept();
    assert!(next.wait().is_ok());
}

#[test]
fn a_peer_whose_replies_cannot_be_written_is_not_waited_for() {
    let pair = Pair::new();
    let peer = pair.world.connect(server_address());
    for call_id in [1, 2] {
        peer.send(&request("Keep", call_id, b"x"));
    }
    pair.world.settle();
    pair.world.reset(server_address());
    // The reactor has not heard of it yet: the write fails, and then the end of the stream is read.
    let (text, reply) = pair.service.kept.lock().unwrap().remove(0);
    reply.send(&text);
    pair.world.settle();
    assert_eq!(pair.provider.gauges().connections, 0, "though a call is in flight and a reply unsent");
    pair.answer_kept();
    pair.world.settle();
    let gauges = pair.provider.gauges();
    assert_eq!((gauges.calls_in_flight, gauges.unsent_bytes), (0, 0));
}

#[test]
fn when_channels_have_too_much_to_send_all_together_calls_are_refused_until_it_has_left() {
    let pair = Pair::new();
    let client =
        pair.world.reactor(ReactorConfig { unsent_bytes_total_max: 100_000, ..ReactorConfig::default() });
    let silent: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let to = |address: SocketAddr| RpcChannel::new(&client, &address.to_string(), ChannelConfig::default());
    let call = |channel: &RpcChannel, bytes: usize, timeout: Duration| {
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        channel.begin::<_, Text>(&ECHO, &controller, &Text::new(vec![7; bytes]))
    };
    pair.world.cut(silent);
    // What waits for its connection counts, and what a server does not take.
    let opening = to(silent);
    let first = call(&opening, 60_000, ms(5000));
    let taken = to(server_address());
    assert!(call(&taken, 10, ms(1000)).wait().is_ok());
    pair.world.set_pipe_bytes_max(1_000);
    pair.world.cut(server_address());
    let second = call(&taken, 60_000, ms(10_000));
    let refused = RpcError::Busy { limit: "unsent_bytes_total_max", max: 100_000 };
    for channel in [&opening, &taken, &to(server_address())] {
        assert_eq!(call(channel, 1, ms(1000)).wait(), Err(refused.clone()));
        assert_eq!(channel.send_one_way(&ECHO, &Text::new("x")), Err(refused.clone()));
    }
    // The attempt fails, and what waited for it is forgotten.
    assert!(matches!(first.wait(), Err(RpcError::Connect { .. })));
    let third = call(&taken, 30_000, ms(10_000));
    pair.world.mend(server_address());
    assert!(third.wait().is_ok() && second.wait().is_ok());
    let cut = call(&taken, 110_000, ms(1000));
    let other = to(server_address());
    assert!(matches!(call(&other, 10, ms(1000)).wait(), Err(RpcError::Busy { .. })));
    taken.close();
    assert!(matches!(cut.wait(), Err(RpcError::Stopped { .. })));
    assert!(call(&other, 10, ms(1000)).wait().is_ok(), "what was closed counts no more");
}

#[test]
fn a_broken_connection_ends_its_calls_and_says_whether_they_may_have_run() {
    let pair = Pair::new();
    let channel = pair.channel();
    pair.begin(&channel, &ECHO, ms(10));
    pair.world.settle();
    let has_left = pair.begin(&channel, &KEEP, ms(1000));
    pair.world.settle();
    pair.world.set_pipe_bytes_max(8);
    let has_not = pair.begin(&channel, &KEEP, ms(1000));
    pair.world.reset(server_address());
    pair.world.settle();
    for (call, may_have_run) in [(has_left, true), (has_not, false)] {
        let (address, cause, step) = (SERVER.to_owned(), "reading: connection reset".to_owned(), Step::Read);
        assert_eq!(call.answer().1, Err(RpcError::Closed { address, step, cause, may_have_run }));
    }
    assert_eq!(channel.state(), ChannelState::Idle, "the connection had proven good");
}

#[test]
fn a_broken_connection_says_whether_reading_or_writing_has_failed() {
    for (step, cause, may_have_run) in
        [(Step::Read, "reading: connection reset", true), (Step::Write, "writing: broken pipe", false)]
    {
        let pair = Pair::new();
        let channel = pair.channel();
        let mut call = pair.begin(&channel, &KEEP, ms(1000));
        pair.world.settle();
        pair.world.reset(server_address());
        if step == Step::Write {
            // The reactor has not heard of it yet.
            call = pair.begin(&channel, &KEEP, ms(1000));
        }
        pair.world.settle();
        let (address, cause) = (SERVER.to_owned(), cause.to_owned());
        assert_eq!(call.answer().1, Err(RpcError::Closed { address, step, cause, may_have_run }));
    }
}

#[test]
fn when_peers_leave_too_much_untaken_all_together_new_calls_are_refused_until_they_take_it() {
    let config = ProviderConfig { unsent_bytes_total_max: 100_000, ..ProviderConfig::default() };
    let pair = Pair::with(1, config);
    pair.world.set_pipe_bytes_max(1_000);
    let channel = pair.channel();
    let peers = [(); 2].map(|()| pair.world.connect(server_address()));
    let call = || channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x"));
    peers[0].send(&request("Bytes", 1, b"60000"));
    pair.world.settle();
    let unsent = pair.provider.gauges().unsent_bytes;
    assert!((59_000..59_100).contains(&unsent), "{unsent}, which is what the pipe does not hold");
    assert!(call().is_ok());
    peers[1].send(&request("Bytes", 1, b"60000"));
    pair.world.settle();
    let text = "too many replies are not taken, unsent_bytes_total_max is 100000".to_owned();
    assert_eq!(call(), Err(RpcError::Status { status: rpc::Status::Overloaded, text }));
    while pair.provider.gauges().unsent_bytes > 100_000 {
        peers[0].receive();
        pair.world.settle();
    }
    assert!(call().is_ok());
    drop(peers);
    // One that has closed its sending side may still read: it is kept for so long.
    pair.world.advance(ms(10_005));
    let gauges = pair.provider.gauges();
    assert_eq!((gauges.unsent_bytes, gauges.connections, gauges.calls_in_flight), (0, 1, 0));
}

#[test]
fn a_peer_that_takes_no_replies_is_cut_at_its_time_and_the_others_are_served() {
    let pair = Pair::new();
    let peer = pair.world.connect(server_address());
    for call_id in 1..=4 {
        peer.send(&request("Bytes", call_id, b"60000"));
    }
    pair.world.settle();
    let channel = pair.channel();
    pair.world.advance(Duration::from_secs(30) - NANOSECOND);
    assert!(pair.begin(&channel, &ECHO, ms(10)).answers.lock().unwrap().is_empty());
    pair.world.settle();
    assert!(!peer.has_ended());
    pair.world.advance(NANOSECOND);
    peer.receive();
    pair.world.settle();
    assert!(peer.has_ended());
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("x")).is_ok());
}
