//! A bounded run of what the fuzz targets do: good streams, damaged at random, through the checks of `fuzz/check.rs`.
//!
//! `RPC_FUZZ_EXECUTIONS=10000000 cargo test --release -p rpc --test damaged_streams` runs longer.

#[path = "../fuzz/check.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod check;

use rpc::Status;
use rpc::protocol::encoder::{
    CallFields, Names, put_call, put_call_with, put_cancel, put_failure, put_going_away, put_legacy_call,
    put_ping, put_pong, put_reply,
};

/// Streams checked where nobody asks for more.
const EXECUTIONS: u64 = 20_000;

#[derive(Clone, PartialEq, prost::Message)]
struct Blob {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn blob(random: &mut Random) -> (Blob, usize) {
    let size = match random.below(50) {
        0 => 15_000 + random.below(30_000),
        _ => random.below(60),
    };
    let blob = Blob { bytes: vec![size as u8; size] };
    let body_bytes = prost::Message::encoded_len(&blob);
    (blob, body_bytes)
}

/// A good stream of requests; of the origin's form in one case of four.
fn requests(random: &mut Random) -> Vec<u8> {
    let mut stream = vec![random.below(256) as u8];
    let is_legacy = random.below(4) == 0;
    for call_id in 1..=1 + random.below(4) as u64 {
        let ((blob, body_bytes), names) = (blob(random), Names::Plain("service", "Method"));
        match random.below(8) {
            _ if is_legacy => put_legacy_call(&mut stream, names, &blob, body_bytes),
            0 => put_cancel(&mut stream, call_id),
            1 => put_ping(&mut stream, call_id),
            2 => {
                let (credit_bytes, kind, request_id) = (7, 3, u64::MAX);
                let fields = CallFields {
                    call_id,
                    timeout_ms: 5,
                    auth_token: b"token",
                    request_id,
                    credit_bytes,
                    kind,
                };
                put_call_with(&mut stream, names, &fields, &blob, body_bytes);
            }
            _ => put_call(&mut stream, names, call_id, 1000, &blob, body_bytes),
        }
    }
    stream
}

fn replies(random: &mut Random) -> Vec<u8> {
    let mut stream = vec![random.below(256) as u8];
    for call_id in 1..=1 + random.below(4) as u64 {
        let (blob, body_bytes) = blob(random);
        match random.below(6) {
            0 => put_failure(&mut stream, call_id, Status::Overloaded, "full"),
            1 => put_pong(&mut stream, call_id),
            2 => put_going_away(&mut stream),
            _ => put_reply(&mut stream, call_id, &blob, body_bytes),
        }
    }
    stream
}

/// Damages a stream in a few places, most often near its beginning, where the headers are.
fn damage(stream: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let end = if random.below(3) == 0 { stream.len() } else { stream.len().min(40) };
        let at = random.below(end);
        match random.below(5) {
            0 => stream.truncate(at.max(1)),
            1 => stream.insert(at, random.below(256) as u8),
            2 if stream.len() > 1 => drop(stream.remove(at)),
            3 => stream[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => stream[at] ^= 1 << random.below(8),
        }
    }
}

#[test]
fn any_damage_gives_the_same_frames_in_any_chunking_and_harms_nobody() {
    let asked = std::env::var("RPC_FUZZ_EXECUTIONS").ok().and_then(|text| text.parse().ok());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..asked.unwrap_or(EXECUTIONS) {
        let mut stream = requests(&mut random);
        damage(&mut stream, &mut random);
        check::requests(&stream);
        let mut stream = replies(&mut random);
        damage(&mut stream, &mut random);
        check::replies(&stream);
        check::parts(&stream[random.below(stream.len())..]);
    }
}
