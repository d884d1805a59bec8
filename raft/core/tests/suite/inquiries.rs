//! A leader asks a node that was said to be ill whether it is well: what the node answers, and what an answer is worth.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Body, EntryId, Index, Message, NodeId, ReadOutcome, ReadState, RoleKind, Term, WaitsFor,
};

use crate::convalescence::{answer, damaged, heal, heals, healthy, leader, says};
use crate::membership::{acknowledge, members};
use crate::rig::{accepted, append, config, drain, entries, id, restarted, time_out, to_me};

fn heartbeat_answered(read_context: u64) -> Body {
    Body::HeartbeatReply { read_context, stamp: Default::default() }
}

/// The places behind which node 2 is sent entries, or asked for them.
fn probes(messages: &[Message]) -> Vec<EntryId> {
    let prev = |message: &Message| match &message.body {
        Body::AppendEntries { prev, .. } if message.to == NodeId(2) => Some(*prev),
        _ => None,
    };
    messages.iter().filter_map(prev).collect()
}

#[test]
fn who_is_asked_and_does_not_heal_says_that_it_is_convalescent() {
    let mut core = damaged();
    core.step(to_me(2, 5, append(id(4, 3), vec![], 0)));
    let (loss, _) = answer(&mut core);
    for (what, asked) in [
        ("another loss", heal(loss + 2, id(4, 3))),
        ("an entry that it has not got", heal(loss, id(5, 4))),
        ("a place where it has another entry", heal(loss, id(5, 2))),
    ] {
        core.step(to_me(2, 5, asked));
        assert_eq!(answer(&mut core), (loss, None), "{what}");
        assert!(core.status().is_convalescent, "{what}");
    }
    core.step(to_me(2, 5, heal(loss, id(4, 3))));
    assert!(!core.status().is_convalescent);
}

#[test]
fn what_is_being_written_does_not_heal_and_its_answer_says_so() {
    let mut core = damaged();
    core.step(to_me(2, 5, append(id(4, 3), entries(5, 4..=6), 6)));
    let (loss, written) = (core.ready().messages_after_persist.remove(0), id(5, 6));
    let Body::AppendEntriesReply(AppendOutcome::Convalescent { id: loss, .. }) = loss.body else {
        panic!("{loss}")
    };
    core.step(to_me(2, 5, heal(loss, written)));
    assert_eq!(answer(&mut core), (loss, None));
    core.persisted(written);
    core.step(to_me(2, 5, heal(loss, written)));
    assert_eq!(drain(&mut core)[0].body, healthy(5));
}

#[test]
fn who_asks_leads() {
    let (mut follower, mut candidate) = (restarted(5, entries(1, 1..=4)), restarted(5, entries(1, 1..=4)));
    time_out(&mut candidate);
    for core in [&mut follower, &mut candidate] {
        drain(core);
        core.step(to_me(2, 5, heal(9, id(5, 5))));
        assert_eq!((core.status().role, core.status().leader), (RoleKind::Follower, Some(NodeId(2))));
        assert_eq!(drain(core)[0].body, healthy(5));
    }
}

#[test]
fn who_asks_in_an_earlier_term_hears_of_the_later_one() {
    let mut core = damaged();
    core.step(to_me(2, 4, heal(9, id(4, 3))));
    let messages = drain(&mut core);
    let [Message { term: Term(5), body: Body::AppendEntriesReply(outcome), .. }] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert!(matches!(outcome, AppendOutcome::Rejected { .. }), "{outcome:?}");
}

#[test]
fn an_answer_to_what_was_asked_before_a_node_was_removed_is_none_when_it_is_a_member_again() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.step(to_me(2, term, heartbeat_answered(0)));
    assert_eq!(heals(&drain(&mut core)), [(id(term, last), 1)]);
    for target in [members([1, 3], []), members([1, 3], [2])] {
        core.change_membership(target).unwrap();
        // The change, and what ends it.
        (0..2).for_each(|_| {
            drain(&mut core);
            acknowledge(&mut core, &[3]);
        });
        assert!(!core.status().is_changing);
    }
    core.step(to_me(2, term, says(11, Some(1), EntryId::ZERO, 2)));
    core.step(to_me(2, term, healthy(1)));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Repair, "it was well before that loss");
    core.step(to_me(2, term, healthy(2)));
    assert_ne!(core.status().peers[0].waits_for, WaitsFor::Repair);
}

