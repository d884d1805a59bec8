//! Between the messages of the `kv` service and the store's own words. Pure: what the service does with a request, and what
//! it says of an outcome, is the same whatever carries them.

use std::time::Duration;

use bytes::Bytes;
use proto::Consistency;
use proto::kv::{
    AppendReply, AppendRequest, Code, DeleteReply, DeleteRequest, GetReply, GetRequest, OpenSessionReply,
    OpenSessionRequest, Outcome as WireOutcome, PutReply, PutRequest, Stamp as WireStamp,
};

use super::RequestLimits;
use crate::outcome::{Outcome, Refusal};
use crate::state_machine::{Command, Part, Reply, Stamp};

/// A request of this service that becomes a command.
pub trait KvWrite {
    /// The command to be proposed, encoded.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn command(&self, limits: RequestLimits) -> Result<Bytes, Refusal>;

    /// Whether whoever asks goes to the leader that a refusal names.
    fn follows_hints(&self) -> bool;
}

impl KvWrite for OpenSessionRequest {
    fn command(&self, _limits: RequestLimits) -> Result<Bytes, Refusal> {
        Ok(Command::OpenSession.encode())
    }

    fn follows_hints(&self) -> bool {
        self.follows_hints
    }
}

impl KvWrite for PutRequest {
    fn command(&self, limits: RequestLimits) -> Result<Bytes, Refusal> {
        let PutRequest { stamp, key, value, .. } = self;
        let stamp = checked(*stamp, key, value, limits)?;
        Ok(Command::Put { stamp, key, value }.encode())
    }

    fn follows_hints(&self) -> bool {
        self.follows_hints
    }
}

impl KvWrite for AppendRequest {
    fn command(&self, limits: RequestLimits) -> Result<Bytes, Refusal> {
        let AppendRequest { stamp, key, value, .. } = self;
        let stamp = checked(*stamp, key, value, limits)?;
        Ok(Command::Append { stamp, key, value }.encode())
    }

    fn follows_hints(&self) -> bool {
        self.follows_hints
    }
}

impl KvWrite for DeleteRequest {
    fn command(&self, limits: RequestLimits) -> Result<Bytes, Refusal> {
        let DeleteRequest { stamp, key, .. } = self;
        let stamp = checked(*stamp, key, &[], limits)?;
        Ok(Command::Delete { stamp, key }.encode())
    }

    fn follows_hints(&self) -> bool {
        self.follows_hints
    }
}

fn checked(
    stamp: Option<WireStamp>,
    key: &[u8],
    value: &[u8],
    limits: RequestLimits,
) -> Result<Stamp, Refusal> {
    let stamp = match stamp {
        Some(WireStamp { client_id, seq, acked_below }) if client_id != 0 && seq != 0 => {
            Stamp { client_id, seq, acked_below }
        }
        _ => {
            let text = "a write needs the stamp of a session: client_id and seq, both above 0";
            return Err(Refusal::Invalid(text.into()));
        }
    };
    limits.check(key, value).map_err(Refusal::TooLarge)?;
    Ok(stamp)
}

/// The key that a get reads, and what it must see of it.
///
/// # Errors
/// What is wrong with the request.
pub fn read_of(request: GetRequest, limits: RequestLimits) -> Result<(Bytes, Consistency), Refusal> {
    limits.check(&request.key, &[]).map_err(Refusal::TooLarge)?;
    let consistency = match Consistency::from_wire(request.consistency, request.max_age_ms) {
        // Who goes nowhere else is served here.
        Some(Consistency::Linearizable) if !request.follows_hints => Consistency::Follower,
        Some(consistency) => consistency,
        None => {
            let text = format!("a consistency numbered {} is unknown here", request.consistency);
            return Err(Refusal::Invalid(text));
        }
    };
    Ok((request.key, consistency))
}

/// A reply of this service, made of an outcome's common part and what is its own.
pub trait KvReply: prost::Message + Sized + 'static {
    /// The reply with these parts, of which it takes those that it has.
    fn from_parts(outcome: WireOutcome, version: u64, value: Bytes) -> Self;

    /// What the service says of an outcome.
    fn of(outcome: Outcome) -> Self {
        let (outcome, version, value) = parts_of(outcome);
        Self::from_parts(outcome, version, value)
    }
}

impl KvReply for OpenSessionReply {
    fn from_parts(outcome: WireOutcome, client_id: u64, _value: Bytes) -> Self {
        OpenSessionReply { outcome: Some(outcome), client_id }
    }
}

impl KvReply for GetReply {
    fn from_parts(outcome: WireOutcome, version: u64, value: Bytes) -> Self {
        GetReply { outcome: Some(outcome), value, version }
    }
}

impl KvReply for PutReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        PutReply { outcome: Some(outcome), version }
    }
}

impl KvReply for AppendReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        AppendReply { outcome: Some(outcome), version }
    }
}

impl KvReply for DeleteReply {
    fn from_parts(outcome: WireOutcome, version: u64, _value: Bytes) -> Self {
        DeleteReply { outcome: Some(outcome), version }
    }
}

/// The common part of a reply, and the version and the value that go with it.
pub(super) fn parts_of(outcome: Outcome) -> (WireOutcome, u64, Bytes) {
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
