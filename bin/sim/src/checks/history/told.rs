//! What clients were told, held against the log alone: exact where an order of operations only has to exist. A write
//! that runs a second time, or runs although its client was told that it did not, may be explained by some order, until
//! somebody reads at the wrong moment.

use std::collections::BTreeMap;

use bytes::Bytes;
use clerk::Answer;
use kvserver::state_machine::Command;

use super::{Places, Record, key_of};
use crate::violation::Violation;

/// A write is where its client was told that it is, and nowhere if it was told that it did not run.
pub(super) fn check_writes(records: &[Record], places: &Places<'_>) -> Result<(), Violation> {
    for record in records.iter().filter(|record| record.operation.is_write()) {
        let mut ran_at = record.stamps.iter().filter_map(|stamp| places.stamps.get(stamp));
        let is_as_told = match &record.ended {
            Some((_, Ok(Answer::Written { version }))) => ran_at.any(|index| index == version),
            Some((_, Err(error))) if !error.may_have_run() && !record.is_doubled => ran_at.next().is_none(),
            _ => true,
        };
        if !is_as_told {
            let places: Vec<_> =
                record.stamps.iter().map(|stamp| (stamp, places.stamps.get(stamp))).collect();
            return Violation::of("ran-as-told", format!("{}; it ran at {places:?}", record.describe()));
        }
    }
    Ok(())
}

/// The reads of one key that are not explained yet, by the version they saw, and what the key holds.
#[derive(Default)]
struct Reads<'a> {
    of_version: BTreeMap<u64, Vec<(&'a Record, &'a Bytes)>>,
    held: Vec<u8>,
}

/// What a read saw is what the log's writes make of its key, as of the version that it was told.
pub(super) fn check_reads<'a>(
    records: &[Record],
    writes: impl Iterator<Item = (u64, Command<'a>)>,
) -> Result<(), Violation> {
    let mut by_key: BTreeMap<&[u8], Reads<'_>> = BTreeMap::new();
    for record in records {
        if let Some((_, Ok(Answer::Value { value, version }))) = &record.ended {
            let reads = by_key.entry(key_of(&record.operation)).or_default();
            reads.of_version.entry(*version).or_default().push((record, value));
        }
    }
    for (index, command) in writes {
        let (Command::Put { key, .. } | Command::Append { key, .. } | Command::Delete { key, .. }) = &command
        else {
            continue;
        };
        let Some(reads) = by_key.get_mut(*key) else { continue };
        match command {
            Command::Append { value, .. } => reads.held.extend_from_slice(value),
            Command::Put { value, .. } => reads.held = value.to_vec(),
            // Nobody sees a value of this version.
            _ => {
                reads.held.clear();
                continue;
            }
        }
        for (record, value) in reads.of_version.remove(&index).into_iter().flatten() {
            if **value != reads.held[..] {
                let text = format!("{}, but the log made something else of it", record.describe());
                return Violation::of("reads-are-true", text);
            }
        }
    }
    match by_key.values().flat_map(|reads| reads.of_version.values()).flatten().next() {
        Some((record, _)) => {
            let text = format!("{}, but no write of its key ran there", record.describe());
            Violation::of("reads-are-true", text)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
