//! The follower: does what the leader says, and keeps quiet.
//!
//! It splices what it is sent into its log and acknowledges it only when the disk has it: answers to appends always
//! wait in the writer's order, even those that bring nothing new, because an earlier copy may still be unsynced.
//! Answers to heartbeats promise nothing about the log and leave at once. They do show a term that may not be durable
//! yet; that is safe, since a term which is only seen is a reason to move up, and what must not be forgotten (a vote,
//! an entry) never leaves before it is durable. A node that crashes and forgets a term it merely saw has neither voted
//! nor acknowledged anything in it.

use crate::entry::Entry;
use crate::follower_reads::Questions;
use crate::message::{AppendOutcome, Body, Message};
use crate::planted;
use crate::raft::{Raft, Role, State};
use crate::room::charge_of_entries;
use crate::status::Reason;
use crate::types::{EntryId, Index, NodeId, Term};

/// What only a follower knows.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Who leads its term, once it has been heard.
    pub(crate) leader: Option<NodeId>,
    /// The reads that it serves itself.
    pub(crate) questions: Questions,
}

impl Raft {
    /// Becomes (or stays) a follower in `term`. The timer goes on running, since only a live leader and a granted vote
    /// feed it; but who led until now starts it anew.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>, reason: Reason) {
        assert!(term >= self.state.term, "terms never fall");
        if let Role::Leader(_) = self.role {
            self.state.reset_election_timer();
        }
        self.end_reads(leader);
        if term > self.state.term {
            self.state.term = term;
            self.state.vote = None;
        }
        self.role = Role::Follower(Follower::of(leader));
        self.note_change(reason);
    }

    /// Whoever confirms reads in this role does not any more: each leaves as refused. `leader` is who may know more.
    pub(crate) fn end_reads(&mut self, leader: Option<NodeId>) {
        match &mut self.role {
            Role::Leader(former) => {
                let ended = former.reads.end(leader);
                self.tell_askers(ended);
            }
            Role::Follower(former) => self.state.out.read_states.extend(former.questions.end(leader)),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// A message of this node's term, while it follows.
    pub(crate) fn step_follower(&mut self, message: Message) {
        match message.body {
            Body::RequestVote { .. } => self.answer_vote_request(&message),
            Body::AppendEntries { .. } => {
                self.heed_leader(message.from);
                append(&mut self.state, message);
            }
            Body::Heartbeat { leader_commit, read_context, fresh } => {
                self.heed_leader(message.from);
                // The leader goes by what this node had acknowledged before its loss: who is convalescent may have again
                // what it had replaced, and believes only the appends that fit.
                if !self.state.is_convalescent() {
                    self.state.log.commit_to(leader_commit.min(self.state.log.last_index()));
                }
                fresh.into_iter().for_each(|fresh| self.state.note_fresh(fresh));
                let stamp = self.state.stamp();
                let sign = self.state.convalescent_sign_of_life();
                let body = sign.unwrap_or(Body::HeartbeatReply { read_context, stamp });
                let answer = self.state.answer(&message, body);
                self.state.send_now(answer);
            }
            Body::Heal { .. } => self.told_of_health(&message),
            Body::TimeoutNow => self.told_to_campaign(&message),
            Body::ReadIndex { context } => self.refuse_read_index(&message, context),
            Body::ReadIndexReply { context, read_index } => self.read_index_answered(context, read_index),
            Body::RequestVoteReply { .. }
            | Body::Removed
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. } => {
                log::trace!("a follower ignores {message}");
            }
        }
    }

    /// The leader of this term was heard: it is followed and the timer is fed.
    pub(crate) fn heed_leader(&mut self, from: NodeId) {
        let news = match &mut self.role {
            Role::Follower(follower) => follower.leader.replace(from) != Some(from),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.role = Role::Follower(Follower::of(Some(from)));
                true
            }
            Role::Leader(_) => unreachable!("a leader does not heed another; it is routed elsewhere"),
        };
        if news {
            self.note_change(Reason::LeaderHeard { leader: from });
        }
        self.state.is_removed = false;
        self.state.silent_ticks = 0;
        self.state.reset_election_timer();
    }
}

impl Follower {
    /// A follower that has taken no reads on yet.
    pub(crate) fn of(leader: Option<NodeId>) -> Follower {
        Follower { leader, questions: Questions::default() }
    }
}

