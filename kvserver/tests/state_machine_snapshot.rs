//! Snapshots as bytes: of one instant, the same in any chunks, and refused when anything of them is missing or wrong.

mod state_machine_support;

use kvserver::mvcc::PINS_MAX;
use kvserver::state_machine::{Cursor, PinLost, Restore, RestoreError, Stamp, StateMachine};
use state_machine_support::{Entry, Log, apply, snapshot_of};

/// A state with some of everything.
fn some_state(entries: usize) -> StateMachine {
    let (mut state, mut log) = (StateMachine::new(), Log::new(9, 12));
    for _ in 0..entries {
        apply(&mut state, &log.entry());
    }
    state
}

fn restore(bytes: &[u8]) -> Result<StateMachine, RestoreError> {
    let mut restore = Restore::new();
    restore.feed(bytes)?;
    restore.finish()
}

#[test]
fn the_bytes_do_not_depend_on_the_chunks_they_are_read_or_fed_in() {
    let mut state = some_state(1500);
    let bytes = snapshot_of(&mut state, usize::MAX);
    for bytes_max in [0, 1, 2, 3, 17, 100, 4096] {
        assert!(snapshot_of(&mut state, bytes_max) == bytes, "chunks of {bytes_max}");
    }
    for chunk_bytes in [1, 2, 7, 64, 1000, bytes.len()] {
        let mut restore = Restore::new();
        for chunk in bytes.chunks(chunk_bytes) {
            restore.feed(chunk).unwrap();
        }
        assert_eq!(restore.finish().unwrap().state_hash(), state.state_hash(), "chunks of {chunk_bytes}");
    }
}

#[test]
fn a_chunk_stays_within_its_bound_however_large_a_value() {
    let mut state = StateMachine::new();
    apply(&mut state, &Entry::OpenSession);
    let stamp = Stamp { client_id: 1, seq: 1, acked_below: 1 };
    apply(&mut state, &Entry::Put(stamp, b"large".to_vec(), vec![3; 1 << 20]));
    let frozen = state.freeze(2, 1).unwrap();
    let (mut cursor, mut chunks) = (Some(Cursor::start()), 0);
    while let Some(at) = cursor {
        let (chunk, next) = state.snapshot_chunk(&frozen, &at, 64 << 10).unwrap();
        assert!(chunk.len() <= (64 << 10) + 100, "a chunk of {} bytes", chunk.len());
        (cursor, chunks) = (next, chunks + 1);
    }
    assert_eq!(chunks, 17);
}

#[test]
fn every_truncation_is_refused() {
    for entries in [0, 1, 60, 300] {
        let bytes = snapshot_of(&mut some_state(entries), 1 << 20);
        for length in 0..bytes.len() {
            match restore(&bytes[..length]) {
                Err(RestoreError::Truncated { bytes }) => assert_eq!(bytes, length as u64),
                other => {
                    panic!("{length} of {} bytes gave {:?}", bytes.len(), other.map(|state| state.applied()))
                }
            }
        }
        assert!(restore(&bytes).is_ok());
        let longer = [&bytes[..], &[0]].concat();
        let what = "bytes after the end";
        let refusal = RestoreError::Damaged { what, offset: bytes.len() as u64 };
        assert_eq!(restore(&longer).map(|state| state.applied()), Err(refusal));
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = snapshot_of(&mut some_state(150), 1 << 20);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(restore(&damaged).is_err(), "bit {bit} of byte {at} of {}", bytes.len());
        }
    }
}

#[test]
fn what_is_not_a_snapshot_or_a_newer_one_is_refused_by_name() {
    let mut bytes = snapshot_of(&mut some_state(5), 1 << 20);
    let refusal = |bytes: &[u8]| restore(bytes).map(|state| state.applied()).unwrap_err().to_string();
    assert_eq!(refusal(b"GET / HTTP/1.1"), "this is not a snapshot of the store");
    bytes[4] = 9;
    assert_eq!(refusal(&bytes), "snapshot format 9 is unknown; this program reads format 1");
}

#[test]
fn instants_are_few_and_given_up_when_dropped() {
    let mut state = some_state(100);
    let frozen: Vec<_> = (0..PINS_MAX).map(|_| state.freeze(100, 1).unwrap()).collect();
    assert!(state.freeze(100, 1).is_err());
    drop(frozen);
    let frozen = state.freeze(100, 7).unwrap();
    assert_eq!((frozen.index(), frozen.term()), (100, 7));
    // A snapshot received meanwhile replaces the state: the instant of the old one must not be read from the new one.
    let bytes = snapshot_of(&mut state, 1000);
    let replaced = restore(&bytes).unwrap();
    assert_eq!(replaced.snapshot_chunk(&frozen, &Cursor::start(), 10).map(drop), Err(PinLost));
    assert!(state.snapshot_chunk(&frozen, &Cursor::start(), 10).is_ok());
}

#[test]
fn deleted_keys_stay_deleted_and_old_versions_stay_readable() {
    let mut state = StateMachine::new();
    let stamp = |seq| Stamp { client_id: 1, seq, acked_below: seq };
    apply(&mut state, &Entry::OpenSession);
    apply(&mut state, &Entry::Put(stamp(1), b"k".to_vec(), b"old".to_vec()));
    apply(&mut state, &Entry::Delete(stamp(2), b"k".to_vec()));
    let restored = restore(&snapshot_of(&mut state, 1000)).unwrap();
    assert_eq!(restored.get(b"k"), None);
    let version = kvserver::mvcc::Version;
    assert_eq!(restored.store().at(b"k", version(2)).unwrap(), (&b"old"[..].into(), version(2)));
    assert_eq!(restored.store().at(b"k", version(3)), None);
    for index in 4..3000 {
        state.apply_noop(index);
    }
    assert_eq!(state.store().keys(), 0, "a tombstone below the floor goes with its key");
}
