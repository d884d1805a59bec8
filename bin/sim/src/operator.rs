//! The operator: who changes the members of the cluster while everything else goes on.
//!
//! Nodes are started and join, become voters, are moved and removed, the leader too; sometimes half of the voters are
//! replaced in one change. The cluster grows until there is nobody left to take in, and shrinks until one voter is left.
//! Orders go the way that they take in a server: to whoever was elected last, who may not lead any more; what is refused
//! because something stands in the way is asked for again. An operator who knows what is done does no more than that:
//! nobody is taken out whose loss would leave no majority of sound nodes.

use kvserver::service::MemberChange;
use raft::core::{Membership, NodeId, RoleKind};

use crate::dice::Dice;
use crate::event::Event;
use crate::faults::{Change, Fault};
use crate::node::address;
use crate::plan::{MS, SECOND};
use crate::simulation::Simulation;
use crate::violation::Violation;

/// The concern of the operator's dice.
const CONCERN: u64 = 6;

/// An order that is refused for the time being is given so many times.
const TRIES: u32 = 30;

/// How long an operator waits before the same order is given again, at most.
const AGAIN_US_MAX: u64 = 100 * MS;

/// How long a node that was removed goes on before somebody stops it, at most.
const RETIRED_US_MAX: u64 = 5 * SECOND;

/// Leaders that are deaf as soon as they have begun to hand over, in a thousand.
const DEAFENED_PERMILLE: u64 = 500;

/// From this many voters on the cluster shrinks.
const VOTERS_ENOUGH: usize = 5;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Add(usize),
    Promote(usize),
    Remove(usize),
    /// These are the voters, all at once.
    Replace(Vec<NodeId>),
}

/// The operator.
pub(crate) struct Operator {
    dice: Dice,
    wish: Option<(Wish, u32)>,
    is_growing: bool,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Begun,
    Again,
    Refused,
}

impl Operator {
    pub(crate) fn new(seed: u64) -> Operator {
        Operator { dice: Dice::new(seed, CONCERN), wish: None, is_growing: true }
    }
}

