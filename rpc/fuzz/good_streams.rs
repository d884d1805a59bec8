//! Good streams of frames, made of any bytes whatever: what a decoder must make of them is known.
//!
//! The bytes are a script: each frame takes a few of them, for its kind, its fields and the size of its body. So a fuzzer, a
//! property test and a loop over random numbers all reach every kind of frame, with bodies of any size and form.

use bytes::Bytes;
use rpc::Status;
use rpc::protocol::decoder::RequestFrame;
use rpc::protocol::encoder::{
    Body, CallFields, Names, put_call_with, put_cancel, put_credit, put_failure, put_going_away,
    put_legacy_call, put_ping, put_pong, put_reply, put_reply_credit, put_stream_end, put_stream_message,
    put_stream_reply,
};
use rpc::protocol::frames::BodyLimits;
use rpc::protocol::header::Kind;
use rpc::protocol::reply_decoder::ReplyFrame;
use rpc::protocol::varint::{put_varint, read_varint};

/// Limits of a peer that skips some bodies; above the size from which bodies have memory of their own.
pub const LIMITS: BodyLimits = BodyLimits { kept_max: 40_000, skipped_max: 80_000 };

/// The id that a frame bears which belongs to no call.
const NO_CALL: u64 = u64::MAX;

/// Frames in a stream at most.
const FRAMES_MAX: usize = 24;

/// What bodies are cut from: as long as the longest, and as much further as they may begin.
static BODIES: [u8; LIMITS.skipped_max as usize + 256] = {
    let mut bodies = [0; LIMITS.skipped_max as usize + 256];
    let mut place = 0;
    while place < bodies.len() {
        bodies[place] = (place as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
        place += 1;
    }
    bodies
};

/// A frame's body, or its size if it is beyond what is kept.
type Kept = Result<Bytes, u64>;

/// What a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    service: Vec<u8>,
    method: Vec<u8>,
    auth_token: Vec<u8>,
    call_id: u64,
    timeout_ms: u64,
    request_id: u64,
    credit_bytes: u64,
    kind: Kind,
    pub body: Kept,
}

impl From<&RequestFrame> for Request {
    fn from(frame: &RequestFrame) -> Request {
        let head = &frame.head;
        Request {
            service: head.service().to_vec(),
            method: head.method().to_vec(),
            auth_token: head.auth_token().to_vec(),
            call_id: head.call_id,
            timeout_ms: head.timeout_ms,
            request_id: head.request_id,
            credit_bytes: head.credit_bytes,
            kind: head.kind,
            body: frame.body.clone(),
        }
    }
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    call_id: u64,
    status: u64,
    error_text: Vec<u8>,
    more: bool,
    going_away: bool,
    credit_bytes: u64,
    pub body: Option<Kept>,
}

impl From<&ReplyFrame> for Reply {
    fn from(frame: &ReplyFrame) -> Reply {
        let head = &frame.head;
        Reply {
            call_id: head.call_id,
            status: head.status,
            error_text: head.error_text.to_vec(),
            more: head.more,
            going_away: head.going_away,
            credit_bytes: head.credit_bytes,
            body: Some(frame.body.clone()),
        }
    }
}

/// The bytes that say how a stream is made. After their end there are zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of any length, most often short.
    fn number(&mut self) -> u64 {
        let bytes = self.byte() % 9;
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn call_id(&mut self) -> u64 {
        self.number().max(1)
    }

    /// A name or a text of up to `max` bytes.
    fn text(&mut self, max: usize) -> String {
        let (length, letter) = (usize::from(self.byte()) % (max + 1), self.byte() % 26);
        char::from(b'a' + letter).to_string().repeat(length)
    }

    /// A body: mostly small, now and then around the size where it gets memory of its own, or beyond what is kept.
    fn body(&mut self) -> Raw {
        let (class, low, high) = (self.byte(), self.byte(), self.byte());
        let wide = usize::from(high) << 8 | usize::from(low);
        // NB: most of a run's time goes into copying the large ones.
        let size = match class % 64 {
            0 => 16_000 + wide % 1_000,
            1 => wide,
            2 => LIMITS.kept_max as usize - 2 + wide % 4,
            3 => LIMITS.skipped_max as usize - wide % 4,
            _ => usize::from(low),
        };
        Raw(Bytes::from_static(&BODIES[usize::from(low)..][..size]))
    }
}

/// A serialized message that is its bytes.
struct Raw(Bytes);

impl Raw {
    fn kept(self) -> Kept {
        let size = self.0.len() as u64;
        if size <= LIMITS.kept_max { Ok(self.0) } else { Err(size) }
    }
}

impl Body for Raw {
    fn body_len(&self) -> usize {
        self.0.len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }
}

/// A stream of requests, and what it says. Its first byte decides whether it is one of ours or of the origin.
pub fn requests(script: &[u8]) -> (Vec<u8>, Vec<Request>) {
    let mut script = Script(script);
    let form = script.byte();
    let (mut stream, mut said) = (Vec::new(), Vec::new());
    while !script.is_over() && said.len() < FRAMES_MAX {
        said.push(match form % 8 {
            0 => legacy_request(&mut script, &mut stream, false),
            1 => legacy_request(&mut script, &mut stream, true),
            _ => own_request(&mut script, &mut stream),
        });
    }
    (stream, said)
}

