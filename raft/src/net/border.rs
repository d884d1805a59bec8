//! The border of a cluster: a message is refused when it belongs to another cluster, is addressed to another node,
//! comes from a stranger or speaks an unknown version of the wire.

use proto::raft_rpc::Envelope;
use raft_core::NodeId;

use super::AddressBook;

/// The version of the messages between nodes. A node refuses any other by name.
pub const WIRE_VERSION: u32 = 1;

/// Who we are, for checking what comes in and stamping what goes out.
#[derive(Clone, Debug)]
pub struct Border {
    /// The cluster this node belongs to.
    pub cluster_id: String,
    /// This node.
    pub node_id: NodeId,
    /// The members of the cluster.
    pub members: AddressBook,
}

impl Border {
    /// The envelope of a request from this node to `to`.
    pub fn envelope(&self, to: NodeId) -> Envelope {
        Envelope {
            cluster_id: self.cluster_id.clone(),
            from: self.node_id.0,
            to: to.0,
            version: WIRE_VERSION,
        }
    }

    /// Checks a request's envelope; the sender, or one sentence that says why it is refused.
    pub fn admit(&self, envelope: Option<&Envelope>) -> Result<NodeId, String> {
        let Some(envelope) = envelope else {
            return Err("the request has no envelope: it does not come from a node of this cluster".into());
        };
        if envelope.version != WIRE_VERSION {
            return Err(format!(
                "wire version {} is unknown here: node {} speaks version {WIRE_VERSION}",
                envelope.version, self.node_id
            ));
        }
        if envelope.cluster_id != self.cluster_id {
            return Err(format!(
                "the request belongs to cluster \"{}\", node {} to cluster \"{}\"",
                envelope.cluster_id, self.node_id, self.cluster_id
            ));
        }
        if envelope.to != self.node_id.0 {
            return Err(format!("the request is for node {}, this is node {}", envelope.to, self.node_id));
        }
        let from = NodeId(envelope.from);
        if from == self.node_id || !self.members.contains(from) {
            return Err(format!("node {from} is not a peer of node {}", self.node_id));
        }
        Ok(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn border() -> Border {
        let members = AddressBook::new([(NodeId(0), "a:1".into()), (NodeId(1), "b:1".into())]);
        Border { cluster_id: "c".into(), node_id: NodeId(1), members }
    }

    fn sender() -> Border {
        Border { node_id: NodeId(0), ..border() }
    }

    #[test]
    fn a_foreign_cluster_a_stranger_and_another_version_are_refused() {
        let good = sender().envelope(NodeId(1));
        assert_eq!(border().admit(Some(&good)), Ok(NodeId(0)));
        let foreign = Envelope { cluster_id: "other".into(), ..good.clone() };
        assert!(border().admit(Some(&foreign)).unwrap_err().contains("\"other\""));
        let stranger = Envelope { from: 9, ..good.clone() };
        assert!(border().admit(Some(&stranger)).unwrap_err().contains("node 9"));
        let version = Envelope { version: 99, ..good.clone() };
        assert!(border().admit(Some(&version)).unwrap_err().contains("version 99"));
        let misdirected = Envelope { to: 0, ..good };
        assert!(border().admit(Some(&misdirected)).is_err());
        assert!(border().admit(None).is_err());
    }
}
