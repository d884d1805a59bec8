//! What the store promises: the same state at the same index everywhere, and that what a client was told is in the log.

use std::collections::BTreeMap;

use clerk::{Answer, Operation};
use kvserver::state_machine::Command;

use crate::checks::consensus::ConsensusChecks;
use crate::checks::history::Places;
use crate::violation::Violation;

/// The checker.
#[derive(Debug, Default)]
pub(crate) struct StoreChecks {
    /// The state's hash at an index, and which node had it first.
    hashes: BTreeMap<u64, (u64, usize)>,
}

impl StoreChecks {
    /// A node's state at this index has this hash.
    pub(crate) fn state(&mut self, node: usize, index: u64, hash: u64) -> Result<(), Violation> {
        let (known, first) = *self.hashes.entry(index).or_insert((hash, node));
        if known != hash {
            let text = format!("after entry {index} the states of nodes {first} and {node} differ");
            return Violation::of("same-state", text);
        }
        Ok(())
    }
}

/// A client was told that its write is done, at this version: the entry of that index must be that write.
pub(crate) fn check_acknowledged(
    log: &ConsensusChecks,
    operation: &Operation,
    answer: &Answer,
) -> Result<(), Violation> {
    let Answer::Written { version } = answer else { return Ok(()) };
    let command = log.command(*version).map(|command| Command::decode(command));
    let is_same = match (&command, operation) {
        (Some(Ok(Command::Put { key, value, .. })), Operation::Put { key: k, value: v })
        | (Some(Ok(Command::Append { key, value, .. })), Operation::Append { key: k, value: v }) => {
            *key == &k[..] && *value == &v[..]
        }
        (Some(Ok(Command::Delete { key, .. })), Operation::Delete { key: k }) => *key == &k[..],
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    let text = format!("the client was told that {operation:?} is entry {version}, but there is {command:?}");
    Violation::of("acknowledged-write-in-log", text)
}

/// Where in the log what was written.
pub(crate) fn places_of_writes(log: &ConsensusChecks) -> Places<'_> {
    let mut places = Places { values: BTreeMap::new(), deletes: BTreeMap::new() };
    for (index, command) in log.commands() {
        match Command::decode(command) {
            Ok(Command::Put { value, .. } | Command::Append { value, .. }) => {
                places.values.entry(value).or_insert(index);
            }
            Ok(Command::Delete { key, .. }) => {
                places.deletes.entry(key).or_default().insert(index);
            }
            _ => {}
        }
    }
    places
}
