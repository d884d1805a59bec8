//! What clients may not be told of a log.

use std::collections::BTreeMap;

use clerk::{ClerkError, Operation};
use kvserver::state_machine::Stamp;

use super::super::{History, Places};
use super::*;

const KEY: &[u8] = b"k";

fn stamp(seq: u64) -> Stamp {
    Stamp { client_id: 7, seq, acked_below: 0 }
}

fn append(seq: u64, value: &[u8]) -> Command<'_> {
    Command::Append { stamp: stamp(seq), key: KEY, value }
}

/// Its client sends an append of this number and is told this.
fn told(history: &mut History, seq: u64, result: Result<Answer, ClerkError>) {
    let operation = Operation::Append { key: Bytes::from_static(KEY), value: Bytes::from_static(b"a,") };
    let number = history.begin(0, operation.clone());
    history.sent(0, &operation, (7, seq));
    history.end(number, result);
}

/// The rule that is broken where the append of number 1 ran at index 5, and that of number 2 nowhere.
fn broken_by_a_write(seq: u64, result: Result<Answer, ClerkError>) -> Option<&'static str> {
    let mut history = History::default();
    told(&mut history, seq, result);
    let places = Places { values: BTreeMap::new(), stamps: BTreeMap::from([((7, 1), 5)]) };
    check_writes(&history.records, &places).err().map(|violation| violation.rule)
}

fn timeout(may_have_run: bool) -> ClerkError {
    ClerkError::Stopped { may_have_run }
}

#[test]
fn a_write_is_where_its_client_was_told_and_nowhere_else() {
    assert_eq!(broken_by_a_write(1, Ok(Answer::Written { version: 5 })), None);
    assert_eq!(broken_by_a_write(1, Ok(Answer::Written { version: 9 })), Some("ran-as-told"));
    assert_eq!(broken_by_a_write(2, Ok(Answer::Written { version: 5 })), Some("ran-as-told"));
}

#[test]
fn a_write_that_was_said_not_to_have_run_is_not_in_the_log() {
    assert_eq!(broken_by_a_write(2, Err(timeout(false))), None);
    assert_eq!(broken_by_a_write(1, Err(timeout(true))), None);
    assert_eq!(broken_by_a_write(1, Err(timeout(false))), Some("ran-as-told"));
}

/// The rule that is broken by a read of this where "a," was appended at index 5 and "b," at index 6.
fn broken_by_a_read(version: u64, value: &'static [u8]) -> Option<&'static str> {
    let mut history = History::default();
    let number = history.begin(0, Operation::get(Bytes::from_static(KEY)));
    history.end(number, Ok(Answer::Value { value: Bytes::from_static(value), version }));
    let writes = [(5, append(1, b"a,")), (6, append(2, b"b,"))];
    check_reads(&history.records, writes.into_iter()).err().map(|violation| violation.rule)
}

#[test]
fn a_read_sees_what_the_log_made_of_its_key_as_of_its_version() {
    assert_eq!(broken_by_a_read(5, b"a,"), None);
    assert_eq!(broken_by_a_read(6, b"a,b,"), None);
    assert_eq!(broken_by_a_read(5, b"a,b,"), Some("reads-are-true"));
    assert_eq!(broken_by_a_read(6, b"a,b,a,"), Some("reads-are-true"));
    assert_eq!(broken_by_a_read(7, b"a,b,"), Some("reads-are-true"));
}
