//! What becomes of a request, in the store's own words, and where it is said.
//!
//! The services turn an [`Outcome`] into a reply of their wire; the simulator's clients take it as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::state_machine::Reply;

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A write was applied; this is the state machine's answer, a refusal by its session rules included.
    Applied(Reply),
    /// A read found its key.
    Found {
        /// The value.
        value: Bytes,
        /// The log index that wrote it.
        version: u64,
    },
    /// A read found no such key.
    Missing,
    /// Nothing was applied, as far as this node knows.
    Refused(Refusal),
}

/// Why a request was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another node leads, or none.
    NotLeader {
        /// The leader's advertised address, if it is known.
        leader: Option<Arc<str>>,
        /// The write was proposed here and may still commit.
        may_have_run: bool,
    },
    /// A named limit is reached; not proposed.
    Busy,
    /// This node's disk is full, as the sentence says; not proposed.
    NoSpace(String),
    /// Key or value is over its limit.
    TooLarge(String),
    /// The request makes no sense.
    Invalid(String),
    /// The state of this node may be older than the read allows; another's may not be.
    TooStale {
        /// How old it is at most, as far as can be proved.
        age: Option<Duration>,
        /// What the read allows.
        max_age: Duration,
    },
    /// This node stops.
    ShuttingDown {
        /// The write was proposed here and may still commit.
        may_have_run: bool,
    },
}

/// Takes the outcome of one request, once.
pub trait ReplySink: Send {
    /// Says what became of the request. Must not block: it may be called by the thread that applies.
    fn send(self: Box<Self>, outcome: Outcome);

    /// Whether whoever asked does not wait any more. Where that cannot be told, they do.
    fn is_in_vain(&self) -> bool {
        false
    }

    /// The same of a request that the leader at this address has answered for this node. Who can say so does.
    fn send_of(self: Box<Self>, outcome: Outcome, _leader: &Arc<str>) {
        self.send(outcome);
    }
}

/// A request's sink together with its outcome, collected under a lock to be sent after it.
pub(crate) type Answer = (Box<dyn ReplySink>, Outcome);

/// Sends answers; those of one connection leave in one write.
pub(crate) fn send_all(answers: impl IntoIterator<Item = Answer>) {
    rpc::corked(|| {
        for (sink, outcome) in answers {
            sink.send(outcome);
        }
    });
}
