//! Orders to the leader: it is found by asking every node, told, and watched until the cluster is as was wanted.

use std::{
    thread,
    time::{Duration, Instant},
};

use proto::admin::{AdminStub, OrderReply, StatusReply, TransferLeaderRequest};
use raft_kv::output;
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError};

use crate::{arguments::Target, failure::Failure, status, target::NodeTarget};

/// The pause before the nodes are asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// How long closing the connection may take.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// `transfer-leader`: makes a node the leader.
pub(crate) fn transfer_leader(target: &Target, node: u64) -> Result<(), Failure> {
    let Done { status, .. } = carry_out(
        target,
        |stub, controller| stub.transfer_leader(controller, &TransferLeaderRequest { node }),
        |status| match (status.node == node, status.transfer_to) {
            (true, _) => Stage::Done,
            (false, Some(_)) => Stage::UnderWay,
            (false, None) => Stage::GivenUp(not_taken_over(status, node)),
        },
    )?;
    Ok(output::line(&format!("node {node} leads term {}", status.term))?)
}

fn not_taken_over(status: &StatusReply, node: u64) -> String {
    let follower = status.followers.iter().find(|follower| follower.node == node);
    let waits_for = follower.map_or("nothing", |follower| &follower.waits_for);
    format!(
        "node {node} has not taken over within an election timeout, node {} leads on; node {node} waits for {waits_for}",
        status.node
    )
}

/// How an order stands, by what the leader says that was given it.
pub(crate) enum Stage {
    Done,
    UnderWay,
    /// Nothing will come of it.
    GivenUp(String),
}

/// An order that was carried out.
pub(crate) struct Done {
    /// What the leader said then.
    pub(crate) status: StatusReply,
    /// It was as ordered before.
    pub(crate) was_so: bool,
}

/// Gives the order to whoever leads, once in its term unless it is refused and asking again may help, until the leader's
/// status shows that it is done.
pub(crate) fn carry_out(
    target: &Target,
    order: impl Fn(&AdminStub, &RpcController) -> Result<OrderReply, RpcError>,
    stage: impl Fn(&StatusReply) -> Stage,
) -> Result<Done, Failure> {
    let deadline = Instant::now() + target.timeout();
    let mut waits_for = "no node leads".to_owned();
    let mut nodes = target.nodes()?;
    let (mut given_in, mut was_so) = (None, None);
    loop {
        if let Some((leader, status)) = leader(&nodes, target.timeout())? {
            let (stage, this_term) = (stage(&status), Some(status.term));
            // Also what looks done is asked for once: the leader may know better.
            let was_so = *was_so.get_or_insert(matches!(stage, Stage::Done));
            match stage {
                Stage::Done if given_in.is_some() => return Ok(Done { status, was_so }),
                Stage::GivenUp(why) if given_in == this_term => return Err(Failure::Unavailable(why)),
                Stage::UnderWay if given_in == this_term => {}
                _ => match give(&leader, deadline, &order) {
                    Ok(reply) if reply.refusal.is_empty() => {
                        given_in = this_term;
                        waits_for = "it was begun and is not done".to_owned();
                    }
                    Ok(reply) if reply.not_leader || reply.again => waits_for = reply.refusal,
                    Ok(reply) => {
                        let refusal = format!("node {} refuses: {}", status.node, reply.refusal);
                        return Err(Failure::Usage(refusal));
                    }
                    Err(error) => waits_for = error.to_string(),
                },
            }
            get_to_know(&mut nodes, &status);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable(format!(
                "not done within {} ms: {waits_for}",
                target.timeout_ms
            )));
        }
        thread::sleep(PAUSE);
    }
}

/// Who leads, by the latest term, and what it says.
pub(crate) fn leader(
    nodes: &[NodeTarget],
    timeout: Duration,
) -> Result<Option<(String, StatusReply)>, Failure> {
    let answers = status::ask(nodes, timeout)?;
    let leader = status::leader(&answers);
    Ok(leader.and_then(|leader| Some((leader.node.address.clone(), leader.reply.clone().ok()?))))
}

/// Members that neither the file nor the command line names.
fn get_to_know(nodes: &mut Vec<NodeTarget>, status: &StatusReply) {
    for member in &status.members {
        if nodes.iter().all(|node| node.address != member.address) {
            nodes.push(NodeTarget { id: Some(member.node), address: member.address.clone() });
        }
    }
}

/// One call of the admin service at `address`.
fn give(
    address: &str,
    deadline: Instant,
    order: impl Fn(&AdminStub, &RpcController) -> Result<OrderReply, RpcError>,
) -> Result<OrderReply, RpcError> {
    let reactor = Reactor::start("clerk-order", ReactorConfig::default())?;
    let controller = RpcController::new();
    controller.set_timeout(deadline.saturating_duration_since(Instant::now()).max(PAUSE));
    let stub = AdminStub::new(RpcChannel::new(&reactor, address, ChannelConfig::default()));
    let reply = order(&stub, &controller);
    drop(stub);
    reactor.stop(STOP_WITHIN);
    reply
}
