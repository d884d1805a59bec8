//! Peers made by hand: frames over a plain socket.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use prost::Message;
use rpc::protocol::encoder::{Names, put_call};
use rpc::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};

use super::{LONG, Text};

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A call that has so many milliseconds.
pub fn request_within(
    timeout_ms: u64,
    (service, method): (&str, &str),
    call_id: u64,
    text: &[u8],
) -> Vec<u8> {
    let mut buffer = Vec::new();
    let body = Text::new(text);
    put_call(&mut buffer, Names::Plain(service, method), call_id, timeout_ms, &body, body.encoded_len());
    buffer
}

/// A call of the test service, or of the one named.
pub fn request_to(service: &str, method: &str, call_id: u64, text: &[u8]) -> Vec<u8> {
    request_within(60_000, (service, method), call_id, text)
}

pub fn request(method: &str, call_id: u64, text: &[u8]) -> Vec<u8> {
    request_to("test", method, call_id, text)
}

/// Reads until `count` replies have come.
pub fn read_replies(stream: &mut TcpStream, count: usize) -> Vec<ReplyFrame> {
    let mut decoder = ReplyDecoder::new(1 << 30);
    let mut replies = Vec::new();
    let mut buffer = vec![0; 65_536];
    while replies.len() < count {
        let bytes = stream.read(&mut buffer).unwrap();
        assert_ne!(bytes, 0, "closed after {} of {count} replies", replies.len());
        decoder.feed(&buffer[..bytes]);
        while let Some(reply) = decoder.next_frame().unwrap() {
            replies.push(reply);
        }
    }
    replies
}

pub fn text_of(reply: &ReplyFrame) -> Text {
    Message::decode(reply.body.clone().unwrap()).unwrap()
}

/// Waits for the server to close.
pub fn assert_closed(stream: &mut TcpStream) {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}
