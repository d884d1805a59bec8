//! A node whose data directory is new asks before it takes part: is the whole cluster new, or was my disk lost?
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
use std::sync::Mutex;
use std::time::Duration;

use log::{info, warn};
use proto::raft_rpc::{ProbeArgs, ProbeReply};
use raft_core::NodeId;
use rpc::{RpcController, RpcError, Status};

use super::PeerTransport;
use super::border::Border;
use crate::storage::{DataDirectory, Identity, IdentityError};
use crate::sync::{StopSignal, locked};

/// How long one peer may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause between two rounds of probes.
const PROBE_PAUSE: Duration = Duration::from_millis(50);

/// Rounds of probes between two log lines that say what the node waits for.
const ROUNDS_PER_LINE: u32 = 1_000;

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// The node was stopped while it waited.
    #[error("the node was stopped while it waited for its peers")]
    Stopped,
    /// The identity file could not be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What a round of probes found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Admitted,
    Waiting(NodeId),
    /// Nobody has added this node yet.
    NotAdded,
    /// This peer wants nothing to do with us, or we with it: why.
    Refused(NodeId, String),
    DiskLost(NodeId),
}

/// The identity of this node's directory, and what it says to others and to itself.
pub struct Admission {
    border: Border,
    joins: bool,
    directory: Mutex<DataDirectory>,
    /// What probes are answered from, so that the reactor never waits for the directory's disk.
    identity: Mutex<Identity>,
}

impl Admission {
    /// For the node of `border` with its opened directory; `joins` if it is to be added to a cluster that exists.
    pub fn new(border: Border, directory: DataDirectory, joins: bool) -> Admission {
        let identity = Mutex::new(directory.identity().clone());
        Admission { border, joins, directory: Mutex::new(directory), identity }
    }

    /// The incarnation of a member's data directory, as far as this node knows it: by the log, or from when the cluster
    /// began.
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        let identity = locked(&self.identity);
        if node == self.border.node_id() {
            return Some(identity.incarnation);
        }
        let at_the_beginning =
            || identity.peers.iter().find(|(peer, _)| *peer == node).map(|(_, known)| *known);
        self.border.members().incarnation(node).or_else(at_the_beginning)
    }

    /// Whether the node may take part already.
    pub fn is_admitted(&self) -> bool {
        locked(&self.identity).admitted
    }

    /// What a peer is told that asks a node which is not admitted for anything but a probe.
    pub fn refusal(&self) -> String {
        format!("node {} does not take part yet: its data directory is new", self.border.node_id())
    }

    /// The answer to a probe of `from`, whose directory has this incarnation.
    pub fn answer(&self, from: NodeId, incarnation: u64) -> ProbeReply {
        let known = self.incarnation(from);
        let identity = locked(&self.identity);
        ProbeReply {
            incarnation: identity.incarnation,
            fresh: !identity.admitted,
            knows_sender: known == Some(incarnation),
            in_log: self.border.members().incarnation(from) == Some(incarnation),
            knows_another: known.is_some_and(|known| known != incarnation),
            envelope: Some(self.border.envelope(from)),
        }
    }

    /// Probes all peers until the node may take part, and records their incarnations durably. Blocks; says in the
    /// log what it waits for, a line a minute.
    ///
    /// # Errors
    /// When `stop` is raised meanwhile, or the identity cannot be written.
    pub fn wait(&self, transport: &PeerTransport, stop: &StopSignal) -> Result<(), AdmissionError> {
        let mut replies: BTreeMap<NodeId, Result<ProbeReply, String>> = BTreeMap::new();
        let mut round = 0;
        while !self.is_admitted() {
            let peers = transport.peers();
            for peer in &peers {
                if let Some(heard) = self.probe(transport, *peer) {
                    replies.insert(*peer, heard);
                }
            }
            let verdict = if self.joins { verdict_on_joining(&replies) } else { verdict(&peers, &replies) };
            match verdict {
                Verdict::Admitted if self.joins => {
                    self.record(DataDirectory::join)?;
                    info!("node {} has been added to its cluster and takes part", self.border.node_id());
                    return Ok(());
                }
                Verdict::Admitted => {
                    let known = replies.iter().filter_map(|(id, reply)| Some((*id, reply.as_ref().ok()?)));
                    let peers: Vec<_> = known.map(|(id, reply)| (id, reply.incarnation)).collect();
                    self.record(|directory| directory.admit(&peers))?;
                    info!(
                        "a new cluster: every listed node has been seen, node {} takes part",
                        self.border.node_id()
                    );
                    return Ok(());
                }
                verdict if round % ROUNDS_PER_LINE == 2 => self.say(&verdict),
                _ => {}
            }
            round += 1;
            if stop.wait_timeout(PROBE_PAUSE) {
                return Err(AdmissionError::Stopped);
            }
        }
        Ok(())
    }

    fn record(
        &self,
        change: impl FnOnce(&mut DataDirectory) -> Result<(), IdentityError>,
    ) -> Result<(), IdentityError> {
        let mut directory = locked(&self.directory);
        change(&mut directory)?;
        locked(&self.identity).clone_from(directory.identity());
        Ok(())
    }

    /// What the peer says, or why one side refuses the other; None when it is silent.
    fn probe(&self, transport: &PeerTransport, peer: NodeId) -> Option<Result<ProbeReply, String>> {
        let incarnation = locked(&self.identity).incarnation;
        let args = ProbeArgs { envelope: Some(self.border.envelope(peer)), incarnation };
        let controller = RpcController::new();
        controller.set_timeout(PROBE_TIMEOUT);
        match transport.stub(peer)?.probe(&controller, &args) {
            Ok(reply) => Some(self.border.admit_answer(peer, &reply).map(|()| reply)),
            Err(RpcError::Status { status: Status::BadRequest, text }) => Some(Err(text)),
            Err(_) => None,
        }
    }

    fn say(&self, verdict: &Verdict) {
        let directory = locked(&self.directory);
        let path = directory.path().display();
        let address = |peer: &NodeId| self.border.members().address(*peer).unwrap_or_else(|| "?".into());
        let own = self.border.node_id();
        match verdict {
            Verdict::NotAdded => info!(
                "waiting to be added: `clerk member add {own} {}` does it, where the others can be reached",
                address(&own)
            ),
            Verdict::DiskLost(peer) if self.joins => warn!(
                "node {peer} at {} knows node {own} with other data than that of {path}: this node stays out. A node \
                 that lost its data comes back under a number that was never used",
                address(peer)
            ),
            Verdict::Waiting(peer) => info!(
                "waiting for node {peer} at {}: a new cluster begins when every listed node has been seen",
                address(peer)
            ),
            Verdict::Refused(peer, why) => warn!(
                "node {peer} at {} and this node do not belong together: {why}. Is the address its own, and the \
                 cluster_id the same?",
                address(peer)
            ),
            Verdict::DiskLost(peer) => warn!(
                "{path} is empty, but node {peer} at {} has a log of this cluster and knows node {} with other data: \
                 this node does not vote, since it has forgotten what it promised. Put its data directory back, or remove \
                 it (`clerk member remove {own}`) and let a node with a number that was never used join",
                address(peer),
                self.border.node_id()
            ),
            Verdict::Admitted => {}
        }
    }
}

