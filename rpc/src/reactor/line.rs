//! Who has something for a reactor to do, in the order in which it is done: connections to be read, and connections to be
//! written.
//!
//! A turn serves the line one after the other until its time is over. Who comes with news goes before those who have had a
//! share and want another, so that little is not kept waiting by much; of these one is served in each turn, whatever has
//! come, so that much is not kept waiting for ever. Who is not served keeps its place.

use std::collections::VecDeque;

/// See the module's text. Who stands in it knows that, so that nobody stands in it twice.
pub(super) struct Line<T> {
    fresh: VecDeque<T>,
    /// They have had a share.
    again: VecDeque<T>,
}

/// What one turn does for a line.
pub(super) struct Round {
    /// Who had a share in this round is not served again in it.
    again_left: usize,
    has_begun: bool,
    has_served_again: bool,
}

impl<T> Line<T> {
    pub(super) fn new() -> Line<T> {
        Line { fresh: VecDeque::new(), again: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.again.is_empty()
    }

    /// Joins with news.
    pub(super) fn join(&mut self, who: T) {
        self.fresh.push_back(who);
    }

    /// Joins for another share.
    pub(super) fn join_again(&mut self, who: T) {
        self.again.push_back(who);
    }

    /// A turn begins.
    pub(super) fn round(&self) -> Round {
        Round { again_left: self.again.len(), has_begun: false, has_served_again: false }
    }

    /// Who is served next in this turn, if anybody is. It takes no look at the clock for the first, nor where nobody is left.
    pub(super) fn next(&mut self, round: &mut Round, has_time: impl FnOnce() -> bool) -> Option<T> {
        if self.fresh.is_empty() && round.again_left == 0 {
            return None;
        }
        let may_go_on = !std::mem::replace(&mut round.has_begun, true) || has_time();
        if may_go_on && let Some(who) = self.fresh.pop_front() {
            return Some(who);
        }
        if round.again_left == 0 || !may_go_on && round.has_served_again {
            return None;
        }
        round.again_left -= 1;
        round.has_served_again = true;
        self.again.pop_front()
    }

    /// Everybody, when there is no further turn.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> {
        self.fresh.drain(..).chain(self.again.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom a turn serves that has time for so many.
    fn serve(line: &mut Line<u32>, time: usize) -> Vec<u32> {
        let mut round = line.round();
        let mut served = Vec::new();
        while let Some(who) = line.next(&mut round, || served.len() < time) {
            served.push(who);
        }
        served
    }

    #[test]
    fn who_comes_with_news_is_first_and_everybody_is_served_while_there_is_time() {
        let mut line = Line::new();
        [7, 8].into_iter().for_each(|who| line.join_again(who));
        [1, 2].into_iter().for_each(|who| line.join(who));
        assert_eq!(serve(&mut line, 9), [1, 2, 7, 8]);
        assert!(line.is_empty());
    }

    #[test]
    fn who_is_not_served_keeps_its_place() {
        let mut line = Line::new();
        (1..=5).for_each(|who| line.join(who));
        assert_eq!(serve(&mut line, 2), [1, 2]);
        line.join(6);
        assert_eq!(serve(&mut line, 3), [3, 4, 5]);
        assert_eq!(serve(&mut line, 3), [6]);
    }

    #[test]
    fn one_who_wants_another_share_is_served_in_each_turn_whatever_comes() {
        let mut line = Line::new();
        [7, 8].into_iter().for_each(|who| line.join_again(who));
        for turn in 0..4 {
            (0..3).for_each(|news| line.join(turn * 3 + news));
            let served = serve(&mut line, 2);
            let again = served[2];
            assert_eq!(served, [turn * 2, turn * 2 + 1, 7 + turn % 2]);
            line.join_again(again);
        }
        assert_eq!(line.take_all().collect::<Vec<_>>(), [8, 9, 10, 11, 7, 8]);
    }

    #[test]
    fn nobody_is_served_twice_in_a_turn() {
        let mut line = Line::new();
        [7, 8].into_iter().for_each(|who| line.join_again(who));
        let mut round = line.round();
        for expected in [Some(7), Some(8), None] {
            let who = line.next(&mut round, || true);
            assert_eq!(who, expected);
            who.into_iter().for_each(|who| line.join_again(who));
        }
    }

    #[test]
    fn the_clock_is_looked_at_for_those_after_the_first_alone() {
        let mut line = Line::new();
        [7, 8].into_iter().for_each(|who| line.join_again(who));
        let (mut round, looks) = (line.round(), std::cell::Cell::new(0));
        for expected in [(Some(7), 0), (Some(8), 1), (None, 1)] {
            let who = line.next(&mut round, || looks.replace(looks.get() + 1) < 9);
            assert_eq!((who, looks.get()), expected);
        }
    }

    #[test]
    fn a_turn_without_any_time_serves_one_of_either() {
        let mut line = Line::new();
        line.join(1);
        line.join(2);
        line.join_again(7);
        line.join_again(8);
        assert_eq!(serve(&mut line, 0), [1, 7]);
        assert_eq!(serve(&mut line, 0), [2, 8]);
    }
}
