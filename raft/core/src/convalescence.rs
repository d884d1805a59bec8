//! A node that has lost a part of its log which it had acknowledged, and its way back.
//!
//! Its term and vote are whole: they are kept twice. What is missing are entries that may be committed because this node
//! said that it had them. Until it has them again it is *convalescent*: it gives no vote and asks for none, and what it
//! acknowledges counts for no majority. So it cannot help anybody to lead who lacks what it lost, and it behaves to the
//! others like a voter that is not heard.
//!
//! Every answer to its leader says so, with a number drawn at its start. The leader takes back what the node had
//! acknowledged to it, and notes where its own log ends at that moment. Everything the node ever acknowledged and that
//! may be committed lies at or before that place: what earlier terms committed, because the leader was elected by a
//! majority of others who count; what this term did, because it came from this leader's log. When the node has durably
//! all of it, the leader tells it that it has *healed*, and it takes part like any other.
//!
//! The numbers of losses have no order, and what a node said in an earlier life may come late: a leader cannot tell by
//! what it hears whether the loss is over, still to come, or another. So it asks, with a number of its own for each loss
//! it hears of, and only the answer to that one shows that the node was well *after* it was said to be ill. Until then
//! nothing else that the node says counts.
//!
//! If so many are convalescent that the others make up no majority, nobody is elected: what they lost may be committed,
//! and no single copy is trusted to be all of it.

use rand::Rng;

use crate::leader::Peer;
use crate::message::{AppendOutcome, Body, Message};
use crate::planted;
use crate::progress::Progress;
use crate::raft::{Raft, Role, State};
use crate::types::{EntryId, Index, NodeId};

/// A convalescent follower, as its leader sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convalescence {
    /// Tells this one from those of other starts.
    id: u64,
    /// Where the leader's log ended when it heard of it.
    through: EntryId,
    /// Tells the leader's question about it from those about others.
    inquiry: u64,
    /// The heartbeat interval in which it was last asked.
    asked_beat: Option<u64>,
    /// The follower has answered that question. What it said before may still come, late, and is no other loss.
    is_over: bool,
}

impl Peer {
    /// Whether it counts for nothing.
    pub(crate) fn is_convalescent(&self) -> bool {
        self.convalescence.is_some_and(|known| !known.is_over)
    }

    /// What is open between it and its leader; none if it counts.
    fn open_convalescence(&mut self) -> Option<&mut Convalescence> {
        self.convalescence.as_mut().filter(|known| !known.is_over)
    }
}

impl State {
    /// Whether this node has lost what it had acknowledged.
    pub(crate) fn is_convalescent(&self) -> bool {
        self.convalescence.is_some()
    }

    /// What a convalescent node makes of its answer to an append.
    pub(crate) fn as_convalescent(&self, outcome: AppendOutcome, prev_index: Index) -> AppendOutcome {
        let Some(id) = self.convalescence.filter(|_| !planted::is("damaged-node-acknowledges-early")) else {
            return outcome;
        };
        match outcome {
            AppendOutcome::Accepted { match_index } => {
                let (matched, hint) = (Some(match_index), EntryId::ZERO);
                AppendOutcome::Convalescent { id, matched, hint, prev_index }
            }
            AppendOutcome::Rejected { hint, prev_index } => {
                AppendOutcome::Convalescent { id, matched: None, hint, prev_index }
            }
            other => other,
        }
    }

    /// What answers a heartbeat of its leader: it tells a leader that sends nothing else, too.
    pub(crate) fn convalescent_sign_of_life(&self) -> Option<Body> {
        let id = self.convalescence?;
        let (matched, hint, prev_index) = (None, self.log.last(), Index::ZERO);
        Some(Body::AppendEntriesReply(AppendOutcome::Convalescent { id, matched, hint, prev_index }))
    }
}

impl Raft {
    /// This node has lost a part of its log that it had acknowledged.
    pub(crate) fn convalesce(&mut self) {
        let id = self.state.rng.next_u64() | 1;
        self.state.convalescence = Some(id);
        log::warn!(
            "node {} takes no part in votes and majorities until its log is repaired",
            self.state.id()
        );
    }

