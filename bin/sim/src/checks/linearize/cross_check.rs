//! Random histories of a register, sound ones and such in which one answer is another, judged by two checkers that share
//! no code: ours, and that of `todc-utils`.

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::*;
use crate::dice::Dice;

/// How many histories of each kind are judged.
const HISTORIES: usize = 10_000;

/// The register, as the other checker wants it told.
struct Register;

impl Specification for Register {
    type State = Option<Vec<u8>>;
    type Operation = (Input, Output);

    fn init() -> Self::State {
        None
    }

    fn apply((input, output): &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        match (input, output) {
            (Input::Get, Output::Value(value)) => (value.as_deref() == state.as_deref(), state.clone()),
            (Input::Get, _) => (true, state.clone()),
            (Input::Put(value), _) => (true, Some(value.to_vec())),
            (Input::Append(more), _) => {
                (true, Some([state.as_deref().unwrap_or_default(), &more[..]].concat()))
            }
            (Input::Delete, Output::Deleted(found)) => (*found == state.is_some(), None),
            (Input::Delete, _) => (true, None),
        }
    }
}

/// What never ended ends, for the other checker, after everything else.
fn judged_by_the_other(history: &[Call]) -> bool {
    let mut actions = Vec::new();
    for (process, call) in history.iter().enumerate() {
        let operation = (call.input.clone(), call.output.clone());
        actions.push((call.begun, process, Action::Call(operation.clone())));
        actions.push((call.ended.unwrap_or(u64::MAX), process, Action::Response(operation)));
    }
    actions.sort_by_key(|(moment, ..)| *moment);
    let actions = actions.into_iter().map(|(_, process, action)| (process, action)).collect();
    WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
}

/// What a register does when these operations take effect, each at one moment while it is under way. Writes of unknown
/// end may have no effect.
fn sound_history(dice: &mut Dice) -> Vec<Call> {
    let count = dice.between(1, 12);
    let mut points: Vec<(u64, Call)> = Vec::new();
    for number in 0..count {
        let value = Bytes::from(format!("{number},"));
        let input = match dice.place(10) {
            0..4 => Input::Get,
            4..7 => Input::Put(value),
            7..9 => Input::Append(value),
            _ => Input::Delete,
        };
        // Three moments of its own, in order.
        let moment = |time: u64, place: u64| (time * count + number) * 3 + place;
        let (begun, until_point, until_end) = (dice.between(0, 40), dice.skewed(0, 40), dice.skewed(0, 40));
        let is_unknown = input != Input::Get && dice.permille(150);
        let ended = (!is_unknown).then_some(moment(begun + until_point + until_end, 2));
        let point = moment(begun + until_point, 1);
        let hint = dice.between(0, 100);
        points.push((point, Call { begun: moment(begun, 0), ended, input, output: Output::Unknown, hint }));
    }
    points.sort_by_key(|(point, _)| *point);
    let mut state: Option<Bytes> = None;
    for (_, call) in &mut points {
        if call.ended.is_none() && dice.permille(500) {
            continue;
        }
        let output = match &call.input {
            Input::Get => Output::Value(state.clone()),
            Input::Put(_) | Input::Append(_) => Output::Done,
            Input::Delete => Output::Deleted(state.is_some()),
        };
        state = match &call.input {
            Input::Get => state,
            Input::Put(value) => Some(value.clone()),
            Input::Append(more) => Some([state.as_deref().unwrap_or_default(), &more[..]].concat().into()),
            Input::Delete => None,
        };
        if call.ended.is_some() {
            call.output = output;
        }
    }
    points.into_iter().map(|(_, call)| call).collect()
}

/// Somebody is told something else than what happened.
fn corrupt(dice: &mut Dice, history: &mut [Call]) {
    let seen: Vec<Option<Bytes>> = history
        .iter()
        .filter_map(|call| match (&call.input, &call.output) {
            (Input::Put(value) | Input::Append(value), _) => Some(Some(value.clone())),
            (_, Output::Value(value)) => Some(value.clone()),
            _ => None,
        })
        .collect();
    let place = dice.place(history.len());
    let told = &mut history[place].output;
    match told {
        Output::Value(value) if !seen.is_empty() => value.clone_from(&seen[dice.place(seen.len())]),
        Output::Deleted(found) => *found = !*found,
        _ => {}
    }
}

fn is_linearizable(history: &[Call]) -> bool {
    match check(history) {
        Verdict::Linearizable => true,
        Verdict::Impossible { .. } => false,
        Verdict::Unknown => panic!("a small history is judged: {history:?}"),
    }
}

#[test]
fn sound_histories_are_accepted_by_both_checkers() {
    let mut dice = Dice::new(2, 1);
    for _ in 0..HISTORIES {
        let history = sound_history(&mut dice);
        assert!(is_linearizable(&history), "{history:?}");
        assert!(judged_by_the_other(&history), "{history:?}");
    }
}

#[test]
fn corrupted_histories_get_the_same_verdict_from_both_checkers() {
    let mut dice = Dice::new(3, 1);
    let mut refused = 0;
    for _ in 0..HISTORIES {
        let mut history = sound_history(&mut dice);
        corrupt(&mut dice, &mut history);
        let verdict = is_linearizable(&history);
        assert_eq!(verdict, judged_by_the_other(&history), "{history:?}");
        refused += usize::from(!verdict);
    }
    assert!(refused > HISTORIES / 10, "only {refused} of the corrupted histories are bad");
}
