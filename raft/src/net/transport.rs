//! What the core says, carried to its peers: one RPC channel per peer, and the answers to what peers asked.
//!
//! Messages are queued under the core lock, in the order the core spoke, and encoded and sent after it. Whoever
//! flushes a peer sends everything that is queued for it, so two threads never overtake each other on one peer.
//! A message that cannot be sent is lost, which Raft expects of a network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError, Weak};
use std::time::Duration;

use log::{info, trace};
use proto::raft_rpc::{
    AppendEntriesReply, InstallSnapshotRequest, InstallSnapshotResponse, RaftRpcStub, ReadIndexReply,
    RequestVoteReply,
};
use raft_core::{Body, Membership, Message, NodeId, ReplyToken};
use rpc::{ChannelConfig, Reactor, Reply, RpcChannel, RpcController, RpcError, Status};
use slab::Slab;

use super::border::Border;
use super::convert::{
    append_reply_from_wire, append_reply_to_wire, append_to_wire, read_index_reply_from_wire,
    read_index_reply_to_wire, read_index_to_wire, timeout_now_to_wire, vote_reply_from_wire,
    vote_reply_to_wire, vote_to_wire,
};
use super::method::Method;
use super::reach::{HeardBefore, Reach};
use crate::driver::Transport;
use crate::sync::locked;

/// Requests of peers that may wait for the core's answer at once. One more, and the older half is refused with
/// `OVERLOADED`.
const ANSWERS_MAX: usize = 16 * 1024;

/// The low bits of a token name a slot, the others the number of its use.
const SLOT_BITS: u32 = 16;

/// How long a peer may take to answer. Then the message counts as lost: heartbeats tell the core what is missing.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause between two attempts to reach a peer: short, since a restarted peer must be heard at once.
const PEER_BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Where replies of peers go: into the core's next visit.
pub trait Inbox: Send + Sync {
    /// Takes one message; called on the reactor thread.
    fn receive(&self, message: Message);

    /// An append to this peer, or its answer, is lost; called on the reactor thread.
    fn lost(&self, peer: NodeId);

    /// The process of this peer is gone; called on the reactor thread.
    fn gone(&self, peer: NodeId);

    /// A log of this cluster knows this node with other data: it may not take part. Called on the reactor thread.
    fn disowned(&self, why: &str);
}

/// Carries the chunks of snapshots to peers.
pub trait ChunkSender: Send + Sync {
    /// Sends one chunk to `to`; `done` gets its answer, or None when the chunk or the answer is lost.
    fn send_chunk(
        &self,
        to: NodeId,
        request: InstallSnapshotRequest,
        done: Box<dyn FnOnce(Option<InstallSnapshotResponse>) + Send>,
    );
}

enum Answer {
    Append(Reply<AppendEntriesReply>),
    Vote(Reply<RequestVoteReply>),
    ReadIndex(Reply<ReadIndexReply>),
}

impl Answer {
    fn refuse(self, status: Status, text: &str) {
        match self {
            Answer::Append(reply) => reply.fail(status, text),
            Answer::Vote(reply) => reply.fail(status, text),
            Answer::ReadIndex(reply) => reply.fail(status, text),
        }
    }
}

/// The peers' requests that the core has not answered yet, by the token it will answer with.
///
/// A token names a slot and the number of its use, so that a token of a slot's earlier use finds nothing.
#[derive(Default)]
pub struct Answers {
    waiting: Mutex<AnswerTable>,
}

#[derive(Default)]
struct AnswerTable {
    slots: Slab<(u64, Answer)>,
    uses: u64,
    /// The node has stopped: nobody will answer any more.
    is_closed: bool,
}

impl AnswerTable {
    /// Takes the older half out. The core answers what makes sense; what it passes over would stay for ever.
    fn forget_oldest(&mut self) -> Vec<Answer> {
        let mut uses: Vec<u64> = self.slots.iter().map(|(_, (usage, _))| *usage).collect();
        uses.sort_unstable();
        let kept_from = uses[uses.len() / 2];
        let old = self.slots.iter().filter(|(_, (usage, _))| *usage < kept_from);
        let old: Vec<usize> = old.map(|(slot, _)| slot).collect();
        old.into_iter().map(|slot| self.slots.remove(slot).1).collect()
    }
}

