//! ReadIndex: linearizable reads without a log entry (dissertation §6.4).
//!
//! A round asks a majority "am I still your leader?", and covers every read that had arrived when it began. One round
//! flies at a time; reads that come meanwhile share the next. An answer to a round that began before a read arrived
//! proves nothing for that read. Before an entry of its own term is committed a leader does not know what is, so reads
//! wait. Every read that was taken on leaves once: confirmed, or refused when the leader steps down.

use crate::error::{Limit, ReadError};
use crate::message::Body;
use crate::planted;
use crate::raft::{Raft, Role};
use crate::ready::{ReadOutcome, ReadState};
use crate::types::{Index, NodeId};

/// The round that is under way.
#[derive(Debug)]
struct Flight {
    contexts: Vec<u64>,
    /// The commit index when the round began; the reads must see all of it.
    read_index: Index,
    acknowledged_by: Vec<NodeId>,
}

/// The reads a leader has taken on.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that no round covers yet.
    waiting: Vec<u64>,
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
        self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.contexts.len())
    }

    /// A peer answered a heartbeat that carried this round; older rounds prove nothing for this one's reads.
    pub(crate) fn acknowledged(&mut self, from: NodeId, round: u64) {
        let newest = self.newest_round;
        if let Some(flight) = self
            .flight
            .as_mut()
            .filter(|_| round == newest || planted::is("read-confirmed-by-an-earlier-round"))
            && !flight.acknowledged_by.contains(&from)
        {
            flight.acknowledged_by.push(from);
        }
    }

    /// Every read leaves as refused.
    pub(crate) fn refuse_all(&mut self, leader: Option<NodeId>, out: &mut Vec<ReadState>) {
        let flight = self.flight.take();
        let outcome = match &flight {
            Some(flight) if planted::is("reads-of-a-lost-leadership-confirmed") => {
                ReadOutcome::Confirmed(flight.read_index)
            }
            _ => ReadOutcome::Refused { leader },
        };
        let flying = flight.map_or_else(Vec::new, |flight| flight.contexts);
        let refused = flying.into_iter().chain(self.waiting.drain(..));
        out.extend(refused.map(|context| ReadState { context, outcome }));
    }
}

impl Raft {
    /// Takes a read on; its outcome is in a later Ready.
    pub(crate) fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        let leader_known = self.leader();
        let Role::Leader(leader) = &mut self.role else {
            return Err(ReadError::NotLeader { leader: leader_known });
        };
        if leader.reads.pending() >= self.state.config.reads_pending_max {
            return Err(ReadError::Busy { limit: Limit::PendingReads });
        }
        leader.reads.waiting.push(context);
        Ok(())
    }

    /// Whether the waiting reads may begin their round.
    pub(crate) fn read_round_is_due(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let reads = &leader.reads;
        reads.flight.is_none()
            && !reads.waiting.is_empty()
            && (self.state.log.committed() >= leader.term_start || planted::is("read-before-own-term-commit"))
    }

    /// Begins the next round, if one is due, with all reads that wait.
    pub(crate) fn begin_read_round(&mut self) {
        if !self.read_round_is_due() {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let read_index = self.state.log.committed();
        let contexts = std::mem::take(&mut leader.reads.waiting);
        let acknowledged_by = Vec::with_capacity(leader.peers.len());
        leader.reads.newest_round += 1;
        leader.reads.flight = Some(Flight { contexts, read_index, acknowledged_by });
        let read_context = leader.reads.newest_round;
        for peer in &leader.peers {
            let leader_commit = read_index.min(peer.progress.match_index());
            let heartbeat = self.state.request(peer.id, Body::Heartbeat { leader_commit, read_context });
            self.state.send_now(heartbeat);
        }
        self.confirm_reads();
    }

    /// Lets the round's reads go if a majority, this node counted, has answered it.
    pub(crate) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (membership, own) = (self.state.log.membership(), self.state.config.node_id);
        let confirmed = leader.reads.flight.take_if(|flight| {
            planted::is("read-without-a-round")
                || membership.is_quorum(|voter| voter == own || flight.acknowledged_by.contains(&voter))
        });
        if let Some(Flight { contexts, read_index, .. }) = confirmed {
            let outcome = ReadOutcome::Confirmed(read_index);
            let states = contexts.into_iter().map(|context| ReadState { context, outcome });
            self.state.out.read_states.extend(states);
        }
    }
}
