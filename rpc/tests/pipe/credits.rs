//! The credit of streams: who does not read holds up the writer of that stream, and nobody else.

use super::common::raw::request_to;
use super::common::*;
use super::flows::*;
use super::*;
use rpc::{StreamItem, StreamReader};

/// Messages that a window of 64 KiB has room for, with what each costs beside its bytes.
const WINDOW_MESSAGES: u32 = 65_536_u32.div_ceil(MESSAGE_BYTES as u32 + 3 + 32);

fn flowing(seed: u64) -> (Pair, Arc<Flows>) {
    flowing_with(seed, ProviderConfig::default())
}

fn flowing_with(seed: u64, config: ProviderConfig) -> (Pair, Arc<Flows>) {
    let pair = Pair::with(seed, config);
    let flows = Arc::new(Flows::default());
    pair.provider.notify_service(flows.clone()).unwrap();
    (pair, flows)
}

#[test]
fn a_slow_reader_holds_up_its_own_stream_only_and_no_memory() {
    let (pair, flows) = flowing(1);
    let channel = pair.channel();
    let controller = RpcController::new();
    let up_to = Text::new("5000");
    let mut unread: StreamReader<Text> = channel.call_server_stream(&COUNT, &controller, &up_to);
    let mut read: StreamReader<Text> = channel.call_server_stream(&COUNT, &controller, &up_to);
    let sent = |call: usize| *flows.sent.lock().unwrap()[call].lock().unwrap();
    for number in 0..5000 {
        assert_eq!(number_of(&read.next().unwrap().unwrap()), number);
        assert!(sent(0) <= WINDOW_MESSAGES && sent(1) <= number + 1 + WINDOW_MESSAGES);
    }
    assert_eq!(read.next(), Ok(None));
    assert_eq!(sent(0), WINDOW_MESSAGES);
    assert!(pair.begin(&channel, &ECHO, ms(10)).answers.lock().unwrap().is_empty());
    assert!(channel.call::<_, Text>(&ECHO, &controller, &Text::new("others")).is_ok());
    for number in 0..5000 {
        assert_eq!(number_of(&unread.next().unwrap().unwrap()), number);
    }
    assert_eq!(unread.next(), Ok(None));
    assert_eq!(pair.world.now(), Duration::ZERO);
}

#[test]
fn a_server_that_does_not_read_holds_up_that_writer_only() {
    let (pair, _flows) = flowing(2);
    let channel = pair.channel();
    let controller = RpcController::new();
    // Nobody reads the replies, so the requests stop too, two windows and one message later.
    let (mut stuck, replies) = channel.call_both_ways::<Text, Text>(&REPEAT, &controller);
    let mut sent = 0;
    loop {
        let before = sent;
        send_from(&mut sent, 100_000, &mut stuck).unwrap();
        pair.world.settle();
        if sent == before {
            break;
        }
    }
    assert!(sent > WINDOW_MESSAGES && sent <= 2 * WINDOW_MESSAGES + 1, "{sent} messages");
    let (mut flowing, reply) = channel.call_client_stream::<Text, Text>(&TALLY, &controller);
    for number in 0..3000 {
        flowing.send(&message(number)).unwrap();
    }
    flowing.end();
    assert_eq!(reply.wait(), Ok(Text::new("3000")));
    drop((stuck, replies));
}

#[test]
fn whatever_the_pieces_a_stream_arrives_whole_and_in_order() {
    for seed in 0..30 {
        let (pair, _flows) = flowing(seed);
        pair.world.set_piece_bytes_max(1 + seed as usize * 50);
        pair.world.set_pipe_bytes_max(200 + seed as usize * 100);
        let channel = pair.channel();
        let (mut requests, mut replies) =
            channel.call_both_ways::<Text, Text>(&REPEAT, &RpcController::new());
        let (mut sent, mut seen) = (0, 0);
        while seen < 150 {
            send_from(&mut sent, 150, &mut requests).unwrap();
            pair.world.step();
            while let StreamItem::Message(message) = replies.try_next().unwrap() {
                assert_eq!(number_of(&message), seen);
                seen += 1;
            }
        }
        requests.end();
        assert_eq!(replies.next(), Ok(None));
    }
}

