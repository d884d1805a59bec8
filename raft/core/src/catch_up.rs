//! Whether a learner keeps up, told in rounds (dissertation §4.2.1).
//!
//! A round sends the learner what the leader's log held when the round began. A learner that does a round in less than
//! an election timeout is so close that, as a voter, it would not hold up a commit for longer than an election does.

use crate::types::Index;

/// The rounds of one learner.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// Where the round under way ends, and the leader's tick at which it began.
    round: Option<(Index, u64)>,
    /// The last whole round was short.
    was_short: bool,
}

impl CatchUp {
    /// The first round of a learner that nothing is known about.
    pub(crate) fn begin(last_index: Index, now: u64) -> CatchUp {
        CatchUp { round: Some((last_index, now)), was_short: false }
    }

    /// The learner has acknowledged everything up to `match_index`, of a log that ends at `last_index`; a round must take
    /// less than `ticks_max`. To be called at each acknowledgement and at each tick, so that a round begins as soon as
    /// something is missing. When nothing is, a round would take no time at all.
    pub(crate) fn observe(&mut self, match_index: Index, last_index: Index, now: u64, ticks_max: u32) {
        if let Some((_, began)) = self.round.take_if(|(end, _)| match_index >= *end) {
            self.was_short = now - began < u64::from(ticks_max);
        }
        match (self.round, match_index < last_index) {
            (None, true) => self.round = Some((last_index, now)),
            (None, false) => self.was_short = true,
            (Some(_), _) => {}
        }
    }

    /// Whether the last round was short, and the one under way may still be.
    pub(crate) fn is_caught_up(&self, now: u64, ticks_max: u32) -> bool {
        self.was_short && self.round.is_none_or(|(_, began)| now - began < u64::from(ticks_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_a_round_in_less_than_an_election_timeout_has_caught_up() {
        let mut rounds = CatchUp::begin(Index(1000), 0);
        assert!(!rounds.is_caught_up(0, 10), "nothing is known of it");
        rounds.observe(Index(999), Index(1500), 5, 10);
        assert!(!rounds.is_caught_up(5, 10));
        rounds.observe(Index(1000), Index(1500), 30, 10);
        assert!(!rounds.is_caught_up(30, 10), "the first round took thirty ticks");
        rounds.observe(Index(1500), Index(1600), 39, 10);
        assert!(rounds.is_caught_up(39, 10), "the second took nine");
        assert!(!rounds.is_caught_up(49, 10), "the third is taking too long");
        rounds.observe(Index(1600), Index(1700), 50, 10);
        assert!(!rounds.is_caught_up(50, 10), "it took eleven");
    }

    #[test]
    fn who_has_everything_has_caught_up_however_long_it_took() {
        let mut rounds = CatchUp::begin(Index(1000), 0);
        rounds.observe(Index(1000), Index(1000), 500, 10);
        assert!(rounds.is_caught_up(1_000_000, 10), "while nothing is written nobody falls behind");
    }

    #[test]
    fn who_acknowledges_nothing_falls_behind_with_the_first_entry() {
        let mut rounds = CatchUp::begin(Index(9), 0);
        rounds.observe(Index(9), Index(9), 1, 10);
        rounds.observe(Index(9), Index(10), 2, 10);
        assert!(rounds.is_caught_up(11, 10));
        rounds.observe(Index(9), Index(10), 12, 10);
        assert!(!rounds.is_caught_up(12, 10));
    }
}