fn legacy_request(script: &mut Script<'_>, stream: &mut Vec<u8>, is_fixed: bool) -> Request {
    // A header of the origin must not be empty, and in the fixed form its length is one byte.
    let (service, method, body) = (format!("s{}", script.text(100)), script.text(100), script.body());
    let names = Names::Plain(&service, &method);
    let mut frame = Vec::new();
    put_legacy_call(&mut frame, names, &body, body.body_len());
    if is_fixed {
        let mut position = 0;
        let length = read_varint(&frame, &mut position).unwrap_or_default() as u32;
        stream.extend(length.to_le_bytes());
        frame.drain(..position);
    }
    stream.extend(frame);
    Request { service: service.into(), method: method.into(), body: body.kept(), ..Request::nothing() }
}

impl Request {
    fn nothing() -> Request {
        Request {
            service: Vec::new(),
            method: Vec::new(),
            auth_token: Vec::new(),
            call_id: 0,
            timeout_ms: 0,
            request_id: 0,
            credit_bytes: 0,
            kind: Kind::Call,
            body: Ok(Bytes::new()),
        }
    }
}

fn own_request(script: &mut Script<'_>, stream: &mut Vec<u8>) -> Request {
    let (what, call_id) = (script.byte() % 12, script.call_id());
    let word = |kind| Request { call_id, kind, ..Request::nothing() };
    match what {
        0 => put_cancel(stream, call_id),
        1 => put_ping(stream, call_id),
        2 => put_stream_end(stream, call_id),
        3 => {
            let credit_bytes = script.number();
            put_credit(stream, call_id, credit_bytes);
            return Request { credit_bytes, ..word(Kind::Credit) };
        }
        4 | 5 => {
            let body = script.body();
            put_stream_message(stream, call_id, &body, body.body_len());
            return Request { body: body.kept(), ..word(Kind::Message) };
        }
        _ => return own_call(script, stream, call_id),
    }
    word([Kind::Cancel, Kind::Ping, Kind::End][usize::from(what)])
}

fn own_call(script: &mut Script<'_>, stream: &mut Vec<u8>, call_id: u64) -> Request {
    // Names of any length that a header may have, so that its own length takes one byte or two.
    let (service, method, token) = (script.text(255), script.text(255), script.text(40));
    let kind = [0, 0, 0, 3, 7, u64::MAX][usize::from(script.byte()) % 6];
    let [timeout_ms, request_id, credit_bytes] = [(); 3].map(|()| script.number());
    let (auth_token, body) = (token.as_bytes(), script.body());
    let fields = CallFields { call_id, timeout_ms, auth_token, request_id, credit_bytes, kind };
    let names = Names::Plain(&service, &method);
    put_call_with(stream, names, &fields, &body, body.body_len());
    Request {
        service: service.into(),
        method: method.into(),
        auth_token: token.into(),
        call_id,
        timeout_ms,
        request_id,
        credit_bytes,
        kind: Kind::from_code(kind),
        body: body.kept(),
    }
}

/// A stream of replies, and what it says.
pub fn replies(script: &[u8]) -> (Vec<u8>, Vec<Reply>) {
    let mut script = Script(script);
    let (mut stream, mut said) = (Vec::new(), Vec::new());
    while !script.is_over() && said.len() < FRAMES_MAX {
        said.push(reply(&mut script, &mut stream));
    }
    (stream, said)
}

fn reply(script: &mut Script<'_>, stream: &mut Vec<u8>) -> Reply {
    let (what, call_id) = (script.byte() % 10, script.call_id());
    let said = Reply { call_id, body: Some(Ok(Bytes::new())), ..Reply::default() };
    match what {
        0 => {
            put_pong(stream, call_id);
            said
        }
        1 => {
            put_going_away(stream);
            Reply { call_id: NO_CALL, going_away: true, ..said }
        }
        2 => {
            let credit_bytes = script.number();
            put_reply_credit(stream, call_id, credit_bytes);
            Reply { credit_bytes, ..said }
        }
        3 => {
            let text = script.text(255).repeat(4);
            put_failure(stream, call_id, Status::Overloaded, &text);
            Reply { status: u64::from(Status::Overloaded.code()), error_text: text.into(), ..said }
        }
        4 | 5 => {
            let body = script.body();
            put_stream_reply(stream, call_id, &body, body.body_len());
            Reply { more: true, body: Some(body.kept()), ..said }
        }
        6 => {
            // A field of a later version, which is skipped.
            let mut header = vec![8];
            put_varint(&mut header, call_id);
            header.extend([15 << 3, script.byte() & 0x7f]);
            put_varint(stream, header.len() as u64);
            stream.extend(header);
            said
        }
        _ => {
            let body = script.body();
            put_reply(stream, call_id, &body, body.body_len());
            Reply { body: Some(body.kept()), ..said }
        }
    }
}
