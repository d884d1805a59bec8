//! Replication: what is sent to whom, and what its answers mean.
//!
//! Nothing is sent when it arises. When the caller takes a Ready, each peer gets one message with everything that is
//! new for it (several, if it is more than a message may hold), as far as its window allows; so a turn that brought a
//! hundred proposals costs one message a peer. Answers may be lost, late, doubled and out of order; none of that may
//! change more than when something is sent again.

use bytes::Bytes;

use crate::entry::{Entry, Payload};
use crate::error::{Limit, ProposeError};
use crate::leader::Peer;
use crate::message::{AppendOutcome, Body};
use crate::planted;
use crate::raft::{Raft, Role, State};
use crate::raw_node::Proposed;
use crate::room::charge_of_commands;
use crate::types::{EntryId, Index, NodeId};

/// A follower without room is offered an entry again after at most two to the power of this many heartbeat intervals.
const ENTRY_PAUSE_DOUBLINGS: u32 = 3;

impl Raft {
    /// Appends all commands, or none of them.
    pub(crate) fn propose(&mut self, commands: Vec<Bytes>) -> Result<Proposed, ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        if let Some(to) = leader.transfer_to() {
            return Err(ProposeError::Transferring { to });
        }
        let state = &mut self.state;
        check_room(state, &commands).map_err(|limit| ProposeError::Busy { limit })?;
        if fitting(state, &commands) < commands.len() {
            return Err(want_of_room(state, &commands));
        }
        let first = state.log.last_index().next();
        let proposed = Proposed { term: state.term, first, count: commands.len() as u64 };
        for (id, command) in proposed.ids().zip(commands) {
            state.log.push(Entry { term: id.term, index: id.index, payload: Payload::Command(command) });
        }
        Ok(proposed)
    }

    /// How many of these commands, from the first on, the disk has room for.
    pub(crate) fn fitting(&self, commands: &[Bytes]) -> usize {
        fitting(&self.state, commands)
    }

    /// Whether some peer is due a message.
    pub(crate) fn has_appends(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let last_index = self.state.log.last_index();
        leader.peers.iter().any(|peer| peer.progress.wants_send(last_index))
    }

    /// Sends each peer what it is due.
    pub(crate) fn replicate(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        for peer in &mut leader.peers {
            let last_index = self.state.log.last_index();
            while peer.progress.wants_send(last_index) {
                send_append(&mut self.state, peer, leader.ticks, leader.beats);
            }
        }
    }

    /// A peer answered an append.
    pub(crate) fn append_answered(&mut self, from: NodeId, outcome: AppendOutcome) {
        if let AppendOutcome::Convalescent { .. } = outcome {
            return self.convalescent_answered(from, outcome);
        }
        if let AppendOutcome::Healthy { inquiry } = outcome {
            return self.healthy_answered(from, inquiry);
        }
        // That there is no room is true of a convalescent node too.
        if !matches!(outcome, AppendOutcome::NoRoom { .. }) && self.inquire(from) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let (now, beat) = (leader.ticks, leader.beats);
        let Some(peer) = leader.peer(from) else { return };
        let log = &self.state.log;
        match outcome {
            AppendOutcome::Accepted { match_index } if match_index > log.last_index() => {
                log::error!("node {from} acknowledges {match_index}, which does not exist; ignored");
            }
            AppendOutcome::Accepted { match_index } => {
                let match_index = match planted::is("match-index-from-a-stale-reply") {
                    true => match_index.max(peer.progress.next_index().previous()),
                    false => match_index,
                };
                let news = peer.progress.accepted(match_index, log.base().index);
                if let Some(catch_up) = &mut peer.catch_up {
                    let ticks_max = self.state.config.election_ticks_max;
                    catch_up.observe(peer.progress.match_index(), log.last_index(), now, ticks_max);
                }
                if news {
                    self.advance_commit();
                    self.go_on_with_transfer();
                }
            }
            AppendOutcome::Rejected { hint, .. } if planted::is("match-index-from-a-refusal") => {
                if hint.index <= log.last_index() && peer.progress.accepted(hint.index, log.base().index) {
                    self.advance_commit();
                }
            }
            AppendOutcome::Rejected { hint, prev_index } => {
                if peer.progress.refusal_is_current(prev_index) {
                    peer.progress.probe(next_probe(&self.state, hint, prev_index));
                }
            }
            AppendOutcome::Convalescent { .. } | AppendOutcome::Healthy { .. } => {
                unreachable!("it was routed elsewhere")
            }
            AppendOutcome::NoRoom { prev_index } => {
                if peer.progress.want_of_room_is_current(prev_index) {
                    // The logs agree up to there, whatever it has acknowledged so far.
                    peer.lacks_room(prev_index.next(), beat, ENTRY_PAUSE_DOUBLINGS);
                }
            }
        }
    }

    /// The way to this peer is broken, as its transport noticed: what was sent is probably lost.
    pub(crate) fn unreachable(&mut self, to: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let beat = leader.beats;
        if let Some(peer) = leader.peer(to).filter(|peer| peer.progress.inflights().count() > 0) {
            peer.progress.probe_later(beat);
        }
    }
}

