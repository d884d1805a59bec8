//! Which writes of the origin's clients are retries: the rule of design §3.2, as far as they can be told apart.
//!
//! An origin clerk draws its `ClientId` from a generator that nobody seeds, so every process on earth has the same
//! one and counts its `RequestId` from 1 again. What tells two of them apart is the connection a write came in on.
//! Per `ClientId` there are streams `{connection, last RequestId, digest of (Op, Key, Value), reply}`; for each:
//! * the same connection and a `RequestId` not above the last: a duplicate;
//! * another connection: a duplicate only if `RequestId` and digest are the stream's last. A clerk that lost its
//!   server asks the next one; the stream moves to the new connection, and takes the place of an older one there;
//! * else it is new: it runs, and is the last of the stream on its connection.
//!
//! What remains: an identical repeat of a stream's latest write, sent by another process, passes for its retry.
//!
//! The table is bounded; the stream longest unused by the log makes room. Nothing here may depend on anything but
//! the log.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::codec::{ReadError, Reader, put_bytes, put_varint};
use super::command::{LegacyOp, StreamId};
use super::limits::LEGACY_CLIENT_ID_BYTES_MAX;
use super::reply::{LegacyOutcome, Outcome};
use super::stable_hash::StableHash;

/// All streams of all origin clients.
#[derive(Debug)]
pub(super) struct LegacyStreams {
    clients: BTreeMap<Bytes, Client>,
    /// Whose stream an entry was the latest of. Each entry concerns one stream, so no two share an index.
    by_use: BTreeMap<u64, Bytes>,
    streams_max: usize,
    streams_per_client_max: usize,
}

/// The streams of one `ClientId`; never empty.
#[derive(Debug, Default)]
struct Client {
    streams: BTreeMap<StreamId, Stream>,
    /// The stream whose last write this is. Unique: an equal write is a duplicate and makes no second stream.
    by_last: BTreeMap<(u64, u64), StreamId>,
    by_use: BTreeMap<u64, StreamId>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    last: LegacyWrite,
    outcome: Outcome,
    /// Index of its latest entry.
    used: u64,
}

/// What identifies a write of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LegacyWrite {
    /// The client's number for it.
    pub(super) request_id: u64,
    /// [`digest`] of what it does.
    pub(super) digest: u64,
}

impl LegacyWrite {
    fn key(self) -> (u64, u64) {
        (self.request_id, self.digest)
    }
}

/// What a write does, in 64 bits.
pub(super) fn digest(op: LegacyOp, key: &[u8], value: &[u8]) -> u64 {
    let mut hash = StableHash::new();
    hash.number(match op {
        LegacyOp::Put => 1,
        LegacyOp::Append => 2,
    });
    hash.bytes(key);
    hash.bytes(value);
    hash.finish()
}

impl LegacyStreams {
    /// No streams, and room for so many in all and of one client.
    pub(super) fn new(streams_max: usize, streams_per_client_max: usize) -> LegacyStreams {
        LegacyStreams {
            clients: BTreeMap::new(),
            by_use: BTreeMap::new(),
            streams_max,
            streams_per_client_max,
        }
    }

    /// The answer to a duplicate, whose stream counts as used by the entry at `index`. `None`: it is new.
    pub(super) fn duplicate(
        &mut self,
        client_id: &[u8],
        connection: StreamId,
        write: LegacyWrite,
        index: u64,
    ) -> Option<LegacyOutcome> {
        let client = self.clients.get(client_id)?;
        let own = client.streams.get(&connection).filter(|own| write.request_id <= own.last.request_id);
        if let Some(own) = own.copied() {
            // Only the last reply is kept. An earlier write of the same connection was answered before it.
            let is_last = write.request_id == own.last.request_id;
            self.insert(client_id, connection, Stream { used: index, ..own });
            return Some(if is_last { own.outcome.into() } else { LegacyOutcome::Done });
        }
        let other = *client.by_last.get(&write.key())?;
        let moved = self.remove(client_id, other);
        self.insert(client_id, connection, Stream { used: index, ..moved });
        Some(moved.outcome.into())
    }

