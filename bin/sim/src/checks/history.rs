//! What the clients did and were told, and what must be true of it: it is linearizable, no version runs back, no append
//! is seen twice, and the log has every write and every read as its client was told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clerk::{Answer, ClerkError, Consistency, Operation};
use kvserver::state_machine::Command;

use crate::checks::linearize::{self, Call, Input, Output, Verdict, grown_by};
use crate::violation::Violation;

mod told;

/// One operation of a client.
#[derive(Clone, Debug)]
struct Record {
    client: usize,
    operation: Operation,
    begun: u64,
    ended: Option<(u64, Result<Answer, ClerkError>)>,
    /// The network made two of one attempt: one of them may be refused while the other runs, so that a refusal says
    /// nothing of the operation.
    is_doubled: bool,
    /// The sessions and numbers under which it was sent.
    stamps: Vec<(u64, u64)>,
}

/// All operations, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: Vec<Record>,
    /// Each client's operations under way.
    under_way: BTreeMap<usize, Vec<usize>>,
    /// Numbers the moments at which operations begin and end.
    moment: u64,
}

impl History {
    /// An operation begins; its number.
    pub(crate) fn begin(&mut self, client: usize, operation: Operation) -> usize {
        self.moment += 1;
        self.under_way.entry(client).or_default().push(self.records.len());
        let (ended, is_doubled, stamps) = Default::default();
        self.records.push(Record { client, operation, begun: self.moment, ended, is_doubled, stamps });
        self.records.len() - 1
    }

    /// A write of this client, which is under way, is sent under this stamp.
    pub(crate) fn sent(&mut self, client: usize, operation: &Operation, stamp: (u64, u64)) {
        if self.open(client).any(|record| record.stamps.contains(&stamp)) {
            return;
        }
        // Deletes look alike, but each write under way has its key in a buffer of its own, wherever it is handed.
        let is_it = |record: &&mut Record| {
            record.operation.is_write() && std::ptr::eq(key_of(&record.operation), key_of(operation))
        };
        let found = self.open(client).find(is_it).expect("what is sent has begun and has not ended");
        found.stamps.push(stamp);
    }

    /// The network doubled an attempt of the write with this stamp.
    pub(crate) fn doubled(&mut self, client: usize, stamp: (u64, u64)) {
        let found = self.open(client).find(|record| record.stamps.contains(&stamp));
        found.into_iter().for_each(|record| record.is_doubled = true);
    }

    /// A client's operations under way.
    fn open(&mut self, client: usize) -> impl Iterator<Item = &mut Record> {
        let under_way = self.under_way.get(&client).map_or(&[][..], |numbers| &numbers[..]);
        let first = under_way.first().copied().unwrap_or(self.records.len());
        let its_own = move |record: &&mut Record| record.client == client && record.ended.is_none();
        self.records[first..].iter_mut().filter(its_own)
    }

    /// It ends.
    pub(crate) fn end(&mut self, number: usize, result: Result<Answer, ClerkError>) -> &Operation {
        self.moment += 1;
        let record = &mut self.records[number];
        assert!(record.ended.is_none(), "an operation ends once");
        record.ended = Some((self.moment, result));
        self.under_way.entry(record.client).or_default().retain(|open| *open != number);
        &record.operation
    }

    /// Judges it all. `places` says at which index of the log a value was written; for the order of operations it is asked
    /// only about writes whose end is unknown, to know where to try them. One that is nowhere in the log is taken as not
    /// run: if it had an effect all the same, no order explains it. `writes` are those of the log that took effect.
    pub(crate) fn check<'a>(
        &self,
        places: &Places<'_>,
        writes: impl Iterator<Item = (u64, Command<'a>)>,
    ) -> Result<(), Violation> {
        let mut by_key: BTreeMap<&[u8], Vec<&Record>> = BTreeMap::new();
        // A stale read may see what is no longer so: it is judged by itself.
        for record in self.records.iter().filter(|record| !record.is_stale()) {
            by_key.entry(key_of(&record.operation)).or_default().push(record);
        }
        for (key, records) in by_key {
            let name = String::from_utf8_lossy(key).into_owned();
            check_appends_once(&name, &records)?;
            check_versions(&name, &records)?;
            let calls: Vec<Call> = records.iter().filter_map(|record| record.call(places)).collect();
            match linearize::check(&calls) {
                Verdict::Linearizable => {}
                Verdict::Impossible { at } => {
                    let text = format!(
                        "key {name}: no order of the operations explains {}",
                        describe(&records, &calls[at])
                    );
                    return Violation::of("linearizable", text);
                }
                Verdict::Unknown => {
                    let text = format!("key {name}: no verdict over {} operations", calls.len());
                    return Violation::of("linearizable", text);
                }
            }
        }
        told::check_writes(&self.records, places)?;
        told::check_reads(&self.records, writes)
    }
}

/// Where in the log what was written.
pub(crate) struct Places<'a> {
    /// Each value, where it was written first.
    pub(crate) values: BTreeMap<&'a [u8], u64>,
    /// Each stamp's session and number, where they came first.
    pub(crate) stamps: BTreeMap<(u64, u64), u64>,
}

