//! Whether a node may take part with the data directory it has, decided without a clock, a socket or a file.
//!
//! A node that lost its disk has forgotten what it voted for and what it acknowledged; if it voted again, a
//! committed entry could be lost. So every directory gets a random incarnation when it is made, and a new cluster
//! begins only when every listed node has been seen. Each then records the others' incarnations. A node with a
//! new directory takes part once each peer either is new itself or has recorded just this incarnation. A peer that
//! belongs to a cluster and does not know it keeps it out.
//!
//! A node that joins a cluster waits until it has been added: then the log has its incarnation, and a peer says so.
//!
//! A peer that knows another incarnation under the node's number, from the log or from when the cluster began, is the proof
//! that this number belonged to another disk. The directory records that and stays out for ever, whoever is asked later:
//! else the founders of a cluster that has moved to other numbers could begin a second one, when the last of them has lost
//! its disk and all of them seem to be new. It goes on answering, so that of founders who come back with nothing each
//! learns that there is a cluster as soon as one of them knows.

use std::collections::BTreeMap;

use proto::raft_rpc::ProbeReply;
use raft_core::{Membership, NodeId, planted};

use super::address_book::Home;
use super::border::Border;
use crate::storage::Identity;

/// Recorded for a founder at whose place another directory was found, which is not its own: no directory has it.
const NOT_SEEN: u64 = 0;

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
    /// This peer knows of a cluster of this name, and does not know this node.
    Unknown(NodeId),
    /// This peer proves that the node took part with another directory, which is to be put on record.
    DiskLost(NodeId, Identity),
    /// That is on record: the node never takes part with this directory.
    StaysOut,
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
        border.members().incarnation(node).or_else(|| self.at_the_beginning(node))
    }

    /// Where the members live, with all that is known of their data directories.
    pub fn homes(&self, border: &Border, membership: &Membership) -> BTreeMap<NodeId, Home> {
        let known = border.members().homes().into_iter().filter(|(node, _)| membership.contains(*node));
        let home = |(node, home): (NodeId, Home)| {
            let incarnation = self.incarnation(border, node).filter(|known| *known != NOT_SEEN);
            (node, Home { incarnation, ..home })
        };
        known.map(home).collect()
    }

    /// The incarnation of a peer's directory when the cluster began.
    fn at_the_beginning(&self, node: NodeId) -> Option<u64> {
        self.identity.peers.iter().find(|(peer, _)| *peer == node).map(|(_, known)| *known)
    }

    /// The answer to a probe of `from`, whose directory has this incarnation.
    pub fn answer(&self, border: &Border, from: NodeId, incarnation: u64) -> ProbeReply {
        let (in_log, at_first) = (border.members().incarnation(from), self.at_the_beginning(from));
        let is_another = |known: Option<u64>| known.is_some_and(|known| known != incarnation);
        ProbeReply {
            incarnation: self.identity.incarnation,
            fresh: !self.identity.admitted,
            knows_sender: in_log.or(at_first) == Some(incarnation),
            in_log: in_log == Some(incarnation),
            knows_another: is_another(in_log) || is_another(at_first),
            stays_out: self.identity.stays_out,
            envelope: Some(border.envelope(from)),
        }
    }

    /// What a peer says, or why one side refuses the other. Its latest word counts.
    pub fn hears(&mut self, peer: NodeId, reply: Result<ProbeReply, String>) {
        self.replies.insert(peer, reply);
    }

    /// What was heard means this, if these are all peers. Who takes part already is asked no questions.
    pub fn verdict(&self, peers: &[NodeId]) -> Verdict {
        let lost = self.replies.iter().find(|(_, reply)| reply.as_ref().is_ok_and(proves_loss));
        match lost {
            _ if self.identity.admitted => Verdict::Admitted(self.identity.clone()),
            _ if self.identity.stays_out => Verdict::StaysOut,
            Some((peer, _)) => Verdict::DiskLost(*peer, self.identity.as_outcast()),
            None if self.joins => self.verdict_on_joining(),
            None => self.verdict_on_beginning(peers),
        }
    }

    /// Who knows of a cluster and not of us outweighs everything, a refusal outweighs silence.
    fn verdict_on_beginning(&self, peers: &[NodeId]) -> Verdict {
        let (mut hindrance, mut is_known, mut outcast) = (None, false, None);
        for peer in peers.iter().copied() {
            match self.replies.get(&peer) {
                Some(Ok(reply)) if reply.knows_sender => is_known = true,
                Some(Ok(reply)) if reply.stays_out => outcast = Some(Verdict::Unknown(peer)),
                Some(Ok(reply)) if reply.fresh || planted::is("wiped-node-admitted") => {}
                Some(Ok(_)) => return Verdict::Unknown(peer),
                Some(Err(why)) => hindrance = Some(Verdict::Refused(peer, why.clone())),
                None => hindrance = hindrance.or(Some(Verdict::Waiting(peer))),
            }
        }
        // An outcast has heard of a cluster, in which somebody must know us.
        let hindrance = hindrance.or(outcast.filter(|_| !is_known));
        hindrance.unwrap_or_else(|| {
            let known = self.replies.iter().filter_map(|(id, reply)| Some((*id, reply.as_ref().ok()?)));
            // An outcast's is not the directory that its node took part with, which may come back and is a member's then.
            let own = |reply: &ProbeReply| if reply.stays_out { NOT_SEEN } else { reply.incarnation };
            let peers = known.map(|(id, reply)| (id, own(reply))).collect();
            Verdict::Admitted(self.identity.as_founder(peers))
        })
    }

    /// One peer whose log has it is enough.
    fn verdict_on_joining(&self) -> Verdict {
        let mut verdict = Verdict::NotAdded;
        for (peer, reply) in &self.replies {
            match reply {
                Ok(reply) if reply.in_log => return Verdict::Admitted(self.identity.as_joined()),
                Err(why) if verdict == Verdict::NotAdded => verdict = Verdict::Refused(*peer, why.clone()),
                Ok(_) | Err(_) => {}
            }
        }
        verdict
    }
}

/// Whether this peer knows the asker's number with other data.
fn proves_loss(reply: &ProbeReply) -> bool {
    reply.knows_another && !planted::is("wiped-node-admitted")
}

#[cfg(test)]
mod tests;
