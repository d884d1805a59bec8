//! Large bodies, fed or received in place: any chunking gives the same frames.

use proptest::collection::vec;
use proptest::prelude::*;
use rpc::protocol::decoder::{RequestDecoder, RequestFrame};
use rpc::protocol::encoder::{Names, put_call, put_reply};
use rpc::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};

#[derive(Clone, PartialEq, prost::Message)]
struct Blob {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

/// Frames with bodies around the sizes at which something changes.
fn bodies() -> impl Strategy<Value = Vec<Blob>> {
    let size = prop_oneof![0_usize..200, 16_300_usize..16_500, 60_000_usize..70_000, 250_000_usize..600_000];
    let blob = (size, any::<u8>()).prop_map(|(size, seed)| {
        let bytes = (0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        Blob { bytes }
    });
    vec(blob, 1..8)
}

/// Gives a decoder `stream` in pieces; where a piece goes is the decoder's to say if `is_direct` does not forbid it.
macro_rules! frames_of {
    ($decoder:expr, $stream:expr, $pieces:expr) => {{
        let mut decoder = $decoder;
        let mut frames = Vec::new();
        let mut rest: &[u8] = $stream;
        for (length, is_direct) in $pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let length = (*length).clamp(1, rest.len());
            let piece;
            match decoder.room().filter(|_| *is_direct) {
                Some(room) => {
                    let fits = length.min(room.capacity() - room.len());
                    assert!(fits > 0, "room is room for something");
                    (piece, rest) = rest.split_at(fits);
                    room.extend_from_slice(piece);
                    decoder.received();
                }
                None => {
                    (piece, rest) = rest.split_at(length);
                    decoder.feed(piece);
                }
            }
            while let Some(frame) = decoder.next_frame().expect("the stream is good") {
                frames.push(frame);
            }
        }
        frames
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunking_of_large_bodies_gives_the_same_frames(
        blobs in bodies(),
        pieces in vec((prop_oneof![1_usize..100, 2_000_usize..100_000], any::<bool>()), 1..12),
    ) {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for (blob, id) in blobs.iter().zip(1..) {
            let body_bytes = prost::Message::encoded_len(blob);
            put_call(&mut requests, Names::Plain("s", "m"), id, 7, blob, body_bytes);
            put_reply(&mut replies, id, blob, body_bytes);
        }
        let seen: Vec<RequestFrame> = frames_of!(RequestDecoder::new(1 << 20), &requests, pieces);
        prop_assert_eq!(seen.len(), blobs.len());
        for ((frame, blob), id) in seen.into_iter().zip(&blobs).zip(1..) {
            prop_assert_eq!((frame.head.service(), frame.head.method(), frame.head.call_id), (&b"s"[..], &b"m"[..], id));
            prop_assert!(<Blob as prost::Message>::decode(frame.body.unwrap()) == Ok(blob.clone()));
        }
        let seen: Vec<ReplyFrame> = frames_of!(ReplyDecoder::new(1 << 20), &replies, pieces);
        prop_assert_eq!(seen.len(), blobs.len());
        for ((frame, blob), id) in seen.into_iter().zip(&blobs).zip(1..) {
            prop_assert_eq!(frame.head.call_id, id);
            prop_assert!(<Blob as prost::Message>::decode(frame.body.unwrap()) == Ok(blob.clone()));
        }
    }
}

#[test]
fn memory_is_taken_as_bytes_come_not_as_a_header_claims() {
    let mut decoder = RequestDecoder::new(64 << 20);
    let mut claim = vec![0x18];
    rpc::protocol::varint::put_varint(&mut claim, 64 << 20);
    claim.extend([0x20, 1]);
    decoder.feed(&[&[claim.len() as u8], &claim[..]].concat());
    assert_eq!(decoder.next_frame(), Ok(None));
    let room = decoder.room().expect("a large body has begun");
    assert!(room.capacity() <= 64 * 1024, "{} bytes for a claim", room.capacity());
}
