//! Who takes part.
//!
//! A membership is in effect from the moment its entry is in the log, committed or not, and no longer when the entry is
//! cut off (dissertation §4.1). While voters change two majorities decide together, the old one and the new one (joint
//! consensus, §6 of the paper): whatever is elected or committed on either side of the change meets in a node that knows
//! of both. Learners are sent everything and have no say.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::planted;
use crate::quorum::{self, Tally};
use crate::types::{Index, NodeId};

/// More voters than this are refused: every commit asks all of them, and seven already survive three failures.
pub const VOTERS_MAX: usize = 15;

/// More learners than this are refused: the leader sends each of them everything.
pub const LEARNERS_MAX: usize = 15;

/// The members of the cluster as of one place in the log.
///
/// Empty on a node that joins a cluster and has not heard yet who is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The nodes whose votes and acknowledgements count; sorted, each once.
    pub voters: Vec<NodeId>,
    /// The voters that are being left while a change is under way, whose majority is wanted, too; else empty. Sorted.
    pub outgoing: Vec<NodeId>,
    /// The nodes that only listen; sorted. A voter that becomes a learner is both until the change is through.
    pub learners: Vec<NodeId>,
    /// What the driver wants to be remembered with the members: where they live. Opaque here.
    pub context: Bytes,
}

impl Membership {
    /// The membership of these voters and nobody else, sorted and each once.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Membership {
        Membership { voters: sorted(voters), ..Membership::default() }
    }

    /// The same with these learners, sorted and each once.
    #[must_use]
    pub fn with_learners(self, learners: impl IntoIterator<Item = NodeId>) -> Membership {
        Membership { learners: sorted(learners), ..self }
    }

    /// Whether this node's vote counts, in either majority.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok() || self.outgoing.binary_search(&node).is_ok()
    }

    /// Whether this node is sent the log.
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.binary_search(&node).is_ok()
    }

    /// Whether two majorities decide, the old one and the new one.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node decides alone.
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.voters == [node] && !self.is_joint()
    }

    /// Everybody who is sent the log, in the order of their numbers.
    pub fn nodes(&self) -> Vec<NodeId> {
        sorted(self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied())
    }

    /// Everybody whose vote counts, in the order of their numbers.
    pub fn all_voters(&self) -> Vec<NodeId> {
        sorted(self.voters.iter().chain(&self.outgoing).copied())
    }

    /// Whether those of which `has` is true are a majority, of both sides while there are two.
    pub fn is_quorum(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.sides().all(|side| {
            let having = side.iter().filter(|voter| has(**voter)).count();
            having >= quorum::majority(side.len())
        })
    }

    /// The highest index that a majority has reached, of both sides while there are two. `scratch` is room to sort in.
    pub(crate) fn committed_index(
        &self,
        scratch: &mut Vec<Index>,
        reached: impl Fn(NodeId) -> Index,
    ) -> Index {
        let sides = self.sides().map(|side| {
            scratch.clear();
            scratch.extend(side.iter().map(|voter| reached(*voter)));
            if planted::is("learner-counted") {
                scratch.extend(self.learners.iter().map(|learner| reached(*learner)));
                scratch.sort_unstable();
                scratch.drain(..self.learners.len());
            }
            quorum::committed_index(scratch)
        });
        sides.min().unwrap_or(Index::ZERO)
    }

    /// How a vote stands after these answers: won with both majorities, lost if one of them is out of reach.
    pub(crate) fn tally(&self, answers: &[(NodeId, bool)]) -> Tally {
        let count = |side: &[NodeId], granted: bool| {
            answers.iter().filter(|(voter, answer)| *answer == granted && side.contains(voter)).count()
        };
        let sides = self.sides().map(|side| quorum::tally(side.len(), count(side, true), count(side, false)));
        sides.fold(Tally::Won, Tally::and)
    }

    /// The majorities that must agree.
    fn sides(&self) -> impl Iterator<Item = &[NodeId]> {
        let outgoing = Some(&self.outgoing[..]).filter(|side| !side.is_empty());
        let voters = Some(&self.voters[..]);
        match planted::is("quorum-of-one-side-only") {
            true => outgoing.or(voters).into_iter().chain(None),
            false => voters.into_iter().chain(outgoing),
        }
    }

    /// What is in effect on the way from this membership to `target`: both majorities if the voters change, and the
    /// target at once if they do not.
    pub(crate) fn towards(&self, target: &Membership) -> Membership {
        match target.voters == self.voters {
            true => target.clone(),
            false => Membership { outgoing: self.voters.clone(), ..target.clone() },
        }
    }

    /// The membership that a joint one leads to.
    pub(crate) fn after_the_change(&self) -> Membership {
        Membership { outgoing: Vec::new(), ..self.clone() }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, nodes: &[NodeId]| {
            let numbers: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            write!(f, "{}", numbers.join(" "))
        };
        list(f, &self.voters)?;
        for (title, nodes) in [(", leaving ", &self.outgoing), (", learning ", &self.learners)] {
            if !nodes.is_empty() {
                write!(f, "{title}")?;
                list(f, nodes)?;
            }
        }
        Ok(())
    }
}

