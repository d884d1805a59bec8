//! The floor, see [`rpc_bench_peers::floor`].

use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rpc_bench::load::Load;
use rpc_bench::tally::Tally;
use rpc_bench_peers::floor::{Connection, READ_BYTES, connect, serve};
use rpc_bench_peers::frames::{Direction, write};
use rpc_bench_peers::sides;

fn call(load: &Load) -> anyhow::Result<String> {
    let mut poll = Poll::new()?;
    let payload = load.payload();
    let mut tally = Tally::begin(load);
    let mut connections = Vec::new();
    // When the call of each lane began; the id of a call names its lane.
    let mut started = vec![Instant::now(); load.lanes() as usize + 1];
    for number in 0..load.conns {
        let stream = connect(&load.addr)?;
        stream.set_nonblocking(true)?;
        let mut connection = Connection::new(TcpStream::from_std(stream))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut connection.stream, Token(number as usize), interest)?;
        for lane in 0..load.inflight {
            let call_id = u64::from(number * load.inflight + lane + 1);
            write(call_id, &payload, Direction::Request, &mut connection.unsent);
        }
        connection.flush()?;
        connections.push(connection);
    }
    let mut running = load.lanes();
    let mut events = Events::with_capacity(1024);
    let mut room = vec![0; READ_BYTES];
    while running > 0 {
        poll.poll(&mut events, None)?;
        for event in &events {
            let answered = |call_id: u64, echoed: &[u8], out: &mut Vec<u8>| {
                let now = Instant::now();
                let lane = call_id as usize;
                let goes_on = echoed == payload && tally.answered(started[lane], now);
                if echoed != payload {
                    tally.failed();
                }
                if goes_on {
                    started[lane] = now;
                    write(call_id, &payload, Direction::Request, out);
                } else {
                    running -= 1;
                }
            };
            connections[event.token().0].turn(&mut room, Direction::Reply, answered)?;
        }
    }
    Ok(tally.report(load.measured()).line())
}

fn main() -> anyhow::Result<()> {
    sides::run(serve, call)
}
