//! The origin's clients as they behave, one case each, and the bounds of the table.

use super::*;
use crate::mvcc::Version;

/// A table and the index of the latest entry.
struct Table {
    streams: LegacyStreams,
    index: u64,
}

impl Table {
    fn new(streams_max: usize, streams_per_client_max: usize) -> Table {
        Table { streams: LegacyStreams::new(streams_max, streams_per_client_max), index: 0 }
    }

    /// Whether the write runs.
    fn runs(&mut self, client_id: &[u8], connection: u64, request_id: u64, what: u64) -> bool {
        self.index += 1;
        let connection = StreamId { node: 1, incarnation: 1, connection };
        let write = LegacyWrite { request_id, digest: what };
        let is_duplicate = self.streams.duplicate(client_id, connection, write, self.index).is_some();
        if !is_duplicate {
            let outcome = Outcome::Written(Version(self.index));
            self.streams.record(client_id, connection, write, outcome, self.index);
        }
        self.check();
        !is_duplicate
    }

    /// The indexes of the table belong to each other, and its bytes come back.
    fn check(&self) {
        let mut count = 0;
        for (client_id, client) in &self.streams.clients {
            assert!(!client.streams.is_empty());
            assert!(client.streams.len() <= self.streams.streams_per_client_max);
            assert_eq!(client.by_use.len(), client.streams.len());
            assert_eq!(client.by_last.len(), client.streams.len());
            for (connection, stream) in &client.streams {
                assert_eq!(client.by_use[&stream.used], *connection);
                assert_eq!(client.by_last[&stream.last.key()], *connection);
                assert_eq!(self.streams.by_use[&stream.used], client_id);
                count += 1;
            }
        }
        assert_eq!(self.streams.by_use.len(), count);
        assert!(count <= self.streams.streams_max);
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        self.streams.encode(2, &mut bytes);
        let mut restored = LegacyStreams::new(self.streams.streams_max, self.streams.streams_per_client_max);
        let mut reader = Reader::new(&bytes);
        while reader.left() > 0 {
            assert_eq!(reader.byte(), Ok(2));
            restored.restore(&mut reader).unwrap();
        }
        restored.encode(2, &mut again);
        assert_eq!(again, bytes);
        assert_eq!(restored.by_use, self.streams.by_use);
    }
}

#[test]
fn on_one_connection_a_number_runs_once_and_numbers_rise() {
    let mut table = Table::new(10, 10);
    assert!(table.runs(b"c", 1, 1, 70));
    assert!(!table.runs(b"c", 1, 1, 70));
    assert!(table.runs(b"c", 1, 2, 70));
    assert!(!table.runs(b"c", 1, 1, 70));
    assert!(!table.runs(b"c", 1, 1, 99), "the same connection, not above the last: whatever it says");
    assert!(table.runs(b"other", 1, 1, 70), "another ClientId has streams of its own");
}

#[test]
fn two_processes_with_one_client_id_both_get_through() {
    let mut table = Table::new(10, 10);
    for request_id in 1..50 {
        assert!(table.runs(b"c", 1, request_id, 1000 + request_id));
        assert!(table.runs(b"c", 2, request_id, 2000 + request_id));
    }
}

#[test]
fn a_retry_at_another_server_is_seen_and_the_stream_goes_on_there() {
    let mut table = Table::new(10, 10);
    assert!(table.runs(b"c", 1, 7, 70));
    assert!(!table.runs(b"c", 2, 7, 70), "the retry");
    assert!(!table.runs(b"c", 2, 7, 70), "and its retry");
    assert!(table.runs(b"c", 2, 8, 80));
    assert!(!table.runs(b"c", 2, 6, 60), "the moved stream keeps its mark");
    assert!(table.runs(b"c", 1, 8, 81), "the old connection has no stream any more");
}

#[test]
fn a_clerk_that_goes_back_to_an_old_connection_takes_its_stream_along() {
    let mut table = Table::new(10, 10);
    assert!(table.runs(b"c", 1, 7, 70));
    assert!(table.runs(b"c", 2, 8, 80), "its next write, at the next server: a new stream");
    assert!(table.runs(b"c", 2, 9, 90), "ran, but the reply was lost");
    assert!(!table.runs(b"c", 1, 9, 90), "so it asks the first server again");
    assert_eq!(table.streams.by_use.len(), 1, "the moved stream takes the old one's place");
    assert!(!table.runs(b"c", 1, 8, 80));
    assert!(table.runs(b"c", 1, 10, 100));
}

#[test]
fn what_remains_an_identical_repeat_of_a_latest_write_passes_for_its_retry() {
    let mut table = Table::new(10, 10);
    assert!(table.runs(b"c", 1, 1, 70));
    assert!(!table.runs(b"c", 2, 1, 70), "another process, the same program");
    assert!(table.runs(b"c", 1, 2, 71), "the first one goes on as a new stream");
    assert!(!table.runs(b"c", 2, 2, 71));
}

#[test]
fn the_longest_unused_stream_makes_room() {
    let mut table = Table::new(4, 3);
    for connection in 1..=3 {
        assert!(table.runs(b"c", connection, 5, connection));
    }
    assert!(!table.runs(b"c", 1, 5, 1), "used again");
    assert!(table.runs(b"c", 4, 5, 4), "2 goes");
    assert!(table.runs(b"c", 2, 5, 2), "forgotten, so it runs again; 3 goes");
    assert!(!table.runs(b"c", 1, 5, 1));
    assert!(table.runs(b"d", 1, 1, 1), "the table is full now");
    assert!(table.runs(b"e", 1, 1, 1), "4 of c goes, the longest unused of all");
    assert!(!table.runs(b"c", 1, 5, 1));
    assert!(!table.runs(b"d", 1, 1, 1));
    for round in 0..50 {
        table.runs(&[round % 7], u64::from(round % 3), u64::from(round), u64::from(round));
    }
}

#[test]
fn a_stream_that_moved_counts_as_used() {
    let mut table = Table::new(10, 2);
    assert!(table.runs(b"c", 1, 5, 1));
    assert!(table.runs(b"c", 2, 5, 2));
    assert!(!table.runs(b"c", 3, 5, 1), "the stream of 1 moves to 3");
    assert!(table.runs(b"c", 4, 5, 4), "2 makes room");
    assert!(!table.runs(b"c", 3, 5, 1));
    assert!(table.runs(b"c", 2, 5, 2));
}

#[test]
fn the_reply_of_a_refused_write_is_kept_too() {
    let mut table = Table::new(4, 3);
    let (one, two) = (
        StreamId { node: 1, incarnation: 1, connection: 1 },
        StreamId { node: 2, incarnation: 1, connection: 1 },
    );
    let write = LegacyWrite { request_id: 3, digest: 4 };
    table.streams.record(b"c", one, write, Outcome::TooLarge(super::super::reply::Part::Value, 5), 1);
    assert_eq!(table.streams.duplicate(b"c", two, write, 2), Some(LegacyOutcome::TooLarge));
    assert_eq!(table.streams.duplicate(b"c", two, write, 3), Some(LegacyOutcome::TooLarge));
    let earlier = LegacyWrite { request_id: 2, digest: 4 };
    assert_eq!(table.streams.duplicate(b"c", two, earlier, 4), Some(LegacyOutcome::Done));
}
