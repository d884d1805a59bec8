//! What the disk has room for: nothing is accepted beyond it, and a follower without room is left in peace.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use raft_core::{
    AppendOutcome, Body, Limit, LogRoom, Message, NodeId, Persist, ProposeError, RawNode, Stamp, WaitsFor,
};

use crate::rig::{accepted, append, drain, elect_and_commit, entries, id, node_with, restarted, to_me};

/// A disk that gives nothing more and has room for what costs so much.
fn full(charge_max: u64) -> LogRoom {
    LogRoom { charge_max, whole_bytes: 1 << 20, is_full: true }
}

fn command(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

/// What these entries cost.
fn cost(entries: Vec<raft_core::Entry>) -> u64 {
    Persist { hard_state: None, snapshot: None, entries }.charge_bytes()
}

fn no_room(prev_index: u64) -> Body {
    Body::AppendEntriesReply(AppendOutcome::NoRoom { prev_index: raft_core::Index(prev_index) })
}

fn answers(messages: Vec<Message>) -> Vec<Body> {
    messages.into_iter().map(|message| message.body).collect()
}

fn appends(messages: &[Message], to: u64) -> usize {
    let is_append =
        |message: &&Message| message.to == NodeId(to) && matches!(message.body, Body::AppendEntries { .. });
    messages.iter().filter(is_append).count()
}

#[test]
fn a_leader_takes_what_the_disk_has_room_for_and_refuses_the_rest_until_there_is_more() {
    let mut core = restarted(1, Vec::new());
    elect_and_commit(&mut core);
    let handed = core.status().last.index.0;
    let before: u64 = handed * 2 * (64 + 128);
    let one = cost(entries(1, 1..=1)) - 2 * 3 + 2 * 100;
    core.log_room(full(before + 2 * one));
    assert_eq!(core.status().room_bytes, Some(2 * one), "both sides count the same");
    assert_eq!(core.fitting(&[command(100), command(100), command(100)]), 2);
    let whole = core.propose(vec![command(100), command(100), command(100)]);
    assert!(
        matches!(whole, Err(ProposeError::NoSpace { left_bytes, .. }) if left_bytes == 2 * one),
        "{whole:?}"
    );
    core.propose(vec![command(100), command(100)]).unwrap();
    let refused = core.propose(vec![command(100)]);
    assert_eq!(refused, Err(ProposeError::NoSpace { needed_bytes: one, left_bytes: 0 }));
    let _ = drain(&mut core);
    assert_eq!(core.status().room_bytes, Some(0), "what is handed out counts as what was accepted");
    core.log_room(LogRoom { is_full: false, ..full(before + 2 * one) });
    assert_eq!(core.propose(vec![command(100)]), Err(ProposeError::Busy { limit: Limit::LogRoom }));
    core.log_room(full(before + 3 * one));
    core.propose(vec![command(100)]).unwrap();
}

#[test]
fn reads_are_served_and_elections_won_on_a_full_disk() {
    let mut core = restarted(1, Vec::new());
    core.log_room(full(0));
    elect_and_commit(&mut core);
    assert!(core.read_index(1).is_ok());
}

#[test]
fn a_command_larger_than_a_whole_reserve_passes_alone_on_a_disk_that_is_not_full() {
    let mut core = node_with(crate::rig::config(1), raft_core::Restored::default());
    elect_and_commit(&mut core);
    let small = LogRoom { charge_max: 0, whole_bytes: 1000, is_full: false };
    core.log_room(small);
    assert_eq!(core.fitting(&[command(5000), command(5000)]), 1);
    assert!(core.propose(vec![command(100)]).is_err(), "a small one waits for the reserve");
    core.log_room(LogRoom { is_full: true, ..small });
    assert!(core.propose(vec![command(5000)]).is_err());
    core.log_room(small);
    core.propose(vec![command(5000)]).unwrap();
    assert!(core.propose(vec![command(5000)]).is_err(), "one waits already");
}

#[test]
fn a_follower_takes_the_first_entries_it_has_room_for_and_says_when_it_has_none() {
    let mut core = restarted(2, Vec::new());
    core.log_room(full(cost(entries(2, 1..=2))));
    core.step(to_me(2, 2, append(id(0, 0), entries(2, 1..=3), 3)));
    assert_eq!(answers(drain(&mut core)), [accepted(2)]);
    core.step(to_me(2, 2, append(id(2, 2), entries(2, 3..=3), 3)));
    assert_eq!(answers(drain(&mut core)), [no_room(2)]);
    assert_eq!(core.status().last, id(2, 2));
    core.step(to_me(2, 2, append(id(0, 0), entries(2, 1..=2), 3)));
    assert_eq!(answers(drain(&mut core)), [accepted(2)], "what is there needs no room");
    core.log_room(full(cost(entries(2, 1..=3))));
    core.step(to_me(2, 2, append(id(2, 2), entries(2, 3..=3), 3)));
    assert_eq!(answers(drain(&mut core)), [accepted(3)]);
}

#[test]
fn a_follower_takes_a_part_of_a_message_that_is_larger_than_its_whole_reserve() {
    let mut core = restarted(1, Vec::new());
    let (part, whole) = (cost(entries(1, 1..=3)), cost(entries(1, 1..=9)));
    core.log_room(LogRoom { charge_max: part, whole_bytes: whole - 1, is_full: false });
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=9), 0)));
    assert_eq!(answers(drain(&mut core)), [accepted(3)], "its disk may be full, and not be known to be");
}

