//! ReadIndex: linearizable reads without a log entry (dissertation §6.4).
//!
//! A round asks a majority "am I still your leader?", and covers every read that had arrived when it began, this node's
//! own and those that its followers ask for. One round of reads flies at a time; reads that come meanwhile share the
//! next. An answer to a round that began before a read arrived proves nothing for that read. Before an entry of its own
//! term is committed a leader does not know what is, so reads wait. Every read that was taken on leaves once: confirmed,
//! or refused when the leader steps down.
//!
//! Each heartbeat is a round as well, also when nothing is read: what it proves holds for others (`lease`, `freshness`).

use std::time::Duration;

use crate::error::{Limit, ReadError};
use crate::message::{Body, Message, Stamp};
use crate::planted;
use crate::raft::{Raft, Role};
use crate::ready::{ReadOutcome, ReadState};
use crate::types::{Index, NodeId, ReplyToken};

/// Who is told what became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The driver of this node, by its own number.
    Own { context: u64 },
    /// A follower, which serves reads of its own with the index.
    Peer { node: NodeId, token: ReplyToken, context: u64 },
}

/// The round that is under way.
#[derive(Debug)]
struct Flight {
    askers: Vec<Asker>,
    /// The commit index when the round began; the reads must see all of it.
    read_index: Index,
    /// When it began, if the driver has a clock.
    begun_at: Option<Duration>,
    acknowledged_by: Vec<NodeId>,
    /// Of those, who keeps the rule of leases.
    kept_by: Vec<NodeId>,
}

/// What a confirmed round has proved: at `begun_at` this node led, and all that was committed lay at or below `read_index`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) begun_at: Option<Duration>,
    pub(crate) read_index: Index,
    /// Those who confirmed it, this node counted, are a majority that keeps the rule of leases.
    pub(crate) is_kept: bool,
}

/// The reads a leader has taken on.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that no round covers yet.
    waiting: Vec<Asker>,
    flight: Option<Flight>,
    /// The number of the newest round, counted within this leadership.
    newest_round: u64,
}

impl Reads {
    /// What heartbeats carry.
    pub(crate) fn newest_round(&self) -> u64 {
        self.newest_round
    }

    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.askers.len())
    }

    /// Whether no read waits for the round that is under way, so that another may take its place.
    fn is_open(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| flight.askers.is_empty())
    }

    /// A peer answered a heartbeat that carried this round; older rounds prove nothing for this one's reads.
    pub(crate) fn acknowledged(&mut self, from: NodeId, round: u64, stamp: Stamp) {
        let newest = self.newest_round;
        if let Some(flight) = self
            .flight
            .as_mut()
            .filter(|_| round == newest || planted::is("read-confirmed-by-an-earlier-round"))
            && !flight.acknowledged_by.contains(&from)
        {
            flight.acknowledged_by.push(from);
            if stamp.keeps_lease {
                flight.kept_by.push(from);
            }
        }
    }

    /// Takes every read out, with what becomes of it when this leadership ends.
    pub(crate) fn end(&mut self, leader: Option<NodeId>) -> Vec<(Asker, ReadOutcome)> {
        let flight = self.flight.take();
        let outcome = match &flight {
            Some(flight) if planted::is("reads-of-a-lost-leadership-confirmed") => {
                ReadOutcome::Confirmed(flight.read_index)
            }
            _ => ReadOutcome::Refused { leader },
        };
        let flying = flight.map_or_else(Vec::new, |flight| flight.askers);
        flying.into_iter().chain(self.waiting.drain(..)).map(|asker| (asker, outcome)).collect()
    }
}

impl Raft {
    /// Takes a read on; its outcome is in a later Ready.
    pub(crate) fn read_index(&mut self, asker: Asker) -> Result<(), ReadError> {
        let leader_known = self.leader();
        let Role::Leader(leader) = &mut self.role else {
            return Err(ReadError::NotLeader { leader: leader_known });
        };
        if leader.reads.pending() >= self.state.config.reads_pending_max {
            return Err(ReadError::Busy { limit: Limit::PendingReads });
        }
        leader.reads.waiting.push(asker);
        Ok(())
    }

    /// Whether the waiting reads may begin their round.
    pub(crate) fn read_round_is_due(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        !leader.reads.waiting.is_empty() && leader.reads.is_open() && self.knows_what_is_committed()
    }

    /// Whether an entry of this leader's own term is committed.
    fn knows_what_is_committed(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.state.log.committed() >= leader.term_start || planted::is("read-before-own-term-commit")
    }

    /// Begins the next round, if one is due, with all reads that wait.
    pub(crate) fn begin_read_round(&mut self) {
        if self.read_round_is_due() {
            self.begin_round();
            self.send_heartbeats();
            self.confirm_reads();
        }
    }

    /// A heartbeat leaves: a round of its own, or, if one is still under way, that one once more.
    pub(crate) fn beat(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.reads.flight.is_none() && self.knows_what_is_committed() {
            self.begin_round();
        }
        self.send_heartbeats();
        self.confirm_reads();
    }

    /// What is sent from now on belongs to the next round.
    fn begin_round(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        reads.newest_round += 1;
        reads.flight = Some(Flight {
            askers: std::mem::take(&mut reads.waiting),
            read_index: self.state.log.committed(),
            begun_at: self.state.now,
            acknowledged_by: Vec::with_capacity(leader.peers.len()),
            kept_by: Vec::with_capacity(leader.peers.len()),
        });
        leader.peers.iter_mut().for_each(|peer| peer.stamps.round_begins());
    }

    /// Lets the round's reads go if a majority, this node counted, has answered it.
    pub(crate) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (membership, own) = (self.state.log.membership(), self.state.config.node_id);
        let confirmed = leader.reads.flight.take_if(|flight| {
            planted::is("read-without-a-round")
                || membership.is_quorum(|voter| voter == own || flight.acknowledged_by.contains(&voter))
        });
        let Some(Flight { askers, read_index, begun_at, kept_by, .. }) = confirmed else { return };
        let is_kept = membership.is_quorum(|voter| voter == own || kept_by.contains(&voter));
        self.proved(Proof { begun_at, read_index, is_kept });
        let outcome = ReadOutcome::Confirmed(read_index);
        self.tell_askers(askers.into_iter().map(|asker| (asker, outcome)));
    }

    /// What follows from a confirmed round for those who asked for nothing.
    fn proved(&mut self, proof: Proof) {
        self.renew_lease(proof);
        self.note_freshness(proof);
    }

    /// Says what became of reads: to the driver in the next Ready, to followers by a message.
    pub(crate) fn tell_askers(&mut self, ended: impl IntoIterator<Item = (Asker, ReadOutcome)>) {
        for (asker, outcome) in ended {
            match asker {
                Asker::Own { context } => self.state.out.read_states.push(ReadState { context, outcome }),
                Asker::Peer { node, token, context } => {
                    let read_index = match outcome {
                        ReadOutcome::Confirmed(index) => Some(index),
                        ReadOutcome::Refused { .. } => None,
                    };
                    let body = Body::ReadIndexReply { context, read_index };
                    let answer = Message { token, ..self.state.request(node, body) };
                    self.state.send_now(answer);
                }
            }
        }
    }
}
