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

/// Where in the log what was written. A write that comes again does not run again, and one that comes after its client
/// said that it waits for it no longer does not run at all.
pub(crate) fn places_of_writes(log: &ConsensusChecks) -> Places<'_> {
    let mut places = Places { values: BTreeMap::new(), stamps: BTreeMap::new() };
    let mut acked_below: BTreeMap<u64, u64> = BTreeMap::new();
    for (index, command) in log.commands() {
        let (stamp, value) = match Command::decode(command) {
            Ok(Command::Put { stamp, value, .. } | Command::Append { stamp, value, .. }) => {
                (stamp, Some(value))
            }
            Ok(Command::Delete { stamp, .. }) => (stamp, None),
            _ => continue,
        };
        let floor = acked_below.entry(stamp.client_id).or_default();
        *floor = stamp.acked_below.max(*floor);
        if stamp.seq < *floor || places.stamps.contains_key(&(stamp.client_id, stamp.seq)) {
            continue;
        }
        places.stamps.insert((stamp.client_id, stamp.seq), index);
        if let Some(value) = value {
            places.values.insert(value, index);
        }
    }
    places
}
