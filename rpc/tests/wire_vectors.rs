//! The bytes captured from the origin's C++ programs, and those of the guide, against the codec. (The services are tested
//! by their crates.)

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use rpc::Status;
use rpc::protocol::decoder::{Mode, RequestDecoder};
use rpc::protocol::encoder::{
    CallFields, Names, put_call, put_call_with, put_cancel, put_credit, put_failure, put_going_away,
    put_legacy_call, put_ping, put_pong, put_reply, put_reply_credit, put_stream_end, put_stream_message,
    put_stream_reply,
};
use rpc::protocol::header::{Shape, message_shape};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/wire_vectors.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message that is its bytes.
struct Raw(Vec<u8>);

impl rpc::protocol::encoder::Body for Raw {
    fn body_len(&self) -> usize {
        self.0.len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }
}

#[test]
fn every_captured_request_is_read_and_written_alike() {
    let mut seen = 0;
    for vector in vectors() {
        if !vector["direction"].as_str().unwrap().starts_with("request") {
            continue;
        }
        seen += 1;
        let (service, method) = (vector["decoded"]["service"].as_str(), vector["decoded"]["method"].as_str());
        let (service, method) = (service.unwrap(), method.unwrap());
        let bytes = bytes_of(vector["hex"].as_str().unwrap());
        for chunk in [1, 3, bytes.len()] {
            let mut decoder = RequestDecoder::new(1 << 20);
            let mut frames = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.feed(piece);
                frames.extend(decoder.next_frame().unwrap());
            }
            assert_eq!(decoder.mode(), Some(Mode::Legacy), "{}", vector["name"]);
            let [frame] = &frames[..] else { panic!("{}: {frames:?}", vector["name"]) };
            assert_eq!(frame.head.service(), service.as_bytes());
            assert_eq!(frame.head.method(), method.as_bytes());
            let args = frame.body.as_ref().unwrap();
            assert!(bytes.ends_with(args), "{}", vector["name"]);
            assert_eq!(message_shape(args), Shape::Complete);
            let mut written = Vec::new();
            let args = Raw(args.to_vec());
            put_legacy_call(&mut written, Names::Plain(service, method), &args, args.0.len());
            assert_eq!(written, bytes, "{}", vector["name"]);
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn every_captured_reply_has_the_shape_of_a_message_and_its_prefixes_do_not_pass_for_more() {
    let mut seen = 0;
    for vector in vectors() {
        if !vector["direction"].as_str().unwrap().starts_with("reply") {
            continue;
        }
        seen += 1;
        let bytes = bytes_of(vector["hex"].as_str().unwrap());
        assert_eq!(message_shape(&bytes), Shape::Complete, "{}", vector["name"]);
        assert_eq!(message_shape(&bytes[..bytes.len() - 1]), Shape::Truncated, "{}", vector["name"]);
    }
    assert_eq!(seen, 7);
    assert_eq!(
        message_shape(&[0]),
        Shape::Malformed,
        "what an origin client is told when nothing else can be said"
    );
}

#[test]
fn the_vectors_of_the_guide_are_what_is_written() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire.md")).unwrap();
    let written = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut buffer = Vec::new();
        put(&mut buffer);
        buffer.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let in_guide: Vec<String> = guide
        .lines()
        .filter(|line| line.starts_with('|') && line.contains('`'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(|code| code.replace(' ', ""))
        .collect();
    for vector in [
        written(&|buffer| put_call(buffer, Names::Plain("kv", "Get"), 1, 1000, &Raw(vec![0x0a, 0]), 2)),
        written(&|buffer| {
            let fields = CallFields {
                call_id: 1,
                timeout_ms: 1000,
                auth_token: b"t",
                request_id: 9,
                ..CallFields::default()
            };
            put_call_with(buffer, Names::Plain("kv", "Get"), &fields, &Raw(vec![0x0a, 0]), 2);
        }),
        written(&|buffer| {
            let fields = CallFields { timeout_ms: 1000, kind: 3, ..CallFields::default() };
            put_call_with(buffer, Names::Plain("kv", "Get"), &fields, &Raw(vec![0x0a, 0]), 2);
        }),
        written(&|buffer| put_reply(buffer, 1, &Raw(vec![0x0a, 1, b'x']), 3)),
        written(&|buffer| put_failure(buffer, 1, Status::Overloaded, "full")),
        written(&|buffer| put_cancel(buffer, 1)),
        written(&|buffer| put_ping(buffer, 7)),
        written(&|buffer| put_pong(buffer, 7)),
        written(&|buffer| put_credit(buffer, 1, 256)),
        written(&|buffer| put_stream_message(buffer, 1, &Raw(vec![0x0a, 0]), 2)),
        written(&|buffer| put_stream_end(buffer, 1)),
        written(&|buffer| put_stream_reply(buffer, 1, &Raw(vec![0x0a, 1, b'x']), 3)),
        written(&|buffer| put_reply_credit(buffer, 1, 256)),
        written(&|buffer| put_going_away(buffer)),
    ] {
        assert!(in_guide.contains(&vector), "{vector} is not in the guide");
    }
}
