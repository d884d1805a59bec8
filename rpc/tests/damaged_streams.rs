//! A bounded run of what the fuzz targets do: good streams, damaged at random, through the checks of `fuzz/check.rs`.
//!
//! `RPC_FUZZ_EXECUTIONS=10000000 cargo test --release -p rpc --test damaged_streams` runs longer.

#[path = "../fuzz/check.rs"]
#[expect(dead_code, unreachable_pub, reason = "shared with the fuzz targets")]
mod check;
#[path = "../fuzz/good_streams.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod good_streams;

/// Streams checked where nobody asks for more.
const EXECUTIONS: u64 = 3_000;

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

/// A good stream behind a byte that says how it is cut; its script is random.
fn stream_of(random: &mut Random, good_stream: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let script: Vec<u8> = (0..1 + random.below(50)).map(|_| random.below(256) as u8).collect();
    [vec![random.below(256) as u8], good_stream(&script)].concat()
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
        let mut stream = stream_of(&mut random, |script| good_streams::requests(script).0);
        damage(&mut stream, &mut random);
        check::requests(&stream);
        let mut stream = stream_of(&mut random, |script| good_streams::replies(script).0);
        damage(&mut stream, &mut random);
        check::replies(&stream);
        check::parts(&stream[random.below(stream.len())..]);
    }
}
