//! Known histories, good and bad, and random ones against a judge that tries every order.

use super::*;
use crate::dice::Dice;

fn call(begun: u64, ended: u64, input: Input, output: Output) -> Call {
    let ended = (output != Output::Unknown).then_some(ended);
    Call { begun, ended, input, output, hint: begun }
}

fn put(begun: u64, ended: u64, value: &'static str) -> Call {
    call(begun, ended, Input::Put(value.into()), Output::Done)
}

fn lost_put(begun: u64, value: &'static str) -> Call {
    call(begun, 0, Input::Put(value.into()), Output::Unknown)
}

fn append(begun: u64, ended: u64, value: &'static str) -> Call {
    call(begun, ended, Input::Append(value.into()), Output::Done)
}

fn delete(begun: u64, ended: u64, found: bool) -> Call {
    call(begun, ended, Input::Delete, Output::Deleted(found))
}

fn get(begun: u64, ended: u64, value: &'static str) -> Call {
    call(begun, ended, Input::Get, Output::Value(Some(value.into())))
}

fn miss(begun: u64, ended: u64) -> Call {
    call(begun, ended, Input::Get, Output::Value(None))
}

fn is_linearizable(history: &[Call]) -> bool {
    match check(history) {
        Verdict::Linearizable => true,
        Verdict::Impossible { .. } => false,
        Verdict::Unknown => panic!("a small history is judged"),
    }
}

#[test]
fn good_histories_are_accepted() {
    let good: [&[Call]; 8] = [
        &[],
        &[miss(1, 2), put(3, 4, "a,"), get(5, 6, "a,")],
        &[put(1, 10, "a,"), get(2, 3, "a,"), get(4, 5, "a,")],
        &[put(1, 10, "a,"), miss(2, 3), get(4, 5, "a,")],
        &[put(1, 4, "a,"), put(2, 3, "b,"), get(5, 6, "a,")],
        &[lost_put(1, "a,"), miss(2, 3), get(4, 5, "a,")],
        &[append(1, 2, "a,"), append(3, 6, "b,"), append(4, 5, "c,"), get(7, 8, "a,c,b,")],
        &[put(1, 2, "a,"), delete(3, 4, true), delete(5, 6, false), miss(7, 8)],
    ];
    for history in good {
        assert!(is_linearizable(history), "{history:?}");
    }
}

#[test]
fn a_write_that_was_taken_away_unseen_many_times_over_keeps_nobody_busy() {
    let mut history: Vec<Call> = Vec::new();
    for round in 0..200 {
        history.push(lost_put(2 * round, "a,"));
        history.push(call(2 * round + 1, 0, Input::Delete, Output::Unknown));
    }
    history.extend([append(400, 401, "b,"), get(402, 403, "b,")]);
    assert!(is_linearizable(&history));
}

#[test]
fn bad_histories_are_refused() {
    let bad: [&[Call]; 10] = [
        &[get(1, 2, "a,")],
        &[put(1, 2, "a,"), miss(3, 4)],
        &[put(1, 2, "a,"), put(3, 4, "b,"), get(5, 6, "a,")],
        &[put(1, 10, "a,"), get(2, 3, "a,"), miss(4, 5)],
        &[lost_put(1, "a,"), get(2, 3, "a,"), miss(4, 5)],
        &[get(1, 2, "a,"), lost_put(3, "a,")],
        &[append(1, 2, "a,"), get(3, 4, "a,a,")],
        &[append(1, 2, "a,"), append(3, 4, "b,"), get(5, 6, "b,a,")],
        &[put(1, 2, "a,"), delete(3, 4, false)],
        &[delete(1, 2, true)],
    ];
    for history in bad {
        assert!(!is_linearizable(history), "{history:?}");
    }
}

#[test]
fn a_delete_may_have_found_a_write_that_nobody_saw() {
    assert!(is_linearizable(&[lost_put(1, "a,"), delete(2, 3, true), miss(4, 5)]));
}

/// Tries every order of every subset of the unknown ones.
fn judge(history: &[Call], state: &Option<Bytes>, done: &mut Vec<bool>) -> bool {
    if (0..history.len()).all(|place| done[place] || history[place].ended.is_none()) {
        return true;
    }
    for place in 0..history.len() {
        let comes_too_late = (0..history.len()).any(|other| {
            !done[other] && history[other].ended.is_some_and(|ended| ended < history[place].begun)
        });
        if done[place] || comes_too_late {
            continue;
        }
        let next = match (&history[place].input, &history[place].output) {
            (Input::Get, Output::Value(value)) if value != state => continue,
            (Input::Get, _) => state.clone(),
            (Input::Delete, Output::Deleted(found)) if *found != state.is_some() => continue,
            (Input::Delete, _) => None,
            (Input::Put(value), _) => Some(value.clone()),
            (Input::Append(value), _) => {
                Some([state.as_deref().unwrap_or_default(), &value[..]].concat().into())
            }
        };
        done[place] = true;
        let fits = judge(history, &next, done);
        done[place] = false;
        if fits {
            return true;
        }
    }
    false
}

#[test]
fn random_small_histories_get_the_verdict_of_a_judge_who_tries_every_order() {
    let mut dice = Dice::new(1, 1);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let count = dice.between(2, 6) as usize;
        let mut moments: Vec<u64> = (0..2 * count as u64).collect();
        let mut take = |dice: &mut Dice| moments.remove(dice.place(moments.len()));
        let history: Vec<Call> = (0..count)
            .map(|number| {
                let (one, other) = (take(&mut dice), take(&mut dice));
                let value = Bytes::from(format!("{number},"));
                let seen = Bytes::from(format!("{},", dice.place(count)));
                let both = Bytes::from(format!("{},{},", dice.place(count), dice.place(count)));
                let (input, output) = match dice.place(8) {
                    0 => (Input::Get, Output::Value(None)),
                    1 => (Input::Get, Output::Value(Some(both))),
                    2 | 3 => (Input::Get, Output::Value(Some(seen))),
                    4 => (Input::Delete, Output::Deleted(dice.permille(500))),
                    5 => (Input::Append(value), Output::Done),
                    6 => (Input::Put(value), Output::Unknown),
                    _ => (Input::Put(value), Output::Done),
                };
                call(one.min(other), one.max(other), input, output)
            })
            .collect();
        let expected = judge(&history, &None, &mut vec![false; count]);
        assert_eq!(is_linearizable(&history), expected, "{history:?}");
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good and {bad} bad histories");
}
