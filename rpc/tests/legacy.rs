//! Programs of the origin, on either side, by raw sockets (design §3.2).

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::*;
use prost::Message;
use rpc::protocol::encoder::{Names, put_call, put_legacy_call};
use rpc::{ChannelConfig, ProviderConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError};

/// What an origin client takes at once, in bytes.
const READ_BYTES: usize = 1024;

struct OriginClient {
    stream: TcpStream,
}

impl OriginClient {
    fn connect(ends: &Ends) -> OriginClient {
        let stream = TcpStream::connect(ends.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        OriginClient { stream }
    }

    fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).unwrap();
    }

    /// One read, as the origin does it.
    fn receive(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; READ_BYTES];
        let count = self.stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "closing reads as success with empty fields");
        buffer.truncate(count);
        buffer
    }

    fn assert_silent(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
    }
}

fn frame_to(service: &str, method: &str, body: &Text) -> Vec<u8> {
    let mut buffer = Vec::new();
    put_legacy_call(&mut buffer, Names::Plain(service, method), body, body.encoded_len());
    buffer
}

fn frame(method: &str, text: impl AsRef<[u8]>) -> Vec<u8> {
    frame_to("test", method, &Text::new(text))
}

fn fixed_frame(method: &str, text: impl AsRef<[u8]>) -> Vec<u8> {
    let frame = frame(method, text);
    assert!(frame[0] < 0x80);
    [&[frame[0], 0, 0, 0], &frame[1..]].concat()
}

#[test]
fn a_reply_is_the_bare_message() {
    let ends = Ends::new();
    let mut client = OriginClient::connect(&ends);
    for text in ["one", "two", "three"] {
        client.send(&frame("Echo", text));
        assert_eq!(client.receive(), Text::new(text).encode_to_vec());
    }
}

#[test]
fn both_forms_of_the_header_length_are_understood_also_byte_by_byte() {
    let ends = Ends::new();
    for is_fixed in [false, true] {
        let make = |method, text| if is_fixed { fixed_frame(method, text) } else { frame(method, text) };
        let mut client = OriginClient::connect(&ends);
        client.stream.set_nodelay(true).unwrap();
        for text in ["first", "second"] {
            for byte in make("Echo", text) {
                client.send(&[byte]);
            }
            assert_eq!(client.receive(), Text::new(text).encode_to_vec());
        }
    }
}

#[test]
fn a_header_length_of_two_bytes_is_a_varint() {
    let ends = Ends::new();
    let mut client = OriginClient::connect(&ends);
    let long_name = "x".repeat(200);
    client.send(&frame_to("test", &long_name, &Text::new("")));
    assert_eq!(client.receive(), [0]);
    // 200 in the fixed form: its varint would be 0xc8 0x01.
    let mut client = OriginClient::connect(&ends);
    let frame = frame_to("test", &"x".repeat(200 - 6 - 3), &Text::new(""));
    assert_eq!(&frame[..2], &[0xc8, 0x01]);
    client.send(&[&[0xc8, 0, 0, 0], &frame[2..]].concat());
    assert_eq!(client.receive(), [0]);
}