fn sorted(nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The memberships along the log, from the newest snapshot on: the last one is in effect.
#[derive(Debug)]
pub(crate) struct Memberships {
    /// As of the snapshot, or as configured where there is none.
    base: Membership,
    /// Those of later entries, by rising index.
    later: VecDeque<(Index, Membership)>,
    /// How often the one in effect may have changed.
    changes: u64,
}

impl Memberships {
    pub(crate) fn new(base: Membership) -> Memberships {
        Memberships { base, later: VecDeque::new(), changes: 0 }
    }

    /// The one in effect.
    pub(crate) fn current(&self) -> &Membership {
        self.later.back().map_or(&self.base, |(_, membership)| membership)
    }

    /// Grows whenever the one in effect may be another.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Where the one in effect was appended; zero if that is no longer known because a snapshot holds it.
    pub(crate) fn current_index(&self) -> Index {
        self.later.back().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The one before the one in effect, if both are known.
    pub(crate) fn before_current(&self) -> Option<&Membership> {
        let before = self.later.iter().rev().nth(1).map(|(_, membership)| membership);
        before.or_else(|| self.later.back().map(|_| &self.base))
    }

    /// The one as of the entry at `index`, which no snapshot has swallowed.
    pub(crate) fn at(&self, index: Index) -> &Membership {
        let upto = self.later.iter().rev().find(|(at, _)| *at <= index);
        upto.map_or(&self.base, |(_, membership)| membership)
    }

    /// An entry with a membership was appended.
    pub(crate) fn push(&mut self, index: Index, membership: Membership) {
        assert!(
            index > self.current_index() || planted::is("membership-not-rolled-back"),
            "memberships come in the order of the log"
        );
        self.changes += 1;
        self.later.push_back((index, membership));
    }

    /// The entries from `from` on are cut off.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        if planted::is("membership-not-rolled-back") {
            return;
        }
        while self.later.pop_back_if(|(index, _)| *index >= from).is_some() {
            self.changes += 1;
        }
    }

    /// A snapshot up to `through` holds `base`; what lies behind it stays.
    pub(crate) fn rebase(&mut self, through: Index, base: Membership) {
        while self.later.pop_front_if(|(index, _)| *index <= through).is_some() {}
        self.changes += u64::from(self.base != base);
        self.base = base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId(*number)).collect()
    }

    fn membership(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
        let [voters, outgoing, learners] = [voters, outgoing, learners].map(nodes);
        Membership { voters, outgoing, learners, context: Bytes::new() }
    }

    /// Every subset of `1..=count`, as bits.
    fn subsets(count: u32) -> impl Iterator<Item = u64> {
        0..1 << count
    }

    fn holds(subset: u64, node: NodeId) -> bool {
        subset & 1 << (node.0 - 1) != 0
    }

    fn majority_of(side: &[NodeId], subset: u64) -> bool {
        side.iter().filter(|node| holds(subset, **node)).count() * 2 > side.len()
    }

    #[test]
    fn two_quorums_of_memberships_next_to_each_other_always_share_a_node() {
        let changes: [(&[u64], &[u64]); 6] = [
            (&[1], &[1, 2]),
            (&[1, 2, 3], &[1, 2, 3, 4, 5]),
            (&[1, 2, 3], &[4, 5, 6]),
            (&[1, 2, 3, 4], &[1]),
            (&[1, 2], &[2]),
            (&[1, 2, 3, 4, 5], &[3, 4, 6]),
        ];
        for (old, new) in changes {
            let old = membership(old, &[], &[]);
            let new = membership(new, &[], &[]);
            let joint = old.towards(&new);
            assert!(joint.is_joint() && joint.after_the_change() == new);
            for (before, after) in [(&old, &joint), (&joint, &joint), (&joint, &new)] {
                for one in subsets(6).filter(|subset| before.is_quorum(|node| holds(*subset, node))) {
                    for other in subsets(6).filter(|subset| after.is_quorum(|node| holds(*subset, node))) {
                        assert!(one & other != 0, "{one:b} of {before:?} and {other:b} of {after:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_majorities_decide_what_is_elected_and_what_is_committed() {
        let joint = membership(&[1, 2, 3], &[3, 4, 5, 6], &[]);
        for subset in subsets(6) {
            let both = majority_of(&joint.voters, subset) && majority_of(&joint.outgoing, subset);
            assert_eq!(joint.is_quorum(|node| holds(subset, node)), both, "{subset:b}");
            let granted: Vec<_> =
                joint.all_voters().iter().map(|node| (*node, holds(subset, *node))).collect();
            let tally = if both { Tally::Won } else { Tally::Lost };
            assert_eq!(joint.tally(&granted), tally, "{subset:b}");
            let reached = |node| if holds(subset, node) { Index(7) } else { Index(4) };
            let committed = joint.committed_index(&mut Vec::new(), reached);
            assert_eq!(committed, if both { Index(7) } else { Index(4) }, "{subset:b}");
        }
        assert_eq!(
            joint.tally(&[(NodeId(1), true), (NodeId(2), true)]),
            Tally::Open,
            "the old side is silent"
        );
        let refused = [(NodeId(4), false), (NodeId(5), false), (NodeId(1), true), (NodeId(2), true)];
        assert_eq!(joint.tally(&refused), Tally::Lost, "two of the old four refuse");
    }

    #[test]
    fn learners_have_no_say_and_a_change_of_learners_needs_no_two_majorities() {
        let members = membership(&[1, 2, 3], &[], &[4, 5]);
        assert!(!members.is_quorum(|node| [1, 4, 5].contains(&node.0)));
        assert!(!members.is_voter(NodeId(4)) && members.contains(NodeId(4)));
        assert_eq!(members.nodes(), nodes(&[1, 2, 3, 4, 5]));
        let fewer = membership(&[1, 2, 3], &[], &[5]);
        assert_eq!(members.towards(&fewer), fewer);
    }

    #[test]
    fn the_last_membership_in_the_log_is_in_effect_until_it_is_cut_off() {
        let [first, second, third] = [1, 2, 3].map(|voters| membership(&nodes_up_to(voters), &[], &[]));
        let mut history = Memberships::new(first.clone());
        history.push(Index(5), second.clone());
        assert_eq!(history.before_current(), Some(&first));
        history.push(Index(9), third.clone());
        assert_eq!((history.current(), history.current_index()), (&third, Index(9)));
        assert_eq!(history.before_current(), Some(&second));
        assert_eq!([4, 5, 8, 9].map(|at| history.at(Index(at)).voters.len()), [1, 2, 2, 3]);
        history.truncate_from(Index(9));
        assert_eq!((history.current(), history.current_index()), (&second, Index(5)));
        history.push(Index(7), third.clone());
        history.rebase(Index(6), second.clone());
        assert_eq!((history.at(Index(6)), history.current()), (&second, &third));
        history.rebase(Index(8), third.clone());
        assert_eq!((history.current(), history.current_index()), (&third, Index::ZERO));
        assert_eq!(history.before_current(), None, "a snapshot holds it");
        assert_ne!(first, second);
    }

    fn nodes_up_to(count: u64) -> Vec<u64> {
        (1..=count).collect()
    }
}
