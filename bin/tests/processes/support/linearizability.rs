//! Whether a history of a key-value store is linearizable: is there one order of all operations, each between its begin
//! and its end, in which every get sees what the writes before it made?
//!
//! The search is Wing and Gong's with Lowe's memory of visited states, key by key, since linearizability is local. A key's
//! value is kept as a running hash of its bytes, so that an append costs its own length and a state two words. A write
//! whose end is unknown may take effect at any time after its begin, or never.
//!
//! The store names the version that each write made, and promises that versions are the order of writes. That promise is
//! checked with the rest, and it is what keeps the search short: only writes of unknown fate leave a choice. A get that
//! fits is taken at once, which loses nothing, since it changes nothing.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::history::{Action, Operation};

/// FNV-1a of 128 bits.
const HASH_START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const HASH_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// A value as the hash of its bytes; `None`: there is no such key.
type Value = Option<u128>;

/// Checks all keys; the error names the first key whose operations fit no order.
pub fn check(operations: &[Operation]) -> Result<(), String> {
    let mut by_key: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in by_key {
        if !Search::new(&operations).succeeds() {
            return Err(format!("the {} operations on {key:?} fit no order", operations.len()));
        }
    }
    Ok(())
}

fn extend(hash: u128, bytes: &[u8]) -> u128 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(HASH_PRIME))
}

fn hash(bytes: &[u8]) -> u128 {
    extend(HASH_START, bytes)
}

/// One operation with its bytes hashed where that is possible.
enum Step {
    Get(Value),
    Put(u128),
    Append(Bytes),
}

impl Step {
    fn new(action: &Action) -> Step {
        match action {
            Action::Get { saw } => Step::Get(saw.as_deref().map(hash)),
            Action::Put { value } => Step::Put(hash(value)),
            Action::Append { value } => Step::Append(value.clone()),
        }
    }

    /// The value after this operation, or `None` if it cannot come now.
    fn apply(&self, value: Value) -> Option<Value> {
        match self {
            Step::Get(saw) => (*saw == value).then_some(value),
            Step::Put(put) => Some(Some(*put)),
            Step::Append(bytes) => Some(Some(extend(value.unwrap_or(HASH_START), bytes))),
        }
    }
}

struct Search {
    steps: Vec<Step>,
    begins: Vec<u64>,
    /// `u64::MAX` where the end is unknown.
    ends: Vec<u64>,
    /// The writes whose version is known, in the order of their versions, and how many of them are taken.
    known: Vec<usize>,
    known_taken: usize,
    /// How many operations of known end are not taken.
    left: usize,
    taken: Vec<u64>,
    /// What was taken, in order.
    trail: Vec<usize>,
    value: Value,
}

/// A place in the order where more than one write may come next.
struct Fork {
    /// What has not been tried, the most promising last.
    choices: Vec<usize>,
    trail_length: usize,
    value: Value,
}

impl Search {
    fn new(operations: &[&Operation]) -> Search {
        let has_version = |index: &usize| operations[*index].version.is_some();
        let mut known: Vec<usize> = (0..operations.len()).filter(has_version).collect();
        known.sort_by_key(|index| operations[*index].version);
        Search {
            steps: operations.iter().map(|operation| Step::new(&operation.action)).collect(),
            begins: operations.iter().map(|operation| operation.begin).collect(),
            ends: operations.iter().map(|operation| operation.end.unwrap_or(u64::MAX)).collect(),
            known,
            known_taken: 0,
            left: operations.iter().filter(|operation| operation.end.is_some()).count(),
            taken: vec![0; operations.len().div_ceil(64)],
            trail: Vec::new(),
            value: None,
        }
    }

