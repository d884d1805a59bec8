//! The decoders: any chunking of any bytes gives the same frames, or the same refusal.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use proptest::collection::vec;
use proptest::prelude::*;
use rpc::Status;
use rpc::protocol::decoder::{HEADER_BYTES_MAX, Mode, Refusal, RequestDecoder, RequestFrame};
use rpc::protocol::encoder::{
    Names, put_call, put_cancel, put_failure, put_legacy_call, put_pong, put_reply,
};
use rpc::protocol::header::Kind;
use rpc::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use rpc::protocol::varint::put_varint;

/// Limit of arguments and bodies in these tests, in bytes.
const BYTES_MAX: u64 = 5000;

#[derive(Clone, PartialEq, prost::Message)]
struct Blob {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

/// What the decoder has to say about a stream fed in pieces.
fn requests(pieces: &[&[u8]]) -> (Vec<RequestFrame>, Option<Refusal>, Option<Mode>) {
    let mut decoder = RequestDecoder::new(BYTES_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(refusal) => {
                    assert_eq!(decoder.next_frame(), Err(refusal), "a refusal is for ever");
                    return (frames, Some(refusal), decoder.mode());
                }
            }
        }
    }
    (frames, None, decoder.mode())
}

fn replies(pieces: &[&[u8]]) -> (Vec<ReplyFrame>, Option<Refusal>) {
    let mut decoder = ReplyDecoder::new(BYTES_MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(refusal) => return (frames, Some(refusal)),
            }
        }
    }
    (frames, None)
}

/// Cuts `bytes` into pieces of the lengths given, over and over.
fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).clamp(1, rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn names() -> impl Strategy<Value = (String, String)> {
    ("[a-zA-Z]{1,150}", "[a-zA-Z]{1,30}")
}

/// A stream of whole requests of ours.
fn own_requests() -> impl Strategy<Value = Vec<u8>> {
    let call =
        (names(), 1_u64.., 0_u64..100_000, vec(any::<u8>(), 0..300)).prop_map(|(names, id, ms, bytes)| {
            let mut buffer = Vec::new();
            let blob = Blob { bytes };
            put_call(
                &mut buffer,
                Names::Plain(&names.0, &names.1),
                id,
                ms,
                &blob,
                prost::Message::encoded_len(&blob),
            );
            buffer
        });
    let cancel = (1_u64..).prop_map(|id| {
        let mut buffer = Vec::new();
        put_cancel(&mut buffer, id);
        buffer
    });
    vec(prop_oneof![4 => call, 1 => cancel], 1..12).prop_map(|frames| frames.concat())
}

/// A stream of whole requests as programs of the origin write them, in either form of the header's length.
fn legacy_requests() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec((names(), vec(any::<u8>(), 0..300)), 1..12);
    (frames, any::<bool>()).prop_map(|(frames, is_fixed)| {
        let mut stream = Vec::new();
        for (names, bytes) in frames {
            let blob = Blob { bytes };
            let mut frame = Vec::new();
            let body_bytes = prost::Message::encoded_len(&blob);
            put_legacy_call(&mut frame, Names::Plain(&names.0, &names.1), &blob, body_bytes);
            if is_fixed {
                frame = with_fixed_length(&frame);
            }
            stream.extend(frame);
        }
        stream
    })
}

/// The same frame with its header's length in four little-endian bytes.
fn with_fixed_length(frame: &[u8]) -> Vec<u8> {
    let mut position = 0;
    let length = rpc::protocol::varint::read_varint(frame, &mut position).unwrap() as u32;
    if length > 255 {
        return frame.to_vec();
    }
    [&length.to_le_bytes(), &frame[position..]].concat()
}

