//! The wire between a client and a node: what the clerk's machine asks is written as its shell writes it and read as the
//! `kv` service reads it, and what becomes of it is written as the service does and read as the clerk does.

use std::time::Duration;

use bytes::Bytes;
use clerk::wire::{self, Asked};
use clerk::{ClerkConfig, Request, Verdict};
use kvserver::service::{KvReply, KvWrite, RequestLimits, read_of};
use kvserver::{Intake, Outcome, ReplySink, ServerConfig};
use prost::Message;
use proto::kv::{AppendReply, DeleteReply, GetReply, OpenSessionReply, PutReply};
use rpc::{RpcError, Step};

use crate::node::address;
use crate::tap::{Attempt, ClientSink, Mailroom};

/// Which of the service's methods was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    OpenSession,
    Get,
    Put,
    Append,
    Delete,
}

impl Kind {
    fn of(asked: &Asked) -> Kind {
        match asked {
            Asked::OpenSession(_) => Kind::OpenSession,
            Asked::Get(_) => Kind::Get,
            Asked::Put(_) => Kind::Put,
            Asked::Append(_) => Kind::Append,
            Asked::Delete(_) => Kind::Delete,
        }
    }
}

/// The service of one node.
pub(crate) struct Service {
    limits: RequestLimits,
    follows_hints: bool,
}

impl Service {
    pub(crate) fn new(config: &ServerConfig) -> Service {
        let limits =
            RequestLimits { key_bytes_max: config.key_bytes_max, value_bytes_max: config.value_bytes_max };
        Service { limits, follows_hints: ClerkConfig::default().follows_hints }
    }

    /// A client's request comes in.
    pub(crate) fn receive(&self, intake: &Intake, mailroom: &Mailroom, attempt: Attempt, request: &Request) {
        let asked = Asked::of(request.clone(), self.follows_hints);
        let sink = Box::new(ClientSink::new(attempt, Kind::of(&asked), mailroom));
        match asked {
            Asked::OpenSession(request) => self.write(intake, &carried(&request), sink),
            Asked::Put(request) => self.write(intake, &carried(&request), sink),
            Asked::Append(request) => self.write(intake, &carried(&request), sink),
            Asked::Delete(request) => self.write(intake, &carried(&request), sink),
            Asked::Get(request) => match read_of(carried(&request), self.limits) {
                Ok((key, consistency)) => intake.read_with(key, consistency, sink),
                Err(refusal) => sink.send(Outcome::Refused(refusal)),
            },
        }
    }

    fn write(&self, intake: &Intake, request: &impl KvWrite, sink: Box<ClientSink>) {
        match request.command(self.limits) {
            Ok(command) => intake.write(command, sink),
            Err(refusal) => sink.send(Outcome::Refused(refusal)),
        }
    }
}

/// What a client hears of an outcome.
pub(crate) fn verdict(kind: Kind, outcome: Outcome) -> Verdict {
    match kind {
        Kind::OpenSession => wire::session_verdict(Ok(carried(&OpenSessionReply::of(outcome)))),
        Kind::Get => wire::read_verdict(Ok(carried(&GetReply::of(outcome)))),
        Kind::Put => wire::put_verdict(Ok(carried(&PutReply::of(outcome)))),
        Kind::Append => wire::append_verdict(Ok(carried(&AppendReply::of(outcome)))),
        Kind::Delete => wire::delete_verdict(Ok(carried(&DeleteReply::of(outcome)))),
    }
}

/// What a client hears where nobody listens.
pub(crate) fn nobody_listens(node: usize) -> Verdict {
    let cause = "nobody listens".to_owned();
    wire::error_verdict(RpcError::Connect { address: address(node as u64), cause })
}

/// What a client hears whose connection ends before it has its answer.
pub(crate) fn connection_ended(node: usize) -> Verdict {
    let (address, cause) = (address(node as u64), "the process is gone".to_owned());
    wire::error_verdict(RpcError::Closed { address, step: Step::Read, cause, may_have_run: true })
}

/// What a client hears that has waited for `timeout`.
pub(crate) fn no_reply(timeout: Duration) -> Verdict {
    wire::error_verdict(RpcError::DeadlineExceeded { timeout, may_have_run: true })
}

/// A message as it comes out of the bytes that carry it.
fn carried<M: Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("a message reads what it has written")
}
