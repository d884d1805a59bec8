//! Stale reads: each must have seen what its key really held, at a moment that its node had reached and that is no older
//! than was asked for.
//!
//! How old that is says the simulation's own time. A node measures the age by its own clock, which may be wrong in its pace:
//! so long as the bound lasts on that clock, so old may the state be. The moment is counted from when the node got the get.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvserver::Outcome;
use kvserver::state_machine::Command;

use crate::tap::Attempt;
use crate::violation::Violation;

/// A clock shows whole microseconds, and so do its stamps: an age may be measured wrong by so much.
const ROUNDING_US: u64 = 10;

/// A stale read that a node got.
#[derive(Clone, Debug)]
struct Asked {
    key: Bytes,
    /// It must have seen the log up to here.
    at_least: u64,
}

/// What it was answered.
#[derive(Clone, Debug)]
struct Answered {
    node: usize,
    attempt: Attempt,
    key: Bytes,
    /// The value and its version, if there was one.
    found: Option<(Bytes, u64)>,
    at_least: u64,
    /// The node had applied so much.
    at_most: u64,
}

/// The checker.
#[derive(Debug, Default)]
pub(crate) struct StalenessChecks {
    /// When each entry of the log was applied by anybody, from index 1.
    applied_at: Vec<u64>,
    asked: BTreeMap<Attempt, Asked>,
    answered: Vec<Answered>,
}

/// While a key held this, from one index of the log up to another, both included.
struct Held<'a> {
    from: u64,
    until: u64,
    value: Option<&'a [u8]>,
}

impl StalenessChecks {
    /// So many entries are known to be committed by now.
    pub(crate) fn committed(&mut self, count: usize, now: u64) {
        self.applied_at.resize(count, now);
    }

    /// A node that has applied so much gets a read, which may be so old on the node's clock, if there is a bound.
    pub(crate) fn asked(
        &mut self,
        attempt: Attempt,
        key: &Bytes,
        applied: u64,
        now: u64,
        age_us: Option<u64>,
    ) {
        let since = age_us.map_or(0, |age| now.saturating_sub(age + ROUNDING_US));
        let known = self.applied_at.partition_point(|at| *at < since) as u64;
        let at_least = known.max(applied);
        // Of two copies of a get either may be the one that is answered, the second by a node that has started again.
        let asked = self.asked.entry(attempt).or_insert_with(|| Asked { key: key.clone(), at_least });
        asked.at_least = at_least.min(asked.at_least);
    }

    /// A node that has applied so much answers.
    pub(crate) fn answered(&mut self, node: usize, attempt: Attempt, outcome: &Outcome, applied: u64) {
        let Some(Asked { key, at_least }) = self.asked.get(&attempt) else { return };
        let found = match outcome {
            Outcome::Found { value, version } => Some((value.clone(), *version)),
            Outcome::Missing => None,
            Outcome::Applied(_) | Outcome::Refused(_) => return,
        };
        let (key, at_least) = (key.clone(), *at_least);
        self.answered.push(Answered { node, attempt, key, found, at_least, at_most: applied });
    }

    /// Judges all answers by the writes of the log that took effect.
    pub(crate) fn check<'a>(
        &'a self,
        writes: impl Iterator<Item = (u64, Command<'a>)>,
    ) -> Result<(), Violation> {
        let mut by_key: BTreeMap<&[u8], Vec<&Answered>> = BTreeMap::new();
        for answered in &self.answered {
            by_key.entry(&answered.key).or_default().push(answered);
        }
        let mut held: BTreeMap<&[u8], (u64, Option<Vec<u8>>)> =
            by_key.keys().map(|key| (*key, (0, None))).collect();
        for (index, command) in writes {
            let (Command::Put { key, .. } | Command::Append { key, .. } | Command::Delete { key, .. }) =
                &command
            else {
                continue;
            };
            let Some((from, value)) = held.get_mut(*key) else { continue };
            let before = Held { from: *from, until: index - 1, value: value.as_deref() };
            explain(by_key.entry(key).or_default(), &before)?;
            *from = index;
            match command {
                Command::Put { value: put, .. } => *value = Some(put.to_vec()),
                Command::Append { value: more, .. } => {
                    value.get_or_insert_default().extend_from_slice(more);
                }
                _ => *value = None,
            }
        }
        for (key, (from, value)) in &held {
            let last = Held { from: *from, until: u64::MAX, value: value.as_deref() };
            explain(by_key.entry(key).or_default(), &last)?;
        }
        match by_key.values().flatten().next() {
            Some(answered) => {
                let text = format!("{}, which its key never held so late", answered.describe());
                Violation::of("stale-reads-in-bounds", text)
            }
            None => Ok(()),
        }
    }
}

/// Leaves only those answers that what the key held meanwhile does not explain.
fn explain(answers: &mut Vec<&Answered>, held: &Held<'_>) -> Result<(), Violation> {
    for answered in answers.iter() {
        if let Some((value, version)) = &answered.found
            && *version == held.from
            && held.value != Some(&value[..])
        {
            let text = format!("{}, but the log wrote something else there", answered.describe());
            return Violation::of("stale-reads-are-true", text);
        }
    }
    answers.retain(|answered| {
        let is_in_time = held.from <= answered.at_most && answered.at_least <= held.until;
        let is_it = match &answered.found {
            Some((_, version)) => *version == held.from && held.value.is_some(),
            None => held.value.is_none(),
        };
        !(is_in_time && is_it)
    });
    Ok(())
}

impl Answered {
    fn describe(&self) -> String {
        let found = match &self.found {
            Some((value, version)) => format!("version {version}, {} bytes", value.len()),
            None => "nothing".to_owned(),
        };
        format!(
            "node {} answered attempt {} of client {}, a stale get of {}, with {found}; it had to be of between {} \
             and {}",
            self.node,
            self.attempt.number,
            self.attempt.client,
            String::from_utf8_lossy(&self.key),
            self.at_least,
            self.at_most
        )
    }
}

#[cfg(test)]
mod tests;
