//! The wire's messages to the core's and back: what comes from outside is checked here, so that the core's `step`
//! need not fail. What is accepted here may still be strange to Raft; the core ignores it.

use bytes::Bytes;
use proto::raft_rpc::{
    AppendEntriesArgs, AppendEntriesReply, LogEntry, RequestVoteArgs, RequestVoteReply, TimeoutNowArgs,
};
use raft_core::{
    AppendOutcome, Body, Entry, EntryId, Fresh, Index, Message, NodeId, Payload, ReplyToken, Stamp, Term,
};

mod read_index;

pub use read_index::{
    read_index_from_wire, read_index_reply_from_wire, read_index_reply_to_wire, read_index_to_wire,
};

use super::border::Border;
use crate::membership_bytes;

/// Payload kinds of a log entry on the wire.
const KIND_COMMAND: u32 = 0;
const KIND_NOOP: u32 = 1;
const KIND_MEMBERSHIP: u32 = 2;

/// What the origin's nodes say in every append reply: this node lives.
const APP_NORMAL: u32 = 1;

/// The origin's `VoteState` values.
const VOTE_KILLED: u32 = 1;
const VOTE_NORMAL: u32 = 3;

/// The highest term or index that is taken from outside: one more would have to follow it, and a forged one must not
/// use the numbers up for ever.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// Refuses numbers that no cluster reaches.
///
/// # Errors
/// The number, in a sentence.
pub fn check_numbers(numbers: &[u64]) -> Result<(), String> {
    match numbers.iter().find(|number| **number > NUMBER_MAX) {
        Some(number) => Err(format!("{number} is no term or index: no cluster gets that far")),
        None => Ok(()),
    }
}

fn entry_id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn entry_to_wire(entry: Entry) -> LogEntry {
    let (kind, command) = match entry.payload {
        Payload::Noop => (KIND_NOOP, Bytes::new()),
        Payload::Command(command) => (KIND_COMMAND, command),
        Payload::Membership(membership) => {
            (KIND_MEMBERSHIP, Bytes::from(membership_bytes::encode(&membership)))
        }
    };
    LogEntry { command, log_term: entry.term.0, log_index: entry.index.0, kind }
}

/// Copies the command out of the receive buffer, which one kept entry would otherwise hold in memory whole.
fn entry_from_wire(entry: &LogEntry) -> Result<Entry, String> {
    let payload = match entry.kind {
        KIND_COMMAND => Payload::Command(Bytes::copy_from_slice(&entry.command)),
        KIND_NOOP => Payload::Noop,
        KIND_MEMBERSHIP => {
            let membership = membership_bytes::decode(&entry.command).map_err(|error| error.to_string())?;
            Payload::Membership(Box::new(membership))
        }
        kind => return Err(format!("entry {} is of the unknown kind {kind}", entry.log_index)),
    };
    Ok(Entry { term: Term(entry.log_term), index: Index(entry.log_index), payload })
}

/// An append or a heartbeat for the wire. The caller routes by the body.
///
/// # Panics
/// For any other body.
pub fn append_to_wire(border: &Border, message: Message) -> AppendEntriesArgs {
    let mut args = AppendEntriesArgs {
        term: message.term.0,
        leader_id: message.from.0,
        envelope: Some(border.envelope(message.to)),
        ..AppendEntriesArgs::default()
    };
    match message.body {
        Body::AppendEntries { prev, entries, leader_commit } => {
            args.prev_log_index = prev.index.0;
            args.prev_log_term = prev.term.0;
            args.entries = entries.into_iter().map(entry_to_wire).collect();
            args.leader_commit = leader_commit.0;
        }
        Body::Heal { id, through, inquiry } => {
            args.heals = id;
            args.inquiry = inquiry;
            args.prev_log_index = through.index.0;
            args.prev_log_term = through.term.0;
        }
        Body::Heartbeat { leader_commit, read_context, fresh } => {
            args.leader_commit = leader_commit.0;
            args.heartbeat = true;
            args.read_context = read_context;
            args.fresh_stamp = fresh.map_or(0, |fresh| fresh.stamp);
            args.fresh_index = fresh.map_or(0, |fresh| fresh.index.0);
        }
        body => unreachable!("{body:?} is not an append"),
    }
    args
}

