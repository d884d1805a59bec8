//! The mistakes that can be planted, to see that the checkers have no holes.
//!
//! Each stands in the shipped code behind `raft_core::planted::is`, compiled only with the feature `planted_bugs`.
//! `sim --planted-bug NAME --seeds A..B` makes it and must find it.

/// A mistake: its name, and what is done wrong.
pub const PLANTED_BUGS: [(&str, &str); 67] = [
    (
        "append-acknowledged-before-the-sync",
        "a follower acknowledges entries that its disk does not have yet",
    ),
    ("apply-beyond-commit", "a follower applies whatever its log has, committed or not"),
    ("checksum-not-chained", "a record's checksum does not cover the records before it"),
    (
        "commit-beyond-what-matches",
        "a follower takes the leader's commit index for entries it was not just sent",
    ),
    ("conflict-index-off-by-one", "a refused leader probes one place too late"),
    ("conflicting-tail-kept", "entries that are there already are not compared with those that come"),
    (
        "consistency-check-by-index-alone",
        "an append is taken if any entry stands before it, of whatever term",
    ),
    (
        "damaged-node-acknowledges-early",
        "what a node acknowledges that has lost a part of its log counts at once",
    ),
    ("damaged-node-votes", "a node that has lost a part of its log votes"),
    ("failed-sync-retried", "a sync that failed is tried again; the second one says yes without writing"),
    ("failed-sync-taken-for-success", "the log goes on after a failed write as if it had been done"),
    ("follower-read-without-a-round", "a node serves a follower read by what it knows to be committed"),
    ("half-taken-for-a-majority", "half of an even number of nodes decides"),
    ("healed-before-the-sync", "a damaged node takes part again before its disk has everything"),
    ("heartbeat-commits-what-is-not-matched", "heartbeats carry the commit index whatever the follower has"),
    ("joint-left-before-it-is-committed", "the new majority decides alone before both know of it"),
    ("leader-never-steps-down", "a leader that hears nobody goes on leading"),
    ("learner-counted", "what a learner has counts for a majority"),
    ("lease-kept-over-a-pause", "a lease is looked at by ticks, which stand still with the process"),
    ("lost-waiter-forgotten", "the clients of writes that a lost leadership leaves behind are not answered"),
    ("lost-write-said-not-to-have-run", "a write of a lost leadership is said not to have run"),
    ("match-index-from-a-refusal", "a refusal's hint counts as an acknowledgement"),
    (
        "match-index-from-a-stale-reply",
        "an acknowledgement that comes late counts for all that was sent since",
    ),
    (
        "membership-before-own-term-commit",
        "a leader changes the members before an entry of its term is committed",
    ),
    ("membership-not-rolled-back", "a membership stays in effect when its entry is cut off"),
    (
        "membership-of-a-later-instant-in-the-snapshot",
        "a snapshot holds the members of the time it is written",
    ),
    (
        "messages-overtake-the-writes-before-them",
        "an answer without a write of its own does not wait for earlier writes",
    ),
    ("messages-sent-before-the-sync", "the log writer sends what should wait for its sync"),
    ("no-noop", "a new leader appends no entry of its own term"),
    ("old-term-committed-by-counting", "an entry of an earlier term is committed once a majority has it"),
    (
        "only-the-newest-reply-is-kept",
        "a session forgets the replies to earlier writes that are still under way",
    ),
    ("own-log-counts-unsynced", "a leader counts its own log before its disk has it"),
    ("persisted-by-index-alone", "what was written of a tail counts for the entries that replaced it"),
    ("persisted-reported-before-the-sync", "the log writer reports a batch when it hands it to the disk"),
    ("pre-vote-raises-the-term", "who only asks around is in a new term already"),
    ("quorum-of-one-side-only", "while voters change the old majority decides alone"),
    (
        "read-before-own-term-commit",
        "a read round begins before the leader has committed an entry of its term",
    ),
    ("read-confirmed-by-an-earlier-round", "an answer to an earlier round confirms the present one"),
    ("read-served-before-it-is-applied", "a confirmed read does not wait until its index is applied"),
    ("read-without-a-round", "a leader confirms reads alone"),
    ("reads-of-a-lost-leadership-confirmed", "reads under way are served when the leader steps down"),
    ("received-snapshot-not-synced", "a received snapshot counts before its file is synced"),
    ("record-checksum-not-looked-at", "recovery believes every record"),
    (
        "removed-node-deposes-the-leader",
        "nobody asks before it campaigns, and who hears a leader heeds other candidates",
    ),
    ("repair-that-trusts-one-copy", "a damaged node takes part again with whatever it has"),
    ("repairable-damage-refused", "a node does not start on a damaged log although others could repair it"),
    (
        "repeated-append-acknowledged-at-once",
        "an append that brings nothing new is answered although its first copy is unsynced",
    ),
    ("repeated-write-runs-again", "the session table does not stop a repeated write"),
    ("reply-sent-twice", "an append is answered twice"),
    (
        "resumed-chunk-of-another-snapshot",
        "a transfer that begins goes on behind what is there of another snapshot, and the whole is not checked",
    ),
    ("room-not-asked-for", "entries are accepted whether or not the disk has room for them"),
    ("second-vote-in-a-term", "a vote is given although it was given to another"),
    ("sessions-of-a-later-instant", "a snapshot holds the session table of the time it is written"),
    (
        "snapshot-drops-a-needed-suffix",
        "a snapshot, received or found at a restart, stands for the whole log",
    ),
    ("snapshot-name-not-synced", "the directory is not synced after a snapshot got its name"),
    ("snapshot-without-the-sessions", "a snapshot does not hold its instant's session table"),
    ("stale-append-truncates", "an append cuts the log behind its last entry although that agrees"),
    ("timer-reset-by-a-refused-vote", "a vote that is refused puts the own election off"),
    (
        "torn-tail-taken-for-valid",
        "recovery neither zeroes a torn tail nor makes durable what it reads before it",
    ),
    ("transfer-without-its-flag", "the election of a transfer does not say that it is one"),
    ("vote-asked-for-before-the-sync", "a candidate asks for votes before its own vote is on its disk"),
    ("vote-for-a-shorter-log", "a vote goes to a log that ends in the same term but earlier"),
    ("vote-forgotten-at-a-restart", "a node that comes up again may vote once more in the same term"),
    ("vote-not-synced-before-its-reply", "a vote leaves before the disk has it"),
    ("vote-without-looking-at-the-log", "a vote goes to anybody"),
    ("waiter-answered-by-index-alone", "a client is answered by whatever entry came to stand at its index"),
    ("wiped-node-admitted", "a peer that knows a new node with other data, or not at all, is taken for new"),
];

/// Has the mistake of this name made from now on, on this thread; None if this program was built without the feature
/// `planted_bugs`, or there is no such mistake.
#[must_use]
pub fn plant(name: &str) -> Option<()> {
    PLANTED_BUGS.iter().find(|(known, _)| *known == name)?;
    switch(name)
}

#[cfg(feature = "planted_bugs")]
fn switch(name: &str) -> Option<()> {
    raft::core::planted::plant(name);
    Some(())
}

#[cfg(not(feature = "planted_bugs"))]
fn switch(_name: &str) -> Option<()> {
    None
}
