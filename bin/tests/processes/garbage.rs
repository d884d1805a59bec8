//! Bytes that no client of ours sends: at worst they cost the connection they came on; the cluster serves on, under the
//! same leader.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

use crate::support::cluster::Cluster;
use crate::support::wait::LONG;
use crate::support::wire::{
    Field, Heard, Message, RawConnection, bytes, fields, number, put_varint, request,
};

/// How long a connection that is expected to stay open is listened to.
const SHORT: Duration = Duration::from_millis(200);

fn get_args(key: &str) -> Vec<u8> {
    Message::default().bytes(1, key.as_bytes()).done()
}

/// A header that announces more arguments than memory has, in our own mode.
fn four_gibibytes() -> Vec<u8> {
    let header = Message::default()
        .bytes(1, b"kv")
        .bytes(2, b"Get")
        .number(3, u64::from(u32::MAX))
        .number(4, 1)
        .done();
    let mut frame = Vec::new();
    put_varint(&mut frame, header.len() as u64);
    frame.extend(header);
    frame
}

/// What is sent, by name. Each goes to every node on a connection of its own.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut random = |length: usize| {
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let frame = request("kv", "Get", Some(1), &get_args("k"));
    let mut claims_header = vec![0xff; 4];
    claims_header.push(0x0f);
    vec![
        ("random bytes", random(4096)),
        ("one random byte", random(1)),
        ("a mebibyte of random bytes", random(1 << 20)),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random(500)].concat()),
        ("half a frame", frame[..frame.len() / 2].to_vec()),
        ("a frame less its last byte", frame[..frame.len() - 1].to_vec()),
        ("a header that claims 4 GiB of header", claims_header),
        ("a header that claims 4 GiB of arguments", four_gibibytes()),
        ("the origin's header that claims 4 GiB", {
            let header =
                Message::default().bytes(1, b"kvServerRpc").bytes(2, b"Get").number(3, u64::from(u32::MAX));
            let header = header.done();
            [vec![header.len() as u8], header].concat()
        }),
        (
            "a request to Raft with senseless arguments",
            request("raftRpc", "AppendEntries", Some(1), &random(200)),
        ),
        ("an origin's request to Raft", request("raftRpc", "RequestVote", None, &[8, 99, 16, 1])),
        ("a good request and then garbage", [frame, random(300)].concat()),
    ]
}

#[test]
fn garbage_costs_at_most_its_own_connection() {
    let cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("k", "v").unwrap();
    let leader = cluster.leader();
    let term = cluster.status(leader).expect("the leader answers").term;
    let mut open = Vec::new();
    for (name, attack) in attacks() {
        for id in 0..cluster.size() {
            let mut connection = RawConnection::open(&cluster.address(id));
            connection.write(&attack);
            open.push(connection);
        }
        clerk.put("k", name).unwrap();
        assert_eq!(clerk.get("k").unwrap(), Some(Bytes::from(name)), "after {name}");
    }
    // Half frames, waiting for the rest, hold nothing up; whoever sent them may still be connected.
    drop(open);
    let status = cluster.status(leader).expect("the leader answers");
    assert_eq!((status.role.as_str(), status.term), ("leader", term), "garbage made an election");
}

#[test]
fn a_claim_of_four_gibibytes_is_answered_by_closing_at_once() {
    let cluster = Cluster::start(1, "");
    let mut connection = RawConnection::open(&cluster.address(0));
    connection.write(&four_gibibytes());
    loop {
        match connection.receive(LONG) {
            // A refusal may be said before the end.
            Heard::Bytes(_) => {}
            Heard::Closed => break,
            Heard::Nothing => panic!("the connection still waits for 4 GiB"),
        }
    }
    cluster.clerk().put("k", "v").unwrap();
}

#[test]
fn requests_glued_together_or_split_anywhere_are_all_answered() {
    let cluster = Cluster::start(3, "");
    let clerk = cluster.clerk();
    clerk.put("a", "first").unwrap();
    clerk.put("b", vec![b'x'; 100_000]).unwrap();
    let address = cluster.address(cluster.leader());
    let frames = [
        request("kv", "Get", Some(1), &get_args("a")),
        request("kv", "Get", Some(2), &get_args("b")),
        request("kv", "Get", Some(3), &get_args("none")),
        request("kv", "Nonsense", Some(4), &[]),
    ];
    let stream = frames.concat();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for attempt in 0..20 {
        let mut connection = RawConnection::open(&address);
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            // The first time everything at once, then in pieces.
            let length = if attempt == 0 { rest.len() } else { rng.random_range(1..=rest.len()) };
            let (piece, left) = rest.split_at(length);
            connection.write(piece);
            rest = left;
        }
        check_answers(&mut connection, frames.len());
    }
}

/// The replies of `requests_glued…`, in any order.
fn check_answers(connection: &mut RawConnection, count: usize) {
    let mut answered = Vec::new();
    for _ in 0..count {
        let (header, body) = connection.reply(LONG);
        let call_id = number(&header, 1);
        let value = bytes(&fields(&body), 2);
        let outcome = bytes(&fields(&body), 1);
        let code = number(&fields(&outcome), 1);
        match call_id {
            1 => assert_eq!((code, value.as_slice()), (0, b"first".as_slice())),
            2 => assert_eq!((code, value.len()), (0, 100_000)),
            3 => assert_eq!((code, value.len()), (1, 0), "a key that is not there is NOT_FOUND"),
            4 => assert_ne!(number(&header, 2), 0, "an unknown method has a status: {header:?}"),
            other => panic!("nobody asked call {other}"),
        }
        answered.push(call_id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4]);
    assert_eq!(connection.receive(SHORT), Heard::Nothing, "a reply too many");
}

#[test]
fn hand_written_fields_are_read_back() {
    let message = Message::default().bytes(1, b"key").number(5, 300).done();
    assert_eq!(fields(&message), [(1, Field::Bytes(b"key".to_vec())), (5, Field::Number(300))]);
}
