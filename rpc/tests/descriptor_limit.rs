//! A process that has run out of file descriptors: accepting pauses, and resumes by itself when there are some again.
//!
//! The limit is the whole process', so this test has a file, and thereby a process, of its own.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::*;
use prost::Message;
use rpc::protocol::encoder::{Names, put_call};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").expect("Linux has it").count() as u64
}

#[test]
fn accepting_pauses_at_the_descriptor_limit_and_resumes() {
    let ends = Ends::new();
    let mut request = Vec::new();
    let body = Text::new("x");
    put_call(&mut request, Names::Plain("test", "Echo"), 1, 0, &body, body.encoded_len());

    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(open_descriptors() + 10), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    // Each connection takes two descriptors of this process; the last of them have none for the server's end.
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(ends.address) {
        client.set_read_timeout(Some(LONG)).unwrap();
        clients.push(client);
        assert!(clients.len() < 100);
    }
    let mut last = clients.pop().unwrap();
    last.write_all(&request).unwrap();
    drop(clients);
    let mut reply = [0; 64];
    assert_ne!(last.read(&mut reply).unwrap(), 0, "served once there are descriptors again");
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(call(&ends.channel(), &ECHO, "and so is everybody").is_ok());
}
