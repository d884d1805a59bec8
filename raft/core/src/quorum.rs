//! The arithmetic of majorities.
//!
//! Small enough to be checked against slow and obvious arithmetic for every small input, which the tests do.

use crate::planted;
use crate::types::Index;

/// How many of `voters` are more than half.
pub(crate) fn majority(voters: usize) -> usize {
    if planted::is("half-taken-for-a-majority") {
        return voters.div_ceil(2);
    }
    voters / 2 + 1
}

/// The highest index that more than half of the voters have reached; `matches` holds one index for each voter and is
/// reordered. Zero when there are no voters.
pub(crate) fn committed_index(matches: &mut [Index]) -> Index {
    if matches.is_empty() {
        return Index::ZERO;
    }
    matches.sort_unstable();
    matches[matches.len() - majority(matches.len())]
}

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// More than half said yes.
    Won,
    /// So many said no that it cannot be won any more.
    Lost,
    /// Neither yet.
    Open,
}

impl Tally {
    /// How it stands where both must be won.
    pub(crate) fn and(self, other: Tally) -> Tally {
        match (self, other) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            (Tally::Open, _) | (_, Tally::Open) => Tally::Open,
        }
    }
}

/// How a vote of `voters` stands after these many answers.
pub(crate) fn tally(voters: usize, granted: usize, refused: usize) -> Tally {
    debug_assert!(granted + refused <= voters, "each voter is counted once");
    if granted >= majority(voters) {
        Tally::Won
    } else if voters - refused < majority(voters) {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The obvious way: try every index and count who has it.
    fn slow_committed_index(matches: &[Index]) -> Index {
        let mut best = Index::ZERO;
        for candidate in 0..=matches.iter().map(|index| index.0).max().unwrap_or(0) {
            let having = matches.iter().filter(|index| index.0 >= candidate).count();
            if having * 2 > matches.len() {
                best = Index(candidate);
            }
        }
        best
    }

    /// Calls `visit` with every sequence of `length` digits below `base`.
    fn every_sequence(length: usize, base: u64, visit: &mut dyn FnMut(&[u64])) {
        let mut digits = vec![0; length];
        loop {
            visit(&digits);
            let Some(place) = digits.iter().position(|digit| *digit + 1 < base) else { return };
            digits[place] += 1;
            digits[..place].fill(0);
        }
    }

    #[test]
    fn the_committed_index_is_what_counting_one_by_one_gives() {
        for voters in 1..=5 {
            every_sequence(voters, 5, &mut |digits| {
                let mut matches: Vec<Index> = digits.iter().map(|digit| Index(*digit)).collect();
                let slow = slow_committed_index(&matches);
                assert_eq!(committed_index(&mut matches), slow, "{digits:?}");
            });
        }
        assert_eq!(committed_index(&mut []), Index::ZERO);
    }

    #[test]
    fn a_vote_is_decided_when_no_further_answer_could_change_it() {
        for voters in 1..=7_usize {
            every_sequence(voters, 3, &mut |answers| {
                let granted = answers.iter().filter(|answer| **answer == 1).count();
                let refused = answers.iter().filter(|answer| **answer == 2).count();
                let silent = voters - granted - refused;
                let wins = |yes: usize| yes * 2 > voters;
                let slow = match (wins(granted), wins(granted + silent)) {
                    (true, _) => Tally::Won,
                    (false, false) => Tally::Lost,
                    (false, true) => Tally::Open,
                };
                assert_eq!(tally(voters, granted, refused), slow, "{answers:?}");
            });
        }
    }

    #[test]
    fn two_majorities_always_share_a_voter() {
        for voters in 1..=15 {
            assert!(2 * majority(voters) > voters);
            assert!(2 * (majority(voters) - 1) <= voters);
        }
    }
}
