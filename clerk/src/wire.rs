//! Between the machine's words and the `kv` service's messages.
//!
//! The border: whatever a server says becomes a [`Verdict`] here, also nonsense. What this must never do is to call a
//! write "not run" when the other side did not say so. Pure, so that whoever carries the messages some other way than by RPC
//! says and hears the same.

use bytes::Bytes;
use proto::{Consistency, kv};
use rpc::{RpcError, Status};

use crate::operation::{Answer, Operation, Refusal, Request, Stamp, Verdict};

/// A request as the message that asks for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// `OpenSession`.
    OpenSession(kv::OpenSessionRequest),
    /// `Get`.
    Get(kv::GetRequest),
    /// `Put`.
    Put(kv::PutRequest),
    /// `Append`.
    Append(kv::AppendRequest),
    /// `Delete`.
    Delete(kv::DeleteRequest),
}

impl Asked {
    /// The message of a request. `follows_hints`: see [`ClerkConfig::follows_hints`](crate::ClerkConfig::follows_hints).
    pub fn of(request: Request, follows_hints: bool) -> Asked {
        let (operation, stamp) = match request {
            Request::OpenSession => return Asked::OpenSession(kv::OpenSessionRequest { follows_hints }),
            Request::Read { key, consistency } => {
                return Asked::Get(get_request(key, consistency, follows_hints));
            }
            Request::Write { operation, stamp } => (operation, Some(stamp_message(stamp))),
        };
        match operation {
            Operation::Put { key, value } => Asked::Put(kv::PutRequest { stamp, key, value, follows_hints }),
            Operation::Append { key, value } => {
                Asked::Append(kv::AppendRequest { stamp, key, value, follows_hints })
            }
            Operation::Delete { key } => Asked::Delete(kv::DeleteRequest { stamp, key, follows_hints }),
            Operation::Get { .. } => unreachable!("the machine sends a get as a read"),
        }
    }
}

fn stamp_message(stamp: Stamp) -> kv::Stamp {
    kv::Stamp { client_id: stamp.client_id, seq: stamp.seq, acked_below: stamp.acked_below }
}

fn get_request(key: Bytes, consistency: Consistency, follows_hints: bool) -> kv::GetRequest {
    let (consistency, max_age_ms) = consistency.to_wire();
    kv::GetRequest { key, consistency: consistency.into(), max_age_ms, follows_hints }
}

/// What an attempt to open a session came to.
pub fn session_verdict(reply: Result<kv::OpenSessionReply, RpcError>) -> Verdict {
    match reply {
        Err(error) => error_verdict(error),
        Ok(reply) => match (code(reply.outcome.as_ref()), reply.client_id) {
            (Some(kv::Code::Ok), 0) => nonsense("a session numbered 0"),
            (Some(kv::Code::Ok), client_id) => Verdict::SessionOpened { client_id },
            _ => outcome_verdict(reply.outcome),
        },
    }
}

/// What an attempt of a get came to.
pub fn read_verdict(reply: Result<kv::GetReply, RpcError>) -> Verdict {
    match reply {
        Err(error) => error_verdict(error),
        Ok(reply) => match code(reply.outcome.as_ref()) {
            Some(kv::Code::Ok) => {
                Verdict::Done(Answer::Value { value: compact(reply.value), version: reply.version })
            }
            Some(kv::Code::NotFound) => Verdict::Done(Answer::NotFound),
            _ => outcome_verdict(reply.outcome),
        },
    }
}

/// What an attempt of a put came to.
pub fn put_verdict(reply: Result<kv::PutReply, RpcError>) -> Verdict {
    reply.map_or_else(error_verdict, |reply| write_verdict(reply.outcome, reply.version))
}

/// What an attempt of an append came to.
pub fn append_verdict(reply: Result<kv::AppendReply, RpcError>) -> Verdict {
    reply.map_or_else(error_verdict, |reply| write_verdict(reply.outcome, reply.version))
}

/// What an attempt of a delete came to; it alone of the writes may find nothing.
pub fn delete_verdict(reply: Result<kv::DeleteReply, RpcError>) -> Verdict {
    match reply {
        Err(error) => error_verdict(error),
        Ok(reply) if code(reply.outcome.as_ref()) == Some(kv::Code::NotFound) => {
            Verdict::Done(Answer::NotFound)
        }
        Ok(reply) => write_verdict(reply.outcome, reply.version),
    }
}

fn write_verdict(outcome: Option<kv::Outcome>, version: u64) -> Verdict {
    match code(outcome.as_ref()) {
        Some(kv::Code::Ok) => Verdict::Done(Answer::Written { version }),
        _ => outcome_verdict(outcome),
    }
}

/// A failed call as a verdict.
pub fn error_verdict(error: RpcError) -> Verdict {
    let may_have_run = error.may_have_run();
    let text = error.to_string();
    let refused = |reason, text| Verdict::Refused { reason, text, may_have_run };
    match error {
        RpcError::DeadlineExceeded { .. } => Verdict::NoReply { may_have_run },
        RpcError::Busy { .. } => Verdict::Busy { may_have_run, text },
        RpcError::Stopped { .. } => Verdict::Stopped { may_have_run },
        RpcError::TooLarge { .. } => refused(Refusal::TooLarge, text),
        RpcError::BadReply { .. } => refused(Refusal::Protocol, text),
        RpcError::Status { status, text: reason } => match status {
            Status::NoSuchService | Status::NoSuchMethod | Status::BadRequest => {
                refused(Refusal::Protocol, text)
            }
            Status::TooLarge => refused(Refusal::TooLarge, format!("key and value are too large: {reason}")),
            Status::Unauthenticated | Status::PermissionDenied => refused(Refusal::Denied, text),
            Status::Overloaded => Verdict::Busy { may_have_run, text },
            Status::DeadlineExceeded => Verdict::NoReply { may_have_run },
            _ => Verdict::Unreachable { may_have_run, text },
        },
        _ => Verdict::Unreachable { may_have_run, text },
    }
}

