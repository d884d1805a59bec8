//! Changes of the membership: one at a time, by joint consensus (§6 of the paper; dissertation §4.3).
//!
//! The leader appends a membership of two majorities; when that is committed, the one it leads to. Each is in effect as
//! soon as it is in a log. A leader begins no change before an entry of its own term is committed: without that, two
//! leaders in a row could each change the same membership and commit with majorities that do not meet (erratum to the
//! dissertation's single-server changes, 2015). Who becomes a voter has listened and caught up before, so that the
//! change does not stop the writes. A leader which is no voter after the change leads until the change is committed,
//! does not count itself, and makes room.

use crate::catch_up::CatchUp;
use crate::entry::{Entry, Payload};
use crate::error::ChangeError;
use crate::freshness::Stamps;
use crate::leader::Peer;
use crate::membership::{LEARNERS_MAX, Membership, VOTERS_MAX};
use crate::message::Body;
use crate::planted;
use crate::progress::Progress;
use crate::raft::{Raft, Role};
use crate::status::Reason;
use crate::types::{EntryId, Index, NodeId};

impl Raft {
    /// Begins a change to the voters, learners and context of `target`. Returns the entry with which it begins, or none
    /// if nothing is to be changed.
    pub(crate) fn change_membership(&mut self, target: Membership) -> Result<Option<EntryId>, ChangeError> {
        self.check_may_change()?;
        let Membership { voters, learners, context, .. } = target;
        let target = Membership { context, ..Membership::new(voters).with_learners(learners) };
        check_counts(&target)?;
        if target == *self.state.membership() {
            return Ok(None);
        }
        self.check_voters(&target)?;
        let next = self.state.membership().towards(&target);
        let id = self.append_membership(next);
        if planted::is("joint-left-before-it-is-committed") {
            self.go_on_with_change();
        }
        Ok(Some(id))
    }

    /// Whether this node may begin a change, whatever it is.
    fn check_may_change(&self) -> Result<(), ChangeError> {
        let log = &self.state.log;
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeError::NotLeader { leader: self.leader() });
        };
        if let Some(to) = leader.transfer_to() {
            return Err(ChangeError::Transferring { to });
        }
        if log.committed() < leader.term_start && !planted::is("membership-before-own-term-commit") {
            return Err(ChangeError::TooEarly);
        }
        if log.membership().is_joint() || log.membership_index() > log.committed() {
            return Err(ChangeError::Pending);
        }
        Ok(())
    }

    /// Whether those who would vote from now on can: the new ones keep up, and a majority answers.
    fn check_voters(&self, target: &Membership) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        let (own, timeout) = (self.state.id(), self.state.config.election_ticks_max);
        let current = self.state.membership();
        if target.voters == current.voters {
            return Ok(());
        }
        let peer = |node: NodeId| leader.peers.iter().find(|peer| peer.id == node);
        for node in target.voters.iter().copied().filter(|node| !current.is_voter(*node)) {
            let Some(learner) = peer(node).filter(|_| current.contains(node)) else {
                return Err(ChangeError::NotALearner { node });
            };
            let is_close = learner.catch_up.as_ref().is_some_and(|it| it.is_caught_up(leader.ticks, timeout));
            if !is_close || !learner.progress.is_active(leader.ticks, timeout) {
                let missing = self.state.log.last_index().distance_from(learner.progress.match_index());
                return Err(ChangeError::NotCaughtUp { node, missing });
            }
        }
        let answers = |node| {
            node == own || peer(node).is_some_and(|peer| peer.progress.is_active(leader.ticks, timeout))
        };
        if !target.is_quorum(answers) {
            let answering = target.voters.iter().filter(|voter| answers(**voter)).count();
            return Err(ChangeError::WouldLoseQuorum { answering, voters: target.voters.len() });
        }
        Ok(())
    }

    /// Appends the entry; from now on it is in effect.
    fn append_membership(&mut self, membership: Membership) -> EntryId {
        let state = &mut self.state;
        let id = EntryId { term: state.term, index: state.log.last_index().next() };
        state.log.push(Entry {
            term: id.term,
            index: id.index,
            payload: Payload::Membership(Box::new(membership)),
        });
        self.know_members(id.index);
        // Those whose answers the reads waited for may not be asked any more.
        self.confirm_reads();
        id
    }

    /// Makes the leader's list of peers that of the membership in effect; a new one is first sent what is at `next_index`.
    pub(crate) fn know_members(&mut self, next_index: Index) {
        let Role::Leader(leader) = &mut self.role else { return };
        let state = &self.state;
        let (membership, own) = (state.membership(), state.config.node_id);
        let (last, now) = (state.log.last_index(), leader.ticks);
        let mut known = std::mem::take(&mut leader.peers);
        for id in membership.nodes().into_iter().filter(|node| *node != own) {
            let before = known.iter().position(|peer| peer.id == id).map(|place| known.swap_remove(place));
            let peer = before.unwrap_or_else(|| Peer {
                id,
                progress: Progress::new(&state.config, next_index),
                catch_up: None,
                stamps: Stamps::default(),
                convalescence: None,
            });
            let catch_up = match (membership.is_voter(id), peer.catch_up) {
                (true, _) => None,
                (false, Some(catch_up)) => Some(catch_up),
                (false, None) => Some(CatchUp::begin(last, now)),
            };
            leader.peers.push(Peer { catch_up, ..peer });
        }
    }

    /// More is committed: a change that waited for it goes on. Nothing is known of a change before this term's first
    /// entry is committed.
    pub(crate) fn go_on_with_change(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let log = &self.state.log;
        let membership = log.membership();
        let is_committed = log.membership_index() <= log.committed();
        if log.committed() < leader.term_start
            || !(is_committed || planted::is("joint-left-before-it-is-committed"))
        {
            return;
        }
        if membership.is_joint() {
            self.append_membership(membership.after_the_change());
        } else if is_committed && !membership.is_voter(self.state.id()) {
            self.make_room();
        }
    }

    /// Leads no longer because it may not, and asks the voter that is furthest to begin an election at once.
    fn make_room(&mut self) {
        if let Some(to) = self.furthest_voter() {
            let request = self.state.request(to, Body::TimeoutNow);
            self.state.send_now(request);
        }
        self.become_follower(self.state.term, None, Reason::NotAVoter);
    }

    /// Whether whoever asks with a log that ends at `last` has been removed: it is no member as of what is committed
    /// here, and that is further than its log, by length or by term. By its own log it was one, else it would not ask;
    /// and who was taken in again has the committed entry that did it, which then is here, too.
    pub(crate) fn was_removed(&self, node: NodeId, last: EntryId) -> bool {
        let log = &self.state.log;
        let committed = log.committed();
        let is_behind =
            last.index <= committed || log.term_at(committed).is_some_and(|term| last.term < term);
        let then = log.membership_at(committed);
        is_behind
            && then.is_some_and(|then| !then.contains(node) && !then.voters.is_empty())
            && !log.membership().contains(node)
    }
}

fn check_counts(target: &Membership) -> Result<(), ChangeError> {
    let (voters, learners) = (target.voters.len(), target.learners.len());
    if voters == 0 || voters > VOTERS_MAX {
        return Err(ChangeError::VoterCount { voters, voters_max: VOTERS_MAX });
    }
    if learners > LEARNERS_MAX {
        return Err(ChangeError::LearnerCount { learners, learners_max: LEARNERS_MAX });
    }
    match target.learners.iter().find(|node| target.voters.contains(node)) {
        Some(node) => Err(ChangeError::BothAtOnce { node: *node }),
        None => Ok(()),
    }
}
