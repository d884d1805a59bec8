//! A node that is stopped in order says so at the end of its log: nothing behind that place can be a lost write.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use kvserver::{Server, ServerConfig};
use raft::storage::wal::{HeaderRead, Record, SegmentHeader, SegmentReader, segment_name};

/// An origin client's `PutAppend(a, b, Put)` as client `c`, request 1.
const PUT: &[u8] =
    b"\x1a\x0a\x0bkvServerRpc\x12\x09PutAppend\x18\x10\x0a\x01a\x12\x01b\x1a\x03Put\"\x01c\x28\x01";

/// `Err: OK`.
const OK: &[u8] = b"\x0a\x02OK";

#[test]
fn the_log_of_a_stopped_node_ends_with_a_seal() {
    let directory = tempfile::tempdir().unwrap();
    let members = vec![(0, "127.0.0.1:1".to_owned())];
    let config = ServerConfig::new(0, "test", members, "127.0.0.1:0", directory.path().to_owned());
    let server = Server::start(&config).unwrap();
    let mut client = TcpStream::connect(server.address()).unwrap();
    let mut reply = [0; 64];
    loop {
        client.write_all(PUT).unwrap();
        let bytes = client.read(&mut reply).unwrap();
        assert!(bytes > 0, "the connection lives");
        if &reply[..bytes] == OK {
            break;
        }
    }
    server.stop();

    let segment = fs::read(directory.path().join(segment_name(1).as_str())).unwrap();
    let HeaderRead::Header(header) = SegmentHeader::decode(&segment) else { panic!("it has a header") };
    let mut reader = SegmentReader::new(&segment, header.seed, 1);
    let mut records = Vec::new();
    while let Ok(record) = reader.next_record() {
        records.push(record);
    }
    assert!(records.iter().any(|record| matches!(record, Record::Entry(_))), "something was written");
    let Some(Record::Batch(head)) = records.last() else { panic!("{:?}", records.last()) };
    assert_eq!(head.synced_to, head.position, "all before it is durable");
    assert_eq!(head.position.offset + head.batch_bytes, reader.position().offset, "nothing follows it");
}