/// At which moment which version was the highest that anybody had seen.
fn versions_seen<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<(u64, u64)> {
    let mut ends: Vec<(u64, u64)> = Vec::new();
    for record in records {
        if let Some((at, Ok(Answer::Written { version } | Answer::Value { version, .. }))) = &record.ended {
            ends.push((*at, *version));
        }
    }
    ends.sort_unstable();
    let mut highest = 0;
    for end in &mut ends {
        highest = end.1.max(highest);
        end.1 = highest;
    }
    ends
}

/// The highest version that anybody had seen before this moment.
fn version_before(seen: &[(u64, u64)], moment: u64) -> u64 {
    let earlier = seen.partition_point(|(at, _)| *at < moment);
    earlier.checked_sub(1).map_or(0, |place| seen[place].1)
}

impl Record {
    /// As the checker of linearizability takes it; None for what surely had no effect and tells nothing.
    fn call(&self, places: &Places<'_>) -> Option<Call> {
        let input = match &self.operation {
            Operation::Get { .. } => Input::Get,
            Operation::Put { value, .. } => Input::Put(value.clone()),
            Operation::Append { value, .. } => Input::Append(value.clone()),
            Operation::Delete { .. } => Input::Delete,
        };
        let (ended, output, hint) = match &self.ended {
            None => (None, Output::Unknown, u64::MAX),
            Some((_, Err(error))) if error.may_have_run() || self.is_doubled => {
                (None, Output::Unknown, u64::MAX)
            }
            Some((_, Err(_))) => return None,
            Some((at, Ok(Answer::Value { value, version }))) => {
                (Some(*at), Output::Value(Some(value.clone())), *version)
            }
            Some((at, Ok(Answer::Written { version }))) if self.is_delete() => {
                (Some(*at), Output::Deleted(true), *version)
            }
            Some((at, Ok(Answer::Written { version }))) => (Some(*at), Output::Done, *version),
            Some((at, Ok(Answer::NotFound))) if self.is_delete() => {
                (Some(*at), Output::Deleted(false), u64::MAX)
            }
            Some((at, Ok(Answer::NotFound))) => (Some(*at), Output::Value(None), u64::MAX),
        };
        let hint = match (&output, &input) {
            (Output::Unknown, Input::Get) => return None,
            (Output::Unknown, Input::Put(value) | Input::Append(value)) => *places.values.get(&value[..])?,
            // Deletes look alike but for their stamps.
            (Output::Unknown, Input::Delete) => {
                *self.stamps.iter().filter_map(|stamp| places.stamps.get(stamp)).min()?
            }
            _ => hint,
        };
        Some(Call { begun: self.begun, ended, input, output, hint })
    }

    /// Who did what and was told what, in not too many words.
    fn describe(&self) -> String {
        let mut text = format!("client {}: {:?} → {:?}", self.client, self.operation, self.ended);
        if text.len() > 2_000 {
            text.truncate((0..=2_000).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        }
        text
    }

    fn is_stale(&self) -> bool {
        matches!(self.operation, Operation::Get { consistency: Consistency::Stale { .. }, .. })
    }

    fn is_delete(&self) -> bool {
        matches!(self.operation, Operation::Delete { .. })
    }
}

fn key_of(operation: &Operation) -> &[u8] {
    match operation {
        Operation::Get { key, .. }
        | Operation::Put { key, .. }
        | Operation::Append { key, .. }
        | Operation::Delete { key } => key,
    }
}

fn describe(records: &[&Record], call: &Call) -> String {
    let record = records.iter().find(|record| record.begun == call.begun);
    record.map_or_else(String::new, |record| record.describe())
}

/// Exactly once, seen from outside: no value ever holds the same append twice.
fn check_appends_once(key: &str, records: &[&Record]) -> Result<(), Violation> {
    let read = |record: &&Record| match &record.ended {
        Some((_, Ok(Answer::Value { value, version }))) => Some((*version, value.clone(), record.client)),
        _ => None,
    };
    let mut values: Vec<(u64, Bytes, usize)> = records.iter().filter_map(read).collect();
    values.sort_by_key(|(version, ..)| *version);
    let mut found: BTreeSet<&[u8]> = BTreeSet::new();
    let mut before: &[u8] = b"";
    for (_, value, client) in &values {
        let grown = grown_by(value, before);
        if grown.is_none() {
            found.clear();
        }
        for piece in grown.unwrap_or(value).split(|byte| *byte == b',').filter(|piece| !piece.is_empty()) {
            if !found.insert(piece) {
                let piece = String::from_utf8_lossy(piece);
                return Violation::of(
                    "exactly-once",
                    format!("key {key} holds {piece} twice, as client {client} reads it"),
                );
            }
        }
        before = value;
    }
    Ok(())
}

/// What begins after another operation has ended never sees or makes an older version.
fn check_versions(key: &str, records: &[&Record]) -> Result<(), Violation> {
    let seen = versions_seen(records.iter().copied());
    let mut written: BTreeMap<u64, &Bytes> = BTreeMap::new();
    for record in records {
        let Some((_, Ok(answer))) = &record.ended else { continue };
        let (Answer::Written { version } | Answer::Value { version, .. }) = answer else { continue };
        let floor = version_before(&seen, record.begun);
        if *version < floor {
            let text = format!(
                "key {key}: client {} got version {version} after somebody had seen version {floor}",
                record.client
            );
            return Violation::of("versions-rise", text);
        }
        if let Answer::Value { value, .. } = answer
            && *written.entry(*version).or_insert(value) != value
        {
            return Violation::of("versions-rise", format!("key {key} has two values of version {version}"));
        }
    }
    Ok(())
}
