//! The wire between two nodes: what a node says is written as its transport writes it, and read at the border of the node
//! that it reaches. What a message means must survive that, and a message that is not for this node, or not of its
//! cluster, must not.

use bytes::Bytes;
use prost::Message as _;
use proto::raft_rpc::{
    AppendEntriesArgs, InstallSnapshotRequest, InstallSnapshotResponse, ReadIndexArgs, RequestVoteArgs,
    TimeoutNowArgs,
};
use raft::core::{Body, Message, NodeId, ReplyToken};
use raft::net::convert::{
    append_from_wire, append_reply_from_wire, append_reply_to_wire, append_to_wire, read_index_from_wire,
    read_index_reply_from_wire, read_index_reply_to_wire, read_index_to_wire, timeout_now_from_wire,
    timeout_now_to_wire, vote_from_wire, vote_reply_from_wire, vote_reply_to_wire, vote_to_wire,
};
use raft::net::{AddressBook, Border, Method};

use crate::node::{CLUSTER, address};
use crate::violation::Violation;

/// A message on its way, as the bytes that a connection carries.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// What its sender means by it.
    sent: Message,
    bytes: Bytes,
}

/// The borders of all nodes.
pub(crate) struct Post {
    borders: Vec<Border>,
    /// Those of the nodes of another cluster with the same addresses.
    strangers: Vec<Border>,
}

impl Post {
    pub(crate) fn new(nodes: u64) -> Post {
        let members = AddressBook::new((0..nodes).map(|id| (NodeId(id), address(id))));
        let borders =
            |cluster| (0..nodes).map(|id| Border::new(cluster, NodeId(id), members.clone())).collect();
        Post { borders: borders(CLUSTER), strangers: borders("another") }
    }

    /// The border of a node that knows no more than its file.
    pub(crate) fn border(&self, node: usize) -> &Border {
        &self.borders[node]
    }

    /// The message as its sender writes it. Its token is of the sender's making and stays there.
    pub(crate) fn write(&self, message: Message) -> Letter {
        written_by(&self.borders[message.from.0 as usize], message)
    }

    /// The same message, said by a node of another cluster.
    pub(crate) fn write_as_a_stranger(&self, message: Message) -> Letter {
        written_by(&self.strangers[message.from.0 as usize], message)
    }

    /// The message as the node it is for reads it.
    pub(crate) fn read(&self, letter: &Letter) -> Result<Message, Violation> {
        let sent = &letter.sent;
        match self.admit(sent.to.0 as usize, letter) {
            Ok(read) if read == *sent => Ok(read),
            Ok(read) => broken(format!("{sent:?} is read as {read:?}")),
            Err(why) => broken(format!("{sent} is refused: {why}")),
        }
    }

    /// A node gets a letter that is not meant for it.
    pub(crate) fn refuse(&self, node: usize, letter: &Letter) -> Result<(), Violation> {
        match self.admit(node, letter) {
            Err(_) => Ok(()),
            Ok(read) => Violation::of("strangers-are-refused", format!("node {node} listens to {read}")),
        }
    }

