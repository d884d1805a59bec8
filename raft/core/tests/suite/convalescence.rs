//! A node that has lost a part of what it had acknowledged gives no vote and counts for nothing, until a leader has given
//! it everything back; and nothing that was committed with its help is lost meanwhile.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Body, Config, EntryId, HardState, Index, InstallVerdict, Membership, Message, NodeId,
    RawNode, Restored, RoleKind, SnapshotMeta, Term, WaitsFor,
};

use crate::rig::{
    accepted, append, config, drain, elect_and_commit, entries, id, node_with, restarted, time_out, to_me,
    vote_request,
};

/// A node of three in term 5 whose log ends at index 3, though it had acknowledged more.
pub(crate) fn damaged() -> RawNode {
    let hard_state = HardState { term: Term(5), vote: Some(NodeId(2)) };
    let mut core = node_with(config(3), Restored { hard_state, snapshot: None, entries: entries(4, 1..=3) });
    core.convalesce();
    core
}

/// The only answer, which must be a convalescent's: its number and what it says of the log.
pub(crate) fn answer(core: &mut RawNode) -> (u64, Option<u64>) {
    let messages = drain(core);
    let [message] = &messages[..] else { panic!("{messages:?}") };
    match &message.body {
        Body::AppendEntriesReply(AppendOutcome::Convalescent { id, matched, .. }) => {
            (*id, matched.map(|index| index.0))
        }
        body => panic!("{body}"),
    }
}

pub(crate) fn heal(id: u64, through: EntryId) -> Body {
    Body::Heal { id, through, inquiry: 5 }
}

pub(crate) fn healthy(inquiry: u64) -> Body {
    Body::AppendEntriesReply(AppendOutcome::Healthy { inquiry })
}

pub(crate) fn says(loss: u64, matched: Option<u64>, hint: EntryId, prev_index: u64) -> Body {
    let (matched, prev_index) = (matched.map(Index), Index(prev_index));
    Body::AppendEntriesReply(AppendOutcome::Convalescent { id: loss, matched, hint, prev_index })
}

#[test]
fn a_convalescent_gives_no_vote_asks_for_none_and_refuses_to_lead() {
    let mut core = damaged();
    core.step(to_me(3, 6, vote_request(id(5, 100))));
    let granted = |messages: Vec<Message>| {
        messages.iter().any(|message| matches!(message.body, Body::RequestVoteReply { granted: true, .. }))
    };
    assert!(!granted(drain(&mut core)), "however long the candidate's log is");
    assert_eq!(core.status().term, Term(6), "the term is learnt all the same");
    for _ in 0..1000 {
        core.tick_election();
    }
    assert_eq!((core.status().role, drain(&mut core)), (RoleKind::Follower, vec![]));
    core.step(to_me(3, 6, Body::Heartbeat { leader_commit: Index(0), read_context: 0, fresh: None }));
    core.step(to_me(3, 6, Body::TimeoutNow));
    let _ = drain(&mut core);
    assert_eq!(core.status().role, RoleKind::Follower);
}

#[test]
fn a_convalescent_commits_nothing_on_the_word_of_a_heartbeat() {
    let mut core = damaged();
    core.step(to_me(2, 5, Body::Heartbeat { leader_commit: Index(9), read_context: 0, fresh: None }));
    assert_eq!(
        core.status().commit_index,
        Index(0),
        "the leader believes it to have what it had acknowledged"
    );
    core.step(to_me(2, 5, append(id(4, 2), entries(5, 3..=4), 9)));
    assert_eq!(core.status().commit_index, Index(4), "an append shows what fits");
}

#[test]
fn every_answer_of_a_convalescent_says_so_a_heartbeats_too() {
    let mut core = damaged();
    core.step(to_me(2, 5, append(id(5, 9), vec![], 9)));
    let (loss, matched) = answer(&mut core);
    assert_eq!(matched, None);
    core.step(to_me(2, 5, append(id(4, 3), entries(5, 4..=6), 9)));
    assert_eq!(answer(&mut core), (loss, Some(6)), "and what it has is true");
    core.step(to_me(2, 5, Body::Heartbeat { leader_commit: Index(6), read_context: 3, fresh: None }));
    assert_eq!(answer(&mut core), (loss, None), "it confirms no reads");
}

