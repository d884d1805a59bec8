//! Changes of the members, as an operator asks for them.
//!
//! The leader carries them out: it begins the change and answers; that it is through shows in the status. A node that is
//! added is asked first who it is, so that the log records the incarnation of its data directory beside its address: from
//! then on every node can tell it from another one under its number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::admin::change_member_request::Change;
use proto::admin::{ChangeMemberRequest, Member, OrderReply};
use proto::raft_rpc::{ProbeArgs, ProbeReply, RaftRpcStub};
use raft::core::{ChangeError, Membership, NodeId, RoleKind, Status};
use raft::driver::RaftNode;
use raft::net::{AddressBook, Admission, Border, Home, encode_homes};
use rpc::{ChannelConfig, Reactor, RpcChannel, RpcController, RpcError};

/// How long a node that is to be added may take to say who it is.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// The longest address, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;

/// What is to become of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// It lives there; if it is not a member, it becomes a learner.
    Live(Home),
    /// The learner votes from now on.
    Promote,
    /// It is a member no more.
    Remove,
}

impl MemberChange {
    /// A node is taken in, or has moved, that answers at `address` with the incarnation `found`, where this one is `known`.
    ///
    /// # Errors
    /// One sentence that says why it cannot be added, when its data are others.
    pub fn live(
        node: NodeId,
        address: String,
        known: Option<u64>,
        found: u64,
    ) -> Result<MemberChange, String> {
        match known {
            Some(known) if known != found => Err(format!(
                "node {node} is a member with other data than the node at {address} has: a node that lost its data comes \
                 back under a number that was never used"
            )),
            _ => Ok(MemberChange::Live(Home { address: address.into(), incarnation: Some(found) })),
        }
    }

    /// Begins it at the leader `at`; `homes` says where members live. An answer without a refusal means that it was begun.
    pub fn begin(
        self,
        of: NodeId,
        at: &RaftNode,
        homes: impl FnOnce(&Membership) -> BTreeMap<NodeId, Home>,
    ) -> OrderReply {
        let Ok(before) = at.with_core(|core| core.membership().clone()) else { return absent() };
        let (mut target, mut homes) = (before.clone(), homes(&before));
        self.edit(of, &mut target, &mut homes);
        match encode_homes(&homes) {
            Ok(context) => target.context = context,
            Err(why) => return refusal(why),
        }
        let begun = at.with_core(|core| match *core.membership() == before {
            true => core.change_membership(target),
            false => Err(ChangeError::Pending),
        });
        match begun {
            Ok(Ok(_)) => OrderReply::default(),
            Ok(Err(error)) => refused(&error),
            Err(_) => absent(),
        }
    }

    fn edit(self, of: NodeId, target: &mut Membership, homes: &mut BTreeMap<NodeId, Home>) {
        let add = |nodes: &mut Vec<NodeId>| {
            nodes.push(of);
            nodes.sort_unstable();
            nodes.dedup();
        };
        match self {
            MemberChange::Live(Home { address, incarnation }) => {
                if !target.contains(of) {
                    add(&mut target.learners);
                }
                let known = homes.get(&of).and_then(|home| home.incarnation);
                homes.insert(of, Home { address, incarnation: incarnation.or(known) });
            }
            MemberChange::Promote => {
                target.learners.retain(|learner| *learner != of);
                add(&mut target.voters);
            }
            MemberChange::Remove => {
                target.voters.retain(|voter| *voter != of);
                target.learners.retain(|learner| *learner != of);
                homes.remove(&of);
            }
        }
    }
}

/// What an order is answered with.
pub(crate) fn refusal(text: impl Into<String>) -> OrderReply {
    OrderReply { refusal: text.into(), not_leader: false, again: false }
}

/// What a node says to an order when it does not take part, or no longer.
pub(crate) fn absent() -> OrderReply {
    OrderReply { not_leader: true, ..refusal("the node does not take part") }
}

/// Where the orders are carried out.
pub struct MemberDesk {
    node: Arc<RaftNode>,
    reactor: Reactor,
    border: Border,
    admission: Arc<Admission>,
}

impl MemberDesk {
    /// The desk of a node that takes part.
    pub fn new(
        node: Arc<RaftNode>,
        reactor: Reactor,
        border: Border,
        admission: Arc<Admission>,
    ) -> MemberDesk {
        MemberDesk { node, reactor, border, admission }
    }