    /// The leader says that this node has everything again.
    pub(crate) fn told_of_health(&mut self, message: &Message) {
        let Body::Heal { id, through, inquiry } = message.body else {
            unreachable!("only this word of the leader is routed here");
        };
        self.heed_leader(message.from);
        let state = &mut self.state;
        let log = &state.log;
        let is_durable = log.persisted() >= through.index || planted::is("healed-before-the-sync");
        // What is committed here is the leader's, too, also where a snapshot has taken its place.
        let has_all = is_durable && (log.contains(through) || log.committed() >= through.index);
        if state.convalescence == Some(id) && has_all {
            state.convalescence = None;
            state.out.healed = true;
            log::info!("node {}: its log is repaired up to {through}; it takes part again", state.id());
        }
        let healthy = Body::AppendEntriesReply(AppendOutcome::Healthy { inquiry });
        let answer = state.answer(message, state.convalescent_sign_of_life().unwrap_or(healthy));
        state.send_after_persist(answer);
    }

    /// Asks a follower that has said that it lost something, and has not said since that it is well: what else it says may be
    /// of an earlier life. It is asked by the interval, not by the answer: rounds of reads bring many answers in one interval,
    /// and its own waits for its disk. Returns whether it is such a follower.
    pub(crate) fn inquire(&mut self, from: NodeId) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let beat = leader.beats;
        let Some(known) = leader.peer(from).and_then(|peer| peer.open_convalescence()) else { return false };
        if known.asked_beat.replace(beat) != Some(beat) {
            let Convalescence { id, through, inquiry, .. } = *known;
            let inquiry = self.state.request(from, Body::Heal { id, through, inquiry });
            self.state.send_now(inquiry);
        }
        true
    }

    /// A follower says that it is not convalescent.
    pub(crate) fn healthy_answered(&mut self, from: NodeId, inquiry: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let known = leader.peer(from).and_then(|peer| peer.open_convalescence());
        let Some(known) = known.filter(|known| known.inquiry == inquiry) else { return };
        known.is_over = true;
        log::info!("node {from} counts again: its log is whole");
        self.advance_commit();
    }

    /// A convalescent follower answered.
    pub(crate) fn convalescent_answered(&mut self, from: NodeId, outcome: AppendOutcome) {
        let AppendOutcome::Convalescent { id, matched, hint, prev_index } = outcome else {
            unreachable!("only its own answers are routed here");
        };
        let Role::Leader(leader) = &mut self.role else { return };
        let (now, beat) = (leader.ticks, leader.beats);
        let Some(peer) = leader.peer(from) else { return };
        let log = &self.state.log;
        if peer.convalescence.is_none_or(|known| known.id != id) {
            log::warn!(
                "node {from} has lost a part of its log; it counts for nothing until it has everything again"
            );
            let meeting = || log.last_no_later_than(hint.index, hint.term).map_or(Index::ZERO, |id| id.index);
            let next = matched.unwrap_or_else(meeting).min(log.last_index()).next();
            peer.progress = Progress::new(&self.state.config, next);
            peer.progress.heard(now);
            let through = match planted::is("repair-that-trusts-one-copy") {
                true => log.term_at(Index(1)).map_or(EntryId::ZERO, |term| EntryId { term, index: Index(1) }),
                false => log.last(),
            };
            self.state.losses_heard += 1;
            let (inquiry, asked_beat) = (self.state.losses_heard, None);
            peer.convalescence = Some(Convalescence { id, through, inquiry, asked_beat, is_over: false });
            return;
        }
        match matched {
            Some(index) if index > log.last_index() => {
                return log::error!("node {from} acknowledges {index}, which does not exist; ignored");
            }
            Some(index) => {
                peer.progress.accepted(index, log.base().index);
            }
            None if prev_index == Index::ZERO => {
                peer.heartbeat_answered(now, beat, self.state.config.snapshot_ticks_max);
            }
            None => {
                if peer.progress.refusal_is_current(prev_index) {
                    peer.progress.probe(crate::replication::next_probe(&self.state, hint, prev_index));
                }
            }
        }
        let has = peer.progress.match_index();
        let has_all = |known: Convalescence| has >= known.through.index;
        if peer.convalescence.is_some_and(has_all) || planted::is("healed-before-the-sync") {
            self.inquire(from);
        }
    }
}
