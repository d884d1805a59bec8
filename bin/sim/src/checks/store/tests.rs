//! What is no store of a log.

use kvserver::state_machine::Stamp;

use super::*;

/// The rule that is broken by a store that holds this under "k", where the log put "a" there at 2, appended "b" at 5 and,
/// if it is so, deleted it at 9.
fn broken_by(held: Option<(&'static str, u64)>, is_deleted: bool) -> Option<&'static str> {
    let stamp = Stamp { client_id: 1, seq: 1, acked_below: 1 };
    let writes = [
        (2, Command::Put { stamp, key: b"k", value: b"a" }),
        (5, Command::Append { stamp, key: b"k", value: b"b" }),
        (9, Command::Delete { stamp, key: if is_deleted { b"k" } else { b"another" } }),
    ];
    let held = |key: &[u8]| held.filter(|_| key == b"k").map(|(value, version)| (value.into(), version));
    check_state(writes.into_iter(), held).err().map(|violation| violation.rule)
}

#[test]
fn a_store_holds_what_the_writes_of_the_log_make_of_it() {
    assert_eq!(broken_by(Some(("ab", 5)), false), None);
    assert_eq!(broken_by(None, true), None);
    for wrong in [Some(("a", 5)), Some(("ab", 2)), Some(("abb", 5)), None] {
        assert_eq!(broken_by(wrong, false), Some("state-of-the-log"), "{wrong:?}");
    }
    assert_eq!(broken_by(Some(("ab", 5)), true), Some("state-of-the-log"));
}