fn code(outcome: Option<&kv::Outcome>) -> Option<kv::Code> {
    // An absent message is one whose fields all have their defaults: OK.
    outcome.map_or(Some(kv::Code::Ok), |outcome| kv::Code::try_from(outcome.code).ok())
}

fn outcome_verdict(outcome: Option<kv::Outcome>) -> Verdict {
    let outcome = outcome.unwrap_or_default();
    let may_have_run = outcome.may_have_run;
    let text = outcome.text;
    match kv::Code::try_from(outcome.code) {
        Ok(kv::Code::NotLeader) => {
            let hint = Some(outcome.leader_address).filter(|address| is_address(address));
            Verdict::NotLeader { hint, may_have_run }
        }
        Ok(kv::Code::Busy) => Verdict::Busy { may_have_run, text },
        Ok(kv::Code::SessionExpired) => Verdict::SessionExpired { may_have_run },
        Ok(kv::Code::ShuttingDown) => {
            Verdict::Unreachable { may_have_run, text: "the node is shutting down".to_string() }
        }
        Ok(kv::Code::StaleSeq) => Verdict::Refused { reason: Refusal::StaleSeq, text, may_have_run: true },
        Ok(kv::Code::NoSpace) => Verdict::Refused { reason: Refusal::NoSpace, text, may_have_run },
        Ok(kv::Code::TooStale) => Verdict::TooStale { text },
        Ok(kv::Code::TooLarge) => Verdict::Refused { reason: Refusal::TooLarge, text, may_have_run },
        Ok(kv::Code::Invalid) => Verdict::Refused { reason: Refusal::Invalid, text, may_have_run },
        Ok(kv::Code::Ok | kv::Code::NotFound) => nonsense("a reply that does not fit the request"),
        Err(_) => nonsense("a code this client does not know"),
    }
}

fn nonsense(what: &str) -> Verdict {
    let text = format!("the server answered {what}");
    Verdict::Refused { reason: Refusal::Protocol, text, may_have_run: true }
}

/// Whether the text looks like `host:port`: what a server hints at is dialled, so it is looked at first.
pub(crate) fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// A value of its own size: a decoded `Bytes` is a window that keeps its whole receive buffer alive, and a caller may
/// keep a value for long. A large one fills its buffer anyway.
fn compact(value: Bytes) -> Bytes {
    const COPY_BYTES_MAX: usize = 4096;
    if value.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(&value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: kv::Code) -> Option<kv::Outcome> {
        Some(kv::Outcome { code: code.into(), ..kv::Outcome::default() })
    }

    #[test]
    fn only_a_get_and_a_delete_may_find_nothing() {
        let get = kv::GetReply { outcome: outcome(kv::Code::NotFound), ..kv::GetReply::default() };
        assert_eq!(read_verdict(Ok(get)), Verdict::Done(Answer::NotFound));
        let delete = kv::DeleteReply { outcome: outcome(kv::Code::NotFound), version: 0 };
        assert_eq!(delete_verdict(Ok(delete)), Verdict::Done(Answer::NotFound));
        let put = kv::PutReply { outcome: outcome(kv::Code::NotFound), version: 0 };
        let verdict = put_verdict(Ok(put));
        assert!(matches!(verdict, Verdict::Refused { reason: Refusal::Protocol, may_have_run: true, .. }));
    }

    #[test]
    fn a_request_over_the_servers_limit_is_too_large_and_says_both_numbers() {
        let text = "arguments of 20 bytes, the maximum is 10".to_owned();
        let verdict = put_verdict(Err(RpcError::Status { status: Status::TooLarge, text }));
        let text = "key and value are too large: arguments of 20 bytes, the maximum is 10".to_owned();
        assert_eq!(verdict, Verdict::Refused { reason: Refusal::TooLarge, text, may_have_run: false });
    }

    #[test]
    fn nonsense_is_refused_and_never_called_not_run() {
        let strange = Some(kv::Outcome { code: 77, ..kv::Outcome::default() });
        let verdict = put_verdict(Ok(kv::PutReply { outcome: strange, version: 1 }));
        assert!(matches!(verdict, Verdict::Refused { may_have_run: true, .. }), "{verdict:?}");
        let zero = kv::OpenSessionReply { outcome: None, client_id: 0 };
        assert!(matches!(session_verdict(Ok(zero)), Verdict::Refused { .. }));
        let unreadable = RpcError::BadReply { cause: "truncated".into() };
        assert!(matches!(error_verdict(unreadable), Verdict::Refused { may_have_run: true, .. }));
    }

    #[test]
    fn a_hint_that_is_no_address_is_no_hint() {
        for (hint, kept) in
            [("127.0.0.1:80", true), ("[::1]:80", true), ("", false), ("x", false), (":1", false)]
        {
            let refusal =
                kv::Outcome { leader_address: hint.into(), ..outcome(kv::Code::NotLeader).unwrap() };
            let verdict = outcome_verdict(Some(refusal));
            let hint = Some(hint.to_string()).filter(|_| kept);
            assert_eq!(verdict, Verdict::NotLeader { hint, may_have_run: false });
        }
    }
}
