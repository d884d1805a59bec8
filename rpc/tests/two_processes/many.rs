//! Many connections: at once and idle, and one after the other.

use std::time::{Duration, Instant};

use rpc::{ChannelConfig, RpcChannel};

use crate::child::WARM;
use crate::common::{ECHO, LONG, Text, call};
use crate::peer::{Peer, client, eventually};
use crate::{connections, sized};

/// What an idle connection may cost on either side, in bytes.
const IDLE_BYTES_MAX: u64 = 8 * 1024;

/// What it may cost when it was busy before, in bytes: the tables of the calls that were in flight at a time stay, no buffer does.
const BUSY_ONCE_BYTES_MAX: u64 = 16 * 1024;

/// How fast connections are made, each with its first calls; at full size they must be made so fast.
fn assert_a_thousand_a_second(count: u64, took: Duration) {
    println!("{count} connects in {took:?}");
    assert!(sized(0, 1) == 0 || took <= Duration::from_millis(count), "{count} connects in {took:?}");
}

/// Connects so many channels from another process; returns what each connection costs the server and the client, in bytes,
/// and how long it took.
fn idle_connections(count: u64, settings: &str) -> (u64, u64, Duration) {
    let (mut server, address) = Peer::server("");
    let port = address.rsplit_once(':').unwrap().1;
    let mut clients = Peer::start(&format!("clients port={port} count={count} {settings}"));
    assert_eq!(clients.hear("ready"), WARM);
    let (before, begun) = ([&server, &clients].map(Peer::resident_bytes), Instant::now());
    clients.order("connect");
    assert_eq!(clients.hear("ready"), count);
    let took = begun.elapsed();
    assert_eq!(server.ask("calls") % count, 0, "each was served");
    let after = [&server, &clients].map(Peer::resident_bytes);
    let cost = |side: usize| after[side].saturating_sub(before[side]) / (count - WARM);
    (cost(0), cost(1), took)
}

#[test]
fn an_idle_connection_costs_no_more_than_8_kib_on_either_side() {
    let count = connections(1_000, 10_000);
    let (server, client, took) = idle_connections(count, "");
    assert_a_thousand_a_second(count, took);
    println!("{count} idle connections: {server} B each at the server, {client} B at the client");
    assert!(server <= IDLE_BYTES_MAX && client <= IDLE_BYTES_MAX, "{server} and {client} bytes");
}

#[test]
fn connections_that_were_busy_cost_little_when_they_are_idle_again() {
    let count = connections(1_000, 10_000);
    let (server, client, _) = idle_connections(count, "burst=64 bytes=900");
    println!(
        "{count} connections idle after a burst: {server} B each at the server, {client} B at the client"
    );
    assert!(server <= BUSY_ONCE_BYTES_MAX && client <= BUSY_ONCE_BYTES_MAX, "{server} and {client} bytes");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let (server, address) = Peer::server("");
    let (lasting, kept_channel) = client(&address, ChannelConfig::default());
    assert!(call(&kept_channel, &ECHO, "one that stays").is_ok());
    let (reactor, _) = client(&address, ChannelConfig::default());
    let descriptors = server.open_descriptors();
    let (count, begun) = (sized(1_000, 10_000), Instant::now());
    for number in 0..count {
        let channel = RpcChannel::new(&reactor, &address, ChannelConfig::default());
        assert_eq!(call(&channel, &ECHO, number.to_string()), Ok(Text::new(number.to_string())));
    }
    assert_a_thousand_a_second(count, begun.elapsed());
    eventually("one connection is left", || server.open_descriptors() == descriptors);
    assert!(call(&kept_channel, &ECHO, "still there").is_ok());
    lasting.stop(LONG);
    reactor.stop(LONG);
}
