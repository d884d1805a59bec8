//! A node whose data directory is new asks before it takes part: is the whole cluster new, or was my disk lost?
//!
//! What the answers mean is the [`Newcomer`]'s to say. Here are the thread that asks, the peers that are asked, the
//! directory that remembers, and the log lines that tell an operator what is waited for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use log::{info, warn};
use proto::raft_rpc::{ProbeArgs, ProbeReply};
use raft_core::{Membership, NodeId};
use rpc::{RpcController, RpcError, Status};

use super::PeerTransport;
use super::address_book::Home;
use super::border::Border;
use super::newcomer::{Newcomer, Verdict};
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

/// The identity of this node's directory, and what it says to others and to itself.
pub struct Admission {
    border: Border,
    directory: Mutex<DataDirectory>,
    /// What probes are answered from, so that the reactor never waits for the directory's disk.
    newcomer: Mutex<Newcomer>,
}

impl Admission {
    /// For the node of `border` with its opened directory; `joins` if it is to be added to a cluster that exists.
    pub fn new(border: Border, directory: DataDirectory, joins: bool) -> Admission {
        let newcomer = Mutex::new(Newcomer::new(directory.identity().clone(), joins));
        Admission { border, directory: Mutex::new(directory), newcomer }
    }

    /// The incarnation of a member's data directory, as far as this node knows it: by the log, or from when the cluster
    /// began.
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        locked(&self.newcomer).incarnation(&self.border, node)
    }

    /// Where the members live, with all that is known of their data directories.
    pub fn homes(&self, membership: &Membership) -> BTreeMap<NodeId, Home> {
        locked(&self.newcomer).homes(&self.border, membership)
    }

    /// Whether the node may take part already.
    pub fn is_admitted(&self) -> bool {
        locked(&self.newcomer).identity().admitted
    }

    /// What a peer is told that asks a node which is not admitted for anything but a probe.
    pub fn refusal(&self) -> String {
        format!("node {} does not take part yet: its data directory is new", self.border.node_id())
    }

    /// The answer to a probe of `from`, whose directory has this incarnation.
    pub fn answer(&self, from: NodeId, incarnation: u64) -> ProbeReply {
        locked(&self.newcomer).answer(&self.border, from, incarnation)
    }

    /// Probes all peers until the node may take part, and records their incarnations durably. Blocks; says in the
    /// log what it waits for, a line a minute.
    ///
    /// # Errors
    /// When `stop` is raised meanwhile, or the identity cannot be written.
    pub fn wait(&self, transport: &PeerTransport, stop: &StopSignal) -> Result<(), AdmissionError> {
        let mut round = 0;
        while !self.is_admitted() {
            let peers = transport.peers();
            for peer in &peers {
                if let Some(heard) = self.probe(transport, *peer) {
                    locked(&self.newcomer).hears(*peer, heard);
                }
            }
            let verdict = locked(&self.newcomer).verdict(&peers);
            match verdict {
                Verdict::Admitted(identity) => return Ok(self.begin(identity)?),
                Verdict::DiskLost(_, ref identity) => {
                    self.record(identity.clone())?;
                    self.say(&verdict);
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

    /// The node takes part: that is recorded and told.
    fn begin(&self, identity: Identity) -> Result<(), IdentityError> {
        let (own, joined) = (self.border.node_id(), identity.joined);
        self.record(identity)?;
        match joined {
            true => info!("node {own} has been added to its cluster and takes part"),
            false => info!("a new cluster: every listed node has been seen, node {own} takes part"),
        }
        Ok(())
    }

    fn record(&self, identity: Identity) -> Result<(), IdentityError> {
        locked(&self.directory).record(identity.clone())?;
        locked(&self.newcomer).recorded(identity);
        Ok(())
    }

    /// What the peer says, or why one side refuses the other; None when it is silent.
    fn probe(&self, transport: &PeerTransport, peer: NodeId) -> Option<Result<ProbeReply, String>> {
        let incarnation = locked(&self.newcomer).identity().incarnation;
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
        let joins = locked(&self.newcomer).joins();
        let path = directory.path().display();
        let address = |peer: &NodeId| self.border.members().address(*peer).unwrap_or_else(|| "?".into());
        let own = self.border.node_id();
        match verdict {
            Verdict::NotAdded => info!(
                "waiting to be added: `clerk member add {own} {}` does it, where the others can be reached",
                address(&own)
            ),
            Verdict::DiskLost(peer, _) if joins => warn!(
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
            Verdict::DiskLost(peer, _) => warn!(
                "{path} is empty, but node {peer} at {} has a log of this cluster and knows node {own} with other data: \
                 this node does not vote, since it has forgotten what it promised. Put its data directory back, or remove \
                 it (`clerk member remove {own}`) and let a node with a number that was never used join",
                address(peer)
            ),
            Verdict::Unknown(peer) => warn!(
                "{path} is empty, but node {peer} at {} knows of a cluster that has begun, and does not know node {own}: \
                 this node does not vote. Put its data directory back, or let a node with a new number join",
                address(peer)
            ),
            Verdict::StaysOut => warn!(
                "{path} is not what node {own} took part with: this node stays out. Put its data directory back, or let \
                 a node with a new number join"
            ),
            Verdict::Admitted(_) => {}
        }
    }
}
