//! The `kv` service: what our own clients speak. Typed replies, leader hints, sessions.

use std::sync::Arc;

use proto::kv::{
    AppendReply, AppendRequest, Code, DeleteReply, DeleteRequest, GetReply, GetRequest, Kv, OpenSessionReply,
    OpenSessionRequest, PutReply, PutRequest,
};
use rpc::Reply as RpcReply;

use super::RequestLimits;
use super::kv_wire::{KvReply, KvWrite, parts_of, read_of};
use crate::intake::Intake;
use crate::outcome::{Outcome, ReplySink};

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

    /// Hands a write on, or answers at once what is wrong with it.
    fn write<M: KvReply>(&self, request: &impl KvWrite, reply: RpcReply<M>) {
        let passed_on = (!request.follows_hints()).then(|| reply.context().remaining());
        let sink = Box::new(KvSink(reply));
        match request.command(self.limits) {
            Ok(command) => self.intake.write_or_pass_on(command, sink, passed_on),
            Err(refusal) => sink.send(Outcome::Refused(refusal)),
        }
    }
}

impl Kv for KvService {
    fn open_session(&self, request: OpenSessionRequest, reply: RpcReply<OpenSessionReply>) {
        self.write(&request, reply);
    }

    fn get(&self, request: GetRequest, reply: RpcReply<GetReply>) {
        let sink = Box::new(KvSink(reply));
        match read_of(request, self.limits) {
            Ok((key, consistency)) => self.intake.read_with(key, consistency, sink),
            Err(refusal) => sink.send(Outcome::Refused(refusal)),
        }
    }

    fn put(&self, request: PutRequest, reply: RpcReply<PutReply>) {
        self.write(&request, reply);
    }

    fn append(&self, request: AppendRequest, reply: RpcReply<AppendReply>) {
        self.write(&request, reply);
    }

    fn delete(&self, request: DeleteRequest, reply: RpcReply<DeleteReply>) {
        self.write(&request, reply);
    }
}

struct KvSink<M>(RpcReply<M>);

impl<M: KvReply> ReplySink for KvSink<M> {
    fn send(self: Box<Self>, outcome: Outcome) {
        self.0.send(&M::of(outcome));
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