#[test]
fn a_message_beyond_the_servers_limit_ends_its_call_which_may_have_run() {
    let (pair, _flows) =
        flowing_with(4, ProviderConfig { args_bytes_max: 2_000, ..ProviderConfig::default() });
    let channel = pair.channel();
    let (mut requests, reply) = channel.call_client_stream::<Text, Text>(&TALLY, &RpcController::new());
    requests.send(&message(0)).unwrap();
    requests.send(&Text::new([7; 3_000])).unwrap();
    let error = reply.wait().unwrap_err();
    let text = "a stream's message of 3003 bytes, the maximum is 2000".to_owned();
    assert_eq!(error, RpcError::Status { status: rpc::Status::Internal, text });
    assert!(error.may_have_run(), "its handler had begun");
    assert!(channel.call::<_, Text>(&ECHO, &RpcController::new(), &Text::new("others")).is_ok());
}

#[test]
fn a_stream_with_a_deadline_ends_at_it_on_both_sides() {
    let (pair, flows) = flowing(3);
    let channel = pair.channel();
    let controller = RpcController::new();
    controller.set_timeout(ms(50));
    let mut replies: StreamReader<Text> = channel.call_server_stream(&COUNT, &controller, &Text::new("1000"));
    pair.world.advance(ms(50) - NANOSECOND);
    assert_eq!(*flows.sent.lock().unwrap()[0].lock().unwrap(), WINDOW_MESSAGES);
    pair.world.advance(NANOSECOND);
    let error = loop {
        if let Err(error) = replies.try_next() {
            break error;
        }
    };
    assert_eq!(error, RpcError::DeadlineExceeded { timeout: ms(50), may_have_run: true });
}

#[test]
fn limits_of_nothing_let_one_after_the_other_pass() {
    let world = Arc::new(Simulation::new(7));
    let reactor = world.reactor(ReactorConfig { accepts_per_turn_max: 0, ..ReactorConfig::default() });
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    provider.notify_service(Arc::new(Flows::default())).unwrap();
    provider.listen(SERVER).unwrap();
    for _ in 0..2 {
        let config = ChannelConfig { stream_window_bytes: 0, ..ChannelConfig::default() };
        let channel = RpcChannel::new(&reactor, SERVER, config);
        let controller = RpcController::new();
        controller.set_timeout(ms(1_000));
        let mut replies: StreamReader<Text> =
            channel.call_server_stream(&COUNT, &controller, &Text::new("3"));
        for number in 0..3 {
            assert_eq!(number_of(&replies.next().unwrap().unwrap()), number);
        }
        assert_eq!(replies.next(), Ok(None));
    }
}

#[test]
fn what_ends_a_stream_is_said_though_its_connection_has_as_much_to_send_as_it_may() {
    let (pair, _flows) = flowing(5);
    let channel = pair.channel_with(ChannelConfig { unsent_bytes_max: 1_000, ..ChannelConfig::default() });
    let controller = RpcController::new();
    controller.set_timeout(ms(1_000));
    let (mut requests, tally) = channel.call_client_stream::<Text, Text>(&TALLY, &controller);
    let replies: StreamReader<Text> = channel.call_server_stream(&COUNT, &controller, &Text::new("5000"));
    requests.send(&message(0)).unwrap();
    pair.world.settle();
    pair.world.set_pipe_bytes_max(10);
    let large = channel.begin::<_, Text>(&ECHO, &controller, &Text::new(vec![7; 5_000]));
    for _ in 0..2 * WINDOW_MESSAGES {
        let refused = requests.try_send(&message(1));
        assert_eq!(refused, Err(RpcError::Busy { limit: "unsent_bytes_max", max: 1_000 }));
    }
    requests.end();
    drop(replies);
    pair.world.settle();
    assert_eq!(tally.wait(), Ok(Text::new("1")));
    assert!(large.wait().is_ok());
    assert_eq!(pair.provider.gauges().calls_in_flight, 0);
}

#[test]
fn a_stream_whose_number_another_call_takes_ends() {
    let (pair, _flows) = flowing(6);
    let peer = pair.world.connect(server_address());
    let twice = [(); 2].map(|()| request_to("flows", "Tally", 1, b""));
    peer.send(&twice.concat());
    pair.world.settle();
    peer.receive();
    drop(peer);
    pair.world.settle();
    assert_eq!(pair.provider.gauges().calls_in_flight, 0);
}