impl Answers {
    fn file(&self, answer: Answer) -> ReplyToken {
        let mut table = locked(&self.waiting);
        if table.is_closed {
            drop(table);
            answer.refuse(Status::ShuttingDown, "the node stops");
            return ReplyToken(0);
        }
        let forgotten = if table.slots.len() >= ANSWERS_MAX { table.forget_oldest() } else { Vec::new() };
        table.uses += 1;
        let usage = table.uses;
        let slot = table.slots.insert((usage, answer));
        drop(table);
        for answer in forgotten {
            answer.refuse(Status::Overloaded, "too many requests of peers wait for an answer");
        }
        ReplyToken(usage << SLOT_BITS | (slot as u64 + 1))
    }

    /// Files the responder of an append.
    pub fn append(&self, reply: Reply<AppendEntriesReply>) -> ReplyToken {
        self.file(Answer::Append(reply))
    }

    /// Files the responder of a vote request.
    pub fn vote(&self, reply: Reply<RequestVoteReply>) -> ReplyToken {
        self.file(Answer::Vote(reply))
    }

    /// Files the responder of a question for a read index.
    pub fn read_index(&self, reply: Reply<ReadIndexReply>) -> ReplyToken {
        self.file(Answer::ReadIndex(reply))
    }

    fn take(&self, token: ReplyToken) -> Option<Answer> {
        let slot = usize::try_from(token.0 & ((1 << SLOT_BITS) - 1)).ok()?.checked_sub(1)?;
        let mut table = locked(&self.waiting);
        let (usage, _) = table.slots.get(slot)?;
        (*usage == token.0 >> SLOT_BITS).then(|| table.slots.remove(slot).1)
    }

    /// Refuses every request that still waits and every later one: the node stops. One that nobody answered would hold up
    /// the end of its connection.
    pub fn refuse_all(&self) {
        let mut table = locked(&self.waiting);
        table.is_closed = true;
        let slots = std::mem::take(&mut table.slots);
        drop(table);
        for (_, (_, answer)) in slots {
            answer.refuse(Status::ShuttingDown, "the node stops");
        }
    }

    fn send(&self, border: &Border, message: &Message) {
        match (self.take(message.token), &message.body) {
            (Some(Answer::Append(reply)), Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. }) => {
                reply.send(&append_reply_to_wire(border, message));
            }
            (Some(Answer::Vote(reply)), Body::RequestVoteReply { .. } | Body::Removed) => {
                reply.send(&vote_reply_to_wire(border, message));
            }
            (Some(Answer::ReadIndex(reply)), Body::ReadIndexReply { .. }) => {
                reply.send(&read_index_reply_to_wire(border, message));
            }
            (Some(_), body) => unreachable!("{body:?} does not answer what its token stands for"),
            (None, _) => trace!("nobody waits for the answer {message:?}"),
        }
    }
}

struct Peer {
    id: NodeId,
    border: Arc<Border>,
    stub: RaftRpcStub,
    outbox: Mutex<Vec<Message>>,
    sending: Mutex<()>,
    reach: Mutex<Reach>,
}

type Peers = BTreeMap<NodeId, Arc<Peer>>;

/// Hears of each peer that is new.
type NewPeer = Box<dyn Fn(NodeId) + Send + Sync>;

/// The transport over RPC channels.
pub struct PeerTransport {
    reactor: Reactor,
    border: Arc<Border>,
    /// Replaced whole when the members change; whoever sends holds the one of a moment ago.
    peers: RwLock<Arc<Peers>>,
    /// Who takes part, as the core said last and nobody has looked at yet; held while the peers are replaced.
    news: Mutex<Option<Membership>>,
    new_peer: OnceLock<NewPeer>,
    answers: Arc<Answers>,
    answered: Mutex<Vec<Message>>,
    /// The node, which holds this transport: not held in return.
    inbox: Weak<dyn Inbox>,
}