impl Simulation<'_> {
    /// The operator has a moment.
    pub(crate) fn operate(&mut self) -> Result<(), Violation> {
        if !self.is_trouble() {
            return Ok(());
        }
        let gap = match self.operator.wish {
            Some(_) => AGAIN_US_MAX,
            None => self.plan.order_gap_us,
        };
        let after = self.operator.dice.between(MS, gap);
        self.events.schedule(self.now + after, Event::Order);
        let Some(leader) = self.leader.filter(|leader| self.takes_orders(*leader)) else { return Ok(()) };
        let (wish, tries) = match self.operator.wish.take() {
            Some(wish) => wish,
            None => match self.draw_wish(leader) {
                Some(wish) => (wish, TRIES),
                None => return Ok(()),
            },
        };
        let answer = self.carry_out(leader, &wish)?;
        self.say_of_node(leader, || format!("is ordered to {wish:?}: {answer:?}"));
        match answer {
            Answer::Begun => self.note(leader, &wish),
            Answer::Again if tries > 1 => self.operator.wish = Some((wish, tries - 1)),
            Answer::Again | Answer::Refused => {}
        }
        Ok(())
    }

    fn takes_orders(&self, node: usize) -> bool {
        self.is_rough() && self.machines[node].node.is_some() && self.deaf_until(node) <= self.now
    }

    /// What is wanted next, of the members that this node knows.
    fn draw_wish(&mut self, leader: usize) -> Option<Wish> {
        let members = self.consensus.members.current(leader).clone();
        let nodes: Vec<usize> = members.nodes().iter().map(|node| node.0 as usize).collect();
        // Of a node that has lost its whole log nobody learns who takes part.
        if nodes.is_empty() {
            return None;
        }
        let strangers: Vec<usize> = self
            .node_ids()
            .into_iter()
            .filter(|node| !nodes.contains(node) && !self.is_lost(*node))
            .collect();
        let lost = nodes.iter().copied().find(|node| self.is_lost(*node));
        let learner = members.learners.iter().map(|node| node.0 as usize).find(|node| !self.is_lost(*node));
        if strangers.is_empty() || members.voters.len() >= VOTERS_ENOUGH {
            self.operator.is_growing = false;
        } else if members.voters.len() <= 1 {
            self.operator.is_growing = true;
        }
        let dice = &mut self.operator.dice;
        let wish = match (lost, learner) {
            (Some(lost), _) if dice.permille(600) => Wish::Remove(lost),
            (_, Some(learner)) if dice.permille(700) => Wish::Promote(learner),
            _ if dice.permille(200) => {
                let count = dice.between(1, nodes.len().min(VOTERS_ENOUGH) as u64) as usize;
                Wish::Replace(dice.some(&nodes, count).into_iter().map(|node| NodeId(node as u64)).collect())
            }
            // Of a member: it has moved, so to speak.
            _ if dice.permille(50) => Wish::Add(dice.one(&nodes)),
            _ if self.operator.is_growing && !strangers.is_empty() => Wish::Add(dice.one(&strangers)),
            _ if dice.permille(300) => Wish::Remove(leader),
            _ => Wish::Remove(dice.one(&nodes)),
        };
        Some(wish).filter(|wish| self.is_sane(wish, &members))
    }

    /// Whether a majority of sound nodes is left, and nobody is taken in who is lost.
    fn is_sane(&self, wish: &Wish, members: &Membership) -> bool {
        let voters: Vec<NodeId> = match wish {
            // A number is used once: the product leaves that to who gives the orders, once its member is removed.
            Wish::Add(node) => return members.contains(NodeId(*node as u64)) || !self.is_lost(*node),
            Wish::Promote(node) => return !self.is_lost(*node),
            Wish::Remove(node) => {
                members.voters.iter().copied().filter(|voter| voter.0 as usize != *node).collect()
            }
            Wish::Replace(voters) => voters.clone(),
        };
        let lost = voters.iter().filter(|voter| self.is_lost(voter.0 as usize)).count();
        lost * 2 < voters.len()
    }

    /// Whether a node's data are gone, or damaged and not repaired yet.
    pub(crate) fn is_lost(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        machine.is_out || !machine.flipped.is_empty() || machine.is_convalescent
    }

    fn carry_out(&mut self, leader: usize, wish: &Wish) -> Result<Answer, Violation> {
        let members = self.consensus.members.current(leader).clone();
        // Since the order was given first, somebody may have been lost.
        if !self.is_sane(wish, &members) {
            return Ok(Answer::Refused);
        }
        let answer = match wish {
            Wish::Add(node) => {
                self.start_stranger(*node);
                self.add(leader, *node)
            }
            Wish::Promote(node) => self.order(leader, *node, MemberChange::Promote),
            Wish::Remove(node) => self.order(leader, *node, MemberChange::Remove),
            Wish::Replace(voters) => self.replace(leader, voters),
        };
        self.look_at(leader)?;
        Ok(answer)
    }

    /// A node is taken in that answers its leader, or has moved.
    fn add(&mut self, leader: usize, node: usize) -> Answer {
        let (id, address) = (NodeId(node as u64), address(node as u64));
        let answers = self.links.is_open(leader, node) && self.links.is_open(node, leader);
        let found = self.identified(node).filter(|_| answers || node == leader);
        let (Some((found, _)), Some((own, border))) = (found, self.identified(leader)) else {
            return Answer::Again;
        };
        let known = own.incarnation(&border, id);
        match MemberChange::live(id, address, known, found.identity().incarnation) {
            Ok(change) => self.order(leader, node, change),
            Err(_) => Answer::Refused,
        }
    }

    /// A node that does not run is started, to join.
    fn start_stranger(&mut self, node: usize) {
        if std::mem::take(&mut self.machines[node].is_absent) {
            self.events.schedule(self.now, Event::Birth { node });
        }
    }

    pub(crate) fn order_of(
        &self,
        leader: usize,
        node: usize,
        change: MemberChange,
    ) -> Option<proto::admin::OrderReply> {
        let alive = self.machines[leader].node.as_ref()?;
        let (own, border) = self.identified(leader)?;
        let homes = |membership: &Membership| own.homes(&border, membership);
        Some(change.begin(NodeId(node as u64), &alive.parts.node, homes))
    }

    fn order(&mut self, leader: usize, node: usize, change: MemberChange) -> Answer {
        match self.order_of(leader, node, change) {
            Some(reply) if reply.refusal.is_empty() => Answer::Begun,
            Some(reply) if reply.again || reply.not_leader => Answer::Again,
            _ => Answer::Refused,
        }
    }

    /// All voters are others at once: whoever is none any more goes on listening.
    fn replace(&mut self, leader: usize, voters: &[NodeId]) -> Answer {
        let Some(alive) = &self.machines[leader].node else { return Answer::Refused };
        let begun = alive.parts.node.with_core(|core| {
            let now = core.membership().clone();
            let learners = now.nodes().into_iter().filter(|node| !voters.contains(node));
            let target = Membership::new(voters.iter().copied()).with_learners(learners);
            core.change_membership(Membership { context: now.context, ..target })
        });
        match begun {
            Ok(Ok(Some(_))) => Answer::Begun,
            _ => Answer::Refused,
        }
    }

    fn note(&mut self, leader: usize, wish: &Wish) {
        self.counters.count(Fault::MemberChange);
        let change = match wish {
            Wish::Add(_) => Change::Added,
            Wish::Promote(_) => Change::Promoted,
            Wish::Remove(node) if *node == leader => Change::LeaderRemoved,
            Wish::Remove(_) => Change::Removed,
            Wish::Replace(_) => Change::Replaced,
        };
        self.counters.changed(change);
        if let Wish::Remove(node) = wish
            && self.operator.dice.permille(500)
        {
            let after = self.operator.dice.between(MS, RETIRED_US_MAX);
            self.events.schedule(self.now + after, Event::Retire { node: *node });
        }
    }

    /// A node that was removed is stopped for good, if its removal is through.
    pub(crate) fn retire(&mut self, node: usize) {
        let id = NodeId(node as u64);
        if self.is_rough()
            && self.has_begun()
            && self.consensus.members.in_play().all(|members| !members.contains(id))
        {
            self.machines[node].is_absent = true;
            self.kill(node);
        }
    }

    /// The leader is told to hand over to somebody.
    pub(crate) fn transfer(&mut self, from: usize) -> Result<(), Violation> {
        let voters = self.consensus.members.current(from).voters.clone();
        if voters.is_empty() {
            return Ok(());
        }
        let to = self.strike_dice.one(&voters);
        let chooses_itself = self.strike_dice.permille(300);
        let Some(alive) = &self.machines[from].node else { return Ok(()) };
        let begun = alive.parts.node.with_core(|core| match chooses_itself {
            true => core.hand_over().is_some(),
            false => core.soft_state().role == RoleKind::Leader && core.transfer_leadership(to).is_ok(),
        });
        if begun == Ok(true) {
            self.counters.count(Fault::Transfer);
            self.deafen_who_hands_over(from);
        }
        self.look_at(from)
    }

    /// Who has said that another is to lead may not hear that it does.
    fn deafen_who_hands_over(&mut self, leader: usize) {
        let kinds = [Fault::Jam, Fault::Pause, Fault::PartitionIsolate, Fault::PartitionAsymmetric];
        let kinds: Vec<Fault> = kinds.into_iter().filter(|fault| self.plan.has(*fault)).collect();
        if !kinds.is_empty() && self.strike_dice.permille(DEAFENED_PERMILLE) {
            let fault = self.strike_dice.one(&kinds);
            let after = self.strike_dice.between(1, 2 * self.plan.delay_us.1);
            self.events.schedule(self.now + after, Event::Ambush { node: leader, fault });
        }
    }
}
