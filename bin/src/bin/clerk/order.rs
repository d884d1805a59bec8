//! Orders to the leader: found by asking every node, given to it, and watched until the cluster is as was wanted.

use std::{
    thread,
    time::{Duration, Instant},
};

use proto::admin::{AdminStub, OrderReply, StatusReply, TransferLeaderRequest};
use raft_kv::output;
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError};

use crate::{
    arguments::Target,
    failure::Failure,
    status::{self, Answered},
};

/// The pause before the nodes are asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long closing the connection may take.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// `transfer-leader`: makes a node the leader.
pub(crate) fn transfer_leader(target: &Target, node: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + target.timeout();
    let leads = |status: &StatusReply| status.node == node;
    let mut waits_for = "no node leads".to_owned();
    while Instant::now() < deadline {
        let answers = status::ask(&target.nodes()?, target.timeout())?;
        let Some((leader, status)) = leader(&answers) else {
            thread::sleep(PAUSE);
            continue;
        };
        if leads(status) {
            return Ok(output::line(&format!("node {node} leads term {}", status.term))?);
        }
        let request = TransferLeaderRequest { node };
        match give(&leader.node.address, deadline, |stub, controller| {
            stub.transfer_leader(controller, &request)
        }) {
            Ok(reply) if reply.refusal.is_empty() => waits_for = format!("node {node} has not taken over"),
            Ok(reply) if reply.not_leader || reply.again => waits_for = reply.refusal,
            Ok(reply) => {
                return Err(Failure::Usage(format!("node {} refuses: {}", status.node, reply.refusal)));
            }
            Err(error) => waits_for = error.to_string(),
        }
        thread::sleep(PAUSE);
    }
    Err(Failure::Unavailable(format!("not done within {} ms: {waits_for}", target.timeout_ms)))
}

/// Who leads, by the latest term, and what it said.
fn leader(answers: &[Answered]) -> Option<(&Answered, &StatusReply)> {
    let leader = status::leader(answers)?;
    leader.reply.as_ref().ok().map(|status| (leader, status))
}

/// One call of the admin service at `address`.
fn give(
    address: &str,
    deadline: Instant,
    call: impl FnOnce(&AdminStub, &RpcController) -> Result<OrderReply, RpcError>,
) -> Result<OrderReply, RpcError> {
    let reactor = Reactor::start("clerk-order", ReactorConfig::default())?;
    let controller = RpcController::new();
    controller.set_timeout(deadline.saturating_duration_since(Instant::now()).max(PAUSE));
    let stub = AdminStub::new(RpcChannel::new(&reactor, address, ChannelConfig::default()));
    let reply = call(&stub, &controller);
    drop(stub);
    reactor.stop(STOP_WITHIN);
    reply
}
