//! Whether a history of one key is linearizable: whether there is an order of its operations, each at one moment between
//! its call and its return, in which a plain register gives exactly the answers that were given.
//!
//! The search is that of Wing and Gong with Lowe's memo: take any operation that may come next, see whether its
//! answer fits, go on; never look twice at the same set of operations with the same state. An operation whose end is
//! unknown may take effect at any time after its call, or never; so where the same known operations led to the same state
//! with fewer of these used up and to no end, it is no use to look on with more.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

/// Steps after which the search gives up. "Unknown" counts as a failure, so this is never reached by a sound history.
const STEPS_MAX: u64 = 1_000_000;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The value.
    Get,
    /// Replace the value.
    Put(Bytes),
    /// Add to the value; a missing one is empty.
    Append(Bytes),
    /// Remove it.
    Delete,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To a get.
    Value(Option<Bytes>),
    /// To a put or an append.
    Done,
    /// To a delete: whether there was something.
    Deleted(bool),
    /// Nothing: it may have taken effect or may yet.
    Unknown,
}

/// One operation on the key.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it was called. All moments of a history differ.
    pub begun: u64,
    /// When it returned; None if its end is unknown.
    pub ended: Option<u64>,
    /// What was asked.
    pub input: Input,
    /// What was answered.
    pub output: Output,
    /// A guess at its place in the order, smaller is earlier. It makes the search fast and decides nothing.
    pub hint: u64,
}

impl Call {
    /// Whether it leaves the value as it is, by its own answer.
    fn changes_nothing(&self) -> bool {
        self.input == Input::Get || self.output == Output::Deleted(false)
    }
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none; the longest attempt could not be continued past this operation of the list.
    Impossible {
        /// Its place.
        at: usize,
    },
    /// The search was given up.
    Unknown,
}

/// States of the register by number, so that sets of them are cheap.
#[derive(Default)]
struct States {
    numbers: HashMap<Option<Bytes>, u32>,
    states: Vec<Option<Bytes>>,
}

impl States {
    fn number(&mut self, state: Option<Bytes>) -> u32 {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let number = u32::try_from(self.states.len()).expect("steps are bounded below 2^32");
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    /// The state after the call, or None if its answer does not fit.
    fn after(&mut self, call: &Call, number: u32) -> Option<u32> {
        let state = &self.states[number as usize];
        let next = match (&call.input, &call.output) {
            (Input::Get, Output::Value(value)) => return (state == value).then_some(number),
            (Input::Get, _) => return Some(number),
            (Input::Delete, Output::Deleted(found)) if *found != state.is_some() => return None,
            (Input::Delete, _) => None,
            (Input::Put(value), _) => Some(value.clone()),
            (Input::Append(suffix), _) => {
                let mut value = state.as_ref().map_or_else(Vec::new, |value| value.to_vec());
                value.extend_from_slice(suffix);
                Some(Bytes::from(value))
            }
        };
        Some(self.number(next))
    }
}

/// Where the search has been.
struct Memo {
    /// The bits of the calls whose end is known.
    known: Vec<u64>,
    /// By the known ones that are done and the state: the sets of unknown ones with which it was tried.
    tried: HashMap<(Vec<u64>, u32), Vec<Tried>>,
}

struct Tried {
    unknown: Vec<u64>,
    /// It led to no end. Until then what goes on from here with more is not needless: it goes on where this leads.
    is_over: bool,
}

impl Memo {
    fn new(calls: &[Call]) -> Memo {
        let mut known = vec![0; calls.len().div_ceil(64)];
        for (place, _) in calls.iter().enumerate().filter(|(_, call)| call.ended.is_some()) {
            known[place / 64] |= 1 << (place % 64);
        }
        Memo { known, tried: HashMap::new() }
    }

    /// The known and the unknown ones of those that are done.
    fn apart(&self, done: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let both = || done.iter().zip(&self.known);
        (
            both().map(|(done, known)| done & known).collect(),
            both().map(|(done, known)| done & !known).collect(),
        )
    }

    /// Whether it is worth looking from here; remembers that it was done.
    fn is_new(&mut self, done: &[u64], state: u32) -> bool {
        let (known, unknown) = self.apart(done);
        let tried = self.tried.entry((known, state)).or_default();
        let holds = |fewer: &[u64]| fewer.iter().zip(&unknown).all(|(fewer, more)| fewer & !more == 0);
        if tried.iter().any(|tried| tried.unknown == unknown || (tried.is_over && holds(&tried.unknown))) {
            return false;
        }
        tried.push(Tried { unknown, is_over: false });
        true
    }

    /// Nothing was found from here.
    fn is_over(&mut self, done: &[u64], state: u32) {
        let (known, unknown) = self.apart(done);
        let tried = self.tried.get_mut(&(known, state)).into_iter().flatten();
        tried.filter(|tried| tried.unknown == unknown).for_each(|tried| tried.is_over = true);
    }
}

/// One level of the search.
struct Level {
    candidates: Vec<usize>,
    next: usize,
    state: u32,
    /// The highest guess of what was taken so far.
    reached: u64,
    /// What was taken to get here.
    taken: usize,
}

struct Search<'a> {
    /// In the order of their beginning.
    calls: &'a [Call],
    done: Vec<u64>,
    /// Every call before this one is done.
    first_open: usize,
    left: usize,
}