impl PeerTransport {
    /// Channels to all peers of `border`; they connect at the first message.
    pub fn new(
        reactor: &Reactor,
        border: Border,
        answers: Arc<Answers>,
        inbox: Weak<dyn Inbox>,
    ) -> PeerTransport {
        let (border, reactor) = (Arc::new(border), reactor.clone());
        let (peers, news, new_peer, answered) = Default::default();
        let transport = PeerTransport { reactor, border, peers, news, new_peer, answers, answered, inbox };
        transport.meet();
        transport
    }

    /// The stub that reaches `peer`, for what does not pass through the core: snapshot chunks, watches and probes.
    pub fn stub(&self, peer: NodeId) -> Option<RaftRpcStub> {
        self.peer_map().get(&peer).map(|peer| peer.stub.clone())
    }

    /// The peers' ids.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peer_map().keys().copied().collect()
    }

    /// Calls `heard` for every peer that there is, and for each that comes later.
    pub fn for_each_peer(&self, heard: impl Fn(NodeId) + Send + Sync + 'static) {
        let _quiet = locked(&self.news);
        self.peers().into_iter().for_each(&heard);
        assert!(self.new_peer.set(Box::new(heard)).is_ok(), "one watches the peers");
    }

    fn peer_map(&self) -> Arc<Peers> {
        Arc::clone(&self.peers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the peers those of the address book: who is there already keeps its channel, unless it has moved.
    fn meet(&self) {
        let before = self.peer_map();
        let others =
            self.border.members().members().into_iter().filter(|(id, _)| *id != self.border.node_id());
        let peers: Peers = others
            .map(|(id, address)| {
                let known = before.get(&id).filter(|peer| peer.stub.channel().address() == &*address);
                (id, known.cloned().unwrap_or_else(|| Arc::new(self.peer(id, &address))))
            })
            .collect();
        let new: Vec<NodeId> = peers.keys().filter(|id| !before.contains_key(id)).copied().collect();
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(peers);
        // Channels that end tell those who wait for them: not under a lock that they might want.
        drop(before);
        if let Some(heard) = self.new_peer.get() {
            new.into_iter().for_each(heard);
        }
    }

    fn peer(&self, id: NodeId, address: &str) -> Peer {
        let config = ChannelConfig { backoff_max: PEER_BACKOFF_MAX, ..ChannelConfig::default() };
        let stub = RaftRpcStub::new(RpcChannel::new(&self.reactor, address, config));
        let (outbox, sending, reach) = Default::default();
        Peer { id, border: Arc::clone(&self.border), stub, outbox, sending, reach }
    }

    /// Follows what the core said last of the members, if anybody has not yet.
    fn follow_membership(&self) {
        let mut news = locked(&self.news);
        if let Some(membership) = news.take() {
            self.border.members().follow(&membership);
            self.meet();
        }
    }

    fn send(&self, peer: &Arc<Peer>, message: Message) {
        let controller = RpcController::new();
        controller.set_timeout(PEER_TIMEOUT);
        let (inbox, from, left) = (Weak::clone(&self.inbox), Arc::clone(peer), peer.leaving());
        match Method::of(&message.body) {
            Method::AppendEntries => {
                let args = append_to_wire(&self.border, message);
                peer.stub.append_entries_async(&controller, &args, move |result| {
                    from.hand_in(&inbox, Method::AppendEntries, left, result, append_reply_from_wire);
                });
            }
            Method::RequestVote => {
                let args = vote_to_wire(&self.border, &message);
                peer.stub.request_vote_async(&controller, &args, move |result| {
                    from.hand_in(&inbox, Method::RequestVote, left, result, vote_reply_from_wire);
                });
            }
            Method::ReadIndex => {
                let args = read_index_to_wire(&self.border, &message);
                peer.stub.read_index_async(&controller, &args, move |result| {
                    from.hand_in(&inbox, Method::ReadIndex, left, result, read_index_reply_from_wire);
                });
            }
            Method::TimeoutNow => {
                let args = timeout_now_to_wire(&self.border, &message);
                peer.stub.timeout_now_async(&controller, &args, |_| ());
            }
        }
    }

    /// Sends what is queued for `peer`, unless another thread is at it: that one looks again before it leaves.
    fn flush_peer(&self, peer: &Arc<Peer>) {
        while !locked(&peer.outbox).is_empty() {
            let _turn = match peer.sending.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(_)) => panic!("a thread died while it sent to a peer"),
            };
            // Taken first: whoever queues under the core lock must not wait for the sending.
            let messages = std::mem::take(&mut *locked(&peer.outbox));
            for message in messages {
                self.send(peer, message);
            }
        }
    }
}

