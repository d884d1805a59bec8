//! The `forward` service: writes that other nodes pass on to this one, which they take for the leader.
//!
//! What arrives here is proposed or refused, never passed on again: a hint that is out of date costs one refusal, and no
//! write goes in a circle.

use std::sync::Arc;

use bytes::Bytes;
use proto::kv::{Applied, Code, Forward, ForwardReply, ForwardRequest, Outcome as WireOutcome};
use proto::raft_rpc::Envelope;
use raft::net::{Border, Enveloped};
use rpc::{Reply as RpcReply, Status};

use super::kv_wire::refused;
use crate::intake::Intake;
use crate::mvcc::Version;
use crate::outcome::{Outcome, Refusal, ReplySink};
use crate::state_machine::{LegacyOutcome, Part, Reply};

/// The service.
pub struct ForwardService {
    intake: Arc<Intake>,
    border: Border,
}

impl ForwardService {
    /// A service that feeds `intake` with what comes from members of the cluster.
    pub fn new(intake: Arc<Intake>, border: Border) -> ForwardService {
        ForwardService { intake, border }
    }
}

impl Forward for ForwardService {
    fn accepts_legacy(&self) -> bool {
        false
    }

    fn write(&self, request: ForwardRequest, reply: RpcReply<ForwardReply>) {
        match self.border.admit(&Passed(envelope_of(&request))) {
            Ok(_) => self.intake.write(command_of(&request), Box::new(ForwardSink(reply))),
            Err(why) => reply.fail(Status::BadRequest, &why),
        }
    }
}

/// The envelope of something passed on, as the border wants to see it.
struct Passed(Envelope);

impl Enveloped for Passed {
    fn envelope(&self) -> Option<&Envelope> {
        Some(&self.0)
    }
}

fn envelope_of(request: &ForwardRequest) -> Envelope {
    let ForwardRequest { cluster_id, from, to, version, .. } = request;
    Envelope { cluster_id: cluster_id.clone(), from: *from, to: *to, version: *version }
}

/// The command by itself: as long as the log keeps it, it would hold the whole buffer that it came in.
fn command_of(request: &ForwardRequest) -> Bytes {
    Bytes::copy_from_slice(&request.command)
}

struct ForwardSink(RpcReply<ForwardReply>);

impl ReplySink for ForwardSink {
    fn send(self: Box<Self>, outcome: Outcome) {
        self.0.send(&to_wire(outcome));
    }
}

fn to_wire(outcome: Outcome) -> ForwardReply {
    let reply = match outcome {
        Outcome::Applied(Reply::Invalid(error)) => return turned_away(Refusal::Invalid(error.to_string())),
        Outcome::Applied(reply) => reply,
        Outcome::Refused(refusal) => return turned_away(refusal),
        Outcome::Found { .. } | Outcome::Missing => unreachable!("only writes are passed on"),
    };
    let (applied, number) = match reply {
        Reply::SessionOpened { client_id } => (Applied::SessionOpened, client_id),
        Reply::Written { version } => (Applied::Written, version.0),
        Reply::Deleted { version } => (Applied::Deleted, version.0),
        Reply::NotFound => (Applied::NoSuchKey, 0),
        Reply::TooLarge { part: Part::Key, bytes } => (Applied::KeyTooLarge, bytes),
        Reply::TooLarge { part: Part::Value, bytes } => (Applied::ValueTooLarge, bytes),
        Reply::SessionExpired => (Applied::NoSuchSession, 0),
        Reply::StaleSeq => (Applied::SeqIsStale, 0),
        Reply::OutOfWindow => (Applied::OutOfWindow, 0),
        Reply::Legacy(LegacyOutcome::Done) => (Applied::LegacyDone, 0),
        Reply::Legacy(LegacyOutcome::TooLarge) => (Applied::LegacyTooLarge, 0),
        Reply::Invalid(_) => unreachable!("it was turned away above"),
    };
    ForwardReply { applied: applied.into(), number, refusal: None }
}

fn turned_away(refusal: Refusal) -> ForwardReply {
    ForwardReply { applied: Applied::Nothing.into(), number: 0, refusal: Some(refused(refusal)) }
}

