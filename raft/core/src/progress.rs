//! What the leader knows about one follower, and what it may send next.
//!
//! Probe: the logs' meeting point is being looked for, one message at a time. Replicate: it is known, and messages fly
//! ahead of their answers. Snapshot: the follower needs what the log no longer has. `match_index` is what the follower
//! itself has acknowledged as durable; it only grows, and nothing else is ever counted towards a commit.

use crate::config::Config;
use crate::inflights::Inflights;
use crate::types::Index;

/// How the leader treats a follower; the names are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressState {
    /// One message at a time.
    Probe {
        /// It has left; the next waits for its answer, or for a sign of life.
        paused: bool,
        /// The repetition of a lost one carries no entries: it may not have been lost but slow.
        bare: bool,
    },
    /// Messages fly ahead, as far as the window allows.
    Replicate,
    /// Nothing is sent until the snapshot's fate is reported.
    Snapshot {
        /// The snapshot that is being sent ends here or later; the log keeps what follows it.
        pending: Index,
        /// The leader's tick at which it was asked for.
        asked_tick: u64,
    },
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Progress {
    state: ProgressState,
    /// Durable at the follower, by its own word.
    match_index: Index,
    /// The first entry of the next message; always above `match_index`.
    next_index: Index,
    inflights: Inflights,
    /// The leader's tick at which the follower was last heard.
    heard_tick: u64,
    /// Its process was said to be gone, and it was not heard since.
    is_gone: bool,
    /// The heartbeat interval in which the last probe left.
    probed_beat: u64,
    /// The heartbeat interval since which appends are unanswered though heartbeats are answered.
    silent_since: Option<u64>,
    /// How often in a row it had no room for what it was sent.
    room_refusals: u32,
    /// An empty append is due, which asks whether what was sent has arrived.
    check_due: bool,
}

impl Progress {
    /// A follower of a new leader: probably it has all that the leader has.
    pub(crate) fn new(config: &Config, next_index: Index) -> Progress {
        Progress {
            state: ProgressState::Probe { paused: false, bare: false },
            match_index: Index::ZERO,
            next_index,
            inflights: Inflights::new(config.inflight_messages_max, config.inflight_bytes_max),
            heard_tick: 0,
            is_gone: false,
            probed_beat: 0,
            silent_since: None,
            room_refusals: 0,
            check_due: false,
        }
    }

    pub(crate) fn state(&self) -> ProgressState {
        self.state
    }

    pub(crate) fn match_index(&self) -> Index {
        self.match_index
    }

    pub(crate) fn next_index(&self) -> Index {
        self.next_index
    }

    pub(crate) fn inflights(&self) -> &Inflights {
        &self.inflights
    }

    pub(crate) fn heard(&mut self, tick: u64) {
        self.heard_tick = tick;
        self.is_gone = false;
    }