/// The core's message of an append or heartbeat, checked: entries follow `prev` without a gap, in rising terms.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn append_from_wire(
    border: &Border,
    args: &AppendEntriesArgs,
    token: ReplyToken,
) -> Result<Message, String> {
    let from = border.admit(args)?;
    check_numbers(&[args.term, args.prev_log_index, args.prev_log_term, args.leader_commit])?;
    check_numbers(&[args.fresh_index])?;
    let leader_commit = Index(args.leader_commit);
    let body = if args.heartbeat {
        let fresh = Fresh { stamp: args.fresh_stamp, index: Index(args.fresh_index) };
        let fresh = Some(fresh).filter(|fresh| fresh.stamp != 0);
        Body::Heartbeat { leader_commit, read_context: args.read_context, fresh }
    } else if args.heals != 0 {
        let through = entry_id(args.prev_log_term, args.prev_log_index);
        Body::Heal { id: args.heals, through, inquiry: args.inquiry }
    } else {
        let mut last = entry_id(args.prev_log_term, args.prev_log_index);
        let mut entries = Vec::with_capacity(args.entries.len());
        for wire in &args.entries {
            let entry = entry_from_wire(wire)?;
            if Some(entry.index.0) != last.index.0.checked_add(1)
                || entry.term < last.term
                || entry.term.0 > args.term
            {
                return Err(format!("entry {} of term {} does not follow {last:?}", entry.index, entry.term));
            }
            last = EntryId { term: entry.term, index: entry.index };
            entries.push(entry);
        }
        Body::AppendEntries {
            prev: entry_id(args.prev_log_term, args.prev_log_index),
            entries,
            leader_commit,
        }
    };
    let message = Message { from, to: border.node_id(), term: Term(args.term), token, body };
    match message.is_well_formed() {
        true => Ok(message),
        false => Err(format!("{message} contradicts itself")),
    }
}

/// The wire's reply to an append or a heartbeat.
///
/// # Panics
/// For any other body.
pub fn append_reply_to_wire(border: &Border, message: &Message) -> AppendEntriesReply {
    let mut reply = AppendEntriesReply {
        term: message.term.0,
        app_state: APP_NORMAL,
        envelope: Some(border.envelope(message.to)),
        ..AppendEntriesReply::default()
    };
    match &message.body {
        Body::AppendEntriesReply(AppendOutcome::Accepted { match_index }) => {
            reply.success = true;
            reply.match_index = match_index.0;
            reply.update_next_index = match_index.0 + 1;
        }
        Body::AppendEntriesReply(AppendOutcome::Rejected { hint, prev_index }) => {
            reply.update_next_index = hint.index.0 + 1;
            reply.conflict_term = hint.term.0;
            reply.refused_prev_index = prev_index.0;
        }
        Body::AppendEntriesReply(AppendOutcome::Convalescent { id, matched, hint, prev_index }) => {
            reply.convalescent = *id;
            reply.success = matched.is_some();
            reply.match_index = matched.map_or(0, |index| index.0);
            reply.update_next_index = hint.index.0 + 1;
            reply.conflict_term = hint.term.0;
            reply.refused_prev_index = prev_index.0;
        }
        Body::AppendEntriesReply(AppendOutcome::Healthy { inquiry }) => reply.inquiry = *inquiry,
        Body::AppendEntriesReply(AppendOutcome::NoRoom { prev_index }) => {
            reply.no_room = true;
            reply.refused_prev_index = prev_index.0;
        }
        Body::HeartbeatReply { read_context, stamp } => {
            reply.success = true;
            reply.heartbeat = true;
            reply.read_context = *read_context;
            reply.stamp = stamp.at;
            reply.keeps_lease = stamp.keeps_lease;
        }
        body => unreachable!("{body:?} does not answer an append"),
    }
    reply
}

/// The core's message of a reply of `peer` to an append or a heartbeat.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn append_reply_from_wire(
    border: &Border,
    peer: NodeId,
    reply: AppendEntriesReply,
) -> Result<Message, String> {
    border.admit_answer(peer, &reply)?;
    check_numbers(&[reply.term, reply.match_index, reply.update_next_index, reply.refused_prev_index])?;
    let body = if reply.heartbeat {
        let stamp = Stamp { at: reply.stamp, keeps_lease: reply.keeps_lease };
        Body::HeartbeatReply { read_context: reply.read_context, stamp }
    } else if reply.convalescent != 0 {
        Body::AppendEntriesReply(AppendOutcome::Convalescent {
            id: reply.convalescent,
            matched: reply.success.then_some(Index(reply.match_index)),
            hint: entry_id(reply.conflict_term, reply.update_next_index.saturating_sub(1)),
            prev_index: Index(reply.refused_prev_index),
        })
    } else if reply.inquiry != 0 {
        Body::AppendEntriesReply(AppendOutcome::Healthy { inquiry: reply.inquiry })
    } else if reply.success {
        Body::AppendEntriesReply(AppendOutcome::Accepted { match_index: Index(reply.match_index) })
    } else if reply.no_room {
        Body::AppendEntriesReply(AppendOutcome::NoRoom { prev_index: Index(reply.refused_prev_index) })
    } else {
        Body::AppendEntriesReply(AppendOutcome::Rejected {
            hint: entry_id(reply.conflict_term, reply.update_next_index.saturating_sub(1)),
            prev_index: Index(reply.refused_prev_index),
        })
    };
    Ok(reply_message(border, peer, reply.term, body))
}

