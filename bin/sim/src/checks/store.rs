//! What the store promises: the same state at the same index everywhere, and that what a client was told is in the log.

use std::collections::{BTreeMap, BTreeSet};

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

/// The writes of the log that took effect, with their indexes. A write that comes again does not run again, and one that
/// comes after its client said that it waits for it no longer does not run at all.
pub(crate) fn writes_that_ran(log: &ConsensusChecks) -> impl Iterator<Item = (u64, Command<'_>)> {
    let mut acked_below: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ran: BTreeSet<(u64, u64)> = BTreeSet::new();
    log.commands().filter_map(move |(index, command)| {
        let command = Command::decode(command).ok()?;
        let (Command::Put { stamp, .. } | Command::Append { stamp, .. } | Command::Delete { stamp, .. }) =
            command
        else {
            return None;
        };
        let floor = acked_below.entry(stamp.client_id).or_default();
        *floor = stamp.acked_below.max(*floor);
        (stamp.seq >= *floor && ran.insert((stamp.client_id, stamp.seq))).then_some((index, command))
    })
}

/// Where in the log what was written.
pub(crate) fn places_of_writes(log: &ConsensusChecks) -> Places<'_> {
    let mut places = Places { values: BTreeMap::new(), stamps: BTreeMap::new() };
    for (index, command) in writes_that_ran(log) {
        let (stamp, value) = match command {
            Command::Put { stamp, value, .. } | Command::Append { stamp, value, .. } => (stamp, Some(value)),
            Command::Delete { stamp, .. } => (stamp, None),
            Command::OpenSession | Command::Legacy { .. } => continue,
        };
        places.stamps.insert((stamp.client_id, stamp.seq), index);
        if let Some(value) = value {
            places.values.insert(value, index);
        }
    }
    places
}
