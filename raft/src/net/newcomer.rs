//! Whether a node may take part with the data directory it has, decided without a clock, a socket or a file.
//!
//! A node that lost its disk has forgotten what it voted for and what it acknowledged; if it voted again, a
//! committed entry could be lost. So every directory gets a random incarnation when it is made, and a new cluster
//! begins only when every listed node has been seen. Each then records the others' incarnations. A node with a
//! new directory takes part once each peer either is new itself or has recorded just this incarnation. A peer that
//! belongs to a cluster and does not know it is the proof that the directory was lost: the node then stays out.
//!
//! A node that joins a cluster waits until it has been added: then the log has its incarnation, and a peer says so. If a
//! peer knows another incarnation under its number, that number belonged to another disk, and it stays out.

use std::collections::BTreeMap;

use proto::raft_rpc::ProbeReply;
use raft_core::NodeId;

use super::border::Border;
use crate::storage::Identity;

/// What the answers to probes mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The node takes part, as soon as this is on its disk.
    Admitted(Identity),
    /// This peer has not been seen yet.
    Waiting(NodeId),
    /// Nobody has added this node yet.
    NotAdded,
    /// This peer wants nothing to do with us, or we with it: why.
    Refused(NodeId, String),
    /// This peer proves that the node took part with another directory.
    DiskLost(NodeId),
}

/// A node and the identity of its directory: what it says to others, what others say to it, and what that means.
#[derive(Debug, Clone)]
pub struct Newcomer {
    identity: Identity,
    joins: bool,
    replies: BTreeMap<NodeId, Result<ProbeReply, String>>,
}

impl Newcomer {
    /// A node with this directory; `joins` if it is to be added to a cluster that exists.
    pub fn new(identity: Identity, joins: bool) -> Newcomer {
        Newcomer { identity, joins, replies: BTreeMap::new() }
    }

    /// Whose its directory is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it is to be added to a cluster that exists.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// The directory says this from now on.
    pub fn recorded(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// The incarnation of a member's data directory, as far as this node knows it: by the log, or from when the cluster
    /// began. `border` is the node's own.
    pub fn incarnation(&self, border: &Border, node: NodeId) -> Option<u64> {
        if node == self.identity.node_id {
            return Some(self.identity.incarnation);
        }
        let at_the_beginning =
            || self.identity.peers.iter().find(|(peer, _)| *peer == node).map(|(_, known)| *known);
        border.members().incarnation(node).or_else(at_the_beginning)
    }

    /// The answer to a probe of `from`, whose directory has this incarnation.
    pub fn answer(&self, border: &Border, from: NodeId, incarnation: u64) -> ProbeReply {
        let known = self.incarnation(border, from);
        ProbeReply {
            incarnation: self.identity.incarnation,
            fresh: !self.identity.admitted,
            knows_sender: known == Some(incarnation),
            in_log: border.members().incarnation(from) == Some(incarnation),
            knows_another: known.is_some_and(|known| known != incarnation),
            envelope: Some(border.envelope(from)),
        }
    }

    /// What a peer says, or why one side refuses the other. Its latest word counts.
    pub fn hears(&mut self, peer: NodeId, reply: Result<ProbeReply, String>) {
        self.replies.insert(peer, reply);
    }

    /// What was heard means this, if these are all peers. Who takes part already is asked no questions.
    pub fn verdict(&self, peers: &[NodeId]) -> Verdict {
        if self.identity.admitted {
            Verdict::Admitted(self.identity.clone())
        } else if self.joins {
            self.verdict_on_joining()
        } else {
            self.verdict_on_beginning(peers)
        }
    }

    /// A proof that the disk was lost outweighs everything, a refusal outweighs silence.
    fn verdict_on_beginning(&self, peers: &[NodeId]) -> Verdict {
        let mut hindrance = None;
        for peer in peers.iter().copied() {
            match self.replies.get(&peer) {
                Some(Ok(reply)) if reply.fresh || reply.knows_sender => {}
                Some(Ok(_)) => return Verdict::DiskLost(peer),
                Some(Err(why)) => hindrance = Some(Verdict::Refused(peer, why.clone())),
                None => hindrance = hindrance.or(Some(Verdict::Waiting(peer))),
            }
        }
        hindrance.unwrap_or_else(|| {
            let known = self.replies.iter().filter_map(|(id, reply)| Some((*id, reply.as_ref().ok()?)));
            let peers = known.map(|(id, reply)| (id, reply.incarnation)).collect();
            Verdict::Admitted(self.identity.as_founder(peers))
        })
    }

    /// One peer whose log has it is enough, and one that knows its number with other data is too much.
    fn verdict_on_joining(&self) -> Verdict {
        let mut verdict = Verdict::NotAdded;
        for (peer, reply) in &self.replies {
            match reply {
                Ok(reply) if reply.knows_another => return Verdict::DiskLost(*peer),
                Ok(reply) if reply.in_log => verdict = Verdict::Admitted(self.identity.as_joined()),
                Err(why) if verdict == Verdict::NotAdded => verdict = Verdict::Refused(*peer, why.clone()),
                Ok(_) | Err(_) => {}
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests;