fn reply_message(border: &Border, peer: NodeId, term: u64, body: Body) -> Message {
    Message { from: peer, to: border.node_id(), term: Term(term), token: ReplyToken(0), body }
}

/// A vote request for the wire.
///
/// # Panics
/// For any other body.
pub fn vote_to_wire(border: &Border, message: &Message) -> RequestVoteArgs {
    let Body::RequestVote { pre_vote, transfer, last } = &message.body else {
        unreachable!("{:?} is not a vote request", message.body)
    };
    RequestVoteArgs {
        term: message.term.0,
        candidate_id: message.from.0,
        last_log_index: last.index.0,
        last_log_term: last.term.0,
        envelope: Some(border.envelope(message.to)),
        pre_vote: *pre_vote,
        transfer: *transfer,
    }
}

/// The core's message of a vote request.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn vote_from_wire(border: &Border, args: &RequestVoteArgs, token: ReplyToken) -> Result<Message, String> {
    let from = border.admit(args)?;
    check_numbers(&[args.term, args.last_log_index, args.last_log_term])?;
    let last = entry_id(args.last_log_term, args.last_log_index);
    let body = Body::RequestVote { pre_vote: args.pre_vote, transfer: args.transfer, last };
    Ok(Message { from, to: border.node_id(), term: Term(args.term), token, body })
}

/// The wire's reply to a vote request.
///
/// # Panics
/// For any other body.
pub fn vote_reply_to_wire(border: &Border, message: &Message) -> RequestVoteReply {
    let (pre_vote, granted, removed) = match message.body {
        Body::RequestVoteReply { pre_vote, granted } => (pre_vote, granted, false),
        Body::Removed => (false, false, true),
        _ => unreachable!("{:?} does not answer a vote request", message.body),
    };
    RequestVoteReply {
        term: message.term.0,
        vote_granted: granted,
        vote_state: if granted { VOTE_NORMAL } else { VOTE_KILLED },
        pre_vote,
        envelope: Some(border.envelope(message.to)),
        removed,
    }
}

/// The core's message of a reply of `peer` to a vote request.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn vote_reply_from_wire(
    border: &Border,
    peer: NodeId,
    reply: RequestVoteReply,
) -> Result<Message, String> {
    border.admit_answer(peer, &reply)?;
    check_numbers(&[reply.term])?;
    let body = match reply.removed {
        true => Body::Removed,
        false => Body::RequestVoteReply { pre_vote: reply.pre_vote, granted: reply.vote_granted },
    };
    Ok(reply_message(border, peer, reply.term, body))
}

/// An order to campaign for the wire.
pub fn timeout_now_to_wire(border: &Border, message: &Message) -> TimeoutNowArgs {
    TimeoutNowArgs { term: message.term.0, envelope: Some(border.envelope(message.to)) }
}

/// The core's message of an order to campaign. It has no token: it is answered when it has been read.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn timeout_now_from_wire(border: &Border, args: &TimeoutNowArgs) -> Result<Message, String> {
    let from = border.admit(args)?;
    check_numbers(&[args.term])?;
    let (to, token) = (border.node_id(), ReplyToken::NONE);
    Ok(Message { from, to, term: Term(args.term), token, body: Body::TimeoutNow })
}

#[cfg(test)]
mod tests {
    use super::super::AddressBook;
    use super::*;

    fn border_of(node_id: u64) -> Border {
        let members = AddressBook::new([(NodeId(0), "a:1".into()), (NodeId(1), "b:1".into())]);
        Border::new("c", NodeId(node_id), members)
    }

    fn border() -> Border {
        border_of(1)
    }

    fn sender() -> Border {
        border_of(0)
    }

    fn append(entries: Vec<Entry>) -> Message {
        let prev = entry_id(1, 4);
        let body = Body::AppendEntries { prev, entries, leader_commit: Index(3) };
        Message { from: NodeId(0), to: NodeId(1), term: Term(2), token: ReplyToken(0), body }
    }

    fn entry(term: u64, index: u64) -> Entry {
        let payload = Payload::Command(Bytes::from_static(b"x"));
        Entry { term: Term(term), index: Index(index), payload }
    }

