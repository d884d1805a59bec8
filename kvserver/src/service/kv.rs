//! The `kv` service: what our own clients speak. Typed replies, leader hints, sessions.

use std::sync::Arc;

use bytes::Bytes;
use proto::kv::{
    AppendReply, AppendRequest, Code, DeleteReply, DeleteRequest, GetReply, GetRequest, Kv, OpenSessionReply,
    OpenSessionRequest, Outcome as WireOutcome, PutReply, PutRequest, Stamp as WireStamp,
};
use rpc::Reply as RpcReply;

use super::RequestLimits;
use crate::intake::Intake;
use crate::outcome::{Outcome, Refusal, ReplySink};
use crate::state_machine::{Command, Part, Reply, Stamp};

/// The service.
pub struct KvService {
    intake: Arc<Intake>,
    limits: RequestLimits,
}

impl KvService {
    /// A service that feeds `intake`.
    pub fn new(intake: Arc<Intake>, limits: RequestLimits) -> KvService {
        KvService { intake, limits }
    }

    /// Checks a write and hands it on, or answers at once what is wrong with it.
    fn write<'a, M: FromOutcome>(
        &self,
        stamp: Option<WireStamp>,
        key: &[u8],
        value: &[u8],
        reply: RpcReply<M>,
        command: impl FnOnce(Stamp) -> Command<'a>,
    ) {
        let sink = Box::new(KvSink(reply));
        let checked = checked_stamp(stamp).and_then(|stamp| {
            self.limits.check(key, value).map_err(Refusal::TooLarge)?;
            Ok(stamp)
        });
        match checked {
            Ok(stamp) => self.intake.write(command(stamp).encode(), sink),
            Err(refusal) => sink.send(Outcome::Refused(refusal)),
        }
    }
}

fn checked_stamp(stamp: Option<WireStamp>) -> Result<Stamp, Refusal> {
    match stamp {
        Some(WireStamp { client_id, seq, acked_below }) if client_id != 0 && seq != 0 => {
            Ok(Stamp { client_id, seq, acked_below })
        }
        _ => Err(Refusal::Invalid(
            "a write needs the stamp of a session: client_id and seq, both above 0".into(),
        )),
    }
}

impl Kv for KvService {
    fn open_session(&self, _request: OpenSessionRequest, reply: RpcReply<OpenSessionReply>) {
        self.intake.write(Command::OpenSession.encode(), Box::new(KvSink(reply)));
    }

    fn get(&self, request: GetRequest, reply: RpcReply<GetReply>) {
        let sink = Box::new(KvSink(reply));
        match self.limits.check(&request.key, &[]) {
            Ok(()) => self.intake.read(request.key, sink),
            Err(text) => sink.send(Outcome::Refused(Refusal::TooLarge(text))),
        }
    }

    fn put(&self, request: PutRequest, reply: RpcReply<PutReply>) {
        let PutRequest { stamp, key, value } = &request;
        self.write(*stamp, key, value, reply, |stamp| Command::Put { stamp, key, value });
    }

    fn append(&self, request: AppendRequest, reply: RpcReply<AppendReply>) {
        let AppendRequest { stamp, key, value } = &request;
        self.write(*stamp, key, value, reply, |stamp| Command::Append { stamp, key, value });
    }

    fn delete(&self, request: DeleteRequest, reply: RpcReply<DeleteReply>) {
        let DeleteRequest { stamp, key } = &request;
        self.write(*stamp, key, &[], reply, |stamp| Command::Delete { stamp, key });
    }
}

/// A reply of this service, made of an outcome's common part and what is its own.
trait FromOutcome: prost::Message + 'static {
    fn from_parts(outcome: WireOutcome, version: u64, value: Bytes) -> Self;
}

struct KvSink<M>(RpcReply<M>);

impl<M: FromOutcome> ReplySink for KvSink<M> {
    fn send(self: Box<Self>, outcome: Outcome) {
        let (outcome, version, value) = match outcome {
            Outcome::Found { value, version } => (WireOutcome::default(), version, value),
            Outcome::Missing => (coded(Code::NotFound, String::new()), 0, Bytes::new()),
            Outcome::Applied(reply) => {
                let (outcome, version) = applied(reply);
                (outcome, version, Bytes::new())
            }
            Outcome::Refused(refusal) => (refused(refusal), 0, Bytes::new()),
        };
        self.0.send(&M::from_parts(outcome, version, value));
    }
}

fn coded(code: Code, text: String) -> WireOutcome {
    WireOutcome { code: code.into(), text, ..WireOutcome::default() }
}

/// The outcome of an applied command, and the number that goes with it: the version written or the session opened.
fn applied(reply: Reply) -> (WireOutcome, u64) {
    let outcome = match reply {
        Reply::SessionOpened { client_id } => return (WireOutcome::default(), client_id),
        Reply::Written { version } | Reply::Deleted { version } => {
            return (WireOutcome::default(), version.0);
        }
        Reply::NotFound => coded(Code::NotFound, String::new()),
        Reply::SessionExpired => coded(Code::SessionExpired, "the session is gone".into()),
        Reply::StaleSeq => coded(Code::StaleSeq, "the client said that it saw this write answered".into()),
        Reply::OutOfWindow => coded(Code::Busy, "too many writes of this session are unanswered".into()),
        Reply::TooLarge { part, bytes } => coded(Code::TooLarge, too_large(part, bytes)),
        Reply::Invalid(error) => coded(Code::Invalid, error.to_string()),
        Reply::Legacy(_) => unreachable!("only the origin's service proposes its commands"),
    };
    (outcome, 0)
}

fn too_large(part: Part, bytes: u64) -> String {
    let name = match part {
        Part::Key => "key",
        Part::Value => "value",
    };
    format!("a {name} of {bytes} bytes is over the limit of {}", part.bytes_max())
}

fn refused(refusal: Refusal) -> WireOutcome {
    match refusal {
        Refusal::NotLeader { leader, may_have_run } => WireOutcome {
            code: Code::NotLeader.into(),
            may_have_run,
            leader_address: leader.as_deref().unwrap_or_default().to_owned(),
            text: String::new(),
        },
        Refusal::Busy => coded(Code::Busy, "too much is waiting to be committed".into()),
        Refusal::NoSpace(text) => coded(Code::NoSpace, text),
        Refusal::TooLarge(text) => coded(Code::TooLarge, text),
        Refusal::Invalid(text) => coded(Code::Invalid, text),
        Refusal::ShuttingDown { may_have_run } => {
            WireOutcome { may_have_run, ..coded(Code::ShuttingDown, "the node stops".into()) }
        }
    }
}

impl FromOutcome for OpenSessionReply {
    fn from_parts(outcome: WireOutcome, client_id: u64, _value: Bytes) -> Self {
        OpenSessionReply { outcome: Some(outcome), client_id }
    }
}

impl FromOutcome for GetReply {
    fn from_parts(outcome: WireOutcome, version: u64, value: Bytes) -> Self {
        GetReply { outcome: Some(outcome), value, version }
    }
}

impl FromOutcome for PutReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        PutReply { outcome: Some(outcome), version }
    }
}

impl FromOutcome for AppendReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        AppendReply { outcome: Some(outcome), version }
    }
}

impl FromOutcome for DeleteReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        DeleteReply { outcome: Some(outcome), version }
    }
}
