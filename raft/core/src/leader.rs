//! The leader: what it alone keeps, how it begins and ends, and its heartbeats.
//!
//! It begins with a no-op of its own term, which commits whatever earlier terms left (§5.4.2, §8). It ends when it
//! hears of a later term, or when for an election timeout no majority has answered it (CheckQuorum, dissertation §6.2):
//! a leader that cannot commit must not keep clients waiting. It never removes or replaces an entry of its own log.

use crate::catch_up::CatchUp;
use crate::convalescence::Convalescence;
use crate::entry::{Entry, Payload};
use crate::freshness::Stamps;
use crate::lease::Lease;
use crate::message::{Body, Message, Stamp};
use crate::planted;
use crate::progress::Progress;
use crate::raft::{Raft, Role};
use crate::read_index::Reads;
use crate::status::Reason;
use crate::transfer::Transfer;
use crate::types::{Index, NodeId};

/// One other member, as the leader sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) progress: Progress,
    /// The rounds of a learner; a voter has none.
    pub(crate) catch_up: Option<CatchUp>,
    /// When it answered, by its own clock.
    pub(crate) stamps: Stamps,
    /// It has lost what it had acknowledged, and counts for nothing.
    pub(crate) convalescence: Option<Convalescence>,
}

/// What only a leader knows.
#[derive(Debug)]
pub(crate) struct Leader {
    /// All other members, in the order of their numbers.
    pub(crate) peers: Vec<Peer>,
    pub(crate) reads: Reads,
    pub(crate) lease: Lease,
    /// Where this term's no-op lies; nothing is known about what is committed before it is.
    pub(crate) term_start: Index,
    /// Ticks since this leader was elected.
    pub(crate) ticks: u64,
    /// Heartbeat intervals since then.
    pub(crate) beats: u64,
    /// How far this node's own disk was when it last moved or had nothing to do, and at which of `ticks` that was.
    pub(crate) disk: (Index, u64),
    /// The tick at which it was last looked for a node that should rather lead.
    pub(crate) preference_tick: u64,
    /// Leadership is being handed over.
    pub(crate) transfer: Option<Transfer>,
    /// Room for sorting match indexes, kept so that an acknowledgement allocates nothing.
    pub(crate) scratch: Vec<Index>,
}

impl Leader {
    /// The peer of this number; a stranger has none.
    pub(crate) fn peer(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }
}

impl Peer {
    /// Its disk has no room for what it is sent: it is asked again from `next_index` on, ever more rarely, up to `doublings`
    /// times.
    pub(crate) fn lacks_room(&mut self, next_index: Index, beat: u64, doublings: u32) {
        if !self.progress.lacks_room() {
            log::warn!("node {} has no room on its disk for what it is sent", self.id);
        }
        self.progress.no_room(next_index, beat, doublings);
    }

    /// It has answered a heartbeat, so what it does not answer may be lost.
    pub(crate) fn heartbeat_answered(&mut self, now: u64, beat: u64, snapshot_ticks_max: u32) {
        self.progress.heartbeat_answered(beat);
        if self.progress.snapshot_is_overdue(now, snapshot_ticks_max) {
            log::info!("nothing was heard of the snapshot for node {}; it is asked for once more", self.id);
            self.progress.probe_later(beat);
        }
    }
}

impl Raft {
    /// The election is won.
    pub(crate) fn become_leader(&mut self) {
        let state = &mut self.state;
        assert_eq!(state.vote, Some(state.id()), "a leader has voted for itself");
        let first_new = state.log.last_index().next();
        let has_noop = !planted::is("no-noop");
        let noop = Entry { term: state.term, index: first_new, payload: Payload::Noop };
        self.role = Role::Leader(Leader {
            peers: Vec::new(),
            reads: Reads::default(),
            lease: Lease::default(),
            term_start: if has_noop { first_new } else { state.log.last_index() },
            ticks: 0,
            beats: 0,
            disk: (state.log.persisted(), 0),
            preference_tick: 0,
            transfer: None,
            scratch: Vec::new(),
        });
        self.know_members(first_new);
        if has_noop {
            self.state.log.push(noop);
        }
        self.note_change(Reason::ElectionWon);
    }