/// What the leader made of a write, in this node's words. Of an answer that makes no sense nothing is known.
pub(crate) fn from_wire(reply: ForwardReply) -> Outcome {
    let ForwardReply { number, refusal, .. } = reply;
    let version = Version(number);
    Outcome::Applied(match Applied::try_from(reply.applied) {
        Ok(Applied::SessionOpened) => Reply::SessionOpened { client_id: number },
        Ok(Applied::Written) => Reply::Written { version },
        Ok(Applied::Deleted) => Reply::Deleted { version },
        Ok(Applied::NoSuchKey) => Reply::NotFound,
        Ok(Applied::KeyTooLarge) => Reply::TooLarge { part: Part::Key, bytes: number },
        Ok(Applied::ValueTooLarge) => Reply::TooLarge { part: Part::Value, bytes: number },
        Ok(Applied::NoSuchSession) => Reply::SessionExpired,
        Ok(Applied::SeqIsStale) => Reply::StaleSeq,
        Ok(Applied::OutOfWindow) => Reply::OutOfWindow,
        Ok(Applied::LegacyDone) => Reply::Legacy(LegacyOutcome::Done),
        Ok(Applied::LegacyTooLarge) => Reply::Legacy(LegacyOutcome::TooLarge),
        Ok(Applied::Nothing) => return Outcome::Refused(refusal.map_or_else(lost, refusal_from_wire)),
        Err(_) => return Outcome::Refused(lost()),
    })
}

fn refusal_from_wire(refusal: WireOutcome) -> Refusal {
    let WireOutcome { code, may_have_run, leader_address, text } = refusal;
    match Code::try_from(code) {
        Ok(Code::Busy) => Refusal::Busy,
        Ok(Code::TooLarge) => Refusal::TooLarge(text),
        Ok(Code::NoSpace) => Refusal::NoSpace(text),
        Ok(Code::Invalid) => Refusal::Invalid(text),
        Ok(Code::NotLeader | Code::ShuttingDown) => {
            let leader = Some(leader_address).filter(|address| !address.is_empty());
            Refusal::NotLeader { leader: leader.map(Arc::from), may_have_run }
        }
        _ => lost(),
    }
}

/// Nobody knows what became of it.
fn lost() -> Refusal {
    Refusal::NotLeader { leader: None, may_have_run: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_of_a_write_survives_the_way_back() {
        let version = Version(7);
        let replies = [
            Reply::SessionOpened { client_id: 9 },
            Reply::Written { version },
            Reply::Deleted { version },
            Reply::NotFound,
            Reply::TooLarge { part: Part::Key, bytes: 5 },
            Reply::TooLarge { part: Part::Value, bytes: 6 },
            Reply::SessionExpired,
            Reply::StaleSeq,
            Reply::OutOfWindow,
            Reply::Legacy(LegacyOutcome::Done),
            Reply::Legacy(LegacyOutcome::TooLarge),
        ];
        let refusals = [
            Refusal::NotLeader { leader: Some("a:1".into()), may_have_run: true },
            Refusal::NotLeader { leader: None, may_have_run: false },
            Refusal::Busy,
            Refusal::TooLarge("too large".into()),
            Refusal::NoSpace("full".into()),
            Refusal::Invalid("nonsense".into()),
        ];
        let outcomes = replies.map(Outcome::Applied).into_iter().chain(refusals.map(Outcome::Refused));
        for outcome in outcomes {
            assert_eq!(from_wire(to_wire(outcome.clone())), outcome);
        }
    }

    #[test]
    fn a_command_does_not_keep_the_buffer_it_came_in() {
        let buffer = Bytes::from(vec![7; 100_000]);
        let request = ForwardRequest { command: buffer.slice(10..20), ..ForwardRequest::default() };
        let command = command_of(&request);
        assert_eq!(command, request.command);
        drop(request);
        assert!(buffer.is_unique());
    }

    #[test]
    fn a_leader_that_stops_or_makes_no_sense_leaves_the_outcome_open() {
        let stops = to_wire(Outcome::Refused(Refusal::ShuttingDown { may_have_run: true }));
        let open = Outcome::Refused(Refusal::NotLeader { leader: None, may_have_run: true });
        assert_eq!(from_wire(stops), open);
        assert_eq!(from_wire(ForwardReply { applied: 99, number: 1, refusal: None }), open);
        assert_eq!(from_wire(ForwardReply::default()), open);
    }
}
