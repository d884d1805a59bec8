//! What must hold for any bytes whatever that a log entry or a snapshot may be: the checks that the fuzz targets and the
//! bounded run of the tests share.
//!
//! Reading never panics, what is read is written alike, and a snapshot in any pieces is the same state or the same refusal.

use kvserver::state_machine::{Command, Cursor, Restore, RestoreError, StateMachine};

/// Bytes as one command: what can be read is written alike.
pub fn commands(data: &[u8]) {
    if let Ok(command) = Command::decode(data) {
        assert_eq!(command.encoded_bytes(), data.len());
        assert_eq!(command.encode(), data);
    }
}

/// Bytes as a log, each entry behind a byte with its length: it is applied, and its snapshot is the same state.
pub fn entries(mut data: &[u8]) {
    let mut state = StateMachine::new();
    let mut index = 0;
    while let Some((length, rest)) = data.split_first() {
        let (entry, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        index += 1;
        state.apply(index, entry);
        data = rest;
    }
    let bytes = snapshot_of(&mut state, index);
    match restored(bytes.chunks(7)) {
        Ok(copy) => assert_eq!(copy.state_hash(), state.state_hash()),
        Err(error) => panic!("a snapshot of {} bytes is refused: {error}", bytes.len()),
    }
}

/// Bytes as a snapshot; the first one says into how large pieces they are cut.
pub fn snapshots(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let hash_of = |restored: Result<StateMachine, RestoreError>| restored.map(|state| state.state_hash());
    let whole = hash_of(restored([bytes].into_iter()));
    assert_eq!(hash_of(restored(bytes.chunks(usize::from(*piece).max(1)))), whole, "in other pieces");
}

/// The bytes of a snapshot.
pub fn snapshot_of(state: &mut StateMachine, index: u64) -> Vec<u8> {
    let frozen = state.freeze(index, 1).expect("no other snapshot is being taken");
    let (mut bytes, mut cursor) = (Vec::new(), Some(Cursor::start()));
    while let Some(at) = cursor {
        let (chunk, next) = state.snapshot_chunk(&frozen, &at, 100).expect("the instant is pinned");
        bytes.extend(chunk);
        cursor = next;
    }
    state.unpin(frozen);
    bytes
}

fn restored<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<StateMachine, RestoreError> {
    let mut restore = Restore::new();
    for piece in pieces {
        restore.feed(piece)?;
    }
    restore.finish()
}
