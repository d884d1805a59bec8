//! The `raftRpc` service: what peers ask, checked at the border and handed to the core's next visit.
//!
//! Nothing here waits. A request leaves its responder with [`Answers`] and its message in the inbox; the core
//! answers by the token. Snapshot chunks go to the snapshotter, probes are answered from the identity of the data
//! directory. Before the node is admitted to its cluster everything but a probe is refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};

use log::warn;
use proto::raft_rpc::{
    AppendEntriesArgs, AppendEntriesReply, InstallSnapshotRequest, InstallSnapshotResponse, ProbeArgs,
    ProbeReply, RaftRpc, ReadIndexArgs, ReadIndexReply, RequestVoteArgs, RequestVoteReply, TimeoutNowArgs,
    TimeoutNowReply, WatchArgs, WatchReply,
};
use raft_core::{Message, NodeId, ReplyToken};
use rpc::{Reply, Status};

use super::admission::Admission;
use super::border::Border;
use super::convert::{append_from_wire, read_index_from_wire, timeout_now_from_wire, vote_from_wire};
use super::transport::{Answers, Inbox};
use crate::sync::locked;

/// So many reasons to refuse requests are remembered, for each to be logged once: a whole foreign cluster may be asking.
const REFUSALS_MAX: usize = 16;

/// Answers one chunk.
pub type ChunkAnswer = Box<dyn FnOnce(InstallSnapshotResponse) + Send>;

/// Takes the chunks of a snapshot that the leader sends.
pub trait SnapshotReceiver: Send + Sync {
    /// A chunk from `from`, checked to be of this cluster and for this node. Must not block. A sender whose `answer`
    /// is dropped learns that its chunk is lost.
    fn chunk(&self, from: NodeId, request: InstallSnapshotRequest, answer: ChunkAnswer);
}

/// What an admitted node serves its peers with.
struct Parts {
    inbox: Arc<dyn Inbox>,
    snapshots: Arc<dyn SnapshotReceiver>,
}

/// The service. It is registered before the node takes part, so that peers can probe it.
pub struct RaftService {
    border: Border,
    answers: Arc<Answers>,
    admission: Arc<Admission>,
    parts: OnceLock<Parts>,
    /// The latest reasons for which requests were refused.
    refusals: Mutex<VecDeque<String>>,
    /// None once the farewell has been said.
    watchers: Mutex<Option<BTreeMap<NodeId, Reply<WatchReply>>>>,
}

impl RaftService {
    /// A service that answers probes only, until [`open`](RaftService::open).
    pub fn new(border: Border, answers: Arc<Answers>, admission: Arc<Admission>) -> RaftService {
        let (parts, refusals) = Default::default();
        let watchers = Mutex::new(Some(BTreeMap::new()));
        RaftService { border, answers, admission, parts, refusals, watchers }
    }

    /// Refuses every request of a peer that still waits for an answer: the node has stopped.
    pub fn refuse_waiting(&self) {
        self.answers.refuse_all();
    }

    /// Tells the peers that this node has stopped, so that they need not find out. To be said when it says nothing else
    /// any more.
    pub fn say_farewell(&self) {
        let watchers = locked(&self.watchers).take();
        for (watcher, reply) in watchers.into_iter().flatten() {
            reply.send(&self.farewell(watcher));
        }
    }

    fn farewell(&self, watcher: NodeId) -> WatchReply {
        WatchReply { envelope: Some(self.border.envelope(watcher)) }
    }

    /// The node takes part from now on. Called once.
    pub fn open(&self, inbox: Arc<dyn Inbox>, snapshots: Arc<dyn SnapshotReceiver>) {
        assert!(self.parts.set(Parts { inbox, snapshots }).is_ok(), "a raft service is opened once");
    }

    /// Refuses at the border. Foreign nodes ask many times a second: the same reason is logged once.
    fn refuse<M: prost::Message>(&self, reply: Reply<M>, why: &str) {
        let mut said = locked(&self.refusals);
        if !said.iter().any(|before| before == why) {
            warn!("a request from {} is refused: {why}", reply.context().peer);
            said.push_back(why.to_owned());
            if said.len() > REFUSALS_MAX {
                said.pop_front();
            }
        }
        drop(said);
        reply.fail(Status::BadRequest, why);
    }

