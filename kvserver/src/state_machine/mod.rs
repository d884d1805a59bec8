//! The replicated state machine: takes the log's entries in order, and answers each.
//!
//! It is deterministic: the same log gives the same bytes, the same replies and the same [`StateMachine::state_hash`]
//! on every node, whatever was restarted, restored or snapshotted meanwhile. It knows no clock, no randomness, no
//! configuration, no network and no disk. An error that every replica would get is a [`Reply`]; there is no other.
//!
//! [`command`] is what entries ask, [`reply`] what they get; `sessions` and `legacy_streams` see that each write
//! runs once; [`snapshot`] writes the state of one instant while entries go on, [`restore`] reads it.
//!
//! Whoever owns it brings the lock: one writer (the apply-loop), any number of readers.

pub mod command;
pub mod limits;
pub mod reply;
pub mod restore;
pub mod snapshot;

mod codec;
mod legacy_streams;
mod sessions;
mod stable_hash;

use bytes::Bytes;

use crate::mvcc::{Store, Version};
use legacy_streams::{LegacyStreams, LegacyWrite};
use limits::{
    HISTORY_BYTES_MAX, HISTORY_ENTRIES, KEY_BYTES_MAX, LEGACY_STREAMS_MAX, LEGACY_STREAMS_PER_CLIENT_MAX,
    SESSIONS_MAX, VALUE_BYTES_MAX,
};
use reply::Outcome;
use sessions::Sessions;

pub use command::{Command, InvalidCommand, LegacyOp, Stamp, StreamId};
pub use reply::{LegacyOutcome, Part, Reply};
pub use restore::{Restore, RestoreError};
pub use snapshot::{Cursor, Frozen, PinLost};

/// The state that the log's entries build. See the module's text.
#[derive(Debug)]
pub struct StateMachine {
    store: Store,
    sessions: Sessions,
    legacy: LegacyStreams,
    /// Index of the last entry applied.
    applied: u64,
}

impl Default for StateMachine {
    fn default() -> StateMachine {
        StateMachine::new()
    }
}

/// What a write does to its key.
enum Change<'a> {
    Put(&'a [u8]),
    Append(&'a [u8]),
    Delete,
}

impl StateMachine {
    /// The state before the first entry.
    pub fn new() -> StateMachine {
        StateMachine {
            store: Store::new(),
            sessions: Sessions::new(SESSIONS_MAX),
            legacy: LegacyStreams::new(LEGACY_STREAMS_MAX, LEGACY_STREAMS_PER_CLIENT_MAX),
            applied: 0,
        }
    }

    /// Applies the entry at `index`, which follows the one applied last, and answers it.
    pub fn apply(&mut self, index: u64, command: &[u8]) -> Reply {
        self.begin(index);
        let reply = match Command::decode(command) {
            Ok(command) => self.execute(index, command),
            Err(error) => Reply::Invalid(error),
        };
        self.raise_floor();
        reply
    }

    /// Passes over an entry at `index` that asks nothing of the state machine: a no-op, a configuration.
    pub fn apply_noop(&mut self, index: u64) {
        self.begin(index);
        self.raise_floor();
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The newest value of `key` and the version that wrote it. The value shares the store's memory.
    pub fn get(&self, key: &[u8]) -> Option<(Bytes, Version)> {
        self.store.latest(key).map(|(value, version)| (value.clone(), version))
    }

    /// The keys and values, for reads at a version and scans.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Frees at most `lines_max` versions that a finished snapshot had held back; true if more wait. Entries do it
    /// bit by bit, so it is needed only where none may come for long: after a snapshot.
    pub fn reclaim(&mut self, lines_max: usize) -> bool {
        self.store.reclaim(lines_max)
    }

    fn begin(&mut self, index: u64) {
        assert_eq!(index, self.applied + 1, "entries are applied in order, each once");
        self.applied = index;
    }

    fn execute(&mut self, index: u64, command: Command<'_>) -> Reply {
        match command {
            Command::OpenSession => {
                self.sessions.open(index);
                Reply::SessionOpened { client_id: index }
            }
            Command::Put { stamp, key, value } => self.write_once(index, stamp, key, Change::Put(value)),
            Command::Append { stamp, key, value } => {
                self.write_once(index, stamp, key, Change::Append(value))
            }
            Command::Delete { stamp, key } => self.write_once(index, stamp, key, Change::Delete),
            Command::Legacy { client_id, request_id, op, key, value, stream } => {
                let write = LegacyWrite { request_id, digest: legacy_streams::digest(op, key, value) };
                if let Some(outcome) = self.legacy.duplicate(client_id, stream, write, index) {
                    return Reply::Legacy(outcome);
                }
                let change = match op {
                    LegacyOp::Put => Change::Put(value),
                    LegacyOp::Append => Change::Append(value),
                };
                let outcome = change.run(&mut self.store, key, Version(index));
                self.legacy.record(client_id, stream, write, outcome, index);
                Reply::Legacy(LegacyOutcome::from(outcome))
            }
        }
    }

    /// Runs a write of a session, unless it ran before.
    fn write_once(&mut self, index: u64, stamp: Stamp, key: &[u8], change: Change<'_>) -> Reply {
        let Some(session) = self.sessions.touch(stamp.client_id, index) else { return Reply::SessionExpired };
        if let Some(reply) = session.admit(stamp) {
            return reply;
        }
        let outcome = change.run(&mut self.store, key, Version(index));
        session.record(stamp.seq, outcome);
        outcome.into()
    }

    /// How far back versions stay readable: a function of the log alone, so that all nodes answer alike.
    fn raise_floor(&mut self) {
        self.store.compact_before(Version(self.applied.saturating_sub(HISTORY_ENTRIES)));
        while self.store.superseded_bytes() > HISTORY_BYTES_MAX {
            let next =
                self.store.next_superseded().expect("bytes are counted by the versions that have them");
            self.store.compact_before(next);
        }
    }
}

impl Change<'_> {
    /// Changes `key` as of `version`, or refuses; either is what every replica does.
    fn run(&self, store: &mut Store, key: &[u8], version: Version) -> Outcome {
        if key.len() > KEY_BYTES_MAX {
            return Outcome::TooLarge(Part::Key, key.len() as u64);
        }
        match self {
            Change::Put(value) => {
                if value.len() > VALUE_BYTES_MAX {
                    return Outcome::TooLarge(Part::Value, value.len() as u64);
                }
                store.put(key, value, version);
                Outcome::Written(version)
            }
            Change::Append(suffix) => {
                let old: &[u8] = store.latest(key).map_or(b"", |(value, _)| value);
                let bytes = old.len() + suffix.len();
                if bytes > VALUE_BYTES_MAX {
                    return Outcome::TooLarge(Part::Value, bytes as u64);
                }
                let mut value = Vec::with_capacity(bytes);
                value.extend_from_slice(old);
                value.extend_from_slice(suffix);
                store.put_owned(key, Bytes::from(value), version);
                Outcome::Written(version)
            }
            Change::Delete if store.delete(key, version) => Outcome::Deleted(version),
            Change::Delete => Outcome::NotFound,
        }
    }
}