fn own_replies() -> impl Strategy<Value = Vec<u8>> {
    let reply = (1_u64.., vec(any::<u8>(), 0..300)).prop_map(|(id, bytes)| {
        let mut buffer = Vec::new();
        let blob = Blob { bytes };
        put_reply(&mut buffer, id, &blob, prost::Message::encoded_len(&blob));
        buffer
    });
    let failure = (1_u64.., ".{0,200}").prop_map(|(id, text)| {
        let mut buffer = Vec::new();
        put_failure(&mut buffer, id, Status::Overloaded, &text);
        buffer
    });
    let oversized = (1_u64.., BYTES_MAX + 1..BYTES_MAX + 3000).prop_map(|(id, bytes)| {
        let mut header = vec![8];
        put_varint(&mut header, id);
        header.push(32);
        put_varint(&mut header, bytes);
        let mut buffer = vec![header.len() as u8];
        buffer.extend(header);
        buffer.resize(buffer.len() + bytes as usize, 7);
        buffer
    });
    vec(prop_oneof![4 => reply, 2 => failure, 1 => oversized], 1..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn any_chunking_of_our_requests_gives_the_same_frames(stream in own_requests(), lengths in vec(1_usize..400, 1..20)) {
        let whole = requests(&[&stream]);
        prop_assert_eq!(whole.1, None);
        prop_assert_eq!(whole.2, Some(Mode::Own));
        prop_assert!(!whole.0.is_empty());
        prop_assert_eq!(&requests(&cut(&stream, &lengths)), &whole);
        prop_assert_eq!(&requests(&cut(&stream, &[1])), &whole);
    }

    #[test]
    fn any_chunking_of_the_origins_requests_gives_the_same_frames(stream in legacy_requests(), lengths in vec(1_usize..400, 1..20)) {
        let whole = requests(&[&stream]);
        prop_assert_eq!(whole.2, Some(Mode::Legacy));
        prop_assert_eq!(&requests(&cut(&stream, &lengths)), &whole);
        prop_assert_eq!(&requests(&cut(&stream, &[1])), &whole);
    }

    #[test]
    fn any_chunking_of_spoilt_requests_gives_the_same_refusal(
        stream in prop_oneof![own_requests(), legacy_requests()],
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        lengths in vec(1_usize..400, 1..20),
    ) {
        let mut stream = stream;
        for (index, byte) in changes {
            let index = index.index(stream.len());
            stream[index] = byte;
        }
        let whole = requests(&[&stream]);
        prop_assert_eq!(&requests(&cut(&stream, &lengths)), &whole);
        prop_assert_eq!(&requests(&cut(&stream, &[1])), &whole);
    }

    #[test]
    fn garbage_is_refused_or_waited_for_in_any_chunking(stream in vec(any::<u8>(), 0..2000), lengths in vec(1_usize..400, 1..20)) {
        prop_assert_eq!(&requests(&cut(&stream, &lengths)), &requests(&[&stream]));
        prop_assert_eq!(&replies(&cut(&stream, &lengths)), &replies(&[&stream]));
    }

    #[test]
    fn any_chunking_of_replies_gives_the_same_frames(
        stream in own_replies(),
        change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        lengths in vec(1_usize..4000, 1..20),
    ) {
        let mut stream = stream;
        let is_spoilt = change.is_some();
        if let Some((index, byte)) = change {
            let index = index.index(stream.len());
            stream[index] = byte;
        }
        let whole = replies(&[&stream]);
        prop_assert!(is_spoilt || whole.1.is_none());
        prop_assert_eq!(&replies(&cut(&stream, &lengths)), &whole);
        prop_assert_eq!(&replies(&cut(&stream, &[1])), &whole);
    }
}

#[test]
fn what_is_encoded_is_what_is_decoded() {
    let blob = Blob { bytes: vec![9; 200] };
    let body = prost::Message::encode_to_vec(&blob);
    let mut stream = Vec::new();
    put_call(&mut stream, Names::Encoded(b"\x0a\x02kv\x12\x03Get"), 300, 1500, &blob, body.len());
    put_cancel(&mut stream, 300);
    let (frames, refusal, mode) = requests(&[&stream]);
    assert_eq!((refusal, mode), (None, Some(Mode::Own)));
    let [call, cancel] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((call.head.service(), call.head.method()), (&b"kv"[..], &b"Get"[..]));
    assert_eq!((call.head.call_id, call.head.timeout_ms, call.head.kind), (300, 1500, Kind::Call));
    assert_eq!(call.body.as_ref().unwrap(), &body);
    assert_eq!((cancel.head.call_id, cancel.head.kind), (300, Kind::Cancel));

    let mut stream = Vec::new();
    put_reply(&mut stream, 300, &blob, body.len());
    put_failure(&mut stream, 301, Status::NoSuchMethod, "why");
    put_pong(&mut stream, 302);
    let (frames, refusal) = replies(&[&stream]);
    assert_eq!(refusal, None);
    let [reply, failure, pong] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((reply.head.call_id, reply.head.status, reply.head.more), (300, 0, false));
    assert_eq!(reply.body.as_ref().unwrap(), &body);
    assert_eq!((failure.head.status, &failure.head.error_text[..]), (2, &b"why"[..]));
    assert_eq!((pong.head.call_id, pong.head.status), (302, 0));
}

#[test]
fn a_long_error_text_is_cut_at_a_character() {
    let mut stream = Vec::new();
    put_failure(&mut stream, 1, Status::Internal, &"ä".repeat(3000));
    let (frames, refusal) = replies(&[&stream]);
    assert_eq!(refusal, None);
    assert_eq!(String::from_utf8(frames[0].head.error_text.to_vec()).unwrap(), "ä".repeat(512));
}

#[test]
fn limits_are_checked_when_the_claim_is_read() {
    let header_refusal = |bytes| Some(Refusal::HeaderTooLarge { bytes, max: HEADER_BYTES_MAX as u64 });
    assert_eq!(requests(&[&[0xff, 0xff, 0xff, 0xff, 0x0f]]).1, header_refusal(u64::from(u32::MAX)));
    assert_eq!(requests(&[&[0x81, 0x20]]).1, header_refusal(4097));
    assert_eq!(requests(&[&[0x80, 0x20]]).1, None, "4,096 bytes are allowed");
    assert_eq!(requests(&[&[0xff; 5]]).1, Some(Refusal::HeaderLength));
    let mut claim = vec![0, 10, 2, b'k', b'v', 18, 3, b'G', b'e', b't', 0x18];
    put_varint(&mut claim, u64::from(u32::MAX));
    claim.extend([0x20, 1]);
    claim[0] = (claim.len() - 1) as u8;
    assert_eq!(
        requests(&[&claim]).1,
        Some(Refusal::BodyTooLarge { bytes: u64::from(u32::MAX), max: BYTES_MAX })
    );
}

#[test]
fn refusals_of_the_connections_rules() {
    let own = [4, 10, 0, 0x20, 1];
    let legacy = [3, 10, 1, b's'];
    assert_eq!(requests(&[&own, &legacy]).1, Some(Refusal::MixedModes));
    assert_eq!(requests(&[&legacy, &own]).1, Some(Refusal::MixedModes));
    assert_eq!(requests(&[&[2, 0x28, 9]]).1, Some(Refusal::NoCallId), "a deadline without an id");
    assert_eq!(requests(&[&[0, 0]]).1, Some(Refusal::HeaderLength), "an empty header");
    assert_eq!(requests(&[&[3, 0, 1]]).1, Some(Refusal::HeaderLength), "the third byte of the fixed form");
    assert_eq!(
        requests(&[&[4, 0, 0, 0, 10, 0, 0x20, 1]]).1,
        Some(Refusal::HeaderLength),
        "ours has no fixed form"
    );
    assert!(requests(&[&legacy, &[3, 0, 0, 0, 10, 1, b's']]).1.is_some(), "told apart once");
    assert!(matches!(requests(&[&[3, 0x0a, 9, 1]]).1, Some(Refusal::Header(_))), "a name beyond the header");
    assert!(matches!(requests(&[&[2, 0x08, 1]]).1, Some(Refusal::Header(_))), "a name that is a number");
    assert!(matches!(requests(&[&[2, 0x03, 1]]).1, Some(Refusal::Header(_))), "a group");
}

#[test]
fn unknown_fields_are_skipped() {
    // 1: "s", 9: an integer, 10: bytes, 11: four bytes, 12: eight bytes, 4: id 7.
    let mut header =
        vec![10, 1, b's', 0x48, 5, 0x52, 2, 1, 2, 0x5d, 1, 2, 3, 4, 0x61, 1, 2, 3, 4, 5, 6, 7, 8, 0x20, 7];
    header.insert(0, header.len() as u8);
    let (frames, refusal, mode) = requests(&[&header]);
    assert_eq!((refusal, mode), (None, Some(Mode::Own)));
    assert_eq!((frames[0].head.service(), frames[0].head.call_id), (&b"s"[..], 7));
}

#[test]
fn a_reply_beyond_the_limit_is_skipped_and_said() {
    let mut stream = vec![6, 8, 5, 0x20];
    put_varint(&mut stream, 6000);
    stream[0] = (stream.len() - 1) as u8;
    stream.extend(vec![1; 6000]);
    put_pong(&mut stream, 6);
    let (frames, refusal) = replies(&cut(&stream, &[1000]));
    assert_eq!(refusal, None);
    assert_eq!((frames[0].head.call_id, &frames[0].body), (5, &Err(6000)));
    assert_eq!(frames[1].head.call_id, 6);
}
