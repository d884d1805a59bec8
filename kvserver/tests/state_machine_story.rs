//! The state machine through its public face: one write of each kind, its retry, and the snapshot in between.

use kvserver::mvcc::Version;
use kvserver::state_machine::{
    Command, Cursor, LegacyOp, LegacyOutcome, Part, Reply, Restore, Stamp, StateMachine, StreamId, limits,
};

fn stamp(client_id: u64, seq: u64, acked_below: u64) -> Stamp {
    Stamp { client_id, seq, acked_below }
}

/// Applies the next entry.
fn apply(state: &mut StateMachine, command: Command<'_>) -> Reply {
    state.apply(state.applied() + 1, &command.encode())
}

fn value(state: &StateMachine, key: &[u8]) -> Option<Vec<u8>> {
    state.get(key).map(|(value, _)| value.to_vec())
}

/// The whole snapshot of this instant, and the state machine read back from it.
fn through_a_snapshot(state: &mut StateMachine, bytes_max: usize) -> StateMachine {
    let frozen = state.freeze(state.applied(), 1).expect("nothing else is frozen");
    let (mut restore, mut cursor) = (Restore::new(), Some(Cursor::start()));
    while let Some(at) = cursor {
        let (chunk, next) = state.snapshot_chunk(&frozen, &at, bytes_max).expect("it is pinned");
        restore.feed(&chunk).expect("our own bytes");
        cursor = next;
    }
    state.unpin(frozen);
    restore.finish().expect("our own bytes")
}

#[test]
fn each_write_runs_once_and_a_retry_gets_the_first_answer() {
    let mut state = StateMachine::new();
    assert_eq!(apply(&mut state, Command::OpenSession), Reply::SessionOpened { client_id: 1 });
    let put = Command::Put { stamp: stamp(1, 1, 1), key: b"k", value: b"a" };
    let append = Command::Append { stamp: stamp(1, 2, 1), key: b"k", value: b"b" };
    assert_eq!(apply(&mut state, append), Reply::Written { version: Version(2) });
    assert_eq!(value(&state, b"k"), Some(b"b".to_vec()));
    assert_eq!(apply(&mut state, put), Reply::Written { version: Version(3) });
    assert_eq!(apply(&mut state, append), Reply::Written { version: Version(2) });
    assert_eq!(value(&state, b"k"), Some(b"a".to_vec()));
    let delete = Command::Delete { stamp: stamp(1, 3, 3), key: b"k" };
    assert_eq!(apply(&mut state, delete), Reply::Deleted { version: Version(5) });
    assert_eq!(apply(&mut state, put), Reply::StaleSeq);
    assert_eq!(apply(&mut state, delete), Reply::Deleted { version: Version(5) });
    let delete_again = Command::Delete { stamp: stamp(1, 4, 3), key: b"k" };
    assert_eq!(apply(&mut state, delete_again), Reply::NotFound);
    assert_eq!(value(&state, b"k"), None);
    let far = Command::Delete { stamp: stamp(1, 3 + limits::SESSION_WINDOW, 3), key: b"k" };
    assert_eq!(apply(&mut state, far), Reply::OutOfWindow);
    let stranger = Command::Put { stamp: stamp(2, 1, 1), key: b"k", value: b"a" };
    assert_eq!(apply(&mut state, stranger), Reply::SessionExpired);
    assert_eq!(value(&state, b"k"), None);
}

#[test]
fn a_retry_after_a_snapshot_is_still_a_retry() {
    let mut state = StateMachine::new();
    apply(&mut state, Command::OpenSession);
    let append = Command::Append { stamp: stamp(1, 1, 1), key: b"k", value: b"x" };
    let stream = StreamId { node: 1, incarnation: 7, connection: 3 };
    let legacy = Command::Legacy {
        client_id: b"1804289383",
        request_id: 1,
        op: LegacyOp::Append,
        key: b"k",
        value: b"y",
        stream,
    };
    apply(&mut state, append);
    assert_eq!(apply(&mut state, legacy), Reply::Legacy(LegacyOutcome::Done));
    for bytes_max in [1, 7, 1 << 20] {
        let mut restored = through_a_snapshot(&mut state, bytes_max);
        assert_eq!(restored.state_hash(), state.state_hash());
        assert_eq!(apply(&mut restored, append), Reply::Written { version: Version(2) });
        assert_eq!(apply(&mut restored, legacy), Reply::Legacy(LegacyOutcome::Done));
        assert_eq!(value(&restored, b"k"), Some(b"xy".to_vec()));
    }
}

#[test]
fn what_is_over_a_limit_is_refused_by_name_and_changes_nothing() {
    let mut state = StateMachine::new();
    apply(&mut state, Command::OpenSession);
    let long_key = vec![0; limits::KEY_BYTES_MAX + 1];
    let put = Command::Put { stamp: stamp(1, 1, 1), key: &long_key, value: b"" };
    let refusal = Reply::TooLarge { part: Part::Key, bytes: long_key.len() as u64 };
    assert_eq!(apply(&mut state, put), refusal);
    let half = vec![0; limits::VALUE_BYTES_MAX / 2];
    for seq in 2..4 {
        let append = Command::Append { stamp: stamp(1, seq, 1), key: b"k", value: &half };
        assert_eq!(apply(&mut state, append), Reply::Written { version: Version(seq + 1) });
    }
    let over = Command::Append { stamp: stamp(1, 4, 1), key: b"k", value: b"!" };
    let refusal = Reply::TooLarge { part: Part::Value, bytes: limits::VALUE_BYTES_MAX as u64 + 1 };
    assert_eq!(apply(&mut state, over), refusal);
    assert_eq!(state.get(b"k").unwrap().0.len(), limits::VALUE_BYTES_MAX);
    assert_eq!(apply(&mut state, over), refusal);
}

#[test]
fn an_entry_that_makes_no_sense_is_answered_alike_and_never_panics() {
    let mut state = StateMachine::new();
    for (entry, text) in [
        (&b""[..], "the command ends too early"),
        (&[9, 1], "command format 9 is unknown; this program reads format 1"),
        (&[1, 77], "command kind 77 is unknown in format 1"),
        (&[1, 1, 0], "the command goes on for 1 bytes after its end"),
        (&[1, 4, 1, 0, 1, 0], "seq 0 is before the first write of a session"),
        (&[1, 2, 0x80, 0], "a number or length in the command is out of range"),
    ] {
        let Reply::Invalid(error) = state.apply(state.applied() + 1, entry) else {
            panic!("{entry:?} was taken")
        };
        assert_eq!(error.to_string(), text);
    }
    state.apply_noop(7);
    assert_eq!(state.applied(), 7);
}
