//! Peers that do what they should not, over raw sockets: at worst their own connection closes.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use common::raw::*;
use common::*;
use rpc::{ProviderConfig, Reserve, RpcController, RpcError, Status};

#[test]
fn requests_glued_together_are_all_answered() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    let glued: Vec<u8> = (1..=500).flat_map(|id| request("Echo", id, format!("{id}").as_bytes())).collect();
    stream.write_all(&glued).unwrap();
    for (reply, id) in read_replies(&mut stream, 500).iter().zip(1..) {
        assert_eq!((reply.head.call_id, text_of(reply)), (id, Text::new(format!("{id}"))));
    }
}

#[test]
fn a_request_one_byte_at_a_time_is_answered() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    for byte in request("Echo", 9, b"slowly") {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("slowly"));
}

#[test]
fn large_requests_come_back_whole() {
    let ends = Ends::new();
    let channel = ends.channel();
    for bytes in [100_000, 1 << 20, 5_000_000] {
        let text: Vec<u8> = (0..bytes).map(|at: u32| (at % 251) as u8).collect();
        assert_eq!(call(&channel, &ECHO, &text).unwrap(), Text::new(&text), "{bytes} bytes");
    }
}

#[test]
fn from_nothing_to_the_very_maximum_all_comes_back_whole_and_no_byte_more() {
    let ends = Ends::new();
    let channel = ends.channel();
    assert_eq!(call(&channel, &ECHO, ""), Ok(Text::default()));
    // The field's tag and its length take five bytes.
    let most = Text { text: vec![7; (64 << 20) - 5].into() };
    assert_eq!(prost::Message::encoded_len(&most), 64 << 20);
    let reply: Result<Text, RpcError> = channel.call(&ECHO, &RpcController::new(), &most);
    assert!(reply == Ok(most), "64 MiB, or their reply, are not whole");
    let beyond =
        RpcError::TooLarge { what: "arguments", bytes: (64 << 20) + 1, max: 64 << 20, may_have_run: false };
    assert_eq!(call(&channel, &ECHO, vec![7; (64 << 20) - 4]), Err(beyond));
}

#[test]
fn garbage_closes_its_connection_and_nothing_else() {
    let ends = Ends::new();
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "before").is_ok());
    let claim_of_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let claim_of_args = [13, 10, 1, b's', 0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x20, 1, 0x28, 1];
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: here.there.example\r\nAccept: everything that there is\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 64],
        &claim_of_4_gib,
        &claim_of_args,
    ] {
        let mut stream = connect(ends.address);
        stream.write_all(garbage).unwrap();
        assert_closed(&mut stream);
        assert!(call(&channel, &ECHO, "after").is_ok());
    }
}

#[test]
fn what_came_before_garbage_is_answered() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    let mut bytes = request("Echo", 1, b"fine");
    bytes.extend([0xff; 100]);
    stream.write_all(&bytes).unwrap();
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("fine"));
    assert_closed(&mut stream);
}

#[test]
fn half_a_frame_and_then_the_end_harms_nobody() {
    let ends = Ends::new();
    let whole = request("Echo", 1, b"never");
    for cut in 0..whole.len() {
        let mut stream = connect(ends.address);
        stream.write_all(&whole[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_closed(&mut stream);
    }
    assert!(call(&ends.channel(), &ECHO, "fine").is_ok());
    assert_eq!(ends.service.calls.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_peer_that_has_stopped_sending_still_gets_its_late_reply() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    stream.write_all(&request("Later", 3, b"")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("later"));
    assert_closed(&mut stream);
}

#[test]
fn pings_are_answered_unknown_kinds_refused_cancels_and_one_way_calls_silent() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    let ping = [4, 0x20, 7, 0x30, 2];
    let unknown = [4, 0x20, 8, 0x30, 7];
    let late_words_of_a_stream =
        [[4, 0x20, 9, 0x30, 4], [4, 0x20, 9, 0x30, 5], [4, 0x20, 9, 0x30, 6]].concat();
    let cancel = [4, 0x20, 99, 0x30, 1];
    let one_way = [14, 10, 4, b't', b'e', b's', b't', 18, 4, b'E', b'c', b'h', b'o', 0x30, 3];
    stream.write_all(&[&ping[..], &unknown, &late_words_of_a_stream, &cancel, &one_way].concat()).unwrap();
    stream.write_all(&request("Echo", 10, b"last")).unwrap();
    let replies = read_replies(&mut stream, 3);
    assert_eq!((replies[0].head.call_id, replies[0].head.status), (7, 0));
    assert_eq!((replies[1].head.call_id, replies[1].head.status), (8, u64::from(Status::BadRequest.code())));
    assert_eq!((replies[2].head.call_id, text_of(&replies[2])), (10, Text::new("last")));
    assert_eq!(ends.service.calls.load(std::sync::atomic::Ordering::SeqCst), 2, "one way, and the last");
}

#[test]
fn a_slow_reader_gets_everything_in_order() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    let text = |id: u64| vec![id as u8; 60_000];
    // Some megabytes more than the system's buffers hold: the server meets a full socket, and reads no more for a while.
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for id in 1..=300 {
            writer.write_all(&request("Echo", id, &text(id))).unwrap();
        }
    });
    for (reply, id) in read_replies(&mut stream, 300).iter().zip(1..) {
        assert_eq!(reply.head.call_id, id);
        assert!(text_of(reply) == Text::new(text(id)), "reply {id}");
    }
    writing.join().unwrap();
}