    fn succeeds(&mut self) -> bool {
        let mut seen: HashSet<(Vec<u64>, Value)> = HashSet::new();
        let mut forks: Vec<Fork> = Vec::new();
        loop {
            let writes = self.take_gets();
            if self.left == 0 {
                return true;
            }
            let is_new = seen.insert((self.taken.clone(), self.value));
            let choices = if is_new { writes } else { Vec::new() };
            forks.push(Fork { choices, trail_length: self.trail.len(), value: self.value });
            loop {
                let Some(fork) = forks.last_mut() else { return false };
                let (choice, trail_length, value) = (fork.choices.pop(), fork.trail_length, fork.value);
                self.return_to(trail_length, value);
                if let Some(write) = choice {
                    self.take(write);
                    break;
                }
                forks.pop();
            }
        }
    }

    /// Takes every get that fits now; then the writes that may come next, the most promising last.
    fn take_gets(&mut self) -> Vec<usize> {
        loop {
            let untaken: Vec<usize> = (0..self.steps.len()).filter(|index| !self.is_taken(*index)).collect();
            let earliest_end = untaken.iter().map(|index| self.ends[*index]).min().unwrap_or(u64::MAX);
            let possible = |index: &usize| self.begins[*index] <= earliest_end;
            let next: Vec<usize> = untaken.into_iter().filter(possible).collect();
            let is_get = |index: &usize| matches!(self.steps[*index], Step::Get(_));
            let (gets, mut writes): (Vec<usize>, Vec<usize>) = next.into_iter().partition(is_get);
            let fitting: Vec<usize> =
                gets.into_iter().filter(|get| self.steps[*get].apply(self.value).is_some()).collect();
            if fitting.is_empty() {
                let next_known = self.known.get(self.known_taken).copied();
                writes.retain(|write| Some(*write) == next_known || !self.known.contains(write));
                writes.sort_by_key(|write| Some(*write) == next_known);
                return writes;
            }
            fitting.into_iter().for_each(|get| self.take(get));
        }
    }

    fn take(&mut self, index: usize) {
        self.value = self.steps[index].apply(self.value).expect("only what fits is taken");
        self.trail.push(index);
        self.taken[index / 64] |= 1 << (index % 64);
        self.left -= usize::from(self.ends[index] != u64::MAX);
        self.known_taken += usize::from(self.known.get(self.known_taken) == Some(&index));
    }

    fn return_to(&mut self, trail_length: usize, value: Value) {
        for index in self.trail.drain(trail_length..).rev() {
            self.taken[index / 64] &= !(1 << (index % 64));
            self.left += usize::from(self.ends[index] != u64::MAX);
            let is_last_known = self.known_taken > 0 && self.known[self.known_taken - 1] == index;
            self.known_taken -= usize::from(is_last_known);
        }
        self.value = value;
    }

    fn is_taken(&self, index: usize) -> bool {
        self.taken[index / 64] & (1 << (index % 64)) != 0
    }
}

fn operation(action: Action, begin: u64, end: Option<u64>) -> Operation {
    Operation { key: Bytes::from_static(b"k"), action, begin, end, version: None }
}

fn get(saw: &'static str, begin: u64, end: u64) -> Operation {
    let saw = (!saw.is_empty()).then(|| Bytes::from_static(saw.as_bytes()));
    operation(Action::Get { saw }, begin, Some(end))
}

fn put(value: &'static str, begin: u64, end: impl Into<Option<u64>>) -> Operation {
    operation(Action::Put { value: Bytes::from_static(value.as_bytes()) }, begin, end.into())
}

fn append(value: &'static str, begin: u64, end: impl Into<Option<u64>>) -> Operation {
    operation(Action::Append { value: Bytes::from_static(value.as_bytes()) }, begin, end.into())
}

#[test]
fn histories_that_some_order_explains_pass() {
    let good: [&[Operation]; 8] = [
        &[],
        &[get("", 0, 1), put("a", 2, 3), get("a", 4, 5)],
        // Overlapping writes: either may be the last.
        &[put("a", 0, 10), put("b", 0, 10), get("a", 11, 12)],
        &[put("a", 0, 10), put("b", 0, 10), get("b", 11, 12)],
        // A get that overlaps a put may see it or not.
        &[put("a", 0, 1), put("b", 2, 10), get("a", 3, 4), get("b", 5, 6)],
        &[append("a", 0, 10), append("b", 0, 10), get("ba", 11, 12)],
        // Unknown writes: one took effect late, one never.
        &[put("a", 0, None), get("", 1, 2), get("a", 3, 4)],
        &[put("a", 0, 1), put("b", 2, None), get("a", 3, 4), get("a", 100, 101)],
    ];
    for (position, history) in good.iter().enumerate() {
        assert_eq!(check(history), Ok(()), "good history {position}");
    }
}

