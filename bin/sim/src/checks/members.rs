//! Who takes part, as the logs say it: which membership is in effect where, and whether what is elected and committed
//! has the majorities that this asks for. The arithmetic is written anew, so as not to share its mistakes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use raft::core::{Entry, EntryId, Index, Membership, NodeId, Payload, Persist, Restored, Term};

use crate::violation::Violation;

/// The memberships along one node's log.
#[derive(Clone, Debug)]
struct View {
    /// As of where the log begins.
    base: Membership,
    /// Those of its entries, by rising index.
    later: Vec<(Index, Membership)>,
}

impl View {
    fn current(&self) -> &Membership {
        self.later.last().map_or(&self.base, |(_, membership)| membership)
    }

    fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.later.retain(|(index, _)| *index < first.index);
        self.later
            .extend(entries.iter().filter_map(|entry| Some((entry.index, membership_in(entry)?.clone()))));
    }
}

/// The membership that an entry carries.
pub(crate) fn membership_in(entry: &Entry) -> Option<&Membership> {
    match &entry.payload {
        Payload::Membership(membership) => Some(membership),
        Payload::Noop | Payload::Command(_) => None,
    }
}

/// Whether those of which `has` is true are more than half of the voters, and of those that are being left.
fn is_majority(membership: &Membership, has: impl Fn(NodeId) -> bool) -> bool {
    let is_half_exceeded =
        |side: &[NodeId]| side.iter().filter(|voter| has(**voter)).count() * 2 > side.len();
    is_half_exceeded(&membership.voters)
        && (membership.outgoing.is_empty() || is_half_exceeded(&membership.outgoing))
}

/// The members as all logs have them.
#[derive(Debug)]
pub(crate) struct MemberChecks {
    founders: Membership,
    views: Vec<View>,
    /// What each node says it goes by, since its last start.
    told: Vec<Option<Membership>>,
    /// What was committed, by rising index, from the founders on.
    committed: Vec<(Index, Membership)>,
    /// Who gave its vote to whom in which term.
    votes: BTreeMap<(Term, u64), BTreeSet<NodeId>>,
}

impl MemberChecks {
    /// The first so many of all nodes found the cluster; the others may join it.
    pub(crate) fn new(nodes: usize, founders: u64) -> MemberChecks {
        let founders = Membership::new((0..founders).map(NodeId));
        let view = View { base: Membership::default(), later: Vec::new() };
        MemberChecks {
            committed: vec![(Index::ZERO, founders.clone())],
            founders,
            views: vec![view; nodes],
            told: vec![None; nodes],
            votes: BTreeMap::new(),
        }
    }

    /// The last membership in a node's log.
    pub(crate) fn current(&self, node: usize) -> &Membership {
        self.views[node].current()
    }

    /// The last membership that is known to be committed.
    pub(crate) fn committed(&self) -> &Membership {
        let (_, last) = self.committed.last().expect("the founders are its first");
        last
    }

    /// Every membership that decides or may come to.
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &Membership> {
        let (known, last) = self.committed.last().expect("the founders are its first");
        let uncommitted = self.views.iter().flat_map(|view| &view.later).filter(|(index, _)| index > known);
        std::iter::once(last).chain(uncommitted.map(|(_, membership)| membership))
    }

    /// Whether enough of all that decide are left if only those are of which `is_left` is true.
    pub(crate) fn survive(&self, is_left: impl Fn(NodeId) -> bool) -> bool {
        self.in_play().all(|membership| is_majority(membership, &is_left))
    }

    /// The membership that decides, if no other may come to.
    pub(crate) fn settled(&self) -> Option<&Membership> {
        let mut in_play = self.in_play();
        in_play.next().filter(|only| only.outgoing.is_empty() && in_play.next().is_none())
    }

    /// Whether a node is alone, by its own log.
    pub(crate) fn is_alone(&self, node: usize) -> bool {
        let current = self.current(node);
        current.outgoing.is_empty() && current.voters == [NodeId(node as u64)]
    }

