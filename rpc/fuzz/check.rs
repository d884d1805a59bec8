//! What must hold for any bytes whatever: the checks that the fuzz targets and the bounded run of the tests share.
//!
//! A decoder may refuse, but it never panics, never claims memory that has not come, and gives the same frames however the
//! bytes are cut.

use rpc::protocol::decoder::{Mode, Refusal, RequestDecoder, RequestFrame};
use rpc::protocol::frames::BodyLimits;
use rpc::protocol::header::{message_shape, parse_reply_header, parse_request_header};
use rpc::protocol::reply_decoder::{ReplyDecoder, ReplyFrame};
use rpc::protocol::varint::{put_varint, read_varint};

/// Limit of arguments and bodies, in bytes: above the size from which bodies have memory of their own.
const BYTES_MAX: u64 = 40_000;

/// The limits of a server that skips some arguments and refuses others.
const LIMITS: BodyLimits = BodyLimits { kept_max: BYTES_MAX, skipped_max: 80_000 };

/// Cuts bytes into pieces whose lengths follow from a seed.
struct Pieces<'a> {
    rest: &'a [u8],
    state: u64,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (&'a [u8], bool);

    fn next(&mut self) -> Option<(&'a [u8], bool)> {
        if self.rest.is_empty() {
            return None;
        }
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = self.state >> 33;
        let length = match random % 4 {
            0 => 1,
            1 => random as usize / 4 % 16 + 1,
            2 => random as usize / 4 % 2_000 + 1,
            _ => random as usize / 4 % 50_000 + 1,
        };
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some((piece, random & 0x4000_0000 != 0))
    }
}

/// Feeds a decoder the pieces, where it wants them, and collects its frames until it refuses.
macro_rules! decoded {
    ($decoder:expr, $pieces:expr) => {{
        let mut frames = Vec::new();
        let mut refusal = None;
        'pieces: for (mut piece, is_direct) in $pieces {
            while !piece.is_empty() {
                match $decoder.room().filter(|_| is_direct) {
                    Some(room) => {
                        let (own, rest) = piece.split_at(piece.len().min(room.capacity() - room.len()));
                        room.extend_from_slice(own);
                        piece = rest;
                        $decoder.received();
                    }
                    None => $decoder.feed(std::mem::take(&mut piece)),
                }
                loop {
                    match $decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(refused) => {
                            refusal = Some(refused);
                            break 'pieces;
                        }
                    }
                }
            }
        }
        (frames, refusal)
    }};
}

fn decode_requests<'a>(
    pieces: impl Iterator<Item = (&'a [u8], bool)>,
) -> (Vec<RequestFrame>, Option<Refusal>, Option<Mode>) {
    let mut decoder = RequestDecoder::with_limits(LIMITS);
    let (frames, refusal) = decoded!(decoder, pieces);
    (frames, refusal, decoder.mode())
}

fn decode_replies<'a>(pieces: impl Iterator<Item = (&'a [u8], bool)>) -> (Vec<ReplyFrame>, Option<Refusal>) {
    let mut decoder = ReplyDecoder::new(BYTES_MAX);
    decoded!(decoder, pieces)
}

/// A stream of requests; its first byte says how it is cut.
pub fn requests(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    let whole = decode_requests([(stream, false)].into_iter());
    let cut = decode_requests(Pieces { rest: stream, state: u64::from(*seed) });
    assert_eq!(whole, cut, "the same bytes, cut otherwise");
    for frame in &whole.0 {
        let head = &frame.head;
        match &frame.body {
            Ok(args) => assert!(args.len() as u64 <= LIMITS.kept_max),
            Err(size) => assert!((LIMITS.kept_max + 1..=LIMITS.skipped_max).contains(size)),
        }
        assert!(head.service().len() + head.method().len() + head.auth_token().len() <= stream.len());
    }
}

/// A stream of replies; its first byte says how it is cut.
pub fn replies(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    let whole = decode_replies([(stream, false)].into_iter());
    let cut = decode_replies(Pieces { rest: stream, state: u64::from(*seed) });
    assert_eq!(whole, cut, "the same bytes, cut otherwise");
}

/// The parts that the decoders are made of, on bytes that need be no stream.
pub fn parts(data: &[u8]) {
    let _ = parse_request_header(data);
    let _ = parse_reply_header(data);
    let _ = message_shape(data);
    let mut position = 0;
    if let Ok(value) = read_varint(data, &mut position) {
        let mut minimal = Vec::new();
        put_varint(&mut minimal, value);
        assert!(minimal.len() <= position && read_varint(&minimal, &mut 0) == Ok(value));
    }
}
