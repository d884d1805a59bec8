//! A server that has run out of file descriptors: who is connected is served, who waits is served later.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use rpc::ChannelConfig;

use crate::common::raw::{connect, read_replies, request, text_of};
use crate::common::{ECHO, LONG, Text, call};
use crate::peer::{Peer, client, eventually};

/// The server's limit.
const LIMIT: u64 = 50;

/// How many connections have a reply waiting.
fn answered(waiting: &mut [TcpStream]) -> usize {
    let has_reply = |stream: &&mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    waiting.iter_mut().filter(has_reply).count()
}

#[test]
fn at_the_descriptor_limit_accepting_pauses_the_others_are_served_and_it_resumes() {
    let (mut server, address) = Peer::server(&format!("descriptors={LIMIT}"));
    let (reactor, channel) = client(&address, ChannelConfig::default());
    assert!(call(&channel, &ECHO, "first").is_ok());
    // What it has inherited from us may bear higher numbers.
    let is_below = |descriptor: &&u64| **descriptor < LIMIT;
    let places = LIMIT as usize - crate::descriptors_of(server.pid()).iter().filter(is_below).count();
    let mut waiting: Vec<TcpStream> = (0..2 * places).map(|_| connect(address.parse().unwrap())).collect();
    for stream in &mut waiting {
        stream.write_all(&request("Echo", 1, b"me")).unwrap();
    }
    eventually("as many are served as there are descriptors for", || answered(&mut waiting) == places);
    // No further one gets in, however often the server looks; and looking costs it little.
    let ticks = server.processor_ticks();
    for number in 0..200 {
        assert!(call(&channel, &ECHO, number.to_string()).is_ok(), "who is connected is served");
    }
    assert_eq!(answered(&mut waiting), places);
    println!(
        "200 calls at the descriptor limit took {} ticks of processor time",
        server.processor_ticks() - ticks
    );
    // Those that were served leave, and the others take their places.
    let (served, mut others): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|stream| answered(&mut [stream.try_clone().unwrap()]) == 1);
    assert_eq!((served.len(), others.len()), (places, places));
    drop(served);
    for stream in &mut others {
        assert_eq!(text_of(&read_replies(stream, 1)[0]), Text::new("me"));
    }
    assert!(call(&channel, &ECHO, "last").is_ok());
    assert_eq!(server.ask("calls"), 2 * places as u64 + 202, "each was served once");
    reactor.stop(LONG);
}