    fn admit(&self, node: usize, letter: &Letter) -> Result<Message, String> {
        let (border, bytes) = (&self.borders[node], letter.bytes.clone());
        let from = letter.sent.from;
        let undecodable = |error: prost::DecodeError| format!("it does not decode: {error}");
        match &letter.sent.body {
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Heal { .. } => {
                let args = AppendEntriesArgs::decode(bytes).map_err(undecodable)?;
                append_from_wire(border, &args, ReplyToken::NONE)
            }
            Body::RequestVote { .. } => {
                let args = RequestVoteArgs::decode(bytes).map_err(undecodable)?;
                vote_from_wire(border, &args, ReplyToken::NONE)
            }
            Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. } => {
                append_reply_from_wire(border, from, prost::Message::decode(bytes).map_err(undecodable)?)
            }
            Body::TimeoutNow => {
                let args = TimeoutNowArgs::decode(bytes).map_err(undecodable)?;
                timeout_now_from_wire(border, &args)
            }
            Body::ReadIndex { .. } => {
                let args = ReadIndexArgs::decode(bytes).map_err(undecodable)?;
                read_index_from_wire(border, &args, ReplyToken::NONE)
            }
            Body::ReadIndexReply { .. } => {
                read_index_reply_from_wire(border, from, prost::Message::decode(bytes).map_err(undecodable)?)
            }
            Body::RequestVoteReply { .. } | Body::Removed => {
                vote_reply_from_wire(border, from, prost::Message::decode(bytes).map_err(undecodable)?)
            }
        }
    }

    /// A chunk of a snapshot as its sender writes it.
    pub(crate) fn write_chunk(&self, from: NodeId, to: NodeId, mut request: InstallSnapshotRequest) -> Bytes {
        request.leader_id = from.0;
        request.envelope = Some(self.borders[from.0 as usize].envelope(to));
        Bytes::from(request.encode_to_vec())
    }

    /// A chunk as the node it is for reads it, and who sent it.
    pub(crate) fn read_chunk(
        &self,
        to: usize,
        bytes: Bytes,
    ) -> Result<(NodeId, InstallSnapshotRequest), Violation> {
        let request = InstallSnapshotRequest::decode(bytes).or_else(|error| broken(error.to_string()))?;
        match self.borders[to].admit(&request) {
            Ok(from) => Ok((from, request)),
            Err(why) => broken(format!("a chunk for node {to} is refused: {why}")),
        }
    }

    /// The answer to a chunk as the service writes it.
    pub(crate) fn write_chunk_answer(
        &self,
        from: NodeId,
        to: NodeId,
        answer: InstallSnapshotResponse,
    ) -> Bytes {
        let envelope = Some(self.borders[from.0 as usize].envelope(to));
        Bytes::from(InstallSnapshotResponse { envelope, ..answer }.encode_to_vec())
    }

    /// The answer of a peer to a chunk as the sender of the chunk reads it.
    pub(crate) fn read_chunk_answer(
        &self,
        to: usize,
        peer: NodeId,
        bytes: Bytes,
    ) -> Result<InstallSnapshotResponse, Violation> {
        let answer = InstallSnapshotResponse::decode(bytes).or_else(|error| broken(error.to_string()))?;
        match self.borders[to].admit_answer(peer, &answer) {
            Ok(()) => Ok(answer),
            Err(why) => broken(format!("the answer of node {peer} to a chunk is refused: {why}")),
        }
    }
}

impl Letter {
    /// Whether whoever asked is told that this, or the answer to it, is lost.
    pub(crate) fn is_told_when_lost(&self) -> bool {
        Method::of(&self.sent.body).tells_of_loss()
    }
}

fn written_by(border: &Border, message: Message) -> Letter {
    let sent = Message { token: ReplyToken::NONE, ..message };
    let bytes = match &sent.body {
        Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Heal { .. } => {
            append_to_wire(border, sent.clone()).encode_to_vec()
        }
        Body::RequestVote { .. } => vote_to_wire(border, &sent).encode_to_vec(),
        Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. } => {
            append_reply_to_wire(border, &sent).encode_to_vec()
        }
        Body::TimeoutNow => timeout_now_to_wire(border, &sent).encode_to_vec(),
        Body::ReadIndex { .. } => read_index_to_wire(border, &sent).encode_to_vec(),
        Body::ReadIndexReply { .. } => read_index_reply_to_wire(border, &sent).encode_to_vec(),
        Body::RequestVoteReply { .. } | Body::Removed => vote_reply_to_wire(border, &sent).encode_to_vec(),
    };
    Letter { sent, bytes: Bytes::from(bytes) }
}

fn broken<T>(text: String) -> Result<T, Violation> {
    Violation::of("survives-the-wire", text)
}
