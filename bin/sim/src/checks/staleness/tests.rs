//! What a stale read may have seen and what not, over a small log.

use kvserver::state_machine::Stamp;

use super::*;

const STAMP: Stamp = Stamp { client_id: 1, seq: 1, acked_below: 1 };
const GET: Attempt = Attempt { client: 3, number: 8 };

/// A key that held "a" from 2 on, "ab" from 5 on, and nothing from 9 on; another one changed at 7.
fn writes() -> [(u64, Command<'static>); 4] {
    [
        (2, Command::Put { stamp: STAMP, key: b"k", value: b"a" }),
        (5, Command::Append { stamp: STAMP, key: b"k", value: b"b" }),
        (7, Command::Put { stamp: STAMP, key: b"other", value: b"c" }),
        (9, Command::Delete { stamp: STAMP, key: b"k" }),
    ]
}

/// An entry was applied every millisecond, up to 12. A node that has applied this much gets a get at 12 ms, which may be so
/// old; it answers when it has applied up to `at_most`.
fn judged(
    applied: u64,
    age_ms: Option<u64>,
    found: Option<(&'static str, u64)>,
    at_most: u64,
) -> Result<(), &'static str> {
    let mut checks = StalenessChecks::default();
    (1..=12).for_each(|count| checks.committed(count, count as u64 * 1_000));
    checks.asked(GET, &"k".into(), applied, 12_000, age_ms.map(|ms| ms * 1_000));
    let outcome = match found {
        Some((value, version)) => Outcome::Found { value: value.into(), version },
        None => Outcome::Missing,
    };
    checks.answered(0, GET, &outcome, at_most);
    checks.check(writes().into_iter()).map_err(|violation| violation.rule)
}

#[test]
fn what_the_key_held_where_the_node_was_is_well() {
    assert_eq!(judged(3, None, Some(("a", 2)), 3), Ok(()));
    assert_eq!(judged(3, None, Some(("ab", 5)), 6), Ok(()));
    assert_eq!(judged(1, None, None, 1), Ok(()));
    assert_eq!(judged(6, None, None, 12), Ok(()));
    assert_eq!(judged(0, Some(5), Some(("ab", 5)), 7), Ok(()), "entries up to 6 were older than 5 ms");
}

#[test]
fn what_the_node_had_left_behind_or_not_reached_is_not() {
    assert_eq!(judged(5, None, Some(("a", 2)), 6), Err("stale-reads-in-bounds"));
    assert_eq!(judged(3, None, Some(("ab", 5)), 4), Err("stale-reads-in-bounds"));
    assert_eq!(judged(3, None, None, 8), Err("stale-reads-in-bounds"));
}

#[test]
fn what_is_older_than_it_may_be_is_not() {
    assert_eq!(judged(3, Some(10), Some(("a", 2)), 3), Ok(()));
    assert_eq!(judged(3, Some(5), Some(("a", 2)), 3), Err("stale-reads-in-bounds"));
    assert_eq!(judged(5, Some(1), Some(("ab", 5)), 8), Err("stale-reads-in-bounds"));
}

#[test]
fn what_the_log_never_wrote_is_not() {
    assert_eq!(judged(3, None, Some(("ax", 2)), 3), Err("stale-reads-are-true"));
    assert_eq!(judged(3, None, Some(("a", 3)), 3), Err("stale-reads-in-bounds"));
    assert_eq!(judged(7, None, Some(("c", 7)), 7), Err("stale-reads-in-bounds"));
}
