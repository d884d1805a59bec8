//! What a node says to the world, caught where it leaves the node: messages, chunks, answers to clients, and what it
//! tells its application. The shipped rooms run on top of this instead of sockets; nothing of them is changed.
//!
//! Everything only lands in lists here; the simulation takes it out after each step. Sinks hold the [`Mailroom`] alone,
//! so that a node that dies is really gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvserver::{Outcome, ReplySink, StoreApplication};
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{Membership, Message, NodeId, ReadState, SoftState, Term};
use raft::driver::{Application, Transport};
use raft::net::{AddressBook, ChunkSender};

use crate::service::Kind;

/// Gets the answer to a chunk, or None when it is lost.
pub(crate) type ChunkDone = Box<dyn FnOnce(Option<InstallSnapshotResponse>) + Send>;

/// An attempt of a client's operation: which client, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) number: u64,
}

/// A chunk that leaves a node.
pub(crate) struct OutgoingChunk {
    pub(crate) to: NodeId,
    pub(crate) request: InstallSnapshotRequest,
    pub(crate) done: ChunkDone,
}

/// What left a node and has not been taken by the simulation.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) messages: Vec<Message>,
    pub(crate) chunks: Vec<OutgoingChunk>,
    /// Answers to chunks, by the number of the chunk.
    pub(crate) chunk_answers: Vec<(u64, InstallSnapshotResponse)>,
    /// What became of requests, and what was asked.
    pub(crate) outcomes: Vec<(Attempt, Kind, Outcome)>,
    /// Requests whose sink was dropped without an answer.
    pub(crate) dropped: Vec<Attempt>,
    pub(crate) soft_states: Vec<SoftState>,
    /// By whom the node goes from now on.
    pub(crate) membership: Option<Membership>,
}

impl Left {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.chunks.is_empty()
            && self.chunk_answers.is_empty()
            && self.outcomes.is_empty()
            && self.dropped.is_empty()
            && self.soft_states.is_empty()
            && self.membership.is_none()
    }
}

/// Where a node leaves things.
#[derive(Clone, Default)]
pub(crate) struct Mailroom {
    left: Arc<Mutex<Left>>,
    /// Clients' requests that the node has taken, and neither answered nor dropped.
    unanswered: Arc<AtomicUsize>,
}

impl Mailroom {
    /// The lists. A run that found a panic must still be taken down, hence no poisoning.
    pub(crate) fn open(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients still wait for this life of the node.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }
}

/// The transport and the application of one life of a node.
pub(crate) struct Tap {
    pub(crate) mailroom: Mailroom,
    pub(crate) application: Arc<StoreApplication>,
    pub(crate) book: AddressBook,
}

impl Transport for Tap {
    fn queue(&self, messages: Vec<Message>) {
        self.mailroom.open().messages.extend(messages);
    }

    fn queue_membership(&self, membership: Membership) {
        self.book.follow(&membership);
        self.mailroom.open().membership = Some(membership);
    }

    fn flush(&self) {}
}

impl Application for Tap {
    fn queue_read_states(&self, states: Vec<ReadState>) {
        self.application.queue_read_states(states);
    }

    fn queue_soft_state(&self, state: &SoftState) {
        self.mailroom.open().soft_states.push(*state);
        self.application.queue_soft_state(state);
    }

    fn queue_snapshots(&self, peers: Vec<(NodeId, Term)>) {
        self.application.queue_snapshots(peers);
    }

    fn flush(&self) {
        self.application.flush();
    }

    fn failed(&self, reason: &str) {
        self.application.failed(reason);
    }
}

/// The way of a node's chunks. Apart from the tap, since the snapshotter is told of it before the node is connected.
pub(crate) struct ChunkTap(pub(crate) Mailroom);

impl ChunkSender for ChunkTap {
    fn send_chunk(&self, to: NodeId, request: InstallSnapshotRequest, done: ChunkDone) {
        self.0.open().chunks.push(OutgoingChunk { to, request, done });
    }
}

/// Where the answer to a client's request goes.
pub(crate) struct ClientSink {
    attempt: Attempt,
    kind: Kind,
    mailroom: Mailroom,
    is_answered: bool,
}

impl ClientSink {
    pub(crate) fn new(attempt: Attempt, kind: Kind, mailroom: &Mailroom) -> ClientSink {
        mailroom.unanswered.fetch_add(1, Ordering::Relaxed);
        ClientSink { attempt, kind, mailroom: mailroom.clone(), is_answered: false }
    }
}

impl ReplySink for ClientSink {
    fn send(mut self: Box<Self>, outcome: Outcome) {
        self.is_answered = true;
        self.mailroom.open().outcomes.push((self.attempt, self.kind, outcome));
    }
}

impl Drop for ClientSink {
    fn drop(&mut self) {
        self.mailroom.unanswered.fetch_sub(1, Ordering::Relaxed);
        if !self.is_answered {
            self.mailroom.open().dropped.push(self.attempt);
        }
    }
}
