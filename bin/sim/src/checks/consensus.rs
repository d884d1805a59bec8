//! What Raft promises, checked on what nodes say, store and apply (Raft paper, figure 3), over all nodes and all their
//! lives.

use bytes::Bytes;
use raft::core::{
    AppendOutcome, Body, Entry, EntryId, Index, Message, NodeId, Payload, Persist, Restored, RoleKind,
    SoftState, Term,
};
use std::collections::BTreeMap;

use crate::checks::members::{MemberChecks, membership_in};
use crate::checks::node_log::{Health, NodeLog};
use crate::violation::Violation;

/// An entry as some log holds it: its term, what it carries, and the term of the entry before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    term: Term,
    payload: Payload,
    before: Option<Term>,
}

/// An entry that some node applied.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) term: Term,
    pub(crate) payload: Payload,
    /// The term of the node that applied it first: it was committed in this one or before.
    applied_in: Term,
}

/// The checker.
#[derive(Debug)]
pub(crate) struct ConsensusChecks {
    pub(crate) members: MemberChecks,
    leaders: BTreeMap<Term, usize>,
    /// The latest term in which anybody campaigned.
    campaigned: Term,
    /// The commit index that each term's leader began with, as its first append said.
    began_with: BTreeMap<Term, Index>,
    /// What any log ever held at each index; index 0 is unused.
    seen: Vec<Vec<Seen>>,
    /// What was applied, from index 1.
    pub(crate) committed: Vec<Committed>,
    logs: Vec<NodeLog>,
    /// How far each node has applied in its present life.
    applied: Vec<Index>,
}

impl ConsensusChecks {
    pub(crate) fn new(nodes: usize, founders: u64) -> ConsensusChecks {
        ConsensusChecks {
            members: MemberChecks::new(nodes, founders),
            leaders: BTreeMap::new(),
            campaigned: Term::default(),
            began_with: BTreeMap::new(),
            seen: Vec::new(),
            committed: Vec::new(),
            logs: vec![NodeLog::default(); nodes],
            applied: vec![Index::ZERO; nodes],
        }
    }

    /// How many terms had a leader.
    pub(crate) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Who led the latest term that had a leader.
    pub(crate) fn latest_leader(&self) -> Option<usize> {
        self.leaders.last_key_value().map(|(_, node)| *node)
    }

    /// How far a node has applied in its present life.
    pub(crate) fn applied(&self, node: usize) -> Index {
        self.applied[node]
    }

    /// Where a node's log ends.
    pub(crate) fn last(&self, node: usize) -> Index {
        self.logs[node].last().index
    }

    /// A node came up with this.
    pub(crate) fn recovered(
        &mut self,
        node: usize,
        restored: &Restored,
        health: Health,
    ) -> Result<(), Violation> {
        self.applied[node] = restored.snapshot.as_ref().map_or(Index::ZERO, |meta| meta.last.index);
        self.members.recovered(node, restored)?;
        named(node, self.logs[node].recovered(restored, health))
    }

    /// A node hears a message.
    pub(crate) fn hears(&mut self, node: usize, message: &Message) {
        if let Body::Heal { id, through, .. } = &message.body {
            self.logs[node].told_healed(*id, through.index);
        }
    }

    /// A node that was damaged takes part again.
    pub(crate) fn healed(&mut self, node: usize) -> Result<(), Violation> {
        let committed = &self.committed;
        let is_committed = |id: EntryId| {
            let known = id.index.0.checked_sub(1).and_then(|place| committed.get(place as usize));
            known.is_some_and(|known| known.term == id.term)
        };
        named(node, self.logs[node].healed(is_committed))
    }

    /// A node's core handed this out to be stored.
    pub(crate) fn stored(&mut self, node: usize, persist: &Persist) -> Result<(), Violation> {
        let log = &self.logs[node];
        let goes_on =
            persist.snapshot.as_ref().is_none_or(|meta| log.term_at(meta.last.index) == Some(meta.last.term));
        self.members.stored(node, persist, goes_on)?;
        self.logs[node].store(persist);
        let Some(first) = persist.entries.first() else { return Ok(()) };
        let mut before = self.logs[node].term_at(first.index.previous());
        for entry in &persist.entries {
            self.match_entry(node, entry, before)?;
            before = Some(entry.term);
        }
        Ok(())
    }

