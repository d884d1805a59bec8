//! How old the state of a node is at most, for reads that may be stale by a bound.
//!
//! "A leader was heard just now" proves nothing: that leader may have been replaced long ago. What does is a round that a
//! majority has confirmed: when it *began*, all that was committed lay at or below its index. The leader knows when that
//! was by its own clock. A follower must know it by its own, so each answer to a heartbeat carries a stamp, the moment
//! at which it left; when a round begins, the leader notes the newest stamp of each peer, and when it is confirmed, the next
//! heartbeat brings that stamp back with the round's index. The round began after the answer had arrived, so at the stamped
//! moment nothing beyond the index had been committed and acknowledged. Clocks of two nodes are never compared.
//!
//! A stamp is the time since a point that each life of a node draws at random: one that an earlier life sent, or one of
//! nonsense, almost surely lies in this life's future, and is not looked at.

use std::time::Duration;

use crate::message::{Fresh, Stamp};
use crate::raft::{Raft, Role, State};
use crate::read_index::Proof;
use crate::types::Index;

/// What is known about how old a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// So long ago, by this node's clock …
    pub age: Duration,
    /// … all that had been committed and acknowledged lay at or below this place.
    pub index: Index,
}

/// The stamps of one peer, as its leader keeps them; 0 is none.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    newest: u64,
    /// The newest when the round began that is under way.
    at_round: u64,
    /// That of the newest confirmed round, with its index.
    proved: Option<Fresh>,
}

impl Stamps {
    /// An answer came.
    pub(crate) fn heard(&mut self, stamp: Stamp) {
        if stamp.at != 0 {
            self.newest = stamp.at;
        }
    }

    pub(crate) fn round_begins(&mut self) {
        self.at_round = self.newest;
    }

    fn round_confirmed(&mut self, index: Index) {
        if self.at_round != 0 {
            self.proved = Some(Fresh { stamp: self.at_round, index });
        }
    }

    /// What the peer is told with the next heartbeat.
    pub(crate) fn proved(&self) -> Option<Fresh> {
        self.proved
    }
}

impl State {
    /// What this node's answers to heartbeats carry.
    pub(crate) fn stamp(&self) -> Stamp {
        let at = self.now.map_or(0, |now| self.life.wrapping_add(microseconds(now)));
        Stamp { at, keeps_lease: self.config.lease.is_some() }
    }

    /// A heartbeat brought a stamp of this node back.
    pub(crate) fn note_fresh(&mut self, fresh: Fresh) {
        let moment = Duration::from_micros(fresh.stamp.wrapping_sub(self.life));
        if self.now.is_some_and(|now| moment <= now) {
            self.freshest(moment, fresh.index);
        }
    }

    fn freshest(&mut self, moment: Duration, index: Index) {
        if self.fresh.is_none_or(|(known, _)| moment > known) {
            self.fresh = Some((moment, index));
        }
    }
}

impl Raft {
    /// A round is confirmed: of this node's own state it proves the same.
    pub(crate) fn note_freshness(&mut self, proof: Proof) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.peers.iter_mut().for_each(|peer| peer.stamps.round_confirmed(proof.read_index));
        if let Some(begun_at) = proof.begun_at {
            self.state.freshest(begun_at, proof.read_index);
        }
    }

    /// See [`Freshness`]; none before the first proof.
    pub(crate) fn freshness(&self) -> Option<Freshness> {
        let (now, (moment, index)) = (self.state.now?, self.state.fresh?);
        Some(Freshness { age: now.saturating_sub(moment), index })
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