#[test]
fn it_heals_when_its_leader_says_so_and_all_of_it_is_durable_and_not_before() {
    let mut core = damaged();
    core.step(to_me(2, 5, append(id(4, 3), entries(5, 4..=6), 6)));
    let ready = core.ready();
    // The entries are still being written.
    let Some(Body::AppendEntriesReply(AppendOutcome::Convalescent { id: loss, .. })) =
        ready.messages_after_persist.first().map(|message| message.body.clone())
    else {
        panic!("{ready:?}")
    };
    core.step(to_me(2, 5, heal(loss, id(5, 6))));
    assert!(core.status().is_convalescent, "what it must have is not durable");
    let _ = core.ready();
    core.persisted(id(5, 6));
    core.step(to_me(2, 5, heal(loss + 2, id(5, 6))));
    assert!(core.status().is_convalescent, "that was about another loss");
    core.step(to_me(2, 5, heal(loss, id(5, 7))));
    assert!(core.status().is_convalescent, "that entry it has not got");
    core.step(to_me(3, 4, heal(loss, id(5, 6))));
    assert!(core.status().is_convalescent, "that leader has been replaced");
    let _ = core.ready();
    core.step(to_me(2, 5, heal(loss, id(5, 6))));
    let ready = core.ready();
    assert!(ready.healed && !core.status().is_convalescent);
    assert_eq!(ready.messages_after_persist[0].body, healthy(5), "and counts from here on");
    core.step(to_me(2, 5, heal(loss, id(5, 6))));
    let ready = core.ready();
    assert!(!ready.healed, "once");
    assert_eq!(ready.messages_after_persist[0].body, healthy(5));
    time_out(&mut core);
    assert_eq!(core.status().role, RoleKind::PreCandidate);
}

fn snapshot(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last: id(term, index), membership: Membership::new((1..=3).map(NodeId)) }
}

#[test]
fn it_heals_also_when_a_snapshot_has_taken_the_place_of_what_it_had_to_have() {
    let mut core = damaged();
    core.step(to_me(2, 5, Body::Heartbeat { leader_commit: Index(3), read_context: 0, fresh: None }));
    let (loss, _) = answer(&mut core);
    assert_eq!(core.install_snapshot(snapshot(5, 50)), InstallVerdict::Installed);
    drain(&mut core);
    core.step(to_me(2, 5, heal(loss, id(5, 6))));
    assert!(!core.status().is_convalescent, "the snapshot has it all");
}

/// A leader of three; 2 and 3 have everything, up to and including the index returned.
pub(crate) fn leader() -> (RawNode, u64, u64) {
    let mut core = restarted(1, entries(1, 1..=4));
    let term = elect_and_commit(&mut core).0;
    let last = core.status().last.index.0;
    for from in [2, 3] {
        core.step(to_me(from, term, accepted(last)));
    }
    let _ = drain(&mut core);
    (core, term, last)
}

/// What is said of healing: through where, and the number of the question.
pub(crate) fn heals(messages: &[Message]) -> Vec<(EntryId, u64)> {
    let heal = |message: &Message| match message.body {
        Body::Heal { through, inquiry, .. } => Some((through, inquiry)),
        _ => None,
    };
    messages.iter().filter_map(heal).collect()
}

#[test]
fn what_a_convalescent_had_acknowledged_is_taken_back_and_counts_again_when_it_has_healed() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    let peer = core.status().peers[0];
    assert_eq!((peer.match_index, peer.waits_for), (Index(0), WaitsFor::Repair));
    let sent = drain(&mut core);
    assert!(matches!(&sent[0].body, Body::AppendEntries { prev, .. } if *prev == id(1, 2)), "{sent:?}");

    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = drain(&mut core);
    core.step(to_me(2, term, says(9, Some(last - 1), EntryId::ZERO, 2)));
    assert_eq!(heals(&drain(&mut core)), [], "it lacks something");
    core.step(to_me(2, term, says(9, Some(last + 1), EntryId::ZERO, last - 1)));
    let through = id(term, last);
    assert_eq!(heals(&drain(&mut core)), [(through, 1)], "where the log ended when the loss was heard of");

    // Node 3 does not answer: the leader's own copy and that of a convalescent are no majority.
    core.persisted(id(term, last + 1));
    assert_eq!(core.status().commit_index, Index(last), "the convalescent's copy does not count");
    core.tick_heartbeat();
    core.step(to_me(2, term, says(9, None, id(term, last + 1), 0)));
    assert_eq!(heals(&drain(&mut core)), [(through, 1)], "the word may have been lost");
    core.step(to_me(2, term, healthy(1)));
    assert_eq!(core.status().commit_index, Index(last + 1));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Nothing);
}

#[test]
fn an_acknowledgement_from_before_the_loss_counts_for_nothing() {
    let (mut core, term, last) = leader();
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = drain(&mut core);
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    let _ = drain(&mut core);
    core.step(to_me(2, term, accepted(last + 1)));
    assert_eq!(core.status().peers[0].match_index, Index(0));
    assert_eq!(core.status().commit_index, Index(last));
}