    /// Begins what is asked for and says so, or why not, to `answer`, now or when a node has been asked who it is.
    pub fn change(
        self: &Arc<Self>,
        request: ChangeMemberRequest,
        answer: impl FnOnce(OrderReply) + Send + 'static,
    ) {
        let node = NodeId(request.node);
        match request.change() {
            Change::Add => self.add(node, request.address, answer),
            Change::Promote => answer(self.begin(node, MemberChange::Promote)),
            Change::Remove => answer(self.begin(node, MemberChange::Remove)),
            Change::Unspecified => answer(refusal("the request does not say what is to be changed")),
        }
    }

    fn add(
        self: &Arc<Self>,
        node: NodeId,
        address: String,
        answer: impl FnOnce(OrderReply) + Send + 'static,
    ) {
        let is_address = address.len() <= ADDRESS_BYTES_MAX
            && address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            return answer(refusal(format!("\"{address}\" is no address: write HOST:PORT")));
        }
        match self.node.with_core(|core| core.soft_state().role) {
            Ok(RoleKind::Leader) => {}
            Ok(_) => return answer(OrderReply { not_leader: true, ..refusal("not the leader") }),
            Err(_) => return answer(absent()),
        }
        let channel = RpcChannel::new(&self.reactor, &address, ChannelConfig::default());
        let controller = RpcController::new();
        controller.set_timeout(PROBE_TIME);
        let args = ProbeArgs { envelope: Some(self.border.envelope(node)), incarnation: 0 };
        let (desk, kept) = (Arc::clone(self), channel.clone());
        RaftRpcStub::new(channel).probe_async(&controller, &args, move |result| {
            drop(kept);
            answer(desk.add_probed(node, address, result));
        });
    }

    fn add_probed(&self, node: NodeId, address: String, result: Result<ProbeReply, RpcError>) -> OrderReply {
        let reply = match result {
            Ok(reply) => reply,
            Err(RpcError::Status { status: rpc::Status::BadRequest, text }) => {
                return refusal(format!("the node at {address} cannot be added: {text}"));
            }
            Err(error) => {
                let text = format!(
                    "node {node} does not answer at {address}: {error}. Is it running, with --join at its first start?"
                );
                return OrderReply { again: true, ..refusal(text) };
            }
        };
        match self.border.admit_stranger(&reply) {
            Ok(from) if from == node && reply.stays_out => {
                return refusal(format!(
                    "node {node} at {address} stays out: its data directory is not the one that node {node} took part with. \
                     Put that one back, or let a node join under a number that was never used"
                ));
            }
            Ok(from) if from == node => {}
            Ok(from) => return refusal(format!("at {address} lives node {from}, not node {node}")),
            Err(why) => return refusal(format!("the node at {address} cannot be added: {why}")),
        }
        match MemberChange::live(node, address, self.admission.incarnation(node), reply.incarnation) {
            Ok(change) => self.begin(node, change),
            Err(why) => refusal(why),
        }
    }

    fn begin(&self, of: NodeId, change: MemberChange) -> OrderReply {
        change.begin(of, &self.node, |membership| self.admission.homes(membership))
    }
}

fn refused(error: &ChangeError) -> OrderReply {
    OrderReply {
        not_leader: matches!(error, ChangeError::NotLeader { .. }),
        again: matches!(
            error,
            ChangeError::TooEarly
                | ChangeError::Pending
                | ChangeError::Transferring { .. }
                | ChangeError::NotCaughtUp { .. }
        ),
        refusal: error.to_string(),
    }
}

/// The members for a status.
pub(crate) fn members(status: &Status, book: &AddressBook) -> Vec<Member> {
    let membership = &status.membership;
    let role = |node: NodeId| match (
        membership.voters.contains(&node),
        membership.outgoing.contains(&node),
        membership.is_joint(),
    ) {
        (true, false, true) => "becomes a voter",
        (true, _, _) => "voter",
        (false, true, _) => "leaves the voters",
        (false, false, _) => "learner",
    };
    let member = |node: NodeId| Member {
        node: node.0,
        role: role(node).to_owned(),
        address: book.address(node).map_or_else(String::new, |address| address.to_string()),
    };
    membership.nodes().into_iter().map(member).collect()
}