    /// A node came up with this.
    pub(crate) fn recovered(&mut self, node: usize, restored: &Restored) -> Result<(), Violation> {
        let is_founder = self.founders.voters.contains(&NodeId(node as u64));
        let base = match &restored.snapshot {
            Some(meta) => {
                self.judge_snapshot(node, meta.last, &meta.membership)?;
                meta.membership.clone()
            }
            None if is_founder => self.founders.clone(),
            None => Membership::default(),
        };
        let from = restored.snapshot.as_ref().map_or(Index::ZERO, |meta| meta.last.index);
        let behind = restored.entries.iter().position(|entry| entry.index > from);
        self.views[node] = View { base, later: Vec::new() };
        self.views[node].append(behind.map_or(&[], |place| &restored.entries[place..]));
        self.told[node] = None;
        Ok(())
    }

    /// A node's core handed this out to be stored; `keeps` says whether its log goes on behind the snapshot in it.
    pub(crate) fn stored(&mut self, node: usize, persist: &Persist, keeps: bool) -> Result<(), Violation> {
        if let Some(meta) = &persist.snapshot {
            self.judge_snapshot(node, meta.last, &meta.membership)?;
            let view = &mut self.views[node];
            view.base.clone_from(&meta.membership);
            view.later.retain(|(index, _)| keeps && *index > meta.last.index);
        }
        self.views[node].append(&persist.entries);
        Ok(())
    }

    /// A snapshot holds the members as of its last entry.
    fn judge_snapshot(&self, node: usize, last: EntryId, held: &Membership) -> Result<(), Violation> {
        let then = self.committed.iter().rev().find(|(index, _)| *index <= last.index);
        match then {
            Some((index, then)) if then != held => {
                let text = format!(
                    "node {node} has a snapshot up to {last} with the members {held}; as of {index} they are {then}"
                );
                Violation::of("snapshot-of-its-members", text)
            }
            _ => Ok(()),
        }
    }

    /// A node says by whom it goes from now on.
    pub(crate) fn told(&mut self, node: usize, membership: Membership) {
        self.told[node] = Some(membership);
    }

    /// Who takes part is the last membership in the log, for the node, too.
    pub(crate) fn judge_told(&self, node: usize) -> Result<(), Violation> {
        let (told, current) = (&self.told[node], self.current(node));
        match told {
            Some(told) if told != current => {
                let text = format!("node {node} goes by the members {told}; in its log they are {current}");
                Violation::of("members-of-the-log", text)
            }
            _ => Ok(()),
        }
    }

    /// A vote was given.
    pub(crate) fn voted(&mut self, voter: NodeId, term: Term, candidate: u64) {
        self.votes.entry((term, candidate)).or_default().insert(voter);
    }

    /// Who leads has the votes of a majority of those who take part by its log.
    pub(crate) fn elected(&self, node: usize, term: Term) -> Result<(), Violation> {
        let id = NodeId(node as u64);
        let given = self.votes.get(&(term, id.0));
        let has = |voter| voter == id || given.is_some_and(|given| given.contains(&voter));
        let current = self.current(node);
        if is_majority(current, has) {
            return Ok(());
        }
        let text = format!("node {node} leads term {term} of {current} with the votes of {given:?}");
        Violation::of("elected-by-majority", text)
    }

    /// An entry is committed: `holds` says whose logs have it. It takes a majority of the members as of the entry, or of
    /// those that came next: they count as soon as they are in a log, but a membership is committed by itself.
    pub(crate) fn commit(
        &mut self,
        node: usize,
        entry: &Entry,
        holds: impl Fn(NodeId) -> bool,
    ) -> Result<(), Violation> {
        let held = |membership: &Membership| is_majority(membership, &holds);
        let view = &self.views[node];
        let own = membership_in(entry);
        let then = view.later.iter().rev().find(|(index, _)| *index <= entry.index);
        let then = then.map_or(&view.base, |(_, membership)| membership);
        let next = || {
            let holders = (0..self.views.len()).filter(|node| holds(NodeId(*node as u64)));
            let later = |node: usize| self.views[node].later.iter().find(|(index, _)| *index > entry.index);
            holders.filter_map(later).any(|(_, membership)| held(membership))
        };
        if !held(then) && (own.is_some() || !next()) {
            let holders: Vec<usize> =
                (0..self.views.len()).filter(|node| holds(NodeId(*node as u64))).collect();
            let text =
                format!("node {node} applies {} of {then}, which the logs of {holders:?} hold", entry.id());
            return Violation::of("committed-by-majority", text);
        }
        if let Some(membership) = own {
            self.committed.push((entry.index, membership.clone()));
        }
        Ok(())
    }
}
