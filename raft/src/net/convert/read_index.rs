//! The questions that followers put to their leader for a read index, and its answers.

use proto::raft_rpc::{ReadIndexArgs, ReadIndexReply};
use raft_core::{Body, Index, Message, NodeId, ReplyToken, Term};

use super::{check_numbers, reply_message};
use crate::net::Border;

/// A question for a read index for the wire.
///
/// # Panics
/// For any other body.
pub fn read_index_to_wire(border: &Border, message: &Message) -> ReadIndexArgs {
    let Body::ReadIndex { context } = message.body else {
        unreachable!("{:?} is not a question for a read index", message.body)
    };
    ReadIndexArgs { term: message.term.0, context, envelope: Some(border.envelope(message.to)) }
}

/// The core's message of a question for a read index.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn read_index_from_wire(
    border: &Border,
    args: &ReadIndexArgs,
    token: ReplyToken,
) -> Result<Message, String> {
    let from = border.admit(args)?;
    check_numbers(&[args.term])?;
    let body = Body::ReadIndex { context: args.context };
    Ok(Message { from, to: border.node_id(), term: Term(args.term), token, body })
}

/// The wire's reply to a question for a read index.
///
/// # Panics
/// For any other body.
pub fn read_index_reply_to_wire(border: &Border, message: &Message) -> ReadIndexReply {
    let Body::ReadIndexReply { context, read_index } = message.body else {
        unreachable!("{:?} does not answer a question for a read index", message.body)
    };
    ReadIndexReply {
        term: message.term.0,
        context,
        confirmed: read_index.is_some(),
        read_index: read_index.map_or(0, |index| index.0),
        envelope: Some(border.envelope(message.to)),
    }
}

/// The core's message of a reply of `peer` to a question for a read index.
///
/// # Errors
/// One sentence that says why the message is refused.
pub fn read_index_reply_from_wire(
    border: &Border,
    peer: NodeId,
    reply: ReadIndexReply,
) -> Result<Message, String> {
    border.admit_answer(peer, &reply)?;
    check_numbers(&[reply.term, reply.read_index])?;
    let read_index = reply.confirmed.then_some(Index(reply.read_index));
    let body = Body::ReadIndexReply { context: reply.context, read_index };
    Ok(reply_message(border, peer, reply.term, body))
}
