//! Clients of the origin against a real server over real sockets: the bytes that were captured between its C++
//! processes are replayed, and what comes back must be what its clerk reads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kvserver::{Server, ServerConfig};
use prost::Message;
use proto::kv_server_rpc::{GetArgs, GetReply, PutAppendArgs, PutAppendReply};
use tempfile::TempDir;

/// Captured: `PutAppend(alpha, 19, Put)` as request 1 of its client, and `Get(alpha)` as request 2.
const CAPTURED_PUT: &str = "1a0a0b6b765365727665725270631209507574417070656e64183a0a05616c706861120231391a03507574222638353235353231333231303731323831363230313732373532373930303238353937373533342801";
const CAPTURED_GET: &str = "140a0b6b76536572766572527063120347657418310a05616c706861122638353235353231333231303731323831363230313732373532373930303238353937373533341802";
const REPLY_OK: &str = "0a024f4b";
const REPLY_OK_19: &str = "0a024f4b12023139";
const REPLY_NO_KEY: &str = "0a084572724e6f4b6579";
const REPLY_WRONG_LEADER: &str = "0a0e45727257726f6e674c6561646572";

/// What an origin client takes for the end of its patience here; it has none of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server and the directory it lives in.
struct Running {
    server: Server,
    _directory: TempDir,
}

/// A cluster of one, which elects itself, or one node of a cluster whose others do not exist.
fn start(members: &[(u64, &str)]) -> Running {
    let directory = TempDir::new().expect("a temporary directory");
    let members = members.iter().map(|(id, address)| (*id, (*address).to_owned())).collect();
    let config = ServerConfig::new(0, "test", members, "127.0.0.1:0", directory.path().join("node0"));
    let server = Server::start(&config).expect("the node starts");
    Running { server, _directory: directory }
}

fn start_alone() -> Running {
    let running = start(&[(0, "127.0.0.1:1")]);
    let mut clerk = Origin::connect(running.server.address());
    while clerk.put("ready", "", "Put", 1).err != "OK" {}
    running
}

/// A client as the origin builds it: one call at a time, and one `recv` is the reply.
struct Origin(TcpStream);

impl Origin {
    fn connect(address: SocketAddr) -> Origin {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Origin(stream)
    }

    fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        self.0.write_all(request).expect("the connection lives");
        let mut reply = vec![0; 1024];
        let length = self.0.read(&mut reply).expect("a reply comes");
        assert!(length > 0, "the server closed the connection of an origin client");
        reply.truncate(length);
        reply
    }

    fn call(&mut self, method: &str, args: &impl Message) -> Vec<u8> {
        let args = args.encode_to_vec();
        let mut header = vec![0x0a, 11];
        header.extend_from_slice(b"kvServerRpc");
        header.extend_from_slice(&[0x12, u8::try_from(method.len()).expect("a short name")]);
        header.extend_from_slice(method.as_bytes());
        header.push(0x18);
        prost::encode_length_delimiter(args.len(), &mut header).expect("a vector grows");
        let mut request = vec![u8::try_from(header.len()).expect("a short header")];
        request.extend(header);
        request.extend(args);
        self.exchange(&request)
    }

    fn put(&mut self, key: &str, value: &str, op: &str, request_id: u64) -> Answer {
        let args = PutAppendArgs {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            op: op.to_owned().into(),
            client_id: "8525".into(),
            request_id,
        };
        let reply = PutAppendReply::decode(&self.call("PutAppend", &args)[..]).expect("a PutAppendReply");
        Answer { err: text(&reply.err), value: String::new() }
    }

    fn get(&mut self, key: &str, request_id: u64) -> Answer {
        let args = GetArgs { key: key.to_owned().into(), client_id: "8525".into(), request_id };
        let reply = GetReply::decode(&self.call("Get", &args)[..]).expect("a GetReply");
        Answer { err: text(&reply.err), value: text(&reply.value) }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    err: String,
    value: String,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the test writes text")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |place| u8::from_str_radix(&hex[place..place + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn the_captured_requests_get_the_captured_replies() {
    let running = start_alone();
    let mut clerk = Origin::connect(running.server.address());
    assert_eq!(clerk.exchange(&bytes(CAPTURED_GET)), bytes(REPLY_NO_KEY));
    assert_eq!(clerk.exchange(&bytes(CAPTURED_PUT)), bytes(REPLY_OK));
    assert_eq!(clerk.exchange(&bytes(CAPTURED_GET)), bytes(REPLY_OK_19));
}

#[test]
fn a_node_that_does_not_lead_says_wrong_leader_and_keeps_the_connection() {
    let running = start(&[(0, "127.0.0.1:1"), (1, "127.0.0.1:2"), (2, "127.0.0.1:3")]);
    let mut clerk = Origin::connect(running.server.address());
    assert_eq!(clerk.exchange(&bytes(CAPTURED_PUT)), bytes(REPLY_WRONG_LEADER));
    assert_eq!(clerk.exchange(&bytes(CAPTURED_GET)), bytes(REPLY_WRONG_LEADER));
}

#[test]
fn append_appends_and_its_retry_on_a_new_connection_does_not() {
    let running = start_alone();
    let mut clerk = Origin::connect(running.server.address());
    assert_eq!(clerk.put("k", "a", "Put", 2).err, "OK");
    assert_eq!(clerk.put("k", "b", "Append", 3).err, "OK");
    let mut retry = Origin::connect(running.server.address());
    assert_eq!(retry.put("k", "b", "Append", 3).err, "OK");
    assert_eq!(retry.get("k", 4).value, "ab");
    assert_eq!(retry.put("k", "c", "Append", 5).err, "OK");
    assert_eq!(retry.get("k", 6).value, "abc");
}

#[test]
fn another_process_with_the_same_client_id_starts_again_at_one_and_is_served() {
    let running = start_alone();
    let mut first = Origin::connect(running.server.address());
    assert_eq!(first.put("k", "a", "Append", 2).err, "OK");
    assert_eq!(first.put("k", "b", "Append", 3).err, "OK");
    let mut second = Origin::connect(running.server.address());
    assert_eq!(second.put("k", "c", "Append", 1).err, "OK");
    assert_eq!(second.put("k", "d", "Append", 2).err, "OK");
    assert_eq!(second.get("k", 3).value, "abcd");
}

#[test]
fn an_unknown_operation_and_an_unsayable_reply_are_a_lone_zero() {
    let running = start_alone();
    let mut clerk = Origin::connect(running.server.address());
    let args = PutAppendArgs { op: "Increment".into(), ..PutAppendArgs::default() };
    assert_eq!(clerk.call("PutAppend", &args), [0]);
    assert_eq!(clerk.put("long", &"x".repeat(900), "Put", 2).err, "OK");
    assert_eq!(clerk.put("long", &"x".repeat(900), "Append", 3).err, "OK");
    let args = GetArgs { key: "long".into(), client_id: "8525".into(), request_id: 4 };
    assert_eq!(clerk.call("Get", &args), [0], "1,800 bytes are more than that clerk can take");
    assert_eq!(clerk.get("ready", 5).err, "OK", "the connection lives");
}