/// Whether a batch may be appended: each limit names what does not keep up. A batch larger than a limit passes when
/// nothing else is waiting, else it never could.
fn check_room(state: &State, commands: &[Bytes]) -> Result<(), Limit> {
    let (config, log) = (&state.config, &state.log);
    let batch: u64 =
        commands.iter().map(|command| command.len() as u64 + crate::entry::ENTRY_OVERHEAD_BYTES).sum();
    let exceeds = |waiting: u64, max: u64| waiting > 0 && waiting + batch > max;
    if exceeds(log.bytes_after(log.committed()), config.uncommitted_bytes_max) {
        return Err(Limit::UncommittedBytes);
    }
    if exceeds(log.bytes_after(log.persisted()), config.unpersisted_bytes_max) {
        return Err(Limit::UnpersistedBytes);
    }
    if log.bytes_between(log.applied(), log.committed()) > config.unapplied_bytes_max {
        return Err(Limit::UnappliedBytes);
    }
    if exceeds(log.bytes(), config.log_bytes_max) {
        return Err(Limit::LogBytes);
    }
    Ok(())
}

fn fitting(state: &State, commands: &[Bytes]) -> usize {
    state.room.fitting(&state.log, commands.len(), |count| charge_of_commands(&commands[..count]))
}

/// Why commands that do not fit are refused.
fn want_of_room(state: &State, commands: &[Bytes]) -> ProposeError {
    if !state.room.is_full() {
        return ProposeError::Busy { limit: Limit::LogRoom };
    }
    let left_bytes = state.room.left(&state.log).unwrap_or(u64::MAX);
    ProposeError::NoSpace { needed_bytes: charge_of_commands(commands), left_bytes }
}

/// Sends one message from the peer's next index on, or sees that it needs a snapshot.
fn send_append(state: &mut State, peer: &mut Peer, now: u64, beat: u64) {
    let progress = &mut peer.progress;
    let log = &state.log;
    let prev_index = progress.next_index().previous();
    let Some(prev_term) = log.term_at(prev_index) else {
        return send_snapshot(state, peer, now, beat);
    };
    let (entries, bytes) = match progress.sends_bare() {
        true => (Vec::new(), 0),
        // Who lacks room is offered no more than it takes to find out.
        false if progress.lacks_room() => log.slice(progress.next_index(), log.last_index(), 1),
        false => log.slice(progress.next_index(), log.last_index(), state.config.append_bytes_max),
    };
    progress.sent(entries.len() as u64, bytes, beat);
    let prev = EntryId { term: prev_term, index: prev_index };
    let append = Body::AppendEntries { prev, entries, leader_commit: log.committed() };
    let request = state.request(peer.id, append);
    state.send_now(request);
}

/// The log no longer has what the peer needs. Only a peer that answers is sent a snapshot; the others are asked again
/// when they do.
fn send_snapshot(state: &mut State, peer: &mut Peer, now: u64, beat: u64) {
    let answers = peer.progress.is_active(now, state.config.election_ticks_max);
    if !answers {
        return peer.progress.pause(beat);
    }
    let pending = state.log.snapshot().last.index;
    assert!(pending >= state.log.base().index, "what was dropped from the log is in a snapshot");
    log::info!(
        "node {} needs a snapshot up to {pending}: the log begins at {}",
        peer.id,
        state.log.first_index()
    );
    peer.progress.snapshot(pending, now);
    state.out.send_snapshots.push((peer.id, state.term));
}

/// Where to probe after a refusal: the last place where the leader's log is of no later term than the follower's hint,
/// and in any case before the place that was refused. So each refusal skips a term of one of the logs (§5.3).
pub(crate) fn next_probe(state: &State, hint: EntryId, prev_index: Index) -> Index {
    let meeting = state.log.last_no_later_than(hint.index, hint.term).map_or(Index::ZERO, |id| id.index);
    if planted::is("conflict-index-off-by-one") {
        return meeting.next().next().min(prev_index.next());
    }
    meeting.next().min(prev_index.max(Index(1)))
}
