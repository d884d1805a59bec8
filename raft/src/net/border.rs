//! The border of a cluster: a message is refused when it belongs to another cluster, is addressed to another node,
//! comes from a stranger or speaks an unknown version of the wire. Answers are held to the same.

use bytes::Bytes;
use proto::raft_rpc::{
    AppendEntriesArgs, AppendEntriesReply, Envelope, InstallSnapshotRequest, InstallSnapshotResponse,
    ProbeArgs, ProbeReply, ReadIndexArgs, ReadIndexReply, RequestVoteArgs, RequestVoteReply, TimeoutNowArgs,
    TimeoutNowReply, WatchArgs, WatchReply,
};
use raft_core::NodeId;

use super::AddressBook;

/// The version of the messages between nodes. A node refuses any other by name.
pub const WIRE_VERSION: u32 = 1;

/// A message between nodes.
pub trait Enveloped {
    /// Which cluster it belongs to, who sends it, to whom; None when it does not say.
    fn envelope(&self) -> Option<&Envelope>;
}

macro_rules! enveloped {
    ($($message:ty),+ $(,)?) => {
        $(impl Enveloped for $message {
            fn envelope(&self) -> Option<&Envelope> {
                self.envelope.as_ref()
            }
        })+
    };
}

enveloped!(
    AppendEntriesArgs,
    AppendEntriesReply,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    ProbeArgs,
    ProbeReply,
    ReadIndexArgs,
    ReadIndexReply,
    RequestVoteArgs,
    RequestVoteReply,
    TimeoutNowArgs,
    TimeoutNowReply,
    WatchArgs,
    WatchReply,
);

/// Who we are, for checking what comes in and stamping what goes out.
#[derive(Clone, Debug)]
pub struct Border {
    /// Shared by all envelopes: a message costs no copy of it.
    cluster_id: Bytes,
    node_id: NodeId,
    members: AddressBook,
}

impl Border {
    /// The border of `cluster_id`, which has these members, as `node_id` stands at it.
    pub fn new(cluster_id: &str, node_id: NodeId, members: AddressBook) -> Border {
        Border { cluster_id: Bytes::copy_from_slice(cluster_id.as_bytes()), node_id, members }
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The members of the cluster.
    pub fn members(&self) -> &AddressBook {
        &self.members
    }

    /// The envelope of a message from this node to `to`.
    pub fn envelope(&self, to: NodeId) -> Envelope {
        Envelope {
            cluster_id: self.cluster_id.clone(),
            from: self.node_id.0,
            to: to.0,
            version: WIRE_VERSION,
        }
    }

    /// Checks a message's envelope.
    ///
    /// # Errors
    /// One sentence that says why the message is refused.
    pub fn admit(&self, message: &impl Enveloped) -> Result<NodeId, String> {
        match self.admit_stranger(message)? {
            from if from == self.node_id => Err(format!("node {from} is this node itself")),
            from if self.members.contains(from) => Ok(from),
            from => Err(format!("node {from} is not a peer of node {}", self.node_id)),
        }
    }

    /// Checks the envelope of a message that one may send who is no member yet, and this node to see where it lives.
    ///
    /// # Errors
    /// One sentence that says why the message is refused.
    pub fn admit_stranger(&self, message: &impl Enveloped) -> Result<NodeId, String> {
        let Some(envelope) = message.envelope() else {
            return Err("the message has no envelope: it does not come from a node of this cluster".into());
        };
        if envelope.version != WIRE_VERSION {
            return Err(format!(
                "wire version {} is unknown here: node {} speaks version {WIRE_VERSION}",
                envelope.version, self.node_id
            ));
        }
        if envelope.cluster_id != self.cluster_id {
            return Err(format!(
                "the message belongs to cluster \"{}\", node {} to cluster \"{}\"",
                String::from_utf8_lossy(&envelope.cluster_id),
                self.node_id,
                String::from_utf8_lossy(&self.cluster_id)
            ));
        }
        if envelope.to != self.node_id.0 {
            return Err(format!("the message is for node {}, this is node {}", envelope.to, self.node_id));
        }
        Ok(NodeId(envelope.from))
    }

    /// Checks the envelope of an answer, which must come from `peer`.
    ///
    /// # Errors
    /// One sentence that says why the answer is refused.
    pub fn admit_answer(&self, peer: NodeId, answer: &impl Enveloped) -> Result<(), String> {
        match self.admit(answer)? {
            from if from == peer => Ok(()),
            from => Err(format!("node {from} answers in the place of node {peer}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn border(node_id: u64) -> Border {
        let members = (0..3).map(|id| (NodeId(id), format!("host{id}:1")));
        Border::new("c", NodeId(node_id), AddressBook::new(members))
    }

    fn watch(envelope: Option<Envelope>) -> WatchArgs {
        WatchArgs { envelope, ..WatchArgs::default() }
    }

    #[test]
    fn a_foreign_cluster_a_stranger_and_another_version_are_refused() {
        let (ours, good) = (border(1), border(0).envelope(NodeId(1)));
        assert_eq!(ours.admit(&watch(Some(good.clone()))), Ok(NodeId(0)));
        let refusal = |envelope| ours.admit(&watch(envelope)).unwrap_err();
        let foreign = Envelope { cluster_id: Bytes::from_static(b"other"), ..good.clone() };
        assert!(refusal(Some(foreign)).contains("\"other\""));
        assert!(refusal(Some(Envelope { from: 9, ..good.clone() })).contains("node 9"));
        assert!(refusal(Some(Envelope { version: 99, ..good.clone() })).contains("version 99"));
        assert!(refusal(Some(Envelope { to: 0, ..good })).contains("for node 0"));
        assert!(refusal(None).contains("no envelope"));
    }

    #[test]
    fn an_answer_must_come_from_the_node_that_was_asked() {
        let answer = WatchReply { envelope: Some(border(2).envelope(NodeId(1))) };
        assert_eq!(border(1).admit_answer(NodeId(2), &answer), Ok(()));
        assert!(border(1).admit_answer(NodeId(0), &answer).unwrap_err().contains("in the place of node 0"));
        assert!(border(1).admit_answer(NodeId(2), &WatchReply { envelope: None }).is_err());
    }
}
