//! The other floor: blocking ping-pong, one call at a time without a poll loop. Its server is the first floor's.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::ensure;
use rpc_bench::load::Load;
use rpc_bench::tally::Tally;
use rpc_bench_peers::floor::{READ_BYTES, connect, serve};
use rpc_bench_peers::frames::{Direction, read, write};
use rpc_bench_peers::sides;

fn ping_pong(load: &Load) -> anyhow::Result<String> {
    ensure!(load.lanes() == 1, "ping-pong has one call in flight, on one connection");
    let payload = load.payload();
    let mut stream = connect(&load.addr)?;
    let mut tally = Tally::begin(load);
    let (mut out, mut received, mut room) = (Vec::new(), Vec::new(), vec![0; READ_BYTES]);
    loop {
        let started = Instant::now();
        out.clear();
        write(1, &payload, Direction::Request, &mut out);
        stream.write_all(&out)?;
        received.clear();
        while read(&received, Direction::Reply).is_none() {
            let count = stream.read(&mut room)?;
            received.extend_from_slice(&room[..count]);
        }
        if !tally.answered(started, Instant::now()) {
            return Ok(tally.report(load.measured()).line());
        }
    }
}

fn main() -> anyhow::Result<()> {
    sides::run(serve, ping_pong)
}