    /// Whether a node of this cluster has a log that knows this node with other data. From a stranger it proves that there is
    /// another cluster than the one this node is in; who is a member here may only be behind, or have what was never committed.
    fn proof_of_loss(&self, request: &WatchArgs) -> Option<String> {
        let (from, own) = (self.border.admit_stranger(request).ok()?, self.border.node_id());
        let known = request.known_incarnation?;
        (self.admission.incarnation(own) != Some(known)).then(|| {
            format!(
                "the log of node {from} knows node {own} with other data than this directory has, which therefore has \
                 forgotten what node {own} promised. Put its data directory back, or remove it (`clerk member remove \
                 {own}`) and let a node with a number that was never used join"
            )
        })
    }

    fn parts<M: prost::Message>(&self, reply: Reply<M>) -> Option<(&Parts, Reply<M>)> {
        match self.parts.get() {
            Some(parts) => Some((parts, reply)),
            None => {
                reply.fail(Status::PermissionDenied, &self.admission.refusal());
                None
            }
        }
    }

    /// Hands a request to the core, which answers it by the token that its responder is filed under.
    fn take<M: prost::Message>(
        &self,
        reply: Reply<M>,
        read: impl FnOnce(ReplyToken) -> Result<Message, String>,
        file: impl FnOnce(&Answers, Reply<M>) -> ReplyToken,
    ) {
        let Some((parts, reply)) = self.parts(reply) else { return };
        match read(ReplyToken::NONE) {
            Ok(message) => parts.inbox.receive(Message { token: file(&self.answers, reply), ..message }),
            Err(why) => self.refuse(reply, &why),
        }
    }
}

impl RaftRpc for RaftService {
    /// An origin node would send messages that mean something else: they never reach `step`.
    fn accepts_legacy(&self) -> bool {
        false
    }

    fn append_entries(&self, request: AppendEntriesArgs, reply: Reply<AppendEntriesReply>) {
        self.take(reply, |token| append_from_wire(&self.border, &request, token), Answers::append);
    }

    fn request_vote(&self, request: RequestVoteArgs, reply: Reply<RequestVoteReply>) {
        self.take(reply, |token| vote_from_wire(&self.border, &request, token), Answers::vote);
    }

    fn read_index(&self, request: ReadIndexArgs, reply: Reply<ReadIndexReply>) {
        self.take(reply, |token| read_index_from_wire(&self.border, &request, token), Answers::read_index);
    }

    fn timeout_now(&self, request: TimeoutNowArgs, reply: Reply<TimeoutNowReply>) {
        let Some((parts, reply)) = self.parts(reply) else { return };
        match timeout_now_from_wire(&self.border, &request) {
            Ok(message) => {
                reply.send(&TimeoutNowReply { envelope: Some(self.border.envelope(message.from)) });
                parts.inbox.receive(message);
            }
            Err(why) => self.refuse(reply, &why),
        }
    }

    fn install_snapshot(&self, request: InstallSnapshotRequest, reply: Reply<InstallSnapshotResponse>) {
        let Some((parts, reply)) = self.parts(reply) else { return };
        match self.border.admit(&request) {
            Ok(from) => {
                let envelope = Some(self.border.envelope(from));
                let answer = move |answer| reply.send(&InstallSnapshotResponse { envelope, ..answer });
                parts.snapshots.chunk(from, request, Box::new(answer));
            }
            Err(why) => self.refuse(reply, &why),
        }
    }

    fn watch(&self, request: WatchArgs, reply: Reply<WatchReply>) {
        let Some((parts, reply)) = self.parts(reply) else { return };
        let from = match (self.border.admit(&request), self.proof_of_loss(&request)) {
            (Ok(from), _) => from,
            (Err(_), Some(why)) => {
                parts.inbox.disowned(&why);
                return self.refuse(reply, &why);
            }
            (Err(why), None) => return self.refuse(reply, &why),
        };
        // Nothing is answered or dropped under the lock.
        let filed = match &mut *locked(&self.watchers) {
            Some(watchers) => Ok(watchers.insert(from, reply)),
            None => Err(reply),
        };
        match filed {
            // One watch a peer: an older one belongs to a connection that is gone.
            Ok(older) => drop(older),
            Err(reply) => reply.send(&self.farewell(from)),
        }
    }

    fn probe(&self, request: ProbeArgs, reply: Reply<ProbeReply>) {
        match self.border.admit_stranger(&request) {
            Ok(from) => reply.send(&self.admission.answer(from, request.incarnation)),
            Err(why) => self.refuse(reply, &why),
        }
    }
}