#[test]
fn histories_that_no_order_explains_fail() {
    let bad: [&[Operation]; 9] = [
        // A lost write, a stale read, a value from nowhere.
        &[put("a", 0, 1), get("", 2, 3)],
        &[put("a", 0, 1), put("b", 2, 3), get("a", 4, 5)],
        &[put("a", 0, 1), get("b", 2, 3)],
        // A get saw the new value, a later one the old.
        &[put("a", 0, 1), put("b", 2, 10), get("b", 3, 4), get("a", 5, 6)],
        // An append twice, an append lost, appends in an order that time forbids.
        &[append("a", 0, 1), get("aa", 2, 3)],
        &[append("a", 0, 1), append("b", 2, 3), get("b", 4, 5)],
        &[append("a", 0, 1), append("b", 2, 3), get("ba", 4, 5)],
        // An unknown write cannot take effect before it began, nor twice.
        &[get("a", 0, 1), put("a", 2, None)],
        &[append("a", 0, None), get("a", 1, 2), get("aa", 3, 4)],
    ];
    for (position, history) in bad.iter().enumerate() {
        assert!(check(history).is_err(), "bad history {position} passed");
    }
}

#[test]
fn versions_must_be_the_order_of_writes() {
    let with = |version, operation| Operation { version: Some(version), ..operation };
    let history = |first, second| {
        [with(first, append("a", 0, 10)), with(second, append("b", 0, 10)), get("ab", 11, 12)]
    };
    assert_eq!(check(&history(7, 8)), Ok(()));
    assert!(check(&history(8, 7)).is_err());
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..3_000 {
        let mut history: Vec<Operation> = (0..rng.random_range(1..6))
            .map(|_| {
                let begin = rng.random_range(0..12);
                let end = begin + rng.random_range(1..6);
                match rng.random_range(0..4) {
                    0 => put(["a", "b"][rng.random_range(0..2)], begin, end),
                    1 => append(["a", "b"][rng.random_range(0..2)], begin, end),
                    _ => get(["", "a", "b", "ab"][rng.random_range(0..4)], begin, end),
                }
            })
            .collect();
        // Some writes know their version, some do not know whether they happened.
        for operation in &mut history {
            let is_get = matches!(operation.action, Action::Get { .. });
            match rng.random_range(0..4) {
                0 if !is_get => operation.version = Some(rng.random()),
                1 if !is_get => operation.end = None,
                _ => {}
            }
        }
        let expected = some_order_fits(&history.iter().collect::<Vec<_>>(), None);
        assert_eq!(check(&history).is_ok(), expected, "{history:?}");
        if expected { passed += 1 } else { failed += 1 }
    }
    assert!(passed > 300 && failed > 300, "{passed} passed, {failed} failed: the cases are one-sided");
}

/// The definition, word for word: some operation that nobody else ended before can come first, and so on, until only
/// writes are left that nobody knows to have happened.
fn some_order_fits(left: &[&Operation], value: Value) -> bool {
    let earliest_end = left.iter().filter_map(|operation| operation.end).min().unwrap_or(u64::MAX);
    let lowest_version = left.iter().filter_map(|operation| operation.version).min();
    left.iter().all(|operation| operation.end.is_none())
        || (0..left.len()).any(|first| {
            let mut rest = left.to_vec();
            let operation = rest.remove(first);
            let after = Step::new(&operation.action).apply(value);
            operation.begin <= earliest_end
                && (operation.version.is_none() || operation.version == lowest_version)
                && after.is_some_and(|value| some_order_fits(&rest, value))
        })
}