/// What the peers' answers mean; a proof that the disk was lost outweighs everything, a refusal outweighs silence.
fn verdict(peers: &[NodeId], replies: &BTreeMap<NodeId, Result<ProbeReply, String>>) -> Verdict {
    let mut verdict = Verdict::Admitted;
    for peer in peers.iter().copied() {
        match replies.get(&peer) {
            Some(Ok(reply)) if reply.fresh || reply.knows_sender => {}
            Some(Ok(_)) => return Verdict::DiskLost(peer),
            Some(Err(why)) => verdict = Verdict::Refused(peer, why.clone()),
            None if verdict == Verdict::Admitted => verdict = Verdict::Waiting(peer),
            None => {}
        }
    }
    verdict
}

/// What the answers mean to a node that joins: one peer whose log has it is enough, and one that knows its number with
/// other data is too much.
fn verdict_on_joining(replies: &BTreeMap<NodeId, Result<ProbeReply, String>>) -> Verdict {
    let mut verdict = Verdict::NotAdded;
    for (peer, reply) in replies {
        match reply {
            Ok(reply) if reply.knows_another => return Verdict::DiskLost(*peer),
            Ok(reply) if reply.in_log => verdict = Verdict::Admitted,
            Err(why) if verdict == Verdict::NotAdded => verdict = Verdict::Refused(*peer, why.clone()),
            Ok(_) | Err(_) => {}
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(fresh: bool, knows_sender: bool) -> ProbeReply {
        ProbeReply { incarnation: 1, fresh, knows_sender, ..ProbeReply::default() }
    }

    fn judge(replies: &[(u64, ProbeReply)]) -> Verdict {
        let replies = replies.iter().map(|(id, reply)| (NodeId(*id), Ok(reply.clone()))).collect();
        verdict(&[NodeId(1), NodeId(2)], &replies)
    }

    #[test]
    fn a_new_cluster_begins_when_all_are_new_or_know_each_other() {
        assert_eq!(judge(&[(1, reply(true, false)), (2, reply(true, false))]), Verdict::Admitted);
        assert_eq!(judge(&[(1, reply(false, true)), (2, reply(true, false))]), Verdict::Admitted);
    }

    #[test]
    fn an_unseen_peer_is_waited_for() {
        assert_eq!(judge(&[(1, reply(true, false))]), Verdict::Waiting(NodeId(2)));
    }

    #[test]
    fn a_refusal_is_told_before_a_silence() {
        let replies = [(NodeId(2), Err("another cluster".to_owned()))].into();
        let found = verdict(&[NodeId(1), NodeId(2)], &replies);
        assert_eq!(found, Verdict::Refused(NodeId(2), "another cluster".into()));
    }

    #[test]
    fn who_joins_waits_until_a_log_has_it_and_stays_out_under_a_number_of_other_data() {
        let judge = |replies: &[(u64, ProbeReply)]| {
            let replies = replies.iter().map(|(id, reply)| (NodeId(*id), Ok(reply.clone())));
            verdict_on_joining(&replies.collect())
        };
        assert_eq!(judge(&[]), Verdict::NotAdded);
        assert_eq!(judge(&[(1, reply(false, false)), (2, reply(true, false))]), Verdict::NotAdded);
        assert_eq!(
            judge(&[(1, reply(false, true))]),
            Verdict::NotAdded,
            "who began a cluster does not join it"
        );
        let added = ProbeReply { in_log: true, ..reply(false, true) };
        assert_eq!(judge(&[(1, added.clone()), (2, reply(false, false))]), Verdict::Admitted);
        let other = ProbeReply { knows_another: true, ..reply(false, false) };
        assert_eq!(judge(&[(1, added), (2, other)]), Verdict::DiskLost(NodeId(2)));
    }

    #[test]
    fn a_peer_of_a_cluster_that_does_not_know_us_proves_a_lost_disk() {
        assert_eq!(judge(&[(2, reply(false, false))]), Verdict::DiskLost(NodeId(2)));
    }
}
