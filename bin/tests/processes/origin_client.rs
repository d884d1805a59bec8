//! A client of the C++ origin, as it is: one call at a time, and whatever one `recv` of 1,024 bytes returns is the reply.

use crate::support::cluster::Cluster;
use crate::support::wait::LONG;
use crate::support::wire::{Heard, Message, RawConnection, bytes, fields, request};

/// The origin's clerk on one connection.
pub struct OriginClerk {
    connection: RawConnection,
    request_id: u64,
}

impl OriginClerk {
    pub fn connect(address: &str) -> OriginClerk {
        OriginClerk { connection: RawConnection::open(address), request_id: 0 }
    }

    fn call(&mut self, method: &str, args: &[u8]) -> Vec<u8> {
        self.connection.write(&request("kvServerRpc", method, None, args));
        match self.connection.receive(LONG) {
            Heard::Bytes(reply) => reply,
            other => panic!("{method}: {other:?} instead of a reply"),
        }
    }

    /// PutAppend with the given request id; the reply's Err.
    pub fn write_as(&mut self, request_id: u64, operation: &str, key: &str, value: &str) -> String {
        let args = Message::default()
            .bytes(1, key.as_bytes())
            .bytes(2, value.as_bytes())
            .bytes(3, operation.as_bytes())
            .bytes(4, b"1804289383")
            .number(5, request_id)
            .done();
        let reply = self.call("PutAppend", &args);
        String::from_utf8(bytes(&fields(&reply), 1)).unwrap()
    }

    pub fn write(&mut self, operation: &str, key: &str, value: &str) -> String {
        self.request_id += 1;
        self.write_as(self.request_id, operation, key, value)
    }

    /// Get; the reply's Err and Value.
    pub fn get(&mut self, key: &str) -> (String, String) {
        self.request_id += 1;
        let args = Message::default()
            .bytes(1, key.as_bytes())
            .bytes(2, b"1804289383")
            .number(3, self.request_id)
            .done();
        let reply = fields(&self.call("Get", &args));
        (String::from_utf8(bytes(&reply, 1)).unwrap(), String::from_utf8(bytes(&reply, 2)).unwrap())
    }
}

/// A get that found this.
pub fn ok(value: &str) -> (String, String) {
    ("OK".to_owned(), value.to_owned())
}

#[test]
fn the_origins_client_puts_appends_and_gets_unchanged() {
    let cluster = Cluster::start(3, "");
    let mut clerk = OriginClerk::connect(&cluster.address(cluster.leader()));
    assert_eq!(clerk.write("Put", "x", "1"), "OK");
    assert_eq!(clerk.write("Append", "x", "23"), "OK");
    assert_eq!(clerk.get("x"), ok("123"));
    assert_eq!(clerk.get("none").0, "ErrNoKey");
    // The same data as everybody's.
    assert_eq!(cluster.clerk().get("x").unwrap().as_deref(), Some(b"123".as_slice()));
}

#[test]
fn a_repeated_write_runs_once_and_another_process_with_the_same_id_is_heard() {
    let cluster = Cluster::start(3, "");
    let address = cluster.address(cluster.leader());
    let mut first = OriginClerk::connect(&address);
    assert_eq!(first.write_as(1, "Append", "list", "a"), "OK");
    assert_eq!(first.write_as(1, "Append", "list", "a"), "OK");
    // The retry of a client that reconnected.
    let mut again = OriginClerk::connect(&address);
    assert_eq!(again.write_as(1, "Append", "list", "a"), "OK");
    // Another process: every one of the origin's has the same ClientId and begins at RequestId 1.
    let mut other = OriginClerk::connect(&address);
    assert_eq!(other.write_as(1, "Append", "list", "b"), "OK");
    assert_eq!(other.write_as(2, "Append", "list", "c"), "OK");
    assert_eq!(other.get("list"), ok("abc"));
}

#[test]
fn what_cannot_be_said_to_an_origin_client_is_one_zero_byte_and_the_connection_lives() {
    let cluster = Cluster::start(1, "");
    let mut clerk = OriginClerk::connect(&cluster.address(0));
    assert_eq!(clerk.call("NoSuchMethod", &[]), [0]);
    assert_eq!(clerk.write("Put", "x", "1"), "OK");
    // A reply over what its one recv takes would be cut; it is refused instead.
    cluster.clerk().put("long", vec![b'x'; 5000]).unwrap();
    let args = Message::default().bytes(1, b"long").bytes(2, b"c").number(3, 9).done();
    assert_eq!(clerk.call("Get", &args), [0]);
    assert_eq!(clerk.get("x"), ok("1"));
}
