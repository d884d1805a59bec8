//! Whether a history of appends and gets of one key is linearizable. Appends of pieces that are all different leave
//! their order in the value, so the verdict needs no search and is never "unknown".

use std::collections::BTreeMap;

use crate::client::{Client, Done, Wish};

/// Behind how many appends an operation took effect, its own included.
fn place(done: &Done, places: &BTreeMap<&str, usize>, last: &str) -> usize {
    match &done.wish {
        Wish::Append(_, piece) => {
            *places.get(&**piece).unwrap_or_else(|| panic!("{piece} was acknowledged and is gone: {last}"))
        }
        Wish::Get(_) => {
            let value = done.value.as_deref().unwrap_or_default();
            assert!(last.starts_with(value), "{value} was seen and is no beginning of {last}");
            value.matches(';').count()
        }
        Wish::Put(..) => unreachable!("histories are of appends and gets"),
    }
}

/// Checks the operations of all clients, which are on one key whose final value is `last`; pieces end in `;`. Returns how
/// many there were.
pub(crate) fn check(clients: &[Client], last: &str) -> usize {
    let mut places = BTreeMap::new();
    for (position, piece) in last.split_inclusive(';').enumerate() {
        assert_eq!(places.insert(piece, position + 1), None, "{piece} is there twice: {last}");
    }
    let all = clients.iter().flat_map(|client| &client.done);
    let mut by_begin: Vec<(&Done, usize)> = all.map(|done| (done, place(done, &places, last))).collect();
    let mut by_end = by_begin.clone();
    by_begin.sort_by_key(|(done, _)| done.begun_us);
    by_end.sort_by_key(|(done, _)| done.ended_us);
    // What ended before something began comes before it; before an append strictly.
    let (mut ended, mut furthest) = (by_end.iter().peekable(), 0);
    for (done, at) in &by_begin {
        while let Some((_, before)) = ended.next_if(|(earlier, _)| earlier.ended_us < done.begun_us) {
            furthest = furthest.max(*before);
        }
        let is_in_order =
            if matches!(done.wish, Wish::Append(..)) { furthest < *at } else { furthest <= *at };
        assert!(is_in_order, "{done:?} took effect behind {at} appends, after something behind {furthest}");
    }
    by_begin.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(wish: Wish, value: Option<&str>, begun_us: u64, ended_us: u64) -> Done {
        Done { wish, value: value.map(str::to_owned), begun_us, ended_us }
    }

    fn append(piece: &str, begun_us: u64, ended_us: u64) -> Done {
        done(Wish::Append("k".to_owned(), piece.to_owned()), None, begun_us, ended_us)
    }

    fn get(value: &str, begun_us: u64, ended_us: u64) -> Done {
        done(Wish::Get("k".to_owned()), Some(value), begun_us, ended_us)
    }

    fn verdict(history: Vec<Done>, last: &str) -> bool {
        let mut client = Client::new(0, vec![0]);
        client.done = history;
        std::panic::catch_unwind(|| check(&[client], last)).is_ok()
    }

    #[test]
    fn the_judge_tells_good_histories_from_bad_ones() {
        let good =
            vec![append("a;", 0, 9), append("b;", 1, 5), get("", 0, 3), get("b;", 4, 6), get("b;a;", 7, 9)];
        assert!(verdict(good, "b;a;"));
        assert!(!verdict(vec![append("a;", 0, 2)], ""), "lost");
        assert!(!verdict(vec![append("a;", 0, 2)], "a;a;"), "twice");
        assert!(!verdict(vec![append("a;", 0, 2), append("b;", 3, 4)], "b;a;"), "out of order");
        assert!(!verdict(vec![append("a;", 0, 2), get("", 3, 4)], "a;"), "a stale get");
        assert!(!verdict(vec![append("a;", 0, 9), get("a;", 1, 2), get("", 3, 4)], "a;"), "seen and unseen");
        assert!(!verdict(vec![append("a;", 3, 4), get("x;", 5, 6)], "a;"), "never written");
        assert!(!verdict(vec![get("a;", 0, 2), append("a;", 3, 4)], "a;"), "seen before it was written");
    }
}
