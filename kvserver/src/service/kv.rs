//! The `kv` service: what our own clients speak. Typed replies, leader hints, sessions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::Consistency;
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
        (follows_hints, reply): (bool, RpcReply<M>),
        command: impl FnOnce(Stamp) -> Command<'a>,
    ) {
        let passed_on = (!follows_hints).then(|| reply.context().remaining());
        let sink = Box::new(KvSink(reply));
        let checked = checked_stamp(stamp).and_then(|stamp| {
            self.limits.check(key, value).map_err(Refusal::TooLarge)?;
            Ok(stamp)
        });
        match checked {
            Ok(stamp) => self.intake.write_or_pass_on(command(stamp).encode(), sink, passed_on),
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

/// What a get must see.
fn consistency(request: &GetRequest) -> Result<Consistency, Refusal> {
    match Consistency::from_wire(request.consistency, request.max_age_ms) {
        // Who goes nowhere else is served here.
        Some(Consistency::Linearizable) if !request.follows_hints => Ok(Consistency::Follower),
        Some(consistency) => Ok(consistency),
        None => {
            Err(Refusal::Invalid(format!("a consistency numbered {} is unknown here", request.consistency)))
        }
    }
}

impl Kv for KvService {
    fn open_session(&self, request: OpenSessionRequest, reply: RpcReply<OpenSessionReply>) {
        let passed_on = (!request.follows_hints).then(|| reply.context().remaining());
        self.intake.write_or_pass_on(Command::OpenSession.encode(), Box::new(KvSink(reply)), passed_on);
    }

    fn get(&self, request: GetRequest, reply: RpcReply<GetReply>) {
        let sink = Box::new(KvSink(reply));
        let checked = self.limits.check(&request.key, &[]).map_err(Refusal::TooLarge);
        match checked.and_then(|()| consistency(&request)) {
            Ok(consistency) => self.intake.read_with(request.key, consistency, sink),
            Err(refusal) => sink.send(Outcome::Refused(refusal)),
        }
    }

    fn put(&self, request: PutRequest, reply: RpcReply<PutReply>) {
        let PutRequest { stamp, key, value, follows_hints } = &request;
        self.write(*stamp, key, value, (*follows_hints, reply), |stamp| Command::Put { stamp, key, value });
    }

    fn append(&self, request: AppendRequest, reply: RpcReply<AppendReply>) {
        let AppendRequest { stamp, key, value, follows_hints } = &request;
        self.write(*stamp, key, value, (*follows_hints, reply), |stamp| Command::Append {
            stamp,
            key,
            value,
        });
    }

    fn delete(&self, request: DeleteRequest, reply: RpcReply<DeleteReply>) {
        let DeleteRequest { stamp, key, follows_hints } = &request;
        self.write(*stamp, key, &[], (*follows_hints, reply), |stamp| Command::Delete { stamp, key });
    }
}

/// A reply of this service, made of an outcome's common part and what is its own.
trait FromOutcome: prost::Message + 'static {
    fn from_parts(outcome: WireOutcome, version: u64, value: Bytes) -> Self;
}

struct KvSink<M>(RpcReply<M>);

impl<M: FromOutcome> ReplySink for KvSink<M> {
    fn send(self: Box<Self>, outcome: Outcome) {
        let (outcome, version, value) = parts_of(outcome);
        self.0.send(&M::from_parts(outcome, version, value));
    }

    fn is_in_vain(&self) -> bool {
        self.0.context().is_cancelled()
    }

    fn send_of(self: Box<Self>, outcome: Outcome, leader: &Arc<str>) {
        let (mut outcome, version, value) = parts_of(outcome);
        if outcome.code == i32::from(Code::Ok) {
            outcome.leader_address = leader.to_string();
        }
        self.0.send(&M::from_parts(outcome, version, value));
    }
}

/// The common part of a reply, and the version and the value that go with it.
fn parts_of(outcome: Outcome) -> (WireOutcome, u64, Bytes) {
    match outcome {
        Outcome::Found { value, version } => (WireOutcome::default(), version, value),
        Outcome::Missing => (coded(Code::NotFound, String::new()), 0, Bytes::new()),
        Outcome::Applied(reply) => {
            let (outcome, version) = applied(reply);
            (outcome, version, Bytes::new())
        }
        Outcome::Refused(refusal) => (refused(refusal), 0, Bytes::new()),
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

fn too_stale(age: Option<Duration>, max_age: Duration) -> String {
    let max_age = max_age.as_millis();
    match age {
        Some(age) => {
            let age = age.as_millis();
            format!("what this node has may be {age} ms old, {max_age} ms are allowed")
        }
        None => format!("this node cannot prove how old it is what it has, {max_age} ms are allowed"),
    }
}

pub(super) fn refused(refusal: Refusal) -> WireOutcome {
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
        Refusal::TooStale { age, max_age } => coded(Code::TooStale, too_stale(age, max_age)),
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
