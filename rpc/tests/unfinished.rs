//! Requests that come in part: what they may hold, and for how long.

mod common;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::raw::*;
use common::*;
use rpc::{ProviderConfig, Status};

fn status_of(reply: &rpc::protocol::reply_decoder::ReplyFrame) -> Status {
    Status::from_code(reply.head.status)
}

#[test]
fn all_connections_together_hold_no_more_than_the_bound() {
    let config = ProviderConfig { unfinished_bytes_max: 600_000, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let large = request("Echo", 1, &[7; 500_000]);
    let (begin, rest) = large.split_at(400_000);
    let mut first = connect(ends.address);
    first.write_all(begin).unwrap();
    let mut second = connect(ends.address);
    second.write_all(begin).unwrap();
    // Which of the two goes beyond the bound is the system's to say, since it cuts what they send.
    first.set_nonblocking(true).unwrap();
    second.set_nonblocking(true).unwrap();
    let (mut refused, mut held) = loop {
        if first.peek(&mut [0]).is_ok() {
            break (first, second);
        }
        if second.peek(&mut [0]).is_ok() {
            break (second, first);
        }
        std::thread::yield_now();
    };
    refused.set_nonblocking(false).unwrap();
    held.set_nonblocking(false).unwrap();
    let reply = &read_replies(&mut refused, 1)[0];
    assert_eq!((reply.head.call_id, status_of(reply)), (1, Status::Overloaded));
    let text = String::from_utf8_lossy(&reply.head.error_text);
    assert!(text.contains("500004 bytes") && text.contains("unfinished_bytes_max is 600000"), "{text}");
    // The connection lives, and when the other request is whole there is room again.
    refused.write_all(rest).unwrap();
    refused.write_all(&request("Echo", 2, b"small")).unwrap();
    assert_eq!(text_of(&read_replies(&mut refused, 1)[0]), Text::new("small"));
    held.write_all(rest).unwrap();
    assert_eq!(text_of(&read_replies(&mut held, 1)[0]).text.len(), 500_000);
    refused.write_all(&request("Echo", 3, &[7; 500_000])).unwrap();
    assert_eq!(text_of(&read_replies(&mut refused, 1)[0]).text.len(), 500_000);
    assert_eq!(ends.service.calls.load(Ordering::SeqCst), 3);
}

#[test]
fn what_a_closed_connection_held_is_room_again() {
    let config = ProviderConfig { unfinished_bytes_max: 600_000, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let large = request("Echo", 1, &[7; 500_000]);
    for _ in 0..20 {
        let mut stream = connect(ends.address);
        stream.write_all(&large[..400_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_closed(&mut stream);
    }
    let mut stream = connect(ends.address);
    stream.write_all(&large).unwrap();
    assert_eq!(status_of(&read_replies(&mut stream, 1)[0]), Status::Ok);
}

#[test]
fn a_frame_that_drips_is_cut_and_one_that_grows_is_not() {
    let config = ProviderConfig {
        unfinished_timeout: Duration::from_millis(100),
        unfinished_progress_bytes: 1000,
        ..ProviderConfig::default()
    };
    let ends = Ends::with(config, TestService::default());
    let mut silent = connect(ends.address);
    silent.write_all(&request("Echo", 1, b"never whole")[..10]).unwrap();
    assert_closed(&mut silent);
    // One byte after the other, for as long as the server lets it.
    let mut drip = connect(ends.address);
    let large = request("Echo", 1, &[7; 60_000]);
    let is_cut = large.iter().any(|byte| {
        let until = std::time::Instant::now() + Duration::from_millis(1);
        while std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        drip.write_all(&[*byte]).is_err()
    });
    assert!(is_cut, "60,000 bytes, one by one, take a minute");
    assert!(call(&ends.channel(), &ECHO, "the others are served").is_ok());
    // An idle connection is not unfinished.
    let mut idle = connect(ends.address);
    idle.write_all(&request("Echo", 1, b"one")).unwrap();
    assert_eq!(text_of(&read_replies(&mut idle, 1)[0]), Text::new("one"));
    let mut silent = connect(ends.address);
    silent.write_all(&large[..10_000]).unwrap();
    assert_closed(&mut silent);
    idle.write_all(&request("Echo", 2, b"two")).unwrap();
    assert_eq!(text_of(&read_replies(&mut idle, 1)[0]), Text::new("two"));
}