/// The consistency check of §5.3, then the entries, then the commit index.
fn append(state: &mut State, message: Message) {
    let (from, to, token) = (message.from, message.to, message.token);
    let Body::AppendEntries { prev, entries, leader_commit } = message.body else {
        unreachable!("only appends are routed here");
    };
    let prev_index = prev.index;
    let outcome = match trim_committed(state, prev, entries) {
        Some((prev, entries)) if state.log.contains(prev) || is_there_by_index(state, prev) => {
            let (sent, entries) = (entries.len(), within_room(state, entries));
            let match_index = prev.index.plus(entries.len() as u64);
            let has_none = entries.is_empty() && sent > 0 && prev.index == prev_index;
            state.log.splice(entries);
            if planted::is("stale-append-truncates") {
                state.log.cut_after(match_index);
            }
            let has = match planted::is("commit-beyond-what-matches") {
                true => state.log.last_index(),
                false => match_index,
            };
            state.log.commit_to(leader_commit.min(has));
            match has_none {
                true => AppendOutcome::NoRoom { prev_index },
                false => AppendOutcome::Accepted { match_index },
            }
        }
        Some((prev, _)) => {
            AppendOutcome::Rejected { hint: meeting_hint(state, prev), prev_index: prev.index }
        }
        None => AppendOutcome::Accepted { match_index: state.log.committed() },
    };
    let outcome = state.as_convalescent(outcome, prev_index);
    let answer =
        Message { from: to, to: from, term: state.term, token, body: Body::AppendEntriesReply(outcome) };
    if planted::is("reply-sent-twice") {
        state.send_after_persist(answer.clone());
    }
    let brings_nothing = state.log.handed() == state.log.last_index();
    if planted::is("append-acknowledged-before-the-sync")
        || (brings_nothing && planted::is("repeated-append-acknowledged-at-once"))
    {
        return state.send_now(answer);
    }
    state.send_after_persist(answer);
}

/// Those of the entries that the disk has room for, from the first on. What is acknowledged must become durable, and a log
/// writer that finds no room stops the node.
fn within_room(state: &State, mut entries: Vec<Entry>) -> Vec<Entry> {
    let known = entries.iter().take_while(|entry| state.log.contains(entry.id())).count();
    let new = &entries[known..];
    let fitting = state.room.fitting(&state.log, new.len(), |count| charge_of_entries(&new[..count]));
    entries.truncate(known + fitting);
    entries
}

/// Whether any entry stands at the place: not enough, kept for the simulator to find.
fn is_there_by_index(state: &State, prev: EntryId) -> bool {
    planted::is("consistency-check-by-index-alone")
        && prev.index <= state.log.last_index()
        && prev.index >= state.log.committed()
}

/// What is committed here is in the leader's log too, so only what goes beyond it is looked at; below it the log may
/// have been compacted. None: the message ends at or before the commit index.
fn trim_committed(state: &State, prev: EntryId, mut entries: Vec<Entry>) -> Option<(EntryId, Vec<Entry>)> {
    let committed = state.log.committed();
    if prev.index >= committed {
        return Some((prev, entries));
    }
    let known = usize::try_from(committed.distance_from(prev.index)).unwrap_or(usize::MAX);
    if entries.len() < known {
        return None;
    }
    let last_known = entries[known - 1].id();
    assert!(
        state.log.contains(last_known),
        "a leader of term {} sent {last_known}, but another entry is committed there",
        state.term
    );
    Some((last_known, entries.split_off(known)))
}

/// Where the logs may agree at the latest: no further than this log goes, and of no later term than `prev`'s, so that
/// one refusal skips a whole term (§5.3). Everything up to the commit index does agree.
fn meeting_hint(state: &State, prev: EntryId) -> EntryId {
    let log = &state.log;
    let committed = log.committed();
    let found = log.last_no_later_than(prev.index.min(log.last_index()), prev.term);
    match found {
        Some(id) if id.index >= committed => id,
        _ => EntryId { term: log.term_at(committed).unwrap_or(Term(0)), index: committed },
    }
}

impl State {
    /// How far this node may hand out committed entries when it does not lead: what its own disk holds.
    pub(crate) fn follower_delivery_limit(&self) -> Index {
        match planted::is("apply-beyond-commit") {
            true => self.log.last_index(),
            false => self.log.persisted(),
        }
    }
}