#[test]
fn what_it_said_before_it_healed_may_come_late_and_is_no_other_loss() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.step(to_me(2, term, healthy(1)));
    let _ = drain(&mut core);
    for late in [says(9, Some(last - 1), EntryId::ZERO, 2), says(9, None, id(1, 2), 0)] {
        core.step(to_me(2, term, late));
        assert_eq!(heals(&drain(&mut core)), []);
        assert_eq!(core.status().peers[0].waits_for, WaitsFor::Nothing);
    }
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = drain(&mut core);
    core.persisted(id(term, last + 1));
    core.step(to_me(2, term, accepted(last + 1)));
    assert_eq!(core.status().commit_index, Index(last + 1), "it counts");
    assert_eq!(core.transfer_leadership(NodeId(2)), Ok(()), "and may lead");
}

#[test]
fn a_word_of_an_earlier_loss_that_comes_late_makes_the_leader_ask() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.step(to_me(2, term, healthy(1)));
    core.step(to_me(2, term, says(7, Some(last - 1), EntryId::ZERO, 2)));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Repair, "it may be ill again");
    let _ = drain(&mut core);
    let heartbeat = Body::HeartbeatReply { read_context: 0, stamp: Default::default() };
    for plain in [accepted(last), heartbeat] {
        core.tick_heartbeat();
        core.step(to_me(2, term, plain));
        assert_eq!(heals(&drain(&mut core)), [(id(term, last), 2)], "or it was so in an earlier life");
        assert_eq!(core.status().peers[0].match_index, Index(0));
    }
    core.step(to_me(2, term, healthy(1)));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Repair, "that was before");
    core.step(to_me(2, term, healthy(2)));
    core.step(to_me(2, term, accepted(last)));
    assert_eq!(
        (core.status().peers[0].waits_for, core.status().peers[0].match_index),
        (WaitsFor::Nothing, Index(last))
    );
}

#[test]
fn who_has_lost_nothing_says_so_when_asked_whatever_it_lacks() {
    let mut core = restarted(1, entries(1, 1..=4));
    core.step(to_me(2, 5, heal(9, id(5, 100))));
    let ready = core.ready();
    assert!(!ready.healed);
    assert_eq!(ready.messages_after_persist[0].body, healthy(5));
}

#[test]
fn another_loss_begins_the_repair_anew() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    let _ = drain(&mut core);
    core.step(to_me(2, term, says(11, None, id(1, 1), 0)));
    let _ = drain(&mut core);
    core.step(to_me(2, term, says(11, Some(last), EntryId::ZERO, 1)));
    assert_eq!(heals(&drain(&mut core)), [], "it may have acknowledged what came since");
    core.step(to_me(2, term, says(11, Some(last + 1), EntryId::ZERO, last)));
    assert_eq!(heals(&drain(&mut core)), [(id(term, last + 1), 2)]);
}

#[test]
fn leadership_is_not_handed_to_a_convalescent() {
    let (mut core, term, _) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    core.step(to_me(3, term, Body::HeartbeatReply { read_context: 0, stamp: Default::default() }));
    assert_eq!(
        core.transfer_leadership(NodeId(2)),
        Err(raft_core::TransferError::Convalescent { node: NodeId(2) })
    );
    assert_eq!(core.status().transfer_to, None);
    assert_eq!(core.hand_over(), Some(NodeId(3)));
}

#[test]
fn a_convalescent_is_sent_what_follows_what_it_says_to_have() {
    let (mut core, term, last) = leader();
    for (from, matched) in [(2, 3), (3, last + 7)] {
        core.step(to_me(from, term, says(9, Some(matched), EntryId::ZERO, 2)));
    }
    let prevs: Vec<EntryId> = drain(&mut core)
        .into_iter()
        .filter_map(|message| match message.body {
            Body::AppendEntries { prev, .. } => Some(prev),
            _ => None,
        })
        .collect();
    assert_eq!(prevs, [id(1, 3), id(term, last)], "not all of the log, and nothing that does not exist");
    assert_eq!(core.status().peers[0].match_index, Index(0), "it is not believed before it is asked again");
}

#[test]
fn a_convalescents_snapshot_of_which_nothing_is_heard_is_asked_for_once_more() {
    let config = Config { snapshot_ticks_max: 5, ..config(3) };
    let hard_state = HardState { term: Term(1), vote: None };
    let restored = Restored { hard_state, snapshot: Some(snapshot(1, 4)), entries: vec![] };
    let mut core = node_with(config, restored);
    let term = elect_and_commit(&mut core);
    let mut wanted = Vec::new();
    for _ in 0..3 {
        core.step(to_me(2, term.0, says(9, None, id(1, 2), 0)));
        wanted.push(core.ready().send_snapshots);
        (0..5).for_each(|_| core.tick_election());
        core.tick_heartbeat();
    }
    assert_eq!(wanted, [vec![(NodeId(2), term)], vec![], vec![(NodeId(2), term)]]);
}
