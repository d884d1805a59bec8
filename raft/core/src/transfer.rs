//! Leadership transfer (dissertation §3.10).
//!
//! The leader takes no more proposals, waits until the chosen node has its whole log, and tells it to begin an election
//! at once. The vote requests of that election say so, and are heeded although the leader lives. If nobody else leads
//! after an election timeout, the leader goes on as if nothing had been asked.
//!
//! A leader also does it by itself, when a voter of higher priority has caught up. It looks for one rarely, so that a
//! preferred node which cannot keep the office costs little.

use crate::election::Round;
use crate::error::TransferError;
use crate::leader::{Leader, Peer};
use crate::message::{Body, Message};
use crate::raft::{Raft, Role, State};
use crate::status::Reason;
use crate::types::NodeId;

/// A leader looks for a node that should rather lead once in so many of the longest election timeouts.
const PREFERENCE_TIMEOUTS: u64 = 10;

/// The transfer under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    to: NodeId,
    /// The leader's tick at which it was asked for.
    asked_tick: u64,
}

impl Leader {
    /// To whom leadership is being transferred.
    pub(crate) fn transfer_to(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }
}

impl Raft {
    /// Begins to hand leadership to `to`; replaces a transfer under way to another. The same order once more lengthens
    /// nothing, else who repeats it would keep the writes waiting for as long. To itself: nothing is to be done.
    pub(crate) fn transfer_leadership(&mut self, to: NodeId) -> Result<(), TransferError> {
        let (own, leader_known) = (self.state.id(), self.leader());
        let membership = self.state.log.membership();
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader { leader: leader_known });
        };
        if to == own {
            return Ok(());
        }
        if !self.state.may_succeed(to) {
            return Err(match membership.contains(to) {
                true => TransferError::NotAVoter { node: to },
                false => TransferError::Stranger { node: to },
            });
        }
        if leader.peer(to).is_some_and(|peer| peer.is_convalescent()) {
            return Err(TransferError::Convalescent { node: to });
        }
        if leader.transfer_to() != Some(to) {
            log::info!("node {own} hands leadership to node {to}");
            leader.transfer = Some(Transfer { to, asked_tick: leader.ticks });
            leader.lease.void();
        }
        self.go_on_with_transfer();
        Ok(())
    }

    /// Begins to hand leadership to the voter that is furthest, if any answers. Returns to whom.
    pub(crate) fn hand_over(&mut self) -> Option<NodeId> {
        let to = self.furthest_voter()?;
        self.transfer_leadership(to).ok().map(|()| to)
    }

    /// Of the other voters that could lead, the one with the longest log.
    pub(crate) fn furthest_voter(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let could_lead = leader.peers.iter().filter(|peer| could_lead(&self.state, leader, peer));
        could_lead.max_by_key(|peer| peer.progress.match_index()).map(|peer| peer.id)
    }

    /// Tells the chosen node to campaign, if it has the whole log.
    pub(crate) fn go_on_with_transfer(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(to) = leader.transfer_to() else { return };
        let last = self.state.log.last_index();
        if leader.peer(to).is_some_and(|peer| peer.progress.match_index() == last) {
            let request = self.state.request(to, Body::TimeoutNow);
            self.state.send_now(request);
        }
    }

    /// The process of `peer` is gone: leadership cannot be handed to it.
    pub(crate) fn successor_gone(&mut self, peer: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(peer) = leader.peer(peer) {
            peer.progress.gone();
        }
        leader.transfer.take_if(|transfer| transfer.to == peer);
    }

    /// A tick has passed: a transfer that takes longer than an election is given up.
    pub(crate) fn check_transfer(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (now, ticks_max) = (leader.ticks, u64::from(self.state.config.election_ticks_max));
        if let Some(Transfer { to, .. }) =
            leader.transfer.take_if(|transfer| now - transfer.asked_tick >= ticks_max)
        {
            log::warn!("node {to} has not taken over within an election timeout; the leader goes on");
        }
    }

    /// A tick has passed: if it is time, leadership goes to a voter that should rather lead and has all that is committed.
    pub(crate) fn make_room_for_preferred(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let ticks_max = self.state.config.election_ticks_max;
        if leader.ticks - leader.preference_tick < PREFERENCE_TIMEOUTS * u64::from(ticks_max) {
            return;
        }
        leader.preference_tick = leader.ticks;
        let (leader, log, config) = (&*leader, &self.state.log, &self.state.config);
        let is_quiet = leader.transfer.is_none()
            && log.committed() >= leader.term_start
            && log.membership_index() <= log.committed();
        let caught_up = leader.peers.iter().filter(|peer| {
            could_lead(&self.state, leader, peer) && peer.progress.match_index() >= log.committed()
        });
        let preferred = caught_up.map(|peer| peer.id).max_by_key(|peer| config.priority(*peer));
        let own = config.priority(config.node_id);
        if let Some(to) = preferred.filter(|to| is_quiet && config.priority(*to) > own) {
            log::info!("node {to} should rather lead than node {}", config.node_id);
            // It is a voter of this leader's: nothing stands in the way.
            let _ = self.transfer_leadership(to);
        }
    }

    /// The leader of this term asks this follower to campaign.
    pub(crate) fn told_to_campaign(&mut self, message: &Message) {
        if !self.state.is_voter() || self.state.is_convalescent() {
            return log::warn!("node {} wants this node to lead, which has no vote here", message.from);
        }
        self.campaign(Round::Transfer, Reason::Transferred { from: message.from });
    }
}

/// Whether a peer of this leader could take over from it, given the log: a voter that answers, and whose word counts.
fn could_lead(state: &State, leader: &Leader, peer: &Peer) -> bool {
    state.may_succeed(peer.id)
        && peer.progress.is_active(leader.ticks, state.config.election_ticks_max)
        && !peer.progress.is_gone()
        && !peer.is_convalescent()
}