    /// Keeps what a new write came to.
    pub(super) fn record(
        &mut self,
        client_id: &[u8],
        connection: StreamId,
        write: LegacyWrite,
        outcome: Outcome,
        index: u64,
    ) {
        self.insert(client_id, connection, Stream { last: write, outcome, used: index });
    }

    /// Appends the bytes of all streams in a snapshot, each after the `tag` byte.
    pub(super) fn encode(&self, tag: u8, out: &mut Vec<u8>) {
        for (client_id, client) in &self.clients {
            for (connection, stream) in &client.streams {
                out.push(tag);
                put_bytes(out, client_id);
                let place = [connection.node, connection.incarnation, connection.connection];
                for number in
                    place.into_iter().chain([stream.last.request_id, stream.last.digest, stream.used])
                {
                    put_varint(out, number);
                }
                stream.outcome.encode(out);
            }
        }
    }

    /// Reads one stream that [`LegacyStreams::encode`] wrote, without its tag, and adds it. Gives the index of its
    /// latest entry.
    pub(super) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<u64, ReadError> {
        let client_id = reader.bytes(LEGACY_CLIENT_ID_BYTES_MAX)?;
        let (node, incarnation, connection) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let connection = StreamId { node, incarnation, connection };
        let last = LegacyWrite { request_id: reader.varint()?, digest: reader.varint()? };
        let used = reader.varint()?;
        let outcome = Outcome::decode(reader)?;
        let client = self.clients.get(client_id);
        let is_known = client.is_some_and(|client| {
            client.streams.contains_key(&connection) || client.by_last.contains_key(&last.key())
        });
        let is_full = self.by_use.len() == self.streams_max
            || client.is_some_and(|client| client.streams.len() == self.streams_per_client_max);
        if is_known || is_full || self.by_use.contains_key(&used) {
            return Err(ReadError::OutOfRange);
        }
        self.insert(client_id, connection, Stream { last, outcome, used });
        Ok(used)
    }

    /// Puts a stream on its connection, in the place of the one there, and makes room if there is none.
    fn insert(&mut self, client_id: &[u8], connection: StreamId, stream: Stream) {
        let client = self.clients.get(client_id);
        if client.is_some_and(|client| client.streams.contains_key(&connection)) {
            self.remove(client_id, connection);
        } else if let Some(client) =
            client.filter(|client| client.streams.len() == self.streams_per_client_max)
        {
            let oldest = *client.by_use.first_key_value().expect("a full client has an oldest stream").1;
            self.remove(client_id, oldest);
        } else if self.by_use.len() == self.streams_max {
            let (index, owner) = self.by_use.first_key_value().expect("a full table has an oldest stream");
            let (owner, oldest) = (owner.clone(), self.clients[owner].by_use[index]);
            self.remove(&owner, oldest);
        }
        // The client's name is copied once, when it first appears: the entry's buffer must not be kept for it.
        let name = match self.clients.get_key_value(client_id) {
            Some((name, _)) => name.clone(),
            None => Bytes::copy_from_slice(client_id),
        };
        self.by_use.insert(stream.used, name.clone());
        let client = self.clients.entry(name).or_default();
        client.by_use.insert(stream.used, connection);
        client.by_last.insert(stream.last.key(), connection);
        client.streams.insert(connection, stream);
    }

    fn remove(&mut self, client_id: &[u8], connection: StreamId) -> Stream {
        let client = self.clients.get_mut(client_id).expect("the caller saw the client");
        let stream = client.streams.remove(&connection).expect("the caller saw the stream");
        client.by_last.remove(&stream.last.key());
        client.by_use.remove(&stream.used);
        self.by_use.remove(&stream.used);
        if client.streams.is_empty() {
            self.clients.remove(client_id);
        }
        stream
    }
}

#[cfg(test)]
mod tests;
