//! What must hold for any bytes whatever: the checks that the fuzz targets and the bounded runs of the tests share.
//!
//! A decoder may refuse, but it never panics, never claims memory that has not come, and gives the same frames however the
//! bytes are cut, whichever way each piece is received, and whatever bodies its owner gives up on the way. Of good streams it
//! gives the very frames that they are made of.

use rpc::protocol::decoder::{Mode, Refusal, RequestDecoder};
use rpc::protocol::frames::{Frame, FrameDecoder, Head};
use rpc::protocol::header::{message_shape, parse_reply_header, parse_request_header};
use rpc::protocol::reply_decoder::ReplyDecoder;
use rpc::protocol::varint::{put_varint, read_varint};

use crate::good_streams::{self, LIMITS, Reply, Request};

/// Bytes received at once.
#[derive(Clone, Copy)]
struct Piece<'a> {
    bytes: &'a [u8],
    /// They are received into a large body, if one has begun.
    is_direct: bool,
    /// Whatever is not whole behind them is given up.
    is_given_up: bool,
}

impl<'a> Piece<'a> {
    fn whole(bytes: &'a [u8]) -> Piece<'a> {
        Piece { bytes, is_direct: false, is_given_up: false }
    }
}

/// Cuts bytes into pieces whose lengths follow from a seed.
struct Pieces<'a> {
    rest: &'a [u8],
    state: u64,
    may_give_up: bool,
}

impl<'a> Pieces<'a> {
    fn new(rest: &'a [u8], seed: u8) -> Pieces<'a> {
        Pieces { rest, state: u64::from(seed), may_give_up: false }
    }

    fn giving_up(rest: &'a [u8], seed: u8) -> Pieces<'a> {
        Pieces { may_give_up: true, ..Pieces::new(rest, seed) }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
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
        let (bytes, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        let is_direct = random & 0x4000_0000 != 0;
        let is_given_up = self.may_give_up && random & 0x3000_0000 == 0;
        Some(Piece { bytes, is_direct, is_given_up })
    }
}

/// Frames, and why there are no more.
type Decoded<H> = (Vec<Frame<H>>, Option<Refusal>);

/// Feeds a decoder the pieces, as each wants it, and collects its frames until it refuses.
fn decode<'a, H: Head>(decoder: &mut FrameDecoder<H>, pieces: impl Iterator<Item = Piece<'a>>) -> Decoded<H> {
    let mut frames = Vec::new();
    for Piece { mut bytes, is_direct, is_given_up } in pieces {
        while !bytes.is_empty() {
            match decoder.room().filter(|_| is_direct) {
                Some(room) => {
                    let (own, rest) = bytes.split_at(bytes.len().min(room.capacity() - room.len()));
                    room.extend_from_slice(own);
                    bytes = rest;
                    decoder.received();
                }
                None => decoder.feed(std::mem::take(&mut bytes)),
            }
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(refusal) => return (frames, Some(refusal)),
                }
            }
        }
        if is_given_up {
            frames.extend(decoder.give_up());
            assert_eq!(decoder.unfinished_bytes(), 0, "what is given up is held no longer");
        }
    }
    (frames, None)
}

fn decode_requests<'a>(
    pieces: impl Iterator<Item = Piece<'a>>,
) -> (Vec<Request>, Option<Refusal>, Option<Mode>) {
    let mut decoder = RequestDecoder::with_limits(LIMITS);
    let (frames, refusal) = decode(&mut decoder, pieces);
    (frames.iter().map(Request::from).collect(), refusal, decoder.mode())
}

fn decode_replies<'a>(pieces: impl Iterator<Item = Piece<'a>>) -> (Vec<Reply>, Option<Refusal>) {
    let mut decoder = ReplyDecoder::new(LIMITS.kept_max);
    let (frames, refusal) = decode(&mut decoder, pieces);
    (frames.iter().map(Reply::from).collect(), refusal)
}

/// However a stream of requests is cut, it is the same frames, which are returned.
fn cut_requests(seed: u8, stream: &[u8]) -> (Vec<Request>, Option<Refusal>) {
    let whole = decode_requests([Piece::whole(stream)].into_iter());
    let cut = decode_requests(Pieces::new(stream, seed));
    assert_eq!(whole, cut, "the same bytes, cut otherwise");
    let (whole, refusal, mode) = whole;
    let (mut given_up, its_refusal, its_mode) = decode_requests(Pieces::giving_up(stream, seed));
    assert_eq!((refusal, mode), (its_refusal, its_mode), "what is given up changes nothing else");
    // What was not whole at the end may have been handed out, too.
    assert!((whole.len()..=whole.len() + 1).contains(&given_up.len()));
    for (given_up, kept) in given_up.iter_mut().zip(&whole) {
        if let (Err(size), Ok(body)) = (&given_up.body, &kept.body) {
            assert_eq!(*size, body.len() as u64);
            given_up.body = kept.body.clone();
        }
        assert_eq!(given_up, kept);
    }
    (whole, refusal)
}

/// However a stream of replies is cut, it is the same frames, which are returned.
fn cut_replies(seed: u8, stream: &[u8]) -> (Vec<Reply>, Option<Refusal>) {
    let whole = decode_replies([Piece::whole(stream)].into_iter());
    let cut = decode_replies(Pieces::new(stream, seed));
    assert_eq!(whole, cut, "the same bytes, cut otherwise");
    whole
}

/// A stream of requests; its first byte says how it is cut.
pub fn requests(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    for request in cut_requests(*seed, stream).0 {
        match request.body {
            Ok(args) => assert!(args.len() as u64 <= LIMITS.kept_max),
            Err(size) => assert!((LIMITS.kept_max + 1..=LIMITS.skipped_max).contains(&size)),
        }
    }
}

/// A stream of replies; its first byte says how it is cut.
pub fn replies(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    cut_replies(*seed, stream);
}

/// A good stream of requests, of which the bytes are the script; the first one says how it is cut.
pub fn good_requests(data: &[u8]) {
    let Some((seed, script)) = data.split_first() else { return };
    let (stream, said) = good_streams::requests(script);
    assert_eq!(cut_requests(*seed, &stream), (said, None), "the frames that were written");
}

/// A good stream of replies, of which the bytes are the script; the first one says how it is cut.
pub fn good_replies(data: &[u8]) {
    let Some((seed, script)) = data.split_first() else { return };
    let (stream, said) = good_streams::replies(script);
    assert_eq!(cut_replies(*seed, &stream), (said, None), "the frames that were written");
}

/// A good stream of requests is the same frames in two pieces, wherever they are cut.
pub fn requests_in_two((stream, said): &(Vec<u8>, Vec<Request>)) {
    for cut in 0..=stream.len() {
        let (first, second) = stream.split_at(cut);
        let (frames, refusal, _) = decode_requests([first, second].into_iter().map(Piece::whole));
        assert_eq!((&frames, refusal), (said, None), "cut at {cut}");
    }
}

/// A good stream of replies is the same frames in two pieces, wherever they are cut.
pub fn replies_in_two((stream, said): &(Vec<u8>, Vec<Reply>)) {
    for cut in 0..=stream.len() {
        let (first, second) = stream.split_at(cut);
        let (frames, refusal) = decode_replies([first, second].into_iter().map(Piece::whole));
        assert_eq!((&frames, refusal), (said, None), "cut at {cut}");
    }
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
