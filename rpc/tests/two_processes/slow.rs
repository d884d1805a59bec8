//! Peers that are slow, deaf or silent, beside traffic that must not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rpc::{ChannelConfig, RpcChannel};

use crate::common::raw::{connect, read_replies, request, text_of};
use crate::common::{ECHO, LONG, Text, call};
use crate::peer::{Peer, client, eventually};
use crate::sized;

/// Runs `beside` while calls go to and fro. Every one of these gets its answer; how long they took is printed.
fn beside_traffic(what: &str, channel: &RpcChannel, beside: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let mut took = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut took = Vec::new();
            while !is_over.load(Ordering::SeqCst) || took.is_empty() {
                let (text, begun) = (took.len().to_string(), Instant::now());
                assert_eq!(call(channel, &ECHO, &text), Ok(Text::new(&text)), "beside {what}");
                took.push(begun.elapsed());
            }
            took
        });
        beside();
        is_over.store(true, Ordering::SeqCst);
        calling.join().unwrap()
    });
    took.sort_unstable();
    let (p99, longest) = (took[took.len() * 99 / 100], took[took.len() - 1]);
    println!("beside {what}: {} calls, p99 {p99:?}, longest {longest:?}", took.len());
}

/// Whether the server has ended a connection.
fn is_cut(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 4096]);
    stream.set_nonblocking(false).unwrap();
    !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn peers_that_drip_are_cut_and_nobody_else_notices() {
    // In full: a byte a second, and the default of ten seconds.
    let (tick, unfinished) = (Duration::from_millis(sized(50, 1_000)), sized(500, 10_000));
    let (server, address) = Peer::server(&format!("unfinished_ms={unfinished}"));
    let (reactor, channel) = client(&address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "before").is_ok());
    let descriptors = server.open_descriptors();
    // Some stop within the header, some within small arguments, some within large ones, whose memory is claimed as it comes.
    let begun = [vec![0x60], request("Echo", 1, &[7; 900]), request("Echo", 1, &[7; 900_000])];
    beside_traffic("peers that drip", &channel, || {
        let mut dripping: Vec<(TcpStream, std::vec::IntoIter<u8>)> = (0..sized(60, 1_000))
            .map(|number| {
                let mut bytes = begun[number as usize % 3].clone();
                bytes.resize(bytes.len().max(100), 7);
                (connect(address.parse().unwrap()), bytes.into_iter())
            })
            .collect();
        let since = Instant::now();
        while !dripping.is_empty() {
            dripping.retain_mut(|(stream, bytes)| {
                // Writing into a connection that was cut fails, or is answered by its end.
                stream.write_all(&[bytes.next().unwrap()]).is_ok() && !is_cut(stream)
            });
            assert!(since.elapsed() < Duration::from_millis(10 * unfinished), "{} drip on", dripping.len());
            thread::park_timeout(tick);
        }
        println!("the last of them was cut after {:?}", since.elapsed());
    });
    eventually("all are gone", || server.open_descriptors() == descriptors);
    reactor.stop(LONG);
}

#[test]
fn peers_that_never_read_are_cut_and_nobody_else_notices() {
    let stalled = sized(500, 30_000);
    let (server, address) = Peer::server(&format!("stalled_ms={stalled}"));
    let (reactor, channel) = client(&address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "before").is_ok());
    let (descriptors, resident) = (server.open_descriptors(), server.resident_bytes());
    let count = sized(8, 100);
    beside_traffic("peers that never read", &channel, || {
        let asked: Vec<u8> = (1..=500).flat_map(|id| request("Bytes", id, b"100000")).collect();
        let mut deaf: Vec<TcpStream> = (0..count).map(|_| connect(address.parse().unwrap())).collect();
        deaf.iter_mut().for_each(|stream| stream.write_all(&asked).unwrap());
        eventually("the server has all of them", || server.open_descriptors() == descriptors + count);
        let mut most = 0;
        eventually("all are cut", || {
            most = most.max(server.resident_bytes());
            server.open_descriptors() == descriptors
        });
        let each = most.saturating_sub(resident) / count;
        println!("{count} peers that never read cost {each} B each at most");
        assert!(each < 8 << 20, "the high-water mark is 1 MiB, and there is a reply beyond: {each} bytes");
    });
    reactor.stop(LONG);
}

#[test]
fn half_closed_peers_get_their_replies_and_do_not_stay_for_ever() {
    let (mut server, address) = Peer::server("half_closed_ms=300");
    let (reactor, channel) = client(&address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "before").is_ok());
    let descriptors = server.open_descriptors();
    beside_traffic("half-closed peers", &channel, || {
        let half_closed = |method: &str| {
            let mut stream = connect(address.parse().unwrap());
            let asked: Vec<u8> = (1..=10).flat_map(|id| request(method, id, b"10000")).collect();
            stream.write_all(&asked).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        };
        let mut answered: Vec<TcpStream> = ["Echo", "Later", "Bytes"]
            .iter()
            .cycle()
            .take(sized(30, 600) as usize)
            .map(|it| half_closed(it))
            .collect();
        for (stream, expected) in
            answered.iter_mut().zip([b"10000".len(), b"later".len(), 10_000].into_iter().cycle())
        {
            let replies = read_replies(stream, 10);
            assert!(replies.iter().all(|reply| text_of(reply).text.len() == expected));
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and then the end, once nothing is owed");
        }
        // Nobody answers these.
        let kept: Vec<TcpStream> = (0..sized(20, 400)).map(|_| half_closed("Keep")).collect();
        server.ask_until("kept", |calls| calls == 10 * kept.len() as u64);
        eventually("they are given up", || server.open_descriptors() == descriptors);
    });
    server.order("answer");
    assert_eq!(server.ask("kept"), 0, "answers that are too late harm nobody");
    assert!(call(&channel, &ECHO, "after").is_ok());
    reactor.stop(LONG);
}