    /// Log Matching: the same id means the same content and the same entry before it, hence the same log up to there. A node
    /// alone may lose what it led a term with and nobody saw, and lead that term anew: nothing is held against its entries,
    /// but they are held against what others have seen.
    fn match_entry(&mut self, node: usize, entry: &Entry, before: Option<Term>) -> Result<(), Violation> {
        let place = entry.index.0 as usize;
        if self.seen.len() <= place {
            self.seen.resize(place + 1, Vec::new());
        }
        let new = Seen { term: entry.term, payload: entry.payload.clone(), before };
        match self.seen[place].iter().find(|seen| seen.term == entry.term) {
            Some(old) if *old == new => Ok(()),
            Some(old) => {
                let content = if old.payload == new.payload { "the same" } else { "another" };
                let text = format!(
                    "node {node} stores entry {}@{} after one of term {before:?}; another log has {content} content \
                     there, after one of term {:?}",
                    entry.index, entry.term, old.before
                );
                Violation::of("log-matching", text)
            }
            None => {
                if !self.members.is_alone(node) {
                    self.seen[place].push(new);
                }
                Ok(())
            }
        }
    }

    /// A node's role, term or leader changed.
    pub(crate) fn soft_state(&mut self, node: usize, state: &SoftState) -> Result<(), Violation> {
        if matches!(state.role, RoleKind::Candidate | RoleKind::Leader) {
            self.campaigned = self.campaigned.max(state.term);
        } else if state.term > self.campaigned {
            let text = format!("node {node} is in term {}, in which nobody has campaigned", state.term);
            return Violation::of("a-term-begins-with-a-candidate", text);
        }
        if state.role != RoleKind::Leader || self.leaders.get(&state.term) == Some(&node) {
            return Ok(());
        }
        self.leads(node, state.term)?;
        self.members.elected(node, state.term)?;
        // Leader Completeness, §5.4: what was committed in a term is in the log of every later term's leader. Votes of an
        // earlier term may come late, and make a leader of it that need not have what a later one committed.
        let log = &self.logs[node];
        let from = log.base().index.0.max(1);
        for index in from..=self.committed.len() as u64 {
            let committed = &self.committed[index as usize - 1];
            let id = EntryId { term: committed.term, index: Index(index) };
            if committed.applied_in < state.term && !log.holds(id) {
                let text = format!(
                    "node {node} leads term {} without the committed entry {id}; its log ends at {}",
                    state.term,
                    log.last()
                );
                return Violation::of("leader-completeness", text);
            }
        }
        Ok(())
    }

    fn leads(&mut self, node: usize, term: Term) -> Result<(), Violation> {
        match *self.leaders.entry(term).or_insert(node) {
            leader if leader == node => Ok(()),
            leader => Violation::of("one-leader", format!("nodes {leader} and {node} lead term {term}")),
        }
    }

