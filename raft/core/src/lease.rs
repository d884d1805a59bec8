//! Lease reads: for a while after a round, no round is needed (dissertation §6.4.1).
//!
//! Whoever answers a heartbeat gives no vote for the shortest election timeout, whatever it hears; so, from the moment a
//! round was *begun* that a majority answered, nobody else can be elected for so long, and this leader's commit index is
//! the newest there is. The time is the driver's, of a clock that counts while the machine sleeps, and is looked at for
//! each read: a tick could come late. [`crate::Config::lease`] is shorter than the followers' promise by what two clocks
//! may differ. Off unless it is set, and then on every node.
//!
//! The rule a node keeps in return: no vote and no pre-vote, not for itself either, within the shortest election timeout of
//! a heartbeat, of its own start (it may have promised just before), or on the word that the leader's process is gone. Only a transfer
//! overrules that; so a leader that has begun one in this term trusts no lease any more: its order may be obeyed late.
//!
//! A lease counts only under the membership in which it was confirmed: another one elects by other majorities.

use std::time::Duration;

use crate::error::ReadError;
use crate::planted;
use crate::raft::{Raft, Role};
use crate::read_index::{Asker, Proof};
use crate::ready::{ReadOutcome, ReadState};

/// What a leader knows of its lease.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// When the newest confirmed round began, and which membership confirmed it.
    confirmed: Option<(Duration, u64)>,
    /// A transfer was begun in this term.
    is_void: bool,
}

impl Lease {
    /// From now on somebody else may be elected at any time.
    pub(crate) fn void(&mut self) {
        self.is_void = !planted::is("lease-kept-through-a-transfer");
    }
}

impl Raft {
    /// Takes a read on that a lease may serve at once; without one it waits for a round like any other.
    pub(crate) fn lease_read(&mut self, context: u64) -> Result<(), ReadError> {
        if !self.lease_holds() {
            return self.read_index(Asker::Own { context });
        }
        let outcome = ReadOutcome::Confirmed(self.state.log.committed());
        self.state.out.read_states.push(ReadState { context, outcome });
        Ok(())
    }

    /// Whether nobody else can have been elected up to the moment that the driver named last.
    pub(crate) fn lease_holds(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (Some(length), Some(now)) = (self.state.config.lease, self.state.now) else { return false };
        let Some((begun_at, memberships)) = leader.lease.confirmed else { return false };
        let now = match planted::is("lease-kept-over-a-pause") {
            true => self.state.ticked_at.unwrap_or(now),
            false => now,
        };
        !leader.lease.is_void
            && memberships == self.state.log.membership_changes()
            && now.saturating_sub(begun_at) < length
    }

    /// A round is confirmed.
    pub(crate) fn renew_lease(&mut self, proof: Proof) {
        let Role::Leader(leader) = &mut self.role else { return };
        let begun_at = match planted::is("lease-counted-from-the-answer") {
            true => self.state.now,
            false => proof.begun_at,
        };
        if let Some(begun_at) = begun_at.filter(|_| proof.is_kept) {
            leader.lease.confirmed = Some((begun_at, self.state.log.membership_changes()));
        }
    }
}