    /// The follower's process is said to be gone. That may be wrong: it counts only where another can be chosen instead.
    pub(crate) fn gone(&mut self) {
        self.is_gone = true;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether the follower was heard less than `ticks` ago.
    pub(crate) fn is_active(&self, now: u64, ticks: u32) -> bool {
        now - self.heard_tick < u64::from(ticks)
    }

    /// Whether there is something to send that may be sent.
    pub(crate) fn wants_send(&self, last_index: Index) -> bool {
        match self.state {
            ProgressState::Probe { paused, .. } => !paused,
            ProgressState::Replicate => {
                self.check_due || (self.next_index <= last_index && !self.inflights.is_full())
            }
            ProgressState::Snapshot { .. } => false,
        }
    }

    /// Whether the next message is a question only.
    pub(crate) fn sends_bare(&self) -> bool {
        self.check_due || matches!(self.state, ProgressState::Probe { bare: true, .. })
    }

    /// A message has left in the heartbeat interval `beat`, whose `entries` entries, of `bytes` bytes, begin at
    /// `next_index`.
    pub(crate) fn sent(&mut self, entries: u64, bytes: u64, beat: u64) {
        match self.state {
            ProgressState::Probe { .. } => {
                self.state = ProgressState::Probe { paused: true, bare: false };
                self.probed_beat = beat;
            }
            ProgressState::Replicate if entries > 0 => {
                let last_index = self.next_index.plus(entries - 1);
                self.inflights.add(last_index, bytes);
                self.next_index = last_index.next();
            }
            ProgressState::Replicate => self.check_due = false,
            ProgressState::Snapshot { .. } => {
                unreachable!("nothing is appended while a snapshot is under way")
            }
        }
    }

    /// The follower acknowledged everything up to `index`; `kept_after` is where the leader's log begins. Returns
    /// whether this is news.
    pub(crate) fn accepted(&mut self, index: Index, kept_after: Index) -> bool {
        let news = index > self.match_index;
        let meets = index.next() >= self.next_index;
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        if news {
            self.room_refusals = 0;
        }
        match self.state {
            // What it had no room for is offered again one message at a time.
            ProgressState::Probe { .. } if meets && self.room_refusals > 0 => {
                self.state = ProgressState::Probe { paused: false, bare: false };
            }
            ProgressState::Probe { .. } if meets => self.replicate(),
            ProgressState::Snapshot { .. } if news && self.match_index >= kept_after => self.replicate(),
            ProgressState::Replicate => {
                self.inflights.free_through(index);
                self.silent_since = self.silent_since.filter(|_| !news);
            }
            ProgressState::Probe { .. } | ProgressState::Snapshot { .. } => {}
        }
        news
    }

    /// Whether the refusal of a message with this `prev_index` answers something that still matters: what is
    /// acknowledged cannot be refused, and while probing only the last probe counts.
    pub(crate) fn refusal_is_current(&self, prev_index: Index) -> bool {
        match self.state {
            ProgressState::Probe { .. } => {
                prev_index == self.next_index.previous() && prev_index > self.match_index
            }
            ProgressState::Replicate => prev_index > self.match_index && prev_index < self.next_index,
            ProgressState::Snapshot { .. } => false,
        }
    }

    /// Whether an answer that there is no room for the entries after `prev_index` still matters.
    pub(crate) fn want_of_room_is_current(&self, prev_index: Index) -> bool {
        match self.state {
            ProgressState::Probe { .. } => prev_index == self.next_index.previous(),
            ProgressState::Replicate => prev_index >= self.match_index && prev_index < self.next_index,
            ProgressState::Snapshot { .. } => false,
        }
    }

    /// The follower has no room for what it was sent in the interval `beat`: with each refusal in a row it is left alone
    /// for twice as long, which is doubled so many times at most.
    pub(crate) fn no_room(&mut self, next_index: Index, beat: u64, doublings: u32) {
        self.probe(next_index);
        self.room_refusals = self.room_refusals.saturating_add(1);
        self.pause(beat + (1 << self.room_refusals.min(doublings)));
    }

    /// Whether the follower had no room for what it was sent last.
    pub(crate) fn lacks_room(&self) -> bool {
        self.room_refusals > 0
    }

    /// Probe from `next_index`, or from what is acknowledged if that is later.
    pub(crate) fn probe(&mut self, next_index: Index) {
        self.forget_flight();
        self.next_index = next_index.max(self.match_index.next());
        self.state = ProgressState::Probe { paused: false, bare: false };
    }

    /// Probe from what is acknowledged, but not before the follower answers a heartbeat of a later interval than `beat`.
    pub(crate) fn probe_later(&mut self, beat: u64) {
        self.probe(self.match_index.next());
        self.pause(beat);
    }

    /// Nothing is sent until the follower answers a heartbeat of a later interval than `beat`.
    pub(crate) fn pause(&mut self, beat: u64) {
        self.state = ProgressState::Probe { paused: true, bare: false };
        self.probed_beat = beat;
    }

    fn replicate(&mut self) {
        self.forget_flight();
        self.next_index = self.match_index.next();
        self.state = ProgressState::Replicate;
    }

    /// The follower is given a snapshot that ends at `pending` or later; it was asked for at this tick.
    pub(crate) fn snapshot(&mut self, pending: Index, asked_tick: u64) {
        self.forget_flight();
        self.state = ProgressState::Snapshot { pending, asked_tick };
    }

    /// Whether a snapshot's report is overdue.
    pub(crate) fn snapshot_is_overdue(&self, now: u64, ticks_max: u32) -> bool {
        match self.state {
            ProgressState::Snapshot { asked_tick, .. } => now - asked_tick >= u64::from(ticks_max),
            ProgressState::Probe { .. } | ProgressState::Replicate => false,
        }
    }

    fn forget_flight(&mut self) {
        self.inflights.clear();
        self.silent_since = None;
        self.check_due = false;
    }

    /// A heartbeat was answered in the interval `beat`. A probe that has had no answer for an interval is repeated,
    /// without entries. Appends that have had none for a whole interval may be lost, and with nothing behind them nobody
    /// would notice: ask. The question is empty, so asking a slow follower costs next to nothing, and it is asked by the
    /// interval, not by the answer: rounds of reads bring many answers in one interval.
    pub(crate) fn heartbeat_answered(&mut self, beat: u64) {
        match (self.state, self.silent_since) {
            (ProgressState::Probe { paused: true, .. }, _) if beat > self.probed_beat => {
                self.state = ProgressState::Probe { paused: false, bare: true };
            }
            (ProgressState::Replicate, _) if self.inflights.count() == 0 => {}
            (ProgressState::Replicate, None) => self.silent_since = Some(beat),
            (ProgressState::Replicate, Some(since)) if beat >= since + 2 => {
                self.check_due = true;
                self.silent_since = Some(beat);
            }
            _ => {}
        }
    }

    /// Below this index the follower needs nothing any more.
    pub(crate) fn needs_after(&self) -> Index {
        match self.state {
            ProgressState::Snapshot { pending, .. } => pending.max(self.match_index),
            ProgressState::Probe { .. } | ProgressState::Replicate => self.match_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn progress(next_index: u64) -> Progress {
        Progress::new(&Config::new(NodeId(1), [NodeId(1)]), Index(next_index))
    }

    #[test]
    fn a_probe_waits_for_its_answer_and_is_repeated_without_entries() {
        let mut peer = progress(5);
        assert!(
            peer.wants_send(Index(4)),
            "also when there is nothing to send: the meeting point is unknown"
        );
        peer.sent(3, 30, 7);
        assert!(!peer.wants_send(Index(7)));
        assert_eq!(peer.next_index(), Index(5));
        peer.heartbeat_answered(7);
        assert!(!peer.wants_send(Index(7)), "it may be on its way");
        peer.heartbeat_answered(8);
        assert!(peer.wants_send(Index(7)) && peer.sends_bare());
    }

    #[test]
    fn what_is_acknowledged_is_never_taken_back() {
        let mut peer = progress(5);
        assert!(peer.accepted(Index(8), Index::ZERO));
        assert!(!peer.accepted(Index(6), Index::ZERO), "a reordered answer is no news");
        peer.probe(Index(2));
        assert_eq!((peer.match_index(), peer.next_index()), (Index(8), Index(9)));
        assert!(!peer.refusal_is_current(Index(7)), "a late refusal of what was acknowledged since");
    }

    #[test]
    fn a_lost_last_append_is_asked_for_after_a_whole_silent_interval_and_no_more_than_every_other() {
        let mut peer = progress(1);
        peer.accepted(Index::ZERO, Index::ZERO);
        peer.sent(2, 20, 0);
        let mut asked_in = Vec::new();
        for beat in 0..10 {
            for _answer in 0..50 {
                peer.heartbeat_answered(beat);
                if peer.wants_send(Index(2)) {
                    assert!(peer.sends_bare());
                    peer.sent(0, 0, beat);
                    asked_in.push(beat);
                }
            }
        }
        assert_eq!(asked_in, [2, 4, 6, 8]);
        peer.accepted(Index(2), Index::ZERO);
        assert_eq!(peer.inflights().count(), 0);
        peer.heartbeat_answered(20);
        assert!(!peer.wants_send(Index(2)));
    }

    #[test]
    fn an_answer_in_time_keeps_the_question_from_being_asked() {
        let mut peer = progress(1);
        peer.accepted(Index::ZERO, Index::ZERO);
        for beat in 0..10 {
            peer.sent(1, 20, beat);
            peer.heartbeat_answered(beat);
            assert!(!peer.wants_send(Index(beat + 1)));
            peer.accepted(Index(beat), Index::ZERO);
        }
    }

    #[test]
    fn only_the_answer_to_the_last_probe_counts() {
        let mut peer = progress(10);
        peer.sent(0, 0, 0);
        assert!(!peer.refusal_is_current(Index(5)));
        assert!(peer.refusal_is_current(Index(9)));
    }

    #[test]
    fn while_appends_fly_only_a_refusal_of_one_of_them_counts() {
        let mut peer = progress(5);
        peer.accepted(Index(4), Index::ZERO);
        peer.sent(3, 30, 0);
        let current: Vec<u64> = (0..12).filter(|prev| peer.refusal_is_current(Index(*prev))).collect();
        assert_eq!(current, [5, 6, 7]);
    }
}
