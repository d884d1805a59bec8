//! The origin's `kvServerRpc`: the same store for clerks that were built years ago.
//!
//! `Err` may only be one of three texts, since any other makes the origin's clerk spin. Whatever the store refuses
//! is `ErrWrongLeader`, and held back for a moment, because that clerk tries the next server at once and for ever. It is told
//! of no leader: a node that does not lead passes its writes on and serves its gets itself.
//! Which writes are repeats is decided when they are applied, by the rule for legacy streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::Consistency;
use proto::kv_server_rpc::{GetArgs, GetReply, KvServerRpc, PutAppendArgs, PutAppendReply};
use rpc::{Reply as RpcReply, Status};

use super::RequestLimits;
use crate::intake::Intake;
use crate::outcome::{Outcome, Refusal, ReplySink};
use crate::state_machine::{Command, LegacyOp, LegacyOutcome, Reply, StreamId};

/// How long a refusal is held back from an origin clerk.
const REFUSAL_DELAY: Duration = Duration::from_millis(5);

const OK: &[u8] = b"OK";
const ERR_NO_KEY: &[u8] = b"ErrNoKey";
const ERR_WRONG_LEADER: &[u8] = b"ErrWrongLeader";

/// The service.
pub struct KvServerService {
    intake: Arc<Intake>,
    limits: RequestLimits,
    node: u64,
    incarnation: u64,
}

impl KvServerService {
    /// A service that feeds `intake`. `node` and `incarnation` (of this start of the process) make a connection's
    /// number unique in the cluster and for ever.
    pub fn new(intake: Arc<Intake>, limits: RequestLimits, node: u64, incarnation: u64) -> KvServerService {
        KvServerService { intake, limits, node, incarnation }
    }
}

impl KvServerRpc for KvServerService {
    fn put_append(&self, request: PutAppendArgs, reply: RpcReply<PutAppendReply>) {
        let op = match &request.op[..] {
            b"Put" => LegacyOp::Put,
            b"Append" => LegacyOp::Append,
            _ => return reply.fail(Status::BadRequest, "Op must be \"Put\" or \"Append\""),
        };
        if let Err(text) = self.limits.check(&request.key, &request.value) {
            return Box::new(WriteSink(reply)).send(Outcome::Refused(Refusal::TooLarge(text)));
        }
        let stream = StreamId {
            node: self.node,
            incarnation: self.incarnation,
            connection: reply.context().connection_id,
        };
        let command = Command::Legacy {
            client_id: &request.client_id,
            request_id: request.request_id,
            op,
            key: &request.key,
            value: &request.value,
            stream,
        };
        let passed_on = Some(reply.context().remaining());
        self.intake.write_or_pass_on(command.encode(), Box::new(WriteSink(reply)), passed_on);
    }

    fn get(&self, request: GetArgs, reply: RpcReply<GetReply>) {
        self.intake.read_with(request.key, Consistency::Follower, Box::new(ReadSink(reply)));
    }
}

struct WriteSink(RpcReply<PutAppendReply>);

impl ReplySink for WriteSink {
    fn send(self: Box<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Applied(Reply::Legacy(LegacyOutcome::Done)) => {
                self.0.send(&PutAppendReply { err: Bytes::from_static(OK) });
            }
            _ => {
                let reply = PutAppendReply { err: Bytes::from_static(ERR_WRONG_LEADER) };
                self.0.send_after(REFUSAL_DELAY, reply);
            }
        }
    }
}

struct ReadSink(RpcReply<GetReply>);

impl ReplySink for ReadSink {
    fn send(self: Box<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Found { value, .. } => self.0.send(&GetReply { err: Bytes::from_static(OK), value }),
            Outcome::Missing => {
                self.0.send(&GetReply { err: Bytes::from_static(ERR_NO_KEY), value: Bytes::new() });
            }
            _ => {
                let reply = GetReply { err: Bytes::from_static(ERR_WRONG_LEADER), value: Bytes::new() };
                self.0.send_after(REFUSAL_DELAY, reply);
            }
        }
    }

    fn is_in_vain(&self) -> bool {
        self.0.context().is_cancelled()
    }
}
