//! What a checker knows of one node's log: everything its core handed out to be stored, and what it promised on the
//! strength of it.

use raft::core::{EntryId, Index, Persist, Restored, Term};

use crate::violation::Violation;

/// The model of one node's log and votes. It outlives the node's crashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLog {
    /// The last entry before `terms`.
    base: EntryId,
    terms: Vec<Term>,
    /// The term that was handed out to be stored last.
    term: Term,
    /// Up to here the node told a leader that the log is durable, and it has not been told otherwise since.
    promised: Index,
    /// The latest term in which it gave its vote, and to whom.
    voted: Option<(Term, u64)>,
    /// A part of what it promised is lost: what the log was before. Until all of that which counts is there again, the
    /// node counts for nothing.
    lost: Option<Box<NodeLog>>,
    /// What it calls that loss, in this life.
    loss: Option<u64>,
    /// Up to here leaders said that it has everything again that this loss took: the lowest of these places.
    told_healed: Option<Index>,
    /// Up to here the log was there when it came up last, promised or not, and was not replaced since.
    found: Index,
}

/// What a node found when it came up, as far as its files say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    /// It says that it lacks something.
    pub(crate) is_convalescent: bool,
    /// Its files were damaged since its last start.
    pub(crate) is_damaged: bool,
}

impl NodeLog {
    /// The last entry.
    pub(crate) fn last_index(&self) -> Index {
        self.base.index.plus(self.terms.len() as u64)
    }

    /// The term that was handed out to be stored last.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The last entry's id.
    pub(crate) fn last(&self) -> EntryId {
        let index = self.last_index();
        EntryId { term: self.term_at(index).unwrap_or_default(), index }
    }

