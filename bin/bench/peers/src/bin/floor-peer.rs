//! The floor: an echo of the same frames on a bare poll loop, one thread a side: all whole frames of a read, one write, no
//! allocation per call. And blocking ping-pong, one call at a time without a poll loop.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream as BlockingStream};
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rpc_bench::load::Load;
use rpc_bench::tally::Tally;
use rpc_bench_peers::frames::{Direction, read, write};
use slab::Slab;

/// Bytes taken by one read.
const READ_BYTES: usize = 256 * 1024;

#[derive(Parser)]
#[command(name = "floor-peer")]
struct Arguments {
    #[command(subcommand)]
    side: Side,
}

#[derive(Subcommand)]
enum Side {
    /// Echoes until it is killed.
    Server {
        #[arg(long, default_value = "127.0.0.1:0")]
        addr: String,
    },
    /// A closed loop.
    Client(Load),
    /// One call at a time over a blocking socket.
    PingPong(Load),
}

/// One connection: what came and is no whole frame yet, and what is to be written.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> std::io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, received: Vec::new(), unsent: Vec::new() })
    }

    /// Reads once; false when the peer is gone. `each` sees every whole frame and may write.
    fn turn(
        &mut self,
        room: &mut [u8],
        direction: Direction,
        mut each: impl FnMut(u64, &[u8], &mut Vec<u8>),
    ) -> std::io::Result<bool> {
        loop {
            let count = match self.stream.read(room) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let bytes = if self.received.is_empty() {
                &room[..count]
            } else {
                self.received.extend_from_slice(&room[..count]);
                &self.received[..]
            };
            let mut used = 0;
            while let Some(frame) = read(&bytes[used..], direction) {
                each(frame.call_id, frame.payload, &mut self.unsent);
                used += frame.length;
            }
            if self.received.is_empty() {
                self.received.extend_from_slice(&room[used..count]);
            } else {
                self.received.drain(..used);
            }
            if count < room.len() {
                break;
            }
        }
        self.flush()?;
        Ok(true)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }
}

fn serve(addr: &str) -> anyhow::Result<()> {
    const LISTENER: Token = Token(usize::MAX);
    let address: SocketAddr = addr.parse().context("not an address")?;
    let mut listener = mio::net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut events = Events::with_capacity(1024);
    let mut room = vec![0; READ_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let entry = connections.vacant_entry();
                    let token = Token(entry.key());
                    let connection = entry.insert(Connection::new(stream)?);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut connection.stream, token, interest)?;
                }
                continue;
            }
            let key = event.token().0;
            let Some(connection) = connections.get_mut(key) else { continue };
            let echo =
                |call_id, payload: &[u8], out: &mut Vec<u8>| write(call_id, payload, Direction::Reply, out);
            if !matches!(connection.turn(&mut room, Direction::Request, echo), Ok(true)) {
                connections.remove(key);
            }
        }
    }
}

fn connect(addr: &str) -> anyhow::Result<BlockingStream> {
    let stream = BlockingStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

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

fn ping_pong(load: &Load) -> anyhow::Result<String> {
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
    // A port that is taken shows at once, before any poll loop.
    match Arguments::parse().side {
        Side::Server { addr } => {
            drop(TcpListener::bind(&addr).with_context(|| format!("cannot listen on {addr}"))?);
            serve(&addr)
        }
        Side::Client(load) => call(&load).map(|line| println!("{line}")),
        Side::PingPong(load) => ping_pong(&load).map(|line| println!("{line}")),
    }
}