#[test]
fn who_answers_many_rounds_of_reads_is_asked_by_the_interval() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    for _ in 0..3 {
        for round in 0..100 {
            core.read_index(round).unwrap();
            core.step(to_me(2, term, heartbeat_answered(round)));
            core.step(to_me(2, term, accepted(last)));
        }
        assert_eq!(heals(&drain(&mut core)), [(id(term, last), 1)], "its answer may wait for its disk");
        core.tick_heartbeat();
    }
}

#[test]
fn who_is_well_has_yet_to_say_again_what_it_had_helped_to_commit() {
    let (mut core, term, last) = leader();
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, accepted(last + 1)));
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.step(to_me(2, term, healthy(1)));
    let (peer, committed) = (core.status().peers[0], core.status().commit_index);
    assert_eq!((peer.match_index, committed), (Index(0), Index(last + 1)), "node 3 has not got it");
}

#[test]
fn who_is_asked_confirms_reads_meanwhile() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.read_index(7).unwrap();
    let round = drain(&mut core).iter().find_map(|message| match message.body {
        Body::Heartbeat { read_context, .. } => Some(read_context),
        _ => None,
    });
    core.step(to_me(2, term, heartbeat_answered(round.unwrap())));
    let ready = core.ready();
    assert_eq!(heals(&ready.messages), [(id(term, last), 1)]);
    let outcome = ReadOutcome::Confirmed(Index(last));
    assert_eq!(ready.read_states, [ReadState { context: 7, outcome }], "its term and vote are whole");
}

#[test]
fn leadership_is_handed_to_another_however_much_a_convalescent_has() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, Some(last), EntryId::ZERO, 2)));
    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, says(9, Some(last + 1), EntryId::ZERO, last)));
    assert_eq!(core.hand_over(), Some(NodeId(3)));
}

#[test]
fn the_loss_that_is_heard_of_is_a_sign_of_life() {
    let (mut core, term, _) = leader();
    let timeout = config(3).election_ticks_max;
    for _ in 0..3 * timeout {
        core.step(to_me(2, term, heartbeat_answered(0)));
        core.tick_election();
    }
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    core.tick_election();
    assert_eq!(core.status().role, RoleKind::Leader, "it is half of the others, and answers");
}

#[test]
fn a_convalescents_answers_that_say_nothing_new_change_nothing() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    assert_eq!(probes(&drain(&mut core)), [id(1, 2)]);
    core.step(to_me(2, term, says(9, None, id(1, 1), 4)));
    assert_eq!(probes(&drain(&mut core)), [], "another probe was refused, earlier");
    core.step(to_me(2, term, says(9, Some(last + 5), EntryId::ZERO, 2)));
    assert_eq!(core.status().peers[0].match_index, Index(0), "that does not exist");
    core.step(to_me(2, term, says(9, None, id(1, 1), 2)));
    assert_eq!(probes(&drain(&mut core)), [id(1, 1)], "that was refused");
}

#[test]
fn a_convalescent_without_room_is_left_in_peace_like_any_other() {
    let (mut core, term, last) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    drain(&mut core);
    let no_room = AppendOutcome::NoRoom { prev_index: Index(2) };
    core.step(to_me(2, term, Body::AppendEntriesReply(no_room)));
    assert_eq!(heals(&drain(&mut core)), []);
    core.step(to_me(2, term, healthy(1)));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Room);
    core.step(to_me(2, term, accepted(last)));
    assert_eq!(core.status().peers[0].match_index, Index(last));
}

#[test]
fn a_convalescent_without_room_is_asked_again_from_where_it_stands_and_not_from_the_beginning() {
    let (mut core, term, _) = leader();
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    assert_eq!(probes(&drain(&mut core)), [id(1, 2)]);
    let no_room = AppendOutcome::NoRoom { prev_index: Index(2) };
    core.step(to_me(2, term, Body::AppendEntriesReply(no_room)));
    (0..3).for_each(|_| core.tick_heartbeat());
    assert_eq!(probes(&drain(&mut core)), [], "it is left in peace");
    core.step(to_me(2, term, says(9, None, id(1, 2), 0)));
    assert_eq!(probes(&drain(&mut core)), [id(1, 2)], "what it had acknowledged is taken back, all of it");
}