#[test]
fn a_tail_that_is_replaced_counts_as_written_all_the_same() {
    let mut core = restarted(2, Vec::new());
    let written = cost(entries(2, 1..=2));
    core.log_room(full(2 * written));
    core.step(to_me(2, 2, append(id(0, 0), entries(2, 1..=2), 0)));
    let _ = drain(&mut core);
    core.step(to_me(3, 3, append(id(0, 0), entries(3, 1..=2), 0)));
    assert_eq!(answers(drain(&mut core)), [accepted(2)]);
    core.step(to_me(2, 4, append(id(0, 0), entries(4, 1..=1), 0)));
    assert_eq!(answers(drain(&mut core)), [no_room(0)], "the log on disk has all three");
    assert_eq!(core.status().last, id(3, 2), "what is not taken replaces nothing");
}

/// A leader whose follower 2 has just said that it has no room.
fn leader_with_a_full_follower() -> (RawNode, u64) {
    let mut core = restarted(1, Vec::new());
    let term = elect_and_commit(&mut core).0;
    let last = core.status().last.index.0;
    core.step(to_me(2, term, accepted(last)));
    core.step(to_me(3, term, accepted(last)));
    let _ = drain(&mut core);
    core.propose(vec![command(10)]).unwrap();
    assert_eq!(appends(&drain(&mut core), 2), 1);
    core.step(to_me(2, term, no_room(last)));
    (core, term)
}

#[test]
fn a_follower_without_room_is_asked_ever_more_rarely_and_the_status_says_why() {
    let (mut core, term) = leader_with_a_full_follower();
    let last = core.status().last.index.0 - 1;
    let peer = core.status().peers[0];
    assert_eq!((peer.node, peer.waits_for), (NodeId(2), WaitsFor::Room));
    let mut offered_in = Vec::new();
    for beat in 0..200 {
        core.tick_heartbeat();
        let _ = drain(&mut core);
        for from in [2, 3] {
            core.step(to_me(from, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        }
        let messages = drain(&mut core);
        let mut asked = appends(&messages, 2);
        while asked > 0 {
            let entries = |message: &Message| match &message.body {
                Body::AppendEntries { entries, .. } if message.to == NodeId(2) => entries.len(),
                _ => 0,
            };
            let offered = messages.iter().map(entries).sum::<usize>();
            if offered > 0 {
                offered_in.push(beat);
                core.step(to_me(2, term, no_room(last)));
                asked = 0;
                continue;
            }
            core.step(to_me(2, term, accepted(last)));
            let more = drain(&mut core);
            if more.iter().map(entries).sum::<usize>() > 0 {
                offered_in.push(beat);
                core.step(to_me(2, term, no_room(last)));
            }
            asked = 0;
        }
    }
    assert!((15..=30).contains(&offered_in.len()), "again and again, but not all the time: {offered_in:?}");
    let pauses: Vec<u64> = offered_in.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && *pauses.last().unwrap() >= 8, "{pauses:?}");
}

#[test]
fn a_follower_without_room_is_asked_again_from_where_it_stands() {
    let mut core = restarted(1, Vec::new());
    let term = elect_and_commit(&mut core).0;
    let last = core.status().last;
    for _ in 0..2 {
        core.propose(vec![command(10)]).unwrap();
        assert_eq!(appends(&drain(&mut core), 2), 1);
    }
    // That it has taken the first of them is lost.
    core.step(to_me(2, term, no_room(last.index.0 + 1)));
    assert_eq!(appends(&drain(&mut core), 2), 0);
    let mut asked = Vec::new();
    for _ in 0..3 {
        core.tick_heartbeat();
        core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        let prev = |message: Message| match message.body {
            Body::AppendEntries { prev, .. } if message.to == NodeId(2) => Some(prev),
            _ => None,
        };
        asked.extend(drain(&mut core).into_iter().filter_map(prev));
    }
    assert_eq!(asked, [id(term, last.index.0 + 1)]);
}

#[test]
fn a_follower_that_has_room_again_is_streamed_to() {
    let (mut core, term) = leader_with_a_full_follower();
    let last = core.status().last.index.0;
    core.step(to_me(2, term, accepted(last)));
    assert_eq!(core.status().peers[0].waits_for, WaitsFor::Nothing);
    core.propose(vec![command(10)]).unwrap();
    let _ = drain(&mut core);
    core.propose(vec![command(10)]).unwrap();
    assert_eq!(appends(&drain(&mut core), 2), 1, "without waiting for an answer");
}

#[test]
fn late_refusals_of_a_burst_change_nothing() {
    let (mut core, term) = leader_with_a_full_follower();
    let last = core.status().last.index.0;
    core.step(to_me(2, term, no_room(last)));
    core.step(to_me(2, term, no_room(last + 7)));
    assert_eq!(appends(&drain(&mut core), 2), 0);
}
