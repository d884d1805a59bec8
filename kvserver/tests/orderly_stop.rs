//! A node that is stopped in order says so at the end of its log, so that nothing behind that place can be a lost write; and
//! to its peers, when it says nothing else any more.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::Duration;

use kvserver::{Server, ServerConfig};
use proto::admin::{AdminStub, StatusRequest};
use proto::raft_rpc::{RaftRpcStub, WatchArgs};
use raft::core::NodeId;
use raft::net::{AddressBook, Border};
use raft::storage::wal::{HeaderRead, Record, SegmentHeader, SegmentReader, WalConfig, segment_name};
use raft::storage::{DataDirectory, RealDisk, recover};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController};

/// An origin client's `PutAppend(a, b, Put)` as client `c`, request 1.
const PUT: &[u8] =
    b"\x1a\x0a\x0bkvServerRpc\x12\x09PutAppend\x18\x10\x0a\x01a\x12\x01b\x1a\x03Put\"\x01c\x28\x01";

/// `Err: OK`.
const OK: &[u8] = b"\x0a\x02OK";

/// Has the node store something, so that it takes part and leads.
fn put(server: &Server) {
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
}

/// Node 0 of a cluster of so many, whose other members are not there.
fn config(members: u64, directory: &Path) -> ServerConfig {
    let members = (0..members).map(|id| (id, "127.0.0.1:1".to_owned())).collect();
    ServerConfig::new(0, "test", members, "127.0.0.1:0", directory.to_owned())
}

#[test]
fn the_log_of_a_stopped_node_ends_with_a_seal() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&config(1, directory.path())).unwrap();
    put(&server);
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

#[test]
fn the_farewell_comes_when_the_node_takes_part_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut owned = DataDirectory::open(directory.path(), "test", NodeId(0)).unwrap();
    owned.admit(&[(NodeId(1), 1), (NodeId(2), 2)]).unwrap();
    let log = WalConfig::new(owned.identity().incarnation);
    recover(&mut RealDisk::new(directory.path()), log, false).unwrap();
    drop(owned);

    let server = Server::start(&config(3, directory.path())).unwrap();
    let reactor = Reactor::start("peer", ReactorConfig::default()).unwrap();
    let channel = RpcChannel::new(&reactor, &server.address().to_string(), ChannelConfig::default());
    let raft = RaftRpcStub::new(channel.clone());
    let admin = Arc::new(AdminStub::new(channel));
    let members = (0..3).map(|id| (NodeId(id), "127.0.0.1:1".to_owned()));
    let peer = Border::new("test", NodeId(1), AddressBook::new(members));
    let watch = WatchArgs { envelope: Some(peer.envelope(NodeId(0))), known_incarnation: None };
    let mut refusals = 0;
    let watched = loop {
        let (heard, farewell) = sync_channel(1);
        let status = Arc::clone(&admin);
        raft.watch_async(&RpcController::new(), &watch, move |reply| match reply {
            Err(refusal) => heard.send(Err(refusal)).unwrap(),
            Ok(_farewell) => status.status_async(&RpcController::new(), &StatusRequest {}, move |status| {
                heard.send(Ok(status.map(|reply| reply.role))).unwrap();
            }),
        });
        // The watch went before this on the same connection: a refusal, since the node does not take part yet, would
        // have come before the answer.
        admin.status(&RpcController::new(), &StatusRequest {}).unwrap();
        match farewell.try_recv() {
            Err(TryRecvError::Empty) => break farewell,
            Ok(Err(refusal)) => {
                refusals += 1;
                assert!(refusals < 100_000, "it never takes part: {refusal}");
            }
            told => panic!("it says farewell and has not stopped: {told:?}"),
        }
    };
    server.stop();
    let role = watched.recv().unwrap().expect("it says farewell");
    // Who asks at the farewell finds a node that has stopped, or none.
    assert!(role.as_ref().map_or(true, |role| role == "stopped"), "{role:?}");
    reactor.stop(Duration::ZERO);
}