    /// The term of an entry, if the log reaches there.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.terms.get(usize::try_from(place).ok()?).copied()
    }

    /// Whether the entry is in the log, or before where it begins.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_at(id.index) == Some(id.term)
    }

    /// Whether it had the entry before it was damaged.
    pub(crate) fn had(&self, id: EntryId) -> bool {
        self.lost.as_ref().is_some_and(|before| before.holds(id))
    }

    /// Whether it had promised the entry before it was damaged.
    pub(crate) fn had_promised(&self, id: EntryId) -> bool {
        self.had(id) && self.lost.as_ref().is_some_and(|before| id.index <= before.promised)
    }

    /// Whether the node counts for nothing.
    pub(crate) fn is_damaged(&self) -> bool {
        self.lost.is_some()
    }

    /// It tells a leader of its loss.
    pub(crate) fn says_loss(&mut self, loss: u64) {
        self.loss = Some(loss);
    }

    /// A leader says that it has everything up to here that this loss took.
    pub(crate) fn told_healed(&mut self, loss: u64, through: Index) {
        if self.loss == Some(loss) {
            let lowest = self.told_healed.map_or(through, |told| told.min(through));
            self.told_healed = Some(lowest);
        }
    }

    /// The node takes part again. What its leader says that it has must be durable by now, and so must what it had promised
    /// and of which `is_committed` is true.
    pub(crate) fn healed(&mut self, is_committed: impl Fn(EntryId) -> bool) -> Result<(), Violation> {
        let Some(before) = self.lost.take() else {
            return Violation::of("heals-what-is-damaged", "it was not damaged");
        };
        let there = self.base.index.max(self.promised).max(self.found);
        if self.told_healed.is_none_or(|told| told > there) {
            let told = self.told_healed.map_or_else(|| "nowhere".to_owned(), |told| told.to_string());
            let text = format!(
                "it takes part again as it was said to have everything up to {told}, of which {there} is durable"
            );
            return Violation::of("healed-with-all-of-it", text);
        }
        if before.base.index > there {
            let base = before.base;
            let text =
                format!("it takes part again with what is up to {there}, and had the snapshot of {base}");
            return Violation::of("healed-with-all-of-it", text);
        }
        let ids = (before.base.index.0 + 1..=before.promised.0)
            .filter_map(|index| Some(EntryId { term: before.term_at(Index(index))?, index: Index(index) }));
        for id in ids.filter(|id| is_committed(*id)) {
            if id.index > there || !self.holds(id) {
                let text = format!(
                    "it takes part again without {id}, which it had promised; its log ends at {}",
                    self.last()
                );
                return Violation::of("healed-with-all-of-it", text);
            }
        }
        Ok(())
    }

    /// Where the log begins, for those who walk it.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// Plays what the core handed out.
    pub(crate) fn store(&mut self, persist: &Persist) {
        if let Some(hard_state) = &persist.hard_state {
            self.term = hard_state.term;
        }
        if let Some(meta) = &persist.snapshot {
            self.begin_behind(meta.last);
        }
        if let Some(first) = persist.entries.first() {
            self.cut_from(first.index);
            self.terms.extend(persist.entries.iter().map(|entry| entry.term));
        }
    }

    fn begin_behind(&mut self, last: EntryId) {
        if self.term_at(last.index) == Some(last.term) {
            let gone = last.index.distance_from(self.base.index) as usize;
            self.terms.drain(..gone);
        } else {
            self.terms.clear();
            self.found = self.found.min(last.index);
        }
        self.base = last;
    }

    fn cut_from(&mut self, index: Index) {
        let kept = index.0.saturating_sub(self.base.index.0 + 1) as usize;
        self.terms.truncate(kept);
        self.promised = self.promised.min(index.saturating_minus(1));
        self.found = self.found.min(index.saturating_minus(1));
    }

    /// The node said in this term that its log is durable up to here. What it says of an earlier term than it is in is
    /// like a message that was delayed: whoever leads now was elected without it.
    pub(crate) fn promise(&mut self, term: Term, index: Index) -> Result<(), Violation> {
        if term < self.term {
            return Ok(());
        }
        if index > self.last_index() {
            return Violation::of(
                "acknowledged-what-is-not-there",
                format!("index {index} beyond {}", self.last()),
            );
        }
        self.promised = self.promised.max(index);
        Ok(())
    }

    /// The node gave its vote, or asked for votes for itself.
    pub(crate) fn vote(&mut self, term: Term, candidate: u64) -> Result<(), Violation> {
        if let Some((last, to)) = self.voted
            && (term < last || (term == last && to != candidate))
        {
            let text =
                format!("a vote for node {candidate} in term {term} after one for node {to} in term {last}");
            return Violation::of("two-votes", text);
        }
        self.voted = Some((term, candidate));
        Ok(())
    }

    /// The node came up again: what it promised must be there, or it must say that something is missing.
    pub(crate) fn recovered(&mut self, restored: &Restored, health: Health) -> Result<(), Violation> {
        let base = restored.snapshot.as_ref().map_or(EntryId::ZERO, |meta| meta.last);
        let behind = restored.entries.iter().filter(|entry| entry.index > base.index);
        let terms: Vec<Term> = behind.map(|entry| entry.term).collect();
        let term = restored.hard_state.term;
        let (promised, voted) = (self.promised, self.voted);
        let mut found = NodeLog { base, terms, term, promised, voted, ..NodeLog::default() };
        found.found = found.last_index();
        if health.is_convalescent {
            found.promised = self.promised.min(found.last_index());
            if health.is_damaged {
                found.promised = self.agrees_with(&found);
            }
            // What it counts for is what it had promised before the first damage.
            found.lost = self.lost.clone().or_else(|| Some(Box::new(self.clone())));
        } else if self.lost.is_some() {
            return Violation::of(
                "damage-is-remembered",
                "it came up damaged and comes up sound without a repair",
            );
        }
        let may_lack = health.is_convalescent && health.is_damaged;
        if self.promised > found.last_index() && !may_lack {
            let text =
                format!("the log was acknowledged up to {} and ends at {}", self.promised, found.last());
            return Violation::of("acknowledged-entry-lost", text);
        }
        self.kept_entries(&found)?;
        self.kept_vote(restored)?;
        *self = found;
        Ok(())
    }

    /// Up to here what is there of what was promised is what it was. A log that is cut where it is damaged may have again
    /// what a later leader's entries had taken the place of.
    fn agrees_with(&self, found: &NodeLog) -> Index {
        let begin = self.base.index.max(found.base.index);
        let differs = |index: &u64| found.term_at(Index(*index)) != self.term_at(Index(*index));
        let first = (begin.0 + 1..=found.promised.0).find(differs);
        first.map_or(found.promised, |first| Index(first - 1))
    }

    /// What is there of what was promised is what it was.
    fn kept_entries(&self, found: &NodeLog) -> Result<(), Violation> {
        let begin = self.base.index.max(found.base.index);
        for index in begin.0 + 1..=found.promised.0 {
            let index = Index(index);
            if found.term_at(index) != self.term_at(index) {
                let text = format!(
                    "entry {index} of term {:?} was acknowledged as durable; after the restart its term is {:?}, the \
                     log ends at {}",
                    self.term_at(index).map(|term| term.0),
                    found.term_at(index).map(|term| term.0),
                    found.last()
                );
                return Violation::of("acknowledged-entry-lost", text);
            }
        }
        Ok(())
    }

    fn kept_vote(&self, restored: &Restored) -> Result<(), Violation> {
        if let Some((term, candidate)) = self.voted {
            let kept = restored.hard_state;
            let same = kept.term == term && kept.vote.map(|vote| vote.0) == Some(candidate);
            if kept.term < term || (kept.term == term && !same) {
                let text =
                    format!("voted for node {candidate} in term {term}; after the restart it is {kept:?}");
                return Violation::of("vote-lost", text);
            }
        }
        Ok(())
    }
}
