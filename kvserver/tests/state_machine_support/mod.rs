//! What the tests of the state machine share: owned commands, a generator of nasty logs, and a model that keeps
//! everything in the plainest way.

#![allow(dead_code, reason = "each test uses its part of this")]

use std::collections::BTreeMap;

use kvserver::mvcc::Version;
use kvserver::state_machine::{
    Command, Cursor, Frozen, LegacyOp, LegacyOutcome, Reply, Restore, Stamp, StateMachine, StreamId, limits,
};

/// One log entry.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Noop,
    OpenSession,
    Put(Stamp, Vec<u8>, Vec<u8>),
    Append(Stamp, Vec<u8>, Vec<u8>),
    Delete(Stamp, Vec<u8>),
    Legacy(LegacyEntry),
    Garbage(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct LegacyEntry {
    pub(crate) client_id: Vec<u8>,
    pub(crate) request_id: u64,
    pub(crate) op: LegacyOp,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) stream: StreamId,
}

/// Applies `entry` as the next one.
pub(crate) fn apply(state: &mut StateMachine, entry: &Entry) -> Option<Reply> {
    let index = state.applied() + 1;
    let command = match entry {
        Entry::Noop => {
            state.apply_noop(index);
            return None;
        }
        Entry::Garbage(bytes) => return Some(state.apply(index, bytes)),
        Entry::OpenSession => Command::OpenSession,
        Entry::Put(stamp, key, value) => Command::Put { stamp: *stamp, key, value },
        Entry::Append(stamp, key, value) => Command::Append { stamp: *stamp, key, value },
        Entry::Delete(stamp, key) => Command::Delete { stamp: *stamp, key },
        Entry::Legacy(LegacyEntry { client_id, request_id, op, key, value, stream }) => {
            Command::Legacy { client_id, request_id: *request_id, op: *op, key, value, stream: *stream }
        }
    };
    let bytes = command.encode();
    assert_eq!(Command::decode(&bytes), Ok(command));
    assert_eq!(bytes.len(), command.encoded_bytes());
    Some(state.apply(index, &bytes))
}

/// A small generator of our own: equal seeds give equal logs for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn key(&mut self, keys: u64) -> Vec<u8> {
        match self.below(keys) {
            0 => Vec::new(),
            1 => vec![0],
            2 => vec![0xff; 9],
            number => format!("key-{number:06}").into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let length = if self.one_in(20) { self.below(3000) } else { self.below(12) };
        vec![b'a' + self.below(3) as u8; length as usize]
    }
}

/// Draws entries that keep touching the same sessions, keys, streams and windows.
pub(crate) struct Log {
    pub(crate) random: Random,
    /// How many different keys there are.
    pub(crate) keys: u64,
    sessions: Vec<u64>,
    next_index: u64,
}

impl Log {
    pub(crate) fn new(seed: u64, keys: u64) -> Log {
        Log { random: Random(seed), keys, sessions: Vec::new(), next_index: 1 }
    }

    pub(crate) fn entry(&mut self) -> Entry {
        let index = self.next_index;
        self.next_index += 1;
        match self.random.below(100) {
            0..5 => Entry::Noop,
            5..8 => {
                self.sessions.push(index);
                Entry::OpenSession
            }
            8..10 => {
                let length = self.random.below(9);
                let bytes: Vec<u8> = (0..length).map(|_| self.random.below(8) as u8).collect();
                // Now and then it makes sense after all.
                if Command::decode(&bytes).is_ok() { Entry::Noop } else { Entry::Garbage(bytes) }
            }
            10..35 => self.legacy(),
            35..60 => Entry::Put(self.stamp(index), self.random.key(self.keys), self.random.value()),
            60..80 => Entry::Append(self.stamp(index), self.random.key(self.keys), self.random.value()),
            _ => Entry::Delete(self.stamp(index), self.random.key(self.keys)),
        }
    }

    fn stamp(&mut self, index: u64) -> Stamp {
        let count = self.sessions.len() as u64;
        let client_id = match self.random.below(count + 1) {
            at if at < count => self.sessions[at as usize],
            _ => self.random.below(index + 2),
        };
        // Around where the session has got to by now, so that every rule of the window is met.
        let near = 1 + index.saturating_sub(client_id) / 20;
        let acked_below = near + self.random.below(4);
        let reach = if self.random.one_in(30) { 2 * limits::SESSION_WINDOW } else { 8 };
        Stamp {
            client_id,
            seq: (acked_below + self.random.below(reach)).saturating_sub(2).max(1),
            acked_below,
        }
    }

    fn legacy(&mut self) -> Entry {
        let random = &mut self.random;
        Entry::Legacy(LegacyEntry {
            client_id: vec![b'0'; random.below(3) as usize],
            request_id: 1 + random.below(6) + self.next_index / 50,
            op: if random.one_in(2) { LegacyOp::Put } else { LegacyOp::Append },
            key: random.key(4),
            value: vec![b'v'; random.below(2) as usize],
            stream: StreamId { node: random.below(2), incarnation: 7, connection: random.below(3) },
        })
    }
}

/// The state machine as one would write it without a thought for memory or speed.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) values: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    /// By id: the highest `acked_below`, and every reply ever given to a write that ran.
    sessions: BTreeMap<u64, (u64, BTreeMap<u64, Reply>)>,
    /// The latest write of each stream.
    streams: Vec<LegacyEntry>,
    index: u64,
}

