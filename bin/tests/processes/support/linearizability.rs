//! Whether a history of a key-value store is linearizable: is there one order of all operations, each between its begin
//! and its end, in which every get sees what the writes before it made?
//!
//! The search is Wing and Gong's with Lowe's memory of visited states, key by key, since linearizability is local. A key's
//! value is kept as a running hash of its bytes, so that an append costs its own length and a state two words. A write
//! whose end is unknown may take effect at any time after its begin, or never, which is the same as at the end.

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

/// The beginning or the end of an operation, in a doubly linked list by position. Position 0 is the list's head.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    /// Where the end stands, for a beginning.
    end: Option<usize>,
    previous: usize,
    next: usize,
}

struct Search {
    steps: Vec<Step>,
    events: Vec<Event>,
    taken: Vec<u64>,
    value: Value,
}

impl Search {
    fn new(operations: &[&Operation]) -> Search {
        let mut points = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            points.push((operation.begin, false, index));
            points.push((operation.end.unwrap_or(u64::MAX), true, index));
        }
        // At the same instant a beginning comes first: such operations overlap.
        points.sort_unstable();
        let count = points.len();
        let mut events =
            vec![Event { operation: usize::MAX, end: None, previous: count, next: 1 % (count + 1) }];
        let mut beginning = vec![0; operations.len()];
        for (position, (_, is_end, operation)) in points.into_iter().enumerate() {
            let place = position + 1;
            if is_end {
                let begin: usize = beginning[operation];
                events[begin].end = Some(place);
            } else {
                beginning[operation] = place;
            }
            events.push(Event { operation, end: None, previous: place - 1, next: (place + 1) % (count + 1) });
        }
        let steps = operations.iter().map(|operation| Step::new(&operation.action)).collect();
        Search { steps, events, taken: vec![0; operations.len().div_ceil(64)], value: None }
    }

    fn succeeds(&mut self) -> bool {
        let mut seen: HashSet<(Vec<u64>, Value)> = HashSet::new();
        let mut path: Vec<(usize, Value)> = Vec::new();
        let mut at = self.events[0].next;
        while at != 0 {
            let Event { operation, end, next, .. } = self.events[at];
            if end.is_some() {
                if let Some(value) = self.steps[operation].apply(self.value) {
                    self.flip(operation);
                    if seen.insert((self.taken.clone(), value)) {
                        path.push((at, self.value));
                        self.value = value;
                        self.lift(at);
                        at = self.events[0].next;
                        continue;
                    }
                    self.flip(operation);
                }
                at = next;
            } else {
                // An operation ended and has not been taken: the last choice was wrong.
                let Some((begin, value)) = path.pop() else { return false };
                self.unlift(begin);
                self.flip(self.events[begin].operation);
                self.value = value;
                at = self.events[begin].next;
            }
        }
        true
    }

    fn flip(&mut self, operation: usize) {
        self.taken[operation / 64] ^= 1 << (operation % 64);
    }

    /// Takes a beginning and its end out of the list.
    fn lift(&mut self, begin: usize) {
        let end = self.events[begin].end.expect("only beginnings are lifted");
        for place in [begin, end] {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = next;
            self.events[next].previous = previous;
        }
    }

    /// Puts them back, in the opposite order.
    fn unlift(&mut self, begin: usize) {
        let end = self.events[begin].end.expect("only beginnings are lifted");
        for place in [end, begin] {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = place;
            self.events[next].previous = place;
        }
    }
}

fn operation(action: Action, begin: u64, end: Option<u64>) -> Operation {
    Operation { key: Bytes::from_static(b"k"), action, begin, end }
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
fn the_search_agrees_with_trying_every_order() {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut passed, mut failed) = (0, 0);
    for _ in 0..3_000 {
        let history: Vec<Operation> = (0..rng.random_range(1..6))
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
        let expected = some_order_fits(&history.iter().collect::<Vec<_>>(), None);
        assert_eq!(check(&history).is_ok(), expected, "{history:?}");
        if expected { passed += 1 } else { failed += 1 }
    }
    assert!(passed > 300 && failed > 300, "{passed} passed, {failed} failed: the cases are one-sided");
}

/// The definition, word for word: some operation that nobody else ended before can come first, and so on.
fn some_order_fits(left: &[&Operation], value: Value) -> bool {
    let earliest_end = left.iter().filter_map(|operation| operation.end).min().unwrap_or(u64::MAX);
    left.is_empty()
        || (0..left.len()).any(|first| {
            let mut rest = left.to_vec();
            let operation = rest.remove(first);
            let after = Step::new(&operation.action).apply(value);
            operation.begin <= earliest_end && after.is_some_and(|value| some_order_fits(&rest, value))
        })
}
