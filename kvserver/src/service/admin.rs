//! The `admin` service: what an operator asks of one node.

use std::sync::{Arc, OnceLock};

use proto::admin::{
    Admin, ChangeMemberRequest, Follower, OrderReply, StatusReply, StatusRequest, TransferLeaderRequest,
};
use raft::core::{NodeId, PeerStatus, Status, TransferError, WaitsFor};
use raft::driver::RaftNode;
use raft::net::AddressBook;
use raft::storage::SyncTimes;
use rpc::Reply;

use super::members::{MemberDesk, absent, members, refusal};
use crate::shared_state::SharedState;

/// What the status is read from, once the node takes part.
struct Parts {
    node: Arc<RaftNode>,
    state: Arc<SharedState>,
    book: AddressBook,
    members: Arc<MemberDesk>,
}

/// The service. Before the node takes part it says so.
pub struct AdminService {
    fixed: StatusReply,
    sync_times: Arc<SyncTimes>,
    parts: OnceLock<Parts>,
}

impl AdminService {
    /// A service that answers `fixed`, with the changing fields filled in at each call.
    pub fn new(fixed: StatusReply, sync_times: Arc<SyncTimes>) -> AdminService {
        AdminService { fixed, sync_times, parts: OnceLock::new() }
    }

    /// The node takes part from now on. Called once.
    pub fn open(
        &self,
        node: Arc<RaftNode>,
        state: Arc<SharedState>,
        book: AddressBook,
        members: Arc<MemberDesk>,
    ) {
        let parts = Parts { node, state, book, members };
        assert!(self.parts.set(parts).is_ok(), "an admin service is opened once");
    }

    fn status(&self) -> StatusReply {
        let mut reply = self.fixed.clone();
        let sync = self.sync_times.figures();
        reply.fdatasync_p50_us = sync.p50_us.into();
        reply.fdatasync_p99_us = sync.p99_us.into();
        reply.fdatasync_max_us = sync.max_us.into();
        reply.fdatasync_under_way_us = sync.under_way_us;
        let Some(parts) = self.parts.get() else {
            "waiting".clone_into(&mut reply.role);
            return reply;
        };
        reply.applied = parts.state.applied_index();
        let Ok(status) = parts.node.with_core(|core| core.status()) else {
            "stopped".clone_into(&mut reply.role);
            return reply;
        };
        reply.role = status.role.to_string();
        reply.has_leader = status.leader.is_some();
        reply.leader = status.leader.map_or(0, |leader| leader.0);
        reply.term = status.term.0;
        reply.commit = status.commit_index.0;
        reply.first = status.first_index.0;
        reply.last = status.last.index.0;
        reply.persisted = status.persisted_index.0;
        reply.snapshot = status.snapshot_index.0;
        reply.reason = status.reason.to_string();
        reply.election_reason = status.election_reason.map_or_else(String::new, |reason| reason.to_string());
        reply.log_bytes = status.log_bytes;
        reply.reads_pending = status.reads_pending as u64;
        reply.members = members(&status, &parts.book);
        reply.changing = status.is_changing;
        reply.convalescent = status.is_convalescent;
        reply.disk_full = status.disk_is_full;
        reply.log_room_bytes = status.room_bytes.unwrap_or_default();
        reply.transfer_to = status.transfer_to.map(|to| to.0);
        reply.followers = status.peers.iter().map(follower).collect();
        reply
    }
}

fn follower(peer: &PeerStatus) -> Follower {
    Follower {
        node: peer.node.0,
        progress: peer.progress.to_string(),
        match_index: peer.match_index.0,
        next_index: peer.next_index.0,
        inflight_messages: peer.inflight_messages as u64,
        inflight_bytes: peer.inflight_bytes,
        active: peer.active,
        waits_for: peer.waits_for.to_string(),
    }
}

impl Admin for AdminService {
    fn status(&self, _request: StatusRequest, reply: Reply<StatusReply>) {
        reply.send(&AdminService::status(self));
    }

    fn change_member(&self, request: ChangeMemberRequest, reply: Reply<OrderReply>) {
        match self.parts.get() {
            Some(parts) => parts.members.change(request, move |answer| reply.send(&answer)),
            None => reply.send(&absent()),
        }
    }

    fn transfer_leader(&self, request: TransferLeaderRequest, reply: Reply<OrderReply>) {
        let to = NodeId(request.node);
        let begun = self.parts.get().map(|parts| {
            parts.node.with_core(|core| match obstacle(&core.status(), to) {
                Some(why) => Err(why),
                None => core.transfer_leadership(to).map_err(|error| OrderReply {
                    not_leader: matches!(error, TransferError::NotLeader { .. }),
                    ..refusal(error.to_string())
                }),
            })
        });
        let Some(Ok(begun)) = begun else { return reply.send(&absent()) };
        reply.send(&begun.err().unwrap_or_default());
    }
}

/// Why a transfer to this node need not be tried: it would only keep the writes waiting until it is given up.
fn obstacle(status: &Status, to: NodeId) -> Option<OrderReply> {
    let peer = status.peers.iter().find(|peer| peer.node == to && status.membership.is_voter(to))?;
    match peer.waits_for {
        WaitsFor::Contact => Some(refusal(format!(
            "node {to} does not answer the leader; start it, or see to the network between them, and ask again"
        ))),
        WaitsFor::Snapshot { .. } => {
            Some(OrderReply { again: true, ..refusal(format!("node {to} waits for {}", peer.waits_for)) })
        }
        _ => None,
    }
}