impl Model {
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<Reply> {
        self.index += 1;
        let version = Version(self.index);
        match entry.clone() {
            Entry::Noop => None,
            Entry::Garbage(bytes) => Some(Reply::Invalid(Command::decode(&bytes).expect_err("garbage"))),
            Entry::OpenSession => {
                self.sessions.insert(self.index, (0, BTreeMap::new()));
                Some(Reply::SessionOpened { client_id: self.index })
            }
            Entry::Put(stamp, key, value) => Some(self.once(stamp, |values| {
                values.insert(key, (value, version.0));
                Reply::Written { version }
            })),
            Entry::Append(stamp, key, value) => Some(self.once(stamp, |values| {
                let slot = values.entry(key).or_default();
                slot.0.extend(value);
                slot.1 = version.0;
                Reply::Written { version }
            })),
            Entry::Delete(stamp, key) => Some(self.once(stamp, |values| match values.remove(&key) {
                Some(_) => Reply::Deleted { version },
                None => Reply::NotFound,
            })),
            Entry::Legacy(entry) => Some(self.legacy(entry)),
        }
    }

    fn once(
        &mut self,
        stamp: Stamp,
        run: impl FnOnce(&mut BTreeMap<Vec<u8>, (Vec<u8>, u64)>) -> Reply,
    ) -> Reply {
        let Some((acked_below, replies)) = self.sessions.get_mut(&stamp.client_id) else {
            return Reply::SessionExpired;
        };
        *acked_below = stamp.acked_below.max(*acked_below);
        if stamp.seq < *acked_below {
            return Reply::StaleSeq;
        }
        if stamp.seq >= *acked_below + 256 {
            return Reply::OutOfWindow;
        }
        *replies.entry(stamp.seq).or_insert_with(|| run(&mut self.values))
    }

    /// Design §3.2, word by word.
    fn legacy(&mut self, entry: LegacyEntry) -> Reply {
        let done = Reply::Legacy(LegacyOutcome::Done);
        let of_client = |stream: &&mut LegacyEntry| stream.client_id == entry.client_id;
        for stream in self.streams.iter_mut().filter(of_client) {
            if stream.stream == entry.stream && entry.request_id <= stream.request_id {
                return done;
            }
        }
        let equals = |stream: &LegacyEntry| {
            stream.client_id == entry.client_id
                && stream.request_id == entry.request_id
                && (stream.op == entry.op && stream.key == entry.key && stream.value == entry.value)
        };
        let is_own =
            |stream: &LegacyEntry| stream.client_id == entry.client_id && stream.stream == entry.stream;
        let is_retry = self.streams.iter().any(equals);
        self.streams.retain(|stream| !equals(stream) && !is_own(stream));
        self.streams.push(entry.clone());
        if !is_retry {
            let slot = self.values.entry(entry.key).or_default();
            match entry.op {
                LegacyOp::Put => slot.0 = entry.value,
                LegacyOp::Append => slot.0.extend(entry.value),
            }
            slot.1 = self.index;
        }
        done
    }
}

/// A snapshot being read bit by bit while its state machine goes on.
pub(crate) struct Copying {
    frozen: Frozen,
    cursor: Option<Cursor>,
    restore: Option<Restore>,
    pub(crate) hash: u64,
}

impl Copying {
    pub(crate) fn begin(state: &mut StateMachine) -> Copying {
        let frozen = state.freeze(state.applied(), 3).expect("few are frozen at once");
        let hash = state.state_hash();
        Copying { frozen, cursor: Some(Cursor::start()), restore: Some(Restore::new()), hash }
    }

    /// Reads one chunk. The copy, once it is whole.
    pub(crate) fn advance(&mut self, state: &StateMachine, bytes_max: usize) -> Option<StateMachine> {
        let cursor = self.cursor.take().expect("it is not finished");
        let (chunk, next) = state.snapshot_chunk(&self.frozen, &cursor, bytes_max).expect("it is pinned");
        self.restore.as_mut().expect("it is not finished").feed(&chunk).expect("our own bytes");
        self.cursor = next;
        if self.cursor.is_some() {
            return None;
        }
        let restored = self.restore.take().expect("it is not finished").finish().expect("our own bytes");
        assert_eq!(restored.applied(), self.frozen.index());
        assert_eq!(restored.state_hash(), self.hash, "the copy is of the instant");
        Some(restored)
    }

    pub(crate) fn frozen(self) -> Frozen {
        self.frozen
    }
}

/// All bytes of the snapshot of this instant.
pub(crate) fn snapshot_of(state: &mut StateMachine, bytes_max: usize) -> Vec<u8> {
    let frozen = state.freeze(state.applied(), 1).expect("few are frozen at once");
    let (mut bytes, mut cursor) = (Vec::new(), Some(Cursor::start()));
    while let Some(at) = cursor {
        assert_eq!(at.written(), bytes.len() as u64);
        let (chunk, next) = state.snapshot_chunk(&frozen, &at, bytes_max).expect("it is pinned");
        bytes.extend(chunk);
        cursor = next;
    }
    state.unpin(frozen);
    bytes
}