    /// A message leaves a node.
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        let node = message.from.0 as usize;
        self.counts(node, message)?;
        match &message.body {
            Body::RequestVote { pre_vote: false, .. } => {
                named(node, self.logs[node].vote(message.term, message.from.0))
            }
            Body::RequestVoteReply { pre_vote: false, granted: true } => {
                self.members.voted(message.from, message.term, message.to.0);
                named(node, self.logs[node].vote(message.term, message.to.0))
            }
            Body::AppendEntriesReply(AppendOutcome::Accepted { match_index }) => {
                named(node, self.logs[node].promise(message.term, *match_index))
            }
            Body::AppendEntriesReply(AppendOutcome::Convalescent { id, matched, .. }) => {
                self.logs[node].says_loss(*id);
                let promised = matched.map(|index| self.logs[node].promise(message.term, index));
                named(node, promised.unwrap_or(Ok(())))
            }
            Body::AppendEntries { leader_commit, entries, .. } => {
                self.leads(node, message.term)?;
                self.changes_after_own_term(node, message.term, *leader_commit, entries)?;
                self.committed_by_counting(node, message.term, *leader_commit)
            }
            Body::Heartbeat { .. } => self.leads(node, message.term),
            _ => Ok(()),
        }
    }

    /// Who has lost what it had promised helps nobody to lead and nothing to be committed.
    fn counts(&self, node: usize, message: &Message) -> Result<(), Violation> {
        let counts = matches!(
            &message.body,
            Body::RequestVote { .. }
                | Body::RequestVoteReply { granted: true, .. }
                | Body::AppendEntriesReply(AppendOutcome::Accepted { .. } | AppendOutcome::Healthy { .. })
        );
        match counts && self.logs[node].is_damaged() {
            true => Violation::of(
                "the-damaged-count-for-nothing",
                format!("node {node} lacks entries and says {message}"),
            ),
            false => Ok(()),
        }
    }

    /// A leader counts only for entries of its own term (§5.4.2), so its commit index moves only to such.
    fn committed_by_counting(&mut self, node: usize, term: Term, commit: Index) -> Result<(), Violation> {
        let began_with = *self.began_with.entry(term).or_insert(commit);
        let of_term = self.logs[node].term_at(commit);
        if commit > began_with && of_term.is_some_and(|of| of < term) {
            let text = format!(
                "node {node}, leader of term {term}, committed {commit} of an earlier term by counting"
            );
            return Violation::of("own-term-is-committed", text);
        }
        Ok(())
    }

    /// Until an entry of its own term is committed a leader does not know who takes part, and changes nothing of that
    /// (erratum to the dissertation's single-server changes, 2015).
    fn changes_after_own_term(
        &self,
        node: usize,
        term: Term,
        commit: Index,
        entries: &[Entry],
    ) -> Result<(), Violation> {
        let own = entries.iter().find(|entry| entry.term == term && membership_in(entry).is_some());
        match own.filter(|_| self.logs[node].term_at(commit) != Some(term)) {
            Some(entry) => {
                let text =
                    format!("node {node} changes the members by {} when {commit} is committed", entry.id());
                Violation::of("members-change-after-own-term", text)
            }
            None => Ok(()),
        }
    }

    /// A node is about to apply these entries. State Machine Safety: nobody ever applies another entry there.
    pub(crate) fn applies(&mut self, node: usize, entries: &[Entry]) -> Result<(), Violation> {
        for entry in entries {
            if entry.index != self.applied[node].next() {
                let text = format!("node {node} applies entry {} after {}", entry.index, self.applied[node]);
                return Violation::of("applied-in-order", text);
            }
            self.applied[node] = entry.index;
            let place = entry.index.0 as usize - 1;
            match self.committed.get(place) {
                Some(known) if known.term == entry.term && known.payload == entry.payload => {}
                Some(known) => {
                    let text = format!(
                        "node {node} applies {} where {}@{} was applied before",
                        entry.id(),
                        entry.index,
                        known.term
                    );
                    return Violation::of("state-machine-safety", text);
                }
                None => self.commit(node, entry)?,
            }
        }
        Ok(())
    }

    fn commit(&mut self, node: usize, entry: &Entry) -> Result<(), Violation> {
        if entry.index.0 as usize != self.committed.len() + 1 {
            let text = format!(
                "node {node} applies {} while only {} entries are known",
                entry.id(),
                self.committed.len()
            );
            return Violation::of("applied-in-order", text);
        }
        let (logs, leader) = (&self.logs, self.leaders.get(&entry.term));
        let holds = |node: NodeId| {
            let place = node.0 as usize;
            logs.get(place).is_some_and(|log| {
                // Its leader counted its own copy without telling anybody.
                let counted = log.had_promised(entry.id()) || (leader == Some(&place) && log.had(entry.id()));
                counted || log.holds(entry.id())
            })
        };
        self.members.commit(node, entry, holds)?;
        let (term, payload) = (entry.term, entry.payload.clone());
        self.committed.push(Committed { term, payload, applied_in: self.logs[node].term() });
        Ok(())
    }

    /// A node replaces its state by a snapshot that ends here.
    pub(crate) fn restores(&mut self, node: usize, last: EntryId) -> Result<(), Violation> {
        let known = last.index.0.checked_sub(1).and_then(|place| self.committed.get(place as usize));
        if known.is_none_or(|known| known.term != last.term) {
            let text = format!("node {node} takes a snapshot up to {last}, which was never applied");
            return Violation::of("snapshot-of-committed", text);
        }
        self.applied[node] = self.applied[node].max(last.index);
        Ok(())
    }

    /// Every command with its index.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        (1..).zip(&self.committed).filter_map(|(index, entry)| match &entry.payload {
            Payload::Command(command) => Some((index, command)),
            Payload::Noop | Payload::Membership(_) => None,
        })
    }

    /// The command at an index, if it was applied and is one.
    pub(crate) fn command(&self, index: u64) -> Option<&Bytes> {
        match &self.committed.get(usize::try_from(index).ok()?.checked_sub(1)?)?.payload {
            Payload::Command(command) => Some(command),
            Payload::Noop | Payload::Membership(_) => None,
        }
    }
}

/// The violation with the node it is about.
fn named(node: usize, result: Result<(), Violation>) -> Result<(), Violation> {
    result.map_err(|violation| Violation { text: format!("node {node}: {}", violation.text), ..violation })
}
