//! Peers that vanish without a word: stopped in their tracks, so that the system goes on acknowledging for them and nothing
//! but their silence shows.

use std::time::{Duration, Instant};

use rpc::{ChannelConfig, RpcController, RpcError};
use rustix::process::Signal;

use crate::child::WARM;
use crate::common::raw::connect;
use crate::common::{ECHO, KEEP, LONG, Text, call};
use crate::peer::{Peer, client, eventually};
use crate::{connections, sized};

#[test]
fn calls_of_a_server_that_vanishes_end_long_before_their_deadline() {
    let (mut server, address) = Peer::server("");
    let keep_alive = Duration::from_millis(sized(200, 10_000));
    let ping_timeout = Duration::from_millis(sized(200, 1_000));
    // The calls are begun before there is a connection: its being made must not be what has them looked after.
    let config =
        ChannelConfig { keep_alive, ping_timeout, connect_timeout: 10 * LONG, ..ChannelConfig::default() };
    let (reactor, channel) = client(&address, config);
    let patient = RpcController::new();
    patient.set_timeout(10 * LONG);
    let begin = || channel.begin::<_, Text>(&KEEP, &patient, &Text::new("x"));
    let calls: Vec<_> = (0..64).map(|_| begin()).collect();
    server.ask_until("kept", |kept| kept == 64);
    server.signal(Signal::STOP);
    let since = Instant::now();
    for call in calls {
        match call.wait() {
            Err(RpcError::Closed { cause, may_have_run: true, .. }) => {
                assert!(cause.contains("no sign of life"), "{cause}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(since.elapsed() < LONG, "{:?}", since.elapsed());
    println!("64 calls of a server that had vanished ended after {:?}", since.elapsed());
    // The system still accepts for it: a new connection is silent, too, until the server is back.
    let call_again = channel.begin::<_, Text>(&ECHO, &patient, &Text::new("again"));
    server.signal(Signal::CONT);
    let again = call_again.wait();
    assert!(matches!(again, Ok(_) | Err(RpcError::Closed { .. })), "{again:?}");
    eventually("the server is back", || call(&channel, &ECHO, "and back").is_ok());
    reactor.stop(LONG);
}

#[test]
fn connections_of_clients_that_vanish_are_closed() {
    let idle = sized(400, 2_000);
    let (server, address) = Peer::server(&format!("idle_ms={idle}"));
    let (reactor, channel) = client(&address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "before").is_ok());
    let port = address.rsplit_once(':').unwrap().1;
    let count = connections(200, 5_000);
    let mut clients = Peer::start(&format!("clients port={port} count={count}"));
    assert_eq!(clients.hear("ready"), WARM);
    clients.order("connect");
    assert_eq!(clients.hear("ready"), count);
    clients.signal(Signal::STOP);
    let since = Instant::now();
    // What is used is kept.
    eventually("the clients' connections are closed", || {
        assert!(call(&channel, &ECHO, "beside").is_ok());
        server.open_descriptors() < count.min(50)
    });
    println!("{count} connections of a client that had vanished were closed after {:?}", since.elapsed());
    reactor.stop(LONG);
}

#[test]
fn peers_that_have_not_said_a_word_are_asked_by_the_system_whether_they_are_there() {
    let (_server, address) = Peer::server("");
    let _silent = connect(address.parse().unwrap());
    let port = format!(":{:04X}", address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap());
    // Of each socket: number, own address, the other's, state, queues, timer. State 01 has a peer, timer 02 asks for it.
    eventually("the server's end of the connection asks", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().map(|line| line.split_whitespace().collect()).any(|fields: Vec<&str>| {
            fields[1].ends_with(&port) && fields[3] == "01" && fields[5].starts_with("02:")
        })
    });
}