impl Peer {
    /// Hands the node the answer to a request of this method, or word that it is lost. A node that is gone hears nothing.
    fn hand_in<R>(
        &self,
        inbox: &Weak<dyn Inbox>,
        method: Method,
        left: HeardBefore,
        result: Result<R, RpcError>,
        read: impl FnOnce(&Border, NodeId, R) -> Result<Message, String>,
    ) {
        let Some(inbox) = inbox.upgrade() else { return };
        match self.heard(left, result, read) {
            Some(reply) => inbox.receive(reply),
            None if method.tells_of_loss() => inbox.lost(self.id),
            None => {}
        }
    }

    /// The reply as `read` makes it of what came, or None for a lost message; one that the border refuses counts as
    /// lost. Says once when a peer goes and when it is back.
    fn heard<R, M>(
        &self,
        left: HeardBefore,
        result: Result<R, RpcError>,
        read: impl FnOnce(&Border, NodeId, R) -> Result<M, String>,
    ) -> Option<M> {
        let is_timeout = matches!(result, Err(RpcError::DeadlineExceeded { .. }));
        let result = match result {
            Ok(reply) => read(&self.border, self.id, reply)
                .map_err(|why| format!("gives an answer that is ignored: {why}")),
            Err(error) => Err(format!("does not answer: {error}")),
        };
        let address = self.stub.channel().address();
        let mut reach = locked(&self.reach);
        match result {
            Ok(reply) => {
                if reach.answered() {
                    info!("node {} at {address} answers", self.id);
                }
                Some(reply)
            }
            Err(why) => {
                if reach.missed(left, is_timeout) {
                    info!("node {} at {address} {why}", self.id);
                }
                trace!("a message to node {} is lost: it {why}", self.id);
                None
            }
        }
    }

    /// A message leaves for it.
    fn leaving(&self) -> HeardBefore {
        locked(&self.reach).leaving()
    }
}

impl Transport for PeerTransport {
    fn queue(&self, messages: Vec<Message>) {
        let peers = self.peer_map();
        for message in messages {
            if !message.body.is_request() {
                locked(&self.answered).push(message);
            } else if let Some(peer) = peers.get(&message.to) {
                locked(&peer.outbox).push(message);
            }
        }
    }

    fn queue_membership(&self, membership: Membership) {
        *locked(&self.news) = Some(membership);
    }

    fn flush(&self) {
        let answered = std::mem::take(&mut *locked(&self.answered));
        for message in answered {
            self.answers.send(&self.border, &message);
        }
        self.follow_membership();
        for peer in self.peer_map().values() {
            self.flush_peer(peer);
        }
    }
}

impl ChunkSender for PeerTransport {
    fn send_chunk(
        &self,
        to: NodeId,
        mut request: InstallSnapshotRequest,
        done: Box<dyn FnOnce(Option<InstallSnapshotResponse>) + Send>,
    ) {
        let Some(peer) = self.peer_map().get(&to).cloned() else { return done(None) };
        request.leader_id = self.border.node_id().0;
        request.envelope = Some(self.border.envelope(to));
        let controller = RpcController::new();
        controller.set_timeout(PEER_TIMEOUT);
        let (from, left) = (Arc::clone(&peer), peer.leaving());
        peer.stub.install_snapshot_async(&controller, &request, move |result| {
            let admitted = from.heard(left, result, |border, peer, answer| {
                border.admit_answer(peer, &answer).map(|()| answer)
            });
            done(admitted);
        });
    }
}
