//! Peers that ask faster than they read: what they cost, and when they are cut.

mod common;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::raw::*;
use common::*;
use rpc::{ProviderConfig, Status, corked};

#[test]
fn a_peer_that_does_not_read_is_asked_for_nothing_more_until_it_does() {
    let config = ProviderConfig { unsent_bytes_high_water: 64 << 10, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let mut stream = connect(ends.address);
    // 2,000 calls that ask for 100 KB each: 200 MB, and the bound is 128 MiB.
    let asked: Vec<u8> = (1..=2_000).flat_map(|id| request("Bytes", id, b"100000")).collect();
    stream.write_all(&asked).unwrap();
    let channel = ends.channel();
    let others = 200;
    for _ in 0..others {
        assert!(call(&channel, &ECHO, "the others are served").is_ok());
    }
    // The system's own buffers take some megabytes first.
    let begun = ends.service.calls.load(Ordering::SeqCst) - others;
    assert!(begun < 500, "{begun} calls were begun");
    let replies = read_replies(&mut stream, 2_000);
    assert!(replies.iter().zip(1..).all(|(reply, id)| (reply.head.call_id, reply.head.status) == (id, 0)));
    assert_eq!(ends.service.calls.load(Ordering::SeqCst), 2_000 + others);
}

#[test]
fn replies_beyond_the_bound_are_said_to_be_and_the_connection_lives() {
    let config = ProviderConfig { unsent_bytes_max: 1_000_000, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let (sender, kept) = std::sync::mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    let mut stream = connect(ends.address);
    for id in 1..=100 {
        stream.write_all(&request("Keep", id, b"x")).unwrap();
        kept.recv_timeout(LONG).unwrap();
    }
    // Nothing leaves before the scope ends.
    corked(|| {
        for (_, reply) in ends.service.kept.lock().unwrap().drain(..) {
            reply.send(&Text { text: vec![7; 200_000].into() });
        }
    });
    let replies = read_replies(&mut stream, 100);
    let (said, dropped): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.head.status == 0);
    assert_eq!((said.len(), dropped.len()), (5, 95), "the sixth would be the first beyond");
    for reply in dropped {
        assert_eq!(reply.head.status, u64::from(Status::Internal.code()));
        let text = String::from_utf8_lossy(&reply.head.error_text);
        assert!(text.contains("unsent_bytes_max is 1000000"), "{text}");
    }
    stream.write_all(&request("Echo", 101, b"still there")).unwrap();
    assert_eq!(read_replies(&mut stream, 1)[0].head.call_id, 101);
}

#[test]
fn a_peer_that_takes_no_replies_is_cut_after_its_time() {
    let config = ProviderConfig { stalled_timeout: Duration::from_millis(50), ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    // One that asks again and again, and one whose single reply is more than the system's buffers hold.
    for (calls, bytes) in [(100_000, "60000"), (1, "30000000")] {
        let mut stream = connect(ends.address);
        let is_cut = (1..=calls).any(|id| stream.write_all(&request("Bytes", id, bytes.as_bytes())).is_err());
        let ping = [4, 0x20, 7, 0x30, 2];
        assert!(is_cut || (0..10_000_000).any(|_| stream.write_all(&ping).is_err()), "{calls} calls");
        assert!(call(&ends.channel(), &ECHO, "the others are served").is_ok());
    }
}
