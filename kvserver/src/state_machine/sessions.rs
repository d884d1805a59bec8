//! Exactly once: which writes of which client have run, and what they were answered.
//!
//! A session is opened by a log entry and named by its index, so no two ever share a name. Each write carries its
//! `seq` and `acked_below`, under which everything has been answered; replies are kept from there on. Several writes
//! may be in flight and arrive in any order; a repeated one gets its first answer. A session that is not there is
//! never made up again: the client must learn that the outcome is unknown.
//!
//! The table is bounded. When it is full, the session whose latest entry lies furthest back in the log goes; no
//! clock is asked. Sessions lie in shards that a snapshot shares ([`Sessions::shards`]): freezing costs nothing, and a
//! write during the snapshot copies its own shard once, a few hundred sessions at the very most.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::core::planted;

use super::codec::{ReadError, Reader, put_varint};
use super::command::Stamp;
use super::limits::SESSION_WINDOW;
use super::reply::{Outcome, Reply};

/// Parts that the table is copied in when a snapshot shares it.
pub(super) const SHARDS: usize = 256;

/// Sessions whose id leaves the same remainder.
pub(super) type Shard = BTreeMap<u64, Session>;

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Session `id` is in shard `id % SHARDS`.
    shards: Vec<Arc<Shard>>,
    /// Session by its latest entry's index. Each entry concerns one session, so no two share an index.
    by_use: BTreeMap<u64, u64>,
    sessions_max: usize,
}

/// One client's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Index of its latest entry.
    used: u64,
    /// The highest `acked_below` seen.
    acked_below: u64,
    /// What the writes from `acked_below` on were answered, by rising seq: at most `SESSION_WINDOW`.
    replies: Vec<(u64, Outcome)>,
}

impl Sessions {
    /// No sessions, and room for `sessions_max`.
    pub(super) fn new(sessions_max: usize) -> Sessions {
        Sessions { shards: vec![Arc::default(); SHARDS], by_use: BTreeMap::new(), sessions_max }
    }

    /// Opens the session named by the entry at `index`.
    pub(super) fn open(&mut self, index: u64) {
        if self.by_use.len() == self.sessions_max {
            let (_, oldest) = self.by_use.pop_first().expect("a full table has an oldest session");
            let removed = self.shard(oldest).remove(&oldest);
            assert!(removed.is_some(), "every session is in the order of use");
        }
        self.insert(index, Session { used: index, acked_below: 0, replies: Vec::new() });
    }

    /// The session a write names, marked as used by the entry at `index`.
    pub(super) fn touch(&mut self, client_id: u64, index: u64) -> Option<&mut Session> {
        let shard = &mut self.shards[client_id as usize % SHARDS];
        // A stranger must not make us copy a shard that a snapshot shares.
        if Arc::strong_count(shard) > 1 && !shard.contains_key(&client_id) {
            return None;
        }
        let session = Arc::make_mut(shard).get_mut(&client_id)?;
        self.by_use.remove(&session.used);
        self.by_use.insert(index, client_id);
        session.used = index;
        Some(session)
    }

    /// The table as it is now, to be written while it goes on changing.
    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.clone()
    }

    /// Adds a session that a snapshot kept; false if it cannot be one of this table.
    pub(super) fn restore(&mut self, client_id: u64, session: Session) -> bool {
        let is_new = !self.by_use.contains_key(&session.used)
            && !self.shards[client_id as usize % SHARDS].contains_key(&client_id);
        if is_new && self.by_use.len() < self.sessions_max {
            self.insert(client_id, session);
            return true;
        }
        false
    }

    fn insert(&mut self, client_id: u64, session: Session) {
        self.by_use.insert(session.used, client_id);
        self.shard(client_id).insert(client_id, session);
    }

    fn shard(&mut self, client_id: u64) -> &mut Shard {
        Arc::make_mut(&mut self.shards[client_id as usize % SHARDS])
    }
}

impl Session {
    /// The answer to a write that must not run: it ran already, or is out of the window. `None`: it may run.
    pub(super) fn admit(&mut self, stamp: Stamp) -> Option<Reply> {
        if stamp.acked_below > self.acked_below {
            self.acked_below = stamp.acked_below;
            let answered = self.replies.partition_point(|(seq, _)| *seq < self.acked_below);
            self.replies.drain(..answered);
        }
        if stamp.seq < self.acked_below {
            return Some(Reply::StaleSeq);
        }
        if stamp.seq - self.acked_below >= SESSION_WINDOW {
            return Some(Reply::OutOfWindow);
        }
        if planted::is("only-the-newest-reply-is-kept") {
            self.replies.retain(|(seq, _)| *seq >= stamp.seq);
        }
        if let Ok(position) = self.find(stamp.seq)
            && planted::is("repeated-write-runs-again")
        {
            self.replies.remove(position);
        }
        self.find(stamp.seq).ok().map(|position| self.replies[position].1.into())
    }

    /// Keeps what an admitted write was answered.
    pub(super) fn record(&mut self, seq: u64, outcome: Outcome) {
        let position = self.find(seq).expect_err("a write runs once");
        if self.replies.capacity() == 0 {
            // Most clients have one write in flight; `push` alone would reserve four places.
            self.replies.reserve_exact(1);
        }
        self.replies.insert(position, (seq, outcome));
        assert!(self.replies.len() as u64 <= SESSION_WINDOW, "the window bounds what is kept");
    }

    /// Appends the session's bytes in a snapshot.
    pub(super) fn encode(&self, client_id: u64, out: &mut Vec<u8>) {
        for number in [client_id, self.used, self.acked_below, self.replies.len() as u64] {
            put_varint(out, number);
        }
        for (seq, outcome) in &self.replies {
            put_varint(out, *seq);
            outcome.encode(out);
        }
    }

    /// Reads what [`Session::encode`] wrote: its id and the session.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<(u64, Session), ReadError> {
        let (client_id, used, acked_below) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let count = reader.varint()?;
        if count > SESSION_WINDOW || used < client_id {
            return Err(ReadError::OutOfRange);
        }
        let mut replies: Vec<(u64, Outcome)> = Vec::new();
        for _ in 0..count {
            let seq = reader.varint()?;
            let is_next = replies.last().is_none_or(|(last, _)| *last < seq);
            if !is_next || seq < acked_below || seq - acked_below >= SESSION_WINDOW {
                return Err(ReadError::OutOfRange);
            }
            replies.push((seq, Outcome::decode(reader)?));
        }
        replies.shrink_to_fit();
        Ok((client_id, Session { used, acked_below, replies }))
    }

    /// Index of its latest entry.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    fn find(&self, seq: u64) -> Result<usize, usize> {
        self.replies.binary_search_by_key(&seq, |(seq, _)| *seq)
    }
}

#[cfg(test)]
mod tests;