    #[test]
    fn an_append_survives_the_wire() {
        let message = append(vec![entry(1, 5), entry(2, 6)]);
        let wire = append_to_wire(&sender(), message.clone());
        assert_eq!(append_from_wire(&border(), &wire, ReplyToken(0)), Ok(message));
    }

    #[test]
    fn the_end_of_a_convalescence_survives_the_wire() {
        let body = Body::Heal { id: 7, through: entry_id(2, 9), inquiry: 3 };
        let message = Message { body, ..append(Vec::new()) };
        let wire = append_to_wire(&sender(), message.clone());
        assert_eq!(append_from_wire(&border(), &wire, ReplyToken(0)), Ok(message));
    }

    #[test]
    fn a_gap_between_entries_is_refused() {
        let wire = append_to_wire(&sender(), append(vec![entry(1, 5), entry(2, 7)]));
        assert!(append_from_wire(&border(), &wire, ReplyToken(0)).is_err());
    }

    #[test]
    fn an_entry_of_a_later_term_than_its_leader_is_refused() {
        let wire = append_to_wire(&sender(), append(vec![entry(3, 5)]));
        assert!(append_from_wire(&border(), &wire, ReplyToken(0)).is_err());
    }

    #[test]
    fn a_term_or_index_that_would_use_the_numbers_up_is_refused() {
        let good = append_to_wire(&sender(), append(Vec::new()));
        assert!(append_from_wire(&border(), &good, ReplyToken(0)).is_ok());
        let forged = AppendEntriesArgs { term: u64::MAX, ..good.clone() };
        assert!(append_from_wire(&border(), &forged, ReplyToken(0)).is_err());
        let forged = AppendEntriesArgs { prev_log_index: u64::MAX - 1, ..good };
        assert!(append_from_wire(&border(), &forged, ReplyToken(0)).is_err());
        let envelope = Some(sender().envelope(NodeId(1)));
        let reply = RequestVoteReply { term: 1, envelope, ..RequestVoteReply::default() };
        assert!(vote_reply_from_wire(&border(), NodeId(0), reply.clone()).is_ok());
        let forged = RequestVoteReply { term: u64::MAX, ..reply };
        assert!(vote_reply_from_wire(&border(), NodeId(0), forged).is_err());
    }

    #[test]
    fn heartbeats_and_questions_for_a_read_index_survive_the_wire() {
        let said =
            |body| Message { from: NodeId(0), to: NodeId(1), term: Term(4), token: ReplyToken(0), body };
        for fresh in [None, Some(Fresh { stamp: u64::MAX, index: Index(7) })] {
            let heartbeat = said(Body::Heartbeat { leader_commit: Index(3), read_context: 9, fresh });
            let wire = append_to_wire(&sender(), heartbeat.clone());
            assert_eq!(append_from_wire(&border(), &wire, ReplyToken(0)), Ok(heartbeat));
        }
        let stamp = Stamp { at: 5, keeps_lease: true };
        let answer = said(Body::HeartbeatReply { read_context: 9, stamp });
        let wire = append_reply_to_wire(&sender(), &answer);
        assert_eq!(append_reply_from_wire(&border(), NodeId(0), wire), Ok(answer));
        let question = said(Body::ReadIndex { context: 11 });
        let wire = read_index_to_wire(&sender(), &question);
        assert_eq!(read_index_from_wire(&border(), &wire, ReplyToken(0)), Ok(question));
        for read_index in [None, Some(Index(0)), Some(Index(8))] {
            let answer = said(Body::ReadIndexReply { context: 11, read_index });
            let wire = read_index_reply_to_wire(&sender(), &answer);
            assert_eq!(read_index_reply_from_wire(&border(), NodeId(0), wire), Ok(answer));
        }
    }

    #[test]
    fn replies_survive_the_wire() {
        for outcome in [
            AppendOutcome::Accepted { match_index: Index(7) },
            AppendOutcome::Rejected { hint: entry_id(3, 5), prev_index: Index(9) },
            AppendOutcome::NoRoom { prev_index: Index(9) },
            AppendOutcome::Healthy { inquiry: 4 },
            AppendOutcome::Convalescent {
                id: 5,
                matched: Some(Index(3)),
                hint: EntryId::ZERO,
                prev_index: Index(2),
            },
            AppendOutcome::Convalescent { id: 5, matched: None, hint: entry_id(3, 4), prev_index: Index(9) },
        ] {
            let body = Body::AppendEntriesReply(outcome);
            let message =
                Message { from: NodeId(0), to: NodeId(1), term: Term(4), token: ReplyToken(0), body };
            let wire = append_reply_to_wire(&sender(), &message);
            assert_eq!(append_reply_from_wire(&border(), NodeId(0), wire), Ok(message));
        }
    }
}