#[test]
fn what_cannot_be_said_is_a_zero_byte_and_the_connection_lives() {
    let config = ProviderConfig { args_bytes_max: 2000, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let mut client = OriginClient::connect(&ends);
    let mut bad_args = frame("Echo", "abc");
    let at_length = bad_args.len() - 4;
    bad_args[at_length] = 9;
    let unsayable = [
        frame("Missing", "x"),
        frame_to("nobody", "Echo", &Text::new("x")),
        bad_args,
        frame("Echo", [7; 1022]),
        frame("Echo", [7; 2000]),
        frame("Empty", "x"),
        frame("Echo", ""),
        frame("Drop", "x"),
        frame("Panic", "x"),
        frame("Wait", "x"),
    ];
    for (number, frame) in unsayable.iter().enumerate() {
        client.send(frame);
        assert_eq!(client.receive(), [0], "case {number}");
        client.send(&crate::frame("Echo", "alive"));
        assert_eq!(client.receive(), Text::new("alive").encode_to_vec(), "after case {number}");
    }
    let largest = Text::new([7; 1021]);
    client.send(&frame("Echo", &largest.text));
    assert_eq!(client.receive(), largest.encode_to_vec(), "1,024 bytes are allowed");
}

#[test]
fn a_service_may_refuse_the_origins_clients() {
    let service = TestService { refuses_legacy: true, ..TestService::default() };
    let ends = Ends::with(ProviderConfig::default(), service);
    let mut client = OriginClient::connect(&ends);
    client.send(&frame("Echo", "x"));
    assert_eq!(client.receive(), [0]);
    assert_eq!(ends.service.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(call(&ends.channel(), &ECHO, "ours are served").is_ok());
}

#[test]
fn the_next_call_begins_after_the_last_reply() {
    let ends = Ends::new();
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let mut client = OriginClient::connect(&ends);
    client.send(&[frame("Keep", "1"), frame("Keep", "2"), frame("Keep", "3")].concat());
    for expected in ["1", "2", "3"] {
        kept.recv_timeout(LONG).unwrap();
        client.assert_silent();
        let (text, reply) = ends.service.kept.lock().unwrap().pop().unwrap();
        assert_eq!(text, Text::new(expected));
        assert!(ends.service.kept.lock().unwrap().is_empty(), "one call at a time");
        reply.send(&text);
        assert_eq!(client.receive(), text.encode_to_vec());
    }
}

#[test]
fn a_hundred_glued_calls_are_answered_in_order() {
    let ends = Ends::new();
    let mut client = OriginClient::connect(&ends);
    let texts: Vec<Text> = (100..200).map(|number| Text::new(format!("{number}"))).collect();
    let glued: Vec<u8> = texts.iter().flat_map(|text| frame("Echo", &text.text)).collect();
    client.send(&glued);
    let expected: Vec<u8> = texts.iter().flat_map(Message::encode_to_vec).collect();
    let mut received = vec![0; expected.len()];
    client.stream.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
}

#[test]
fn mixing_modes_closes_the_connection() {
    let ends = Ends::new();
    let body = Text::new("x");
    let mut own = Vec::new();
    put_call(&mut own, Names::Plain("test", "Echo"), 1, 0, &body, body.encoded_len());
    for (first, second) in [(&own, &frame("Echo", "x")), (&frame("Echo", "x"), &own)] {
        let mut client = OriginClient::connect(&ends);
        client.send(first);
        client.receive();
        client.send(second);
        let mut rest = Vec::new();
        let end = client.stream.read_to_end(&mut rest);
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        assert!(rest.is_empty(), "the frame of the other mode is not answered");
    }
}

#[test]
fn a_held_back_reply_comes_in_its_time() {
    let ends = Ends::new();
    let mut client = OriginClient::connect(&ends);
    client.send(&frame("Later", "x"));
    assert_eq!(client.receive(), Text::new("later").encode_to_vec());
}

/// An origin server that answers what `answer` says: each inner piece in a write of its own.
fn origin_server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                for piece in answer(&buffer[..count]) {
                    let _ = stream.write_all(&piece);
                }
            }
        }
    });
    address
}

fn legacy_channel(reactor: &Reactor, address: &str) -> RpcChannel {
    RpcChannel::new(reactor, address, ChannelConfig { legacy: true, ..ChannelConfig::default() })
}

#[test]
fn a_legacy_channel_writes_and_reads_as_the_origin_does() {
    let reactor = Reactor::start("client", ReactorConfig::default()).unwrap();
    let (sender, requests) = mpsc::channel();
    let address = origin_server(move |request| {
        sender.send(request.to_vec()).unwrap();
        let reply = Text::new("a reply in two pieces").encode_to_vec();
        vec![reply[..5].to_vec(), reply[5..].to_vec()]
    });
    let channel = legacy_channel(&reactor, &address);
    for text in ["one", "two"] {
        assert_eq!(call(&channel, &ECHO, text).unwrap(), Text::new("a reply in two pieces"));
        assert_eq!(requests.recv_timeout(LONG).unwrap(), frame("Echo", text));
    }
    reactor.stop(LONG);
}

#[test]
fn a_legacy_channel_makes_its_calls_one_at_a_time() {
    let ends = Ends::new();
    let channel = ends.channel_with(ChannelConfig { legacy: true, ..ChannelConfig::default() });
    let (sender, receiver) = mpsc::channel();
    for number in 0..50 {
        let sender = sender.clone();
        channel.call_async(&ECHO, &RpcController::new(), &Text::new(format!("{number}")), move |reply| {
            sender.send((number, reply)).unwrap();
        });
    }
    for expected in 0..50 {
        let (number, reply) = receiver.recv_timeout(LONG).unwrap();
        assert_eq!((number, reply), (expected, Ok(Text::new(format!("{expected}")))));
    }
    let error = call(&channel, &MISSING, "x").unwrap_err();
    assert!(matches!(error, RpcError::BadReply { .. }), "{error:?}");
    assert!(call(&channel, &ECHO, "after").is_ok());
}

#[test]
fn a_late_reply_of_an_origin_server_is_not_taken_for_the_next_calls() {
    let ends = Ends::new();
    let channel = ends.channel_with(ChannelConfig { legacy: true, ..ChannelConfig::default() });
    assert!(call(&channel, &ECHO, "to be connected").is_ok());
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(5));
    let late: Result<Text, RpcError> = channel.call(&LATER, &controller, &Text::new("x"));
    assert!(matches!(late, Err(RpcError::DeadlineExceeded { may_have_run: true, .. })), "{late:?}");
    // The connection with the late reply is given up; while it is, a call may be refused without having run.
    let reply = (0..1000).find_map(|_| match call(&channel, &ECHO, "mine") {
        Ok(reply) => Some(reply),
        Err(error) => {
            assert!(!error.may_have_run(), "{error:?}");
            thread::yield_now();
            None
        }
    });
    assert_eq!(reply, Some(Text::new("mine")));
}