impl Search<'_> {
    fn is_done(&self, call: usize) -> bool {
        self.done[call / 64] >> (call % 64) & 1 == 1
    }

    fn flip(&mut self, call: usize) {
        self.done[call / 64] ^= 1 << (call % 64);
        let was_known = usize::from(self.calls[call].ended.is_some());
        if self.is_done(call) {
            self.left -= was_known;
        } else {
            self.left += was_known;
            self.first_open = self.first_open.min(call);
        }
    }

    /// What may come next: everything that begins before the earliest open return; the likeliest first. Where what has
    /// no end had its turn and was of no use, it comes last from then on.
    fn candidates(&mut self, reached: u64) -> Vec<usize> {
        while self.first_open < self.calls.len() && self.is_done(self.first_open) {
            self.first_open += 1;
        }
        let mut earliest_return = u64::MAX;
        let mut found = Vec::new();
        for call in self.first_open..self.calls.len() {
            if self.is_done(call) {
                continue;
            }
            if self.calls[call].begun > earliest_return {
                break;
            }
            earliest_return = earliest_return.min(self.calls[call].ended.unwrap_or(u64::MAX));
            found.push(call);
        }
        found.sort_by_key(|call| {
            let Call { hint, ended, .. } = self.calls[*call];
            let is_overdue = ended.is_none() && hint < reached;
            (!self.calls[*call].changes_nothing(), is_overdue, hint, ended)
        });
        found
    }
}

/// Judges the history of one key, which begins without a value.
pub fn check(history: &[Call]) -> Verdict {
    let mut kept = without_the_unseen(history);
    kept.sort_by_key(|place| history[*place].begun);
    let calls: Vec<Call> = kept.iter().map(|place| history[*place].clone()).collect();
    let left = calls.iter().filter(|call| call.ended.is_some()).count();
    let done = vec![0; calls.len().div_ceil(64)];
    let mut search = Search { calls: &calls, done, first_open: 0, left };
    let mut states = States::default();
    let start = states.number(None);
    let mut memo = Memo::new(&calls);
    let candidates = search.candidates(0);
    let mut levels = vec![Level { candidates, next: 0, state: start, reached: 0, taken: usize::MAX }];
    let mut deepest = (0, 0);
    for _ in 0..STEPS_MAX {
        if search.left == 0 {
            return Verdict::Linearizable;
        }
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Verdict::Impossible { at: kept[deepest.1] } };
        let Some(call) = level.candidates.get(level.next).copied() else {
            let taken = level.taken;
            memo.is_over(&search.done, level.state);
            levels.pop();
            if taken != usize::MAX {
                search.flip(taken);
            }
            continue;
        };
        level.next += 1;
        let Some(state) = states.after(&calls[call], level.state) else {
            if depth > deepest.0 {
                deepest = (depth, call);
            }
            continue;
        };
        if calls[call].changes_nothing() {
            // It fits here and leaves everything as it is: whatever comes can come after it as well.
            level.next = level.candidates.len();
        }
        let is_guess = calls[call].hint != u64::MAX && !calls[call].changes_nothing();
        let reached = if is_guess { level.reached.max(calls[call].hint) } else { level.reached };
        search.flip(call);
        if memo.is_new(&search.done, state) {
            let candidates = search.candidates(reached);
            levels.push(Level { candidates, next: 0, state, reached, taken: call });
        } else {
            search.flip(call);
        }
    }
    Verdict::Unknown
}

/// Leaves out writes of unknown end that nobody saw: they can only have never run, or have been overwritten unseen,
/// which is the same unless a delete tells whether there was something.
fn without_the_unseen(history: &[Call]) -> Vec<usize> {
    let has_deletes = history.iter().any(|call| call.input == Input::Delete);
    let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
    let mut before: &[u8] = b"";
    for call in history {
        if let Output::Value(Some(value)) = &call.output {
            let new = grown_by(value, before).unwrap_or(value);
            seen.extend(new.split_inclusive(|byte| *byte == b','));
            before = value;
        }
    }
    let is_kept = |call: &Call| match &call.input {
        Input::Put(value) | Input::Append(value) if call.ended.is_none() && !has_deletes => {
            seen.contains(&value[..]) || !is_one_piece(value)
        }
        _ => true,
    };
    (0..history.len()).filter(|place| is_kept(&history[*place])).collect()
}

/// What a value has more than an earlier one that it begins with. None if it does not, or not with whole pieces of it.
pub(crate) fn grown_by<'a>(value: &'a [u8], before: &[u8]) -> Option<&'a [u8]> {
    value.strip_prefix(before).filter(|_| before.is_empty() || before.ends_with(b","))
}

/// Whether the value is of the form by which reads can be taken apart again.
fn is_one_piece(value: &[u8]) -> bool {
    value.last() == Some(&b',') && value.iter().filter(|byte| **byte == b',').count() == 1
}

#[cfg(test)]
mod cross_check;
#[cfg(test)]
mod tests;
