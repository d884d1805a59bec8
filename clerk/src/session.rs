//! A client's session: what makes a retried write run once (design.md §6).
//!
//! The session gives each write a number and knows the lowest number not yet answered, below which the server may
//! forget its kept replies. Pure bookkeeping. It must never hand out a number that is a whole window ahead of the
//! lowest unanswered one, since the server keeps replies for one window only.

use std::collections::VecDeque;

use crate::{config::SESSION_WINDOW, operation::Stamp};

/// The open session, if there is one.
#[derive(Debug, Default)]
pub struct Session {
    /// What OpenSession returned; 0 while there is none.
    client_id: u64,
    /// The lowest seq not yet answered.
    acked_below: u64,
    /// For each issued seq from `acked_below` on, whether it is answered; at most one window long. Its first is false.
    answered: VecDeque<bool>,
}

impl Session {
    /// Begins a session under the number the server gave. What the one before left unanswered is no longer its concern.
    pub fn open(&mut self, client_id: u64) {
        assert!(client_id != 0, "0 stands for no session; the border refuses it");
        self.client_id = client_id;
        self.acked_below = 1;
        self.answered.clear();
    }

    /// Forgets session `client_id` if it is still the current one.
    pub fn expire(&mut self, client_id: u64) {
        if self.client_id == client_id {
            self.client_id = 0;
        }
    }

    /// Whether there is a session.
    pub fn is_open(&self) -> bool {
        self.client_id != 0
    }

    /// Whether `client_id` is the current session.
    pub fn is_current(&self, client_id: u64) -> bool {
        client_id != 0 && self.client_id == client_id
    }

    /// Whether the window has room for another write.
    pub fn has_room(&self) -> bool {
        self.answered.len() < SESSION_WINDOW
    }

    /// Numbers the next write; `None` without a session or while the window is full.
    pub fn issue(&mut self) -> Option<Stamp> {
        if !self.is_open() || !self.has_room() {
            return None;
        }
        let seq = self.acked_below + self.answered.len() as u64;
        self.answered.push_back(false);
        Some(Stamp { client_id: self.client_id, seq, acked_below: self.acked_below })
    }

    /// The stamp of a write that is sent again: same number, newest `acked_below`.
    pub fn renew(&self, stamp: Stamp) -> Stamp {
        assert!(self.is_current(stamp.client_id), "a stamp is renewed only in its own session");
        assert!(self.acked_below <= stamp.seq, "a write still under way is not below acked_below");
        Stamp { acked_below: self.acked_below, ..stamp }
    }

    /// Notes that the write was answered or given up. Numbers of an earlier session are ignored.
    pub fn answered(&mut self, stamp: Stamp) {
        if !self.is_current(stamp.client_id) {
            return;
        }
        let place = stamp.seq.checked_sub(self.acked_below).and_then(|place| usize::try_from(place).ok());
        let slot = place.and_then(|place| self.answered.get_mut(place));
        *slot.expect("an issued number is answered once") = true;
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.acked_below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_acked_below_is_the_lowest_unanswered() {
        let mut session = Session::default();
        assert_eq!(session.issue(), None);
        session.open(9);
        let stamps: Vec<Stamp> = (0..4).map(|_| session.issue().unwrap()).collect();
        assert_eq!(stamps.iter().map(|stamp| stamp.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(stamps.iter().all(|stamp| stamp.acked_below == 1 && stamp.client_id == 9));
        session.answered(stamps[1]);
        session.answered(stamps[2]);
        assert_eq!(session.renew(stamps[0]).acked_below, 1);
        session.answered(stamps[0]);
        assert_eq!(session.renew(stamps[3]), Stamp { acked_below: 4, ..stamps[3] });
        session.answered(stamps[3]);
        assert_eq!(session.issue(), Some(Stamp { client_id: 9, seq: 5, acked_below: 5 }));
    }

    #[test]
    fn the_window_is_bounded_by_the_lowest_unanswered_write() {
        let mut session = Session::default();
        session.open(1);
        let stamps: Vec<Stamp> = (0..SESSION_WINDOW).map(|_| session.issue().unwrap()).collect();
        assert_eq!(session.issue(), None);
        for stamp in &stamps[1..] {
            session.answered(*stamp);
        }
        assert_eq!(session.issue(), None, "the first write is still unanswered");
        session.answered(stamps[0]);
        assert_eq!(session.issue().unwrap().seq, SESSION_WINDOW as u64 + 1);
    }

    #[test]
    fn an_earlier_session_cannot_touch_the_current_one() {
        let mut session = Session::default();
        session.open(1);
        let old = session.issue().unwrap();
        session.expire(1);
        assert!(!session.is_open());
        session.open(2);
        let new = session.issue().unwrap();
        session.answered(old);
        session.expire(1);
        assert_eq!(session.renew(new), Stamp { client_id: 2, seq: 1, acked_below: 1 });
    }
}
