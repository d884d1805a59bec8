//! What a caller asks for, what an attempt sends and what it came to: the vocabulary of the clerk's machine.
//!
//! It exists so that the machine knows neither protobuf nor sockets: `wire` turns a [`Request`] into a message and a
//! reply or an error into a [`Verdict`]. It must never lose the difference between "did not run" and "may have run".

use bytes::Bytes;
use proto::Consistency;

/// What a caller wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The value of a key.
    Get {
        /// The key, any bytes.
        key: Bytes,
        /// What it must see.
        consistency: Consistency,
    },
    /// Sets a key to a value.
    Put {
        /// The key, any bytes.
        key: Bytes,
        /// The value, any bytes, also none.
        value: Bytes,
    },
    /// Adds bytes to the end of a key's value; a key that is not there starts empty.
    Append {
        /// The key, any bytes.
        key: Bytes,
        /// The bytes to add.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key, any bytes.
        key: Bytes,
    },
}

impl Operation {
    /// A linearizable get.
    pub fn get(key: impl Into<Bytes>) -> Operation {
        Operation::Get { key: key.into(), consistency: Consistency::Linearizable }
    }

    /// Whether it changes the store, hence needs a place in a session to run exactly once.
    pub fn is_write(&self) -> bool {
        !matches!(self, Operation::Get { .. })
    }
}

/// How an operation ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A get found the key.
    Value {
        /// What the key holds.
        value: Bytes,
        /// The log index that wrote it.
        version: u64,
    },
    /// A get or a delete found no such key.
    NotFound,
    /// A put, append or delete was carried out.
    Written {
        /// The log index of the write.
        version: u64,
    },
}

/// A write's place in its session (design.md §6): the same on every retry, but for `acked_below`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The session.
    pub client_id: u64,
    /// The write's number in the session, from 1.
    pub seq: u64,
    /// Every seq below has been answered, or given up, at this client.
    pub acked_below: u64,
}

/// What one attempt asks of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new session.
    OpenSession,
    /// A read.
    Read {
        /// The key.
        key: Bytes,
        /// What it must see.
        consistency: Consistency,
    },
    /// A stamped write.
    Write {
        /// The write; never a get.
        operation: Operation,
        /// Its place in the session.
        stamp: Stamp,
    },
}

/// Why a node will not do an operation, now or ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Key or value are over a limit of the server or of the connection.
    TooLarge,
    /// The request makes no sense to the store.
    Invalid,
    /// The server holds the write's number for one whose answer was already seen.
    StaleSeq,
    /// The leader's disk is full: it takes no writes until there is room, and says where and how much it lacks.
    NoSpace,
    /// The server does not let this client do that.
    Denied,
    /// No node can prove that what it has is as young as the get wants it.
    TooStale,
    /// The other side is not such a store, or speaks another version of it.
    Protocol,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The leader carried the operation out.
    Done(Answer),
    /// The leader opened a session.
    SessionOpened {
        /// Its number, never 0.
        client_id: u64,
    },
    /// The node does not lead.
    NotLeader {
        /// `host:port` of the leader, as far as the node knows.
        hint: Option<String>,
        /// The write was proposed before leadership was lost: it may still commit.
        may_have_run: bool,
    },
    /// The node cannot prove that what it has is young enough; another may.
    TooStale {
        /// Both ages, for people.
        text: String,
    },
    /// A limit of the server, the connection or this process is reached; worth another try there.
    Busy {
        /// The write may have been taken in all the same.
        may_have_run: bool,
        /// Which limit, for people.
        text: String,
    },
    /// The server does not know the session.
    SessionExpired {
        /// The server cannot exclude that an earlier copy of the write ran.
        may_have_run: bool,
    },
    /// No use to try again.
    Refused {
        /// The kind of refusal.
        reason: Refusal,
        /// For people.
        text: String,
        /// The write may have been carried out all the same, e.g. when only its reply was unreadable.
        may_have_run: bool,
    },
    /// The connection could not be made or broke, or the node is stopping: another node may do.
    Unreachable {
        /// The request had left and may have been carried out.
        may_have_run: bool,
        /// For people.
        text: String,
    },
    /// The attempt's time ran out.
    NoReply {
        /// The request had left and may have been carried out.
        may_have_run: bool,
    },
    /// This process's reactor was stopped.
    Stopped {
        /// The request had left and may have been carried out.
        may_have_run: bool,
    },
}