#[test]
fn too_many_calls_are_refused_at_once() {
    let config = ProviderConfig { calls_in_flight_per_connection_max: 3, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let mut stream = connect(ends.address);
    let glued: Vec<u8> = (1..=5).flat_map(|id| request("Keep", id, b"")).collect();
    stream.write_all(&glued).unwrap();
    for reply in read_replies(&mut stream, 2) {
        assert!(reply.head.call_id > 3);
        assert_eq!(reply.head.status, u64::from(Status::Overloaded.code()));
    }
    for (text, reply) in ends.service.kept.lock().unwrap().drain(..) {
        reply.send(&text);
    }
    assert_eq!(read_replies(&mut stream, 3).len(), 3);
    stream.write_all(&request("Echo", 6, b"room again")).unwrap();
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("room again"));
}

#[test]
fn calls_of_all_connections_are_limited_together() {
    let config = ProviderConfig { calls_in_flight_max: 2, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let (mut first, mut second) = (connect(ends.address), connect(ends.address));
    first
        .write_all(&[request("Keep", 1, b""), request("Keep", 2, b""), request("Keep", 3, b"")].concat())
        .unwrap();
    assert_eq!(read_replies(&mut first, 1)[0].head.status, u64::from(Status::Overloaded.code()));
    second.write_all(&request("Keep", 1, b"")).unwrap();
    assert_eq!(read_replies(&mut second, 1)[0].head.status, u64::from(Status::Overloaded.code()));
}

#[test]
fn connections_beyond_the_limit_and_without_a_reserve_wait_until_one_ends() {
    let reserve = Reserve { connections: 0, ..Reserve::default() };
    let config = ProviderConfig { connections_max: 2, reserve, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let (mut first, mut second, mut third) =
        (connect(ends.address), connect(ends.address), connect(ends.address));
    for stream in [&mut first, &mut second, &mut third] {
        stream.write_all(&request("Echo", 1, b"me")).unwrap();
    }
    read_replies(&mut first, 1);
    read_replies(&mut second, 1);
    third.set_nonblocking(true).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    third.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(text_of(&read_replies(&mut third, 1)[0]), Text::new("me"));
}

#[test]
fn arguments_that_are_no_message_are_a_bad_request() {
    let ends = Ends::new();
    let mut stream = connect(ends.address);
    // Text's field cut short: the frame is whole, the message is not.
    let mut frame = vec![18, 10, 4, b't', b'e', b's', b't', 18, 4, b'E', b'c', b'h', b'o', 0x18, 2, 0x20, 1];
    frame[0] = (frame.len() - 1) as u8;
    frame.extend([10, 9]);
    stream.write_all(&frame).unwrap();
    assert_eq!(read_replies(&mut stream, 1)[0].head.status, u64::from(Status::BadRequest.code()));
}

#[test]
fn arguments_beyond_the_limit_are_refused_with_both_numbers_and_their_connection_lives() {
    let config =
        ProviderConfig { args_bytes_max: 1000, skipped_bytes_max: 300_000, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let mut stream = connect(ends.address);
    let large = request("Echo", 1, &[7; 200_000]);
    let (begin, rest) = large.split_at(100);
    stream.write_all(begin).unwrap();
    let refused = &read_replies(&mut stream, 1)[0];
    assert_eq!((refused.head.call_id, refused.head.status), (1, u64::from(Status::TooLarge.code())));
    assert_eq!(refused.head.error_text, "arguments of 200004 bytes, the maximum is 1000");
    stream.write_all(rest).unwrap();
    stream.write_all(&request("Echo", 2, b"the next")).unwrap();
    assert_eq!(text_of(&read_replies(&mut stream, 1)[0]), Text::new("the next"));
    let beyond = request("Echo", 3, &[7; 300_000]);
    stream.write_all(&beyond[..100]).unwrap();
    assert_closed(&mut stream);

    let channel = ends.channel();
    let error = call(&channel, &ECHO, [0; 2000]).unwrap_err();
    let text = "arguments of 2003 bytes, the maximum is 1000".to_owned();
    assert_eq!(error, RpcError::Status { status: Status::TooLarge, text });
    assert!(!error.may_have_run());
}

#[test]
fn a_reply_beyond_the_limit_is_internal_and_says_both_numbers() {
    let config = ProviderConfig { reply_bytes_max: 100, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let error = call(&ends.channel(), &ECHO, [0; 200]).unwrap_err().to_string();
    assert!(error.contains("INTERNAL") && error.contains("203") && error.contains("100"), "{error}");
}
