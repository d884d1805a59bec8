//! One core fed by hand: node 1 of a cluster, whose peers are the test itself.

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Body, Config, Entry, EntryId, HardState, Index, Message, NodeId, Payload, RawNode, Ready,
    ReplyToken, Restored, RoleKind, Term,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::cluster::of_this_pass;

/// The node under test.
pub(crate) const ME: NodeId = NodeId(1);

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

pub(crate) fn entry(term: u64, index: u64) -> Entry {
    let command = format!("{index}@{term}");
    Entry { term: Term(term), index: Index(index), payload: Payload::Command(Bytes::from(command)) }
}

/// Entries `indexes`, all of `term`.
pub(crate) fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

/// A message to the node under test, with a token made of its sender.
pub(crate) fn to_me(from: u64, term: u64, body: Body) -> Message {
    Message { from: NodeId(from), to: ME, term: Term(term), token: ReplyToken(100 + from), body }
}

pub(crate) fn append(prev: EntryId, entries: Vec<Entry>, leader_commit: u64) -> Body {
    Body::AppendEntries { prev, entries, leader_commit: Index(leader_commit) }
}

pub(crate) fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesReply(AppendOutcome::Accepted { match_index: Index(match_index) })
}

pub(crate) fn rejected(prev_index: u64, hint: EntryId) -> Body {
    Body::AppendEntriesReply(AppendOutcome::Rejected { hint, prev_index: Index(prev_index) })
}

pub(crate) fn vote_request(last: EntryId) -> Body {
    Body::RequestVote { pre_vote: false, transfer: false, last }
}

pub(crate) fn config(voters: u64) -> Config {
    Config::new(ME, (1..=voters).map(NodeId))
}

pub(crate) fn node_with(config: Config, restored: Restored) -> RawNode {
    RawNode::new(config, restored, ChaCha8Rng::seed_from_u64(of_this_pass(7)))
}

/// A node of three that comes up with these entries and this term.
pub(crate) fn restarted(term: u64, entries: Vec<Entry>) -> RawNode {
    let hard_state = HardState { term: Term(term), vote: None };
    node_with(config(3), Restored { hard_state, snapshot: None, entries })
}

/// Fulfils a Ready's writes at once and returns everything that may leave.
pub(crate) fn persist(core: &mut RawNode, ready: Ready) -> Vec<Message> {
    if let Some(persist) = ready.persist {
        if let Some(meta) = &persist.snapshot {
            core.snapshot_installed(meta);
        }
        if let Some(last) = persist.entries.last() {
            core.persisted(last.id());
        }
    }
    ready.messages.into_iter().chain(ready.messages_after_persist).collect()
}

/// Takes and fulfils Readys until there are no more; applies what is committed; returns the messages.
pub(crate) fn drain(core: &mut RawNode) -> Vec<Message> {
    let mut messages = Vec::new();
    while core.has_ready() {
        let mut ready = core.ready();
        let applied = ready.committed.last().map(|entry| entry.index);
        ready.committed.clear();
        messages.extend(persist(core, ready));
        if let Some(index) = applied {
            core.applied(index);
        }
    }
    messages
}

/// Lets the election timer run out.
pub(crate) fn time_out(core: &mut RawNode) {
    let before = core.soft_state();
    for _ in 0..1000 {
        core.tick_election();
        if core.soft_state() != before {
            return;
        }
    }
    panic!("the election timer never ran out");
}

/// Makes the node a leader with the votes of all others, its no-op not yet handed out.
pub(crate) fn elect(core: &mut RawNode) -> Term {
    time_out(core);
    for pre_vote in [true, false] {
        let asked = drain(core);
        for request in asked.iter().filter(|message| matches!(message.body, Body::RequestVote { .. })) {
            let body = Body::RequestVoteReply { pre_vote, granted: true };
            core.step(to_me(request.to.0, request.term.0, body));
        }
    }
    assert_eq!(core.status().role, RoleKind::Leader);
    core.status().term
}

/// Makes it a leader of three whose no-op is committed and whose peers replicate.
pub(crate) fn elect_and_commit(core: &mut RawNode) -> Term {
    let term = elect(core);
    drain(core);
    let last = core.status().last.index.0;
    for peer in core.status().peers {
        core.step(to_me(peer.node.0, term.0, accepted(last)));
    }
    drain(core);
    assert_eq!(core.status().commit_index.0, last);
    term
}