    /// A message of this leader's term.
    pub(crate) fn step_leader(&mut self, message: Message) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader's messages are routed here");
        };
        // Only who answers this leader shows that it reaches them. Those it does not reach ask for votes.
        let answers = matches!(message.body, Body::AppendEntriesReply(_) | Body::HeartbeatReply { .. });
        let now = leader.ticks;
        if let Some(peer) = leader.peer(message.from).filter(|_| answers) {
            peer.progress.heard(now);
        }
        match message.body {
            Body::RequestVote { .. } => self.answer_vote_request(&message),
            Body::AppendEntriesReply(outcome) => self.append_answered(message.from, outcome),
            Body::HeartbeatReply { read_context, stamp } => {
                self.heartbeat_answered(message.from, read_context, stamp);
            }
            Body::ReadIndex { context } => self.asked_for_read_index(&message, context),
            Body::RequestVoteReply { .. }
            | Body::Removed
            | Body::TimeoutNow
            | Body::ReadIndexReply { .. } => {
                log::trace!("a leader ignores {message}");
            }
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Heal { .. } => {
                log::error!("node {} also claims to lead term {}; ignored", message.from, self.state.term);
            }
        }
    }

    /// Steps down if no majority was heard for an election timeout.
    pub(crate) fn check_quorum(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.ticks += 1;
        let (now, timeout) = (leader.ticks, self.state.config.election_ticks_max);
        let own = self.state.config.node_id;
        let is_heard = |voter| {
            voter == own
                || leader.peers.iter().any(|peer| peer.id == voter && peer.progress.is_active(now, timeout))
        };
        if planted::is("leader-never-steps-down") {
            return;
        }
        if !self.state.membership().is_quorum(is_heard) {
            return self.become_follower(self.state.term, None, Reason::QuorumLost);
        }
        let last = self.state.log.last_index();
        for Peer { progress, catch_up, .. } in &mut leader.peers {
            if let Some(catch_up) = catch_up {
                catch_up.observe(progress.match_index(), last, now, timeout);
            }
        }
        self.check_transfer();
        self.make_room_for_preferred();
        self.check_disk();
    }

    /// Steps down if this node's own disk has not moved for two election timeouts although it has work: its log fills
    /// up unsynced until every write is refused, while another node could lead. One alone has nobody to leave it to.
    fn check_disk(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (persisted, now) = (self.state.log.persisted(), leader.ticks);
        if persisted != leader.disk.0 || persisted >= self.state.log.handed() {
            leader.disk = (persisted, now);
        }
        let patience = 2 * u64::from(self.state.config.election_ticks_max);
        if now - leader.disk.1 >= patience && !self.state.membership().is_alone(self.state.id()) {
            self.become_follower(self.state.term, None, Reason::DiskStalled);
        }
    }

    /// One heartbeat interval has passed: shows every peer that the leader lives, what is committed of what the peer
    /// has, and the newest round of reads, which so survives lost messages.
    pub(crate) fn tick_heartbeat(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.beats += 1;
        self.beat();
        self.go_on_with_transfer();
    }

    /// One heartbeat to everybody, of the newest round.
    pub(crate) fn send_heartbeats(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let state = &mut self.state;
        let (committed, read_context) = (state.log.committed(), leader.reads.newest_round());
        for peer in &leader.peers {
            let has = match planted::is("heartbeat-commits-what-is-not-matched") {
                true => committed,
                false => peer.progress.match_index(),
            };
            let leader_commit = committed.min(has);
            let fresh = peer.stamps.proved();
            let heartbeat = state.request(peer.id, Body::Heartbeat { leader_commit, read_context, fresh });
            state.send_now(heartbeat);
        }
    }

    fn heartbeat_answered(&mut self, from: NodeId, read_context: u64, stamp: Stamp) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (now, beat) = (leader.ticks, leader.beats);
        let Some(peer) = leader.peer(from) else { return };
        peer.heartbeat_answered(now, beat, self.state.config.snapshot_ticks_max);
        peer.stamps.heard(stamp);
        leader.reads.acknowledged(from, read_context, stamp);
        self.inquire(from);
        self.confirm_reads();
    }
}
