//! What the store promises: the same state at the same index everywhere, which is what the log's writes make of it, and
//! that what a client was told is in the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clerk::{Answer, Operation};
use kvserver::state_machine::{Command, StateMachine};
use raft::core::Payload;

use crate::checks::consensus::ConsensusChecks;
use crate::checks::history::Places;
use crate::violation::Violation;
use crate::workload::Workload;

/// Of all indexes, one in this many is one at which every node stops and states are compared, however large; of a log of
/// large values fewer.
const STOPS_EVERY: u64 = 64;
const STOPS_EVERY_LARGE: u64 = 512;

/// After so many entries at most, and with so many bytes of values that were written over, a state is small: it is compared
/// wherever a node stops.
const SMALL_ENTRIES: u64 = 256;
const SMALL_BYTES: u64 = 8_000;

/// The checker.
#[derive(Debug)]
pub(crate) struct StoreChecks {
    /// It takes the log one entry at a time from the first on: no batches, snapshots or restarts.
    reference: StateMachine,
    /// Its hash after each entry behind which states are compared.
    hashes: BTreeMap<u64, u64>,
    stops_every: u64,
}

impl StoreChecks {
    pub(crate) fn new(workload: Workload) -> StoreChecks {
        let stops_every = StoreChecks::stops_every(workload);
        StoreChecks { reference: StateMachine::new(), hashes: BTreeMap::new(), stops_every }
    }

    /// Every node stops at the multiples of this.
    pub(crate) fn stops_every(workload: Workload) -> u64 {
        if workload.is_heavy() { STOPS_EVERY_LARGE } else { STOPS_EVERY }
    }

    /// Takes what was committed since.
    pub(crate) fn follow(&mut self, log: &ConsensusChecks) {
        for entry in &log.committed[self.reference.applied() as usize..] {
            let index = self.reference.applied() + 1;
            match &entry.payload {
                Payload::Command(command) => drop(self.reference.apply(index, command)),
                Payload::Noop | Payload::Membership(_) => self.reference.apply_noop(index),
            }
            if index.is_multiple_of(self.stops_every) || self.is_small() {
                self.hashes.insert(index, self.reference.state_hash());
            }
        }
    }

    fn is_small(&self) -> bool {
        self.reference.applied() <= SMALL_ENTRIES && self.reference.store().superseded_bytes() <= SMALL_BYTES
    }

    /// From here on the log is at rest: there all states are compared, however large.
    pub(crate) fn rest(&mut self) {
        self.hashes.insert(self.reference.applied(), self.reference.state_hash());
    }

    /// The state of a node that stops at this index has the reference's hash, if states are compared there.
    pub(crate) fn compare(
        &self,
        node: usize,
        index: u64,
        hash: impl FnOnce() -> u64,
    ) -> Result<(), Violation> {
        match self.hashes.get(&index) {
            Some(expected) if *expected != hash() => {
                let text = format!("after entry {index} node {node} has another state than the log makes");
                Violation::of("same-state", text)
            }
            _ => Ok(()),
        }
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

/// What the store holds when all of the log is applied is what the log's writes make of it, one after the other.
pub(crate) fn check_state<'a>(
    writes: impl Iterator<Item = (u64, Command<'a>)>,
    held: impl Fn(&[u8]) -> Option<(Bytes, u64)>,
) -> Result<(), Violation> {
    let mut expected: BTreeMap<&[u8], Option<(Vec<u8>, u64)>> = BTreeMap::new();
    for (index, command) in writes {
        match command {
            Command::Put { key, value, .. } => {
                expected.insert(key, Some((value.to_vec(), index)));
            }
            Command::Append { key, value: more, .. } => {
                let (value, version) = expected.entry(key).or_default().get_or_insert_default();
                value.extend_from_slice(more);
                *version = index;
            }
            Command::Delete { key, .. } => {
                expected.insert(key, None);
            }
            Command::OpenSession | Command::Legacy { .. } => {}
        }
    }
    for (key, expected) in expected {
        let found = held(key);
        let found = found.as_ref().map(|(value, version)| (&value[..], *version));
        let expected = expected.as_ref().map(|(value, version)| (&value[..], *version));
        if found != expected {
            let told = |held: Option<(&[u8], u64)>| {
                held.map_or("nothing".into(), |(value, version)| {
                    format!("{} bytes of version {version}", value.len())
                })
            };
            let name = String::from_utf8_lossy(key);
            let text =
                format!("of key {name} the store holds {}, and the log {}", told(found), told(expected));
            return Violation::of("state-of-the-log", text);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests;
