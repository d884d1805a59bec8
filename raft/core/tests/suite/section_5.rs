//! §5 of the paper, sentence by sentence, where Figure 2 does not say it already; §5.3's figure 7 is here too.
//!
//! The table in `tests/README.md` says where each sentence is.

use bytes::Bytes;
use raft_core::{Body, Entry, EntryId, HardState, Index, Message, NodeId, RawNode, Restored, RoleKind, Term};

use crate::cluster::{Cluster, Weather};
use crate::rig::*;

fn command() -> Vec<Bytes> {
    vec![Bytes::from_static(b"x")]
}

fn vote(pre_vote: bool, granted: bool) -> Body {
    Body::RequestVoteReply { pre_vote, granted }
}

fn others(leader: NodeId, size: u64) -> Vec<NodeId> {
    (1..=size).map(NodeId).filter(|id| *id != leader).collect()
}

/// §5.1: a cluster of five tolerates two failures.
#[test]
fn five_servers_go_on_with_two_down_and_stop_with_three() {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.settle();
    let others = others(leader, 5);
    others[..2].iter().for_each(|id| cluster.crash(*id));
    let two_down = cluster.put(leader, "two down").index;
    cluster.wait_applied(two_down);
    cluster.crash(others[2]);
    cluster.put(leader, "three down");
    cluster.run(2000);
    assert_eq!(cluster.leader(), None);
    let furthest = cluster.promises.history.keys().next_back().copied();
    assert_eq!(furthest, Some(two_down));
}

/// §5.1: followers issue no requests on their own.
#[test]
fn only_a_leader_and_candidates_send_requests() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.settle();
    cluster.trace = Some(Vec::new());
    for number in 0..20 {
        cluster.put(leader, &format!("{number}"));
        cluster.read(leader);
        cluster.run(50);
    }
    let sent = cluster.trace.take().unwrap();
    let mut requests = sent.iter().filter(|message| message.body.is_request());
    assert!(sent.len() > 100 && requests.all(|message| message.from == leader));
}

/// §5.1: each term begins with an election; a term that nobody won is followed by the next number.
#[test]
fn a_split_vote_ends_its_term_without_a_leader_and_the_next_term_decides() {
    let mut core = node_with(config(4), Restored::default());
    time_out(&mut core);
    for voter in [2, 3] {
        core.step(to_me(voter, 1, vote(true, true)));
    }
    drain(&mut core);
    core.step(to_me(2, 1, vote(false, true)));
    core.step(to_me(3, 1, vote(false, false)));
    assert_eq!(core.status().role, RoleKind::Candidate, "two of four are no majority");
    core.step(to_me(4, 1, vote(false, false)));
    assert_eq!((core.status().role, core.status().leader), (RoleKind::Follower, None), "nor can they be");
    assert_eq!(elect(&mut core), Term(2));
}

/// §5.2: first come, first served.
#[test]
fn the_first_of_two_candidates_gets_the_vote_and_asking_again_changes_nothing() {
    let mut core = restarted(5, vec![]);
    let mut votes = Vec::new();
    for from in [3, 2, 3, 2] {
        core.step(to_me(from, 6, vote_request(id(0, 0))));
        votes.extend(drain(&mut core).into_iter().map(|message| (message.to.0, message.body)));
    }
    let (yes, no) = (vote(false, true), vote(false, false));
    assert_eq!(votes, [(3, yes.clone()), (2, no.clone()), (3, yes), (2, no)]);
}

/// §5.2: a leader of the candidate's term or a later one is recognized; one of an earlier term is refused.
#[test]
fn a_candidate_follows_a_leader_of_its_term_or_later_and_refuses_an_earlier_one() {
    for (leader_term, follows) in [(4, false), (5, false), (6, true), (7, true)] {
        for body in [
            append(id(0, 0), vec![], 0),
            Body::Heartbeat { leader_commit: Index(0), read_context: 0, fresh: None },
        ] {
            let mut core = restarted(5, vec![]);
            time_out(&mut core);
            core.step(to_me(2, 6, vote(true, true)));
            drain(&mut core);
            core.step(to_me(3, leader_term, body));
            assert_eq!(core.status().role == RoleKind::Follower, follows, "term {leader_term}");
            let answers = drain(&mut core);
            assert!(answers.len() == 1 && answers[0].term == Term(leader_term.max(6)));
            core.step(to_me(2, 6, vote(false, true)));
            assert_eq!(core.status().role == RoleKind::Leader, !follows, "it goes on");
        }
    }
}

/// §5.2: each candidate restarts its randomized timeout at the start of an election.
#[test]
fn each_election_draws_its_timeout_anew_from_the_same_interval() {
    let mut core = restarted(1, vec![]);
    let mut waited = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let ticks = (1..).find(|_| {
            core.tick_election();
            core.has_ready()
        });
        drain(&mut core);
        waited.extend(ticks);
    }
    assert_eq!(waited.first().zip(waited.last()), Some((&30, &50)));
    assert!(waited.len() > 15, "{waited:?}");
}

/// §5.3: the leader keeps track of what is committed and includes it in later messages, heartbeats among them.
#[test]
fn the_next_append_and_the_next_heartbeat_tell_what_is_committed() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.propose(command()).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, accepted(2)));
    drain(&mut core);
    core.propose(command()).unwrap();
    let commits = drain(&mut core).into_iter().map(|message| match message.body {
        Body::AppendEntries { leader_commit, .. } => leader_commit,
        other => panic!("{other}"),
    });
    assert_eq!(commits.collect::<Vec<_>>(), [Index(2), Index(2)]);
    core.tick_heartbeat();
    let commits = drain(&mut core).into_iter().map(|message| match message.body {
        Body::Heartbeat { leader_commit, .. } => (message.to.0, leader_commit),
        other => panic!("{other}"),
    });
    assert_eq!(commits.collect::<Vec<_>>(), [(2, Index(2)), (3, Index(1))], "3 is not known to have more");
}

/// §5.3, Log Matching: one entry at an index in a term, at the index it was given.
#[test]
fn a_leader_makes_one_entry_for_each_index_of_its_term_and_a_refused_batch_none() {
    let mut config = config(3);
    config.uncommitted_bytes_max = 1000;
    let mut core = node_with(config, Restored::default());
    let term = elect_and_commit(&mut core).0;
    let mut made = Vec::new();
    for size in [3, 0, 1, 100, 4] {
        let proposed = core.propose(vec![Bytes::from_static(b"x"); size]);
        assert_eq!(proposed.is_ok(), size < 100);
        made.extend(proposed.into_iter().flat_map(|proposed| proposed.ids()));
    }
    assert_eq!(made, (2..=9).map(|index| id(term, index)).collect::<Vec<_>>());
    let written: Vec<EntryId> = core.ready().persist.unwrap().entries.iter().map(Entry::id).collect();
    assert_eq!(written, made);
}

/// The logs of figure 7: the terms of the entries of the leader and of followers (a) to (f).
const FIGURE_7_LEADER: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
const FIGURE_7: [(&str, &[u64]); 6] = [
    ("a", &[1, 1, 1, 4, 4, 5, 5, 6, 6]),
    ("b", &[1, 1, 1, 4]),
    ("c", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]),
    ("d", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]),
    ("e", &[1, 1, 1, 4, 4, 4, 4]),
    ("f", &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]),
];

fn with_log(terms: &[u64]) -> RawNode {
    restarted(7, terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect())
}

/// Hands a leader's message to follower 2, and back, until nothing is left to say; returns the requests it took.
fn converse(leader: &mut RawNode, follower: &mut RawNode) -> usize {
    let mut requests = 0;
    loop {
        let to_follower: Vec<Message> =
            drain(leader).into_iter().filter(|message| message.to == NodeId(2)).collect();
        if to_follower.is_empty() {
            return requests;
        }
        requests += to_follower.len();
        to_follower
            .into_iter()
            .for_each(|message| follower.step(Message { to: ME, from: NodeId(2), ..message }));
        for answer in drain(follower) {
            leader.step(Message { to: ME, from: NodeId(2), ..answer });
        }
    }
}

/// §5.3: the leader finds the latest entry where the logs agree, what follows it there is deleted, and its own is sent.
#[test]
fn each_follower_of_figure_7_comes_to_hold_the_leaders_log() {
    for (name, terms) in FIGURE_7 {
        let (mut leader, mut follower) = (with_log(FIGURE_7_LEADER), with_log(terms));
        elect(&mut leader);
        assert_eq!(leader.status().term, Term(8));
        let requests = converse(&mut leader, &mut follower);
        let last = leader.status().last;
        assert_eq!(follower.status().last, last, "follower ({name})");
        for index in 1..=last.index.0 {
            assert_eq!(follower.term_at(Index(index)), leader.term_at(Index(index)), "({name}) at {index}");
        }
        assert!(requests <= 4, "({name}) took {requests}");
        assert_eq!(leader.status().commit_index, last.index, "and counts for the commit");
    }
}

/// §5.4.1 on the same logs: who has more than the candidate does not vote for it.
#[test]
fn in_figure_7_a_b_e_and_f_vote_for_the_leader_and_c_and_d_do_not() {
    for (name, terms) in FIGURE_7 {
        let mut follower = with_log(terms);
        follower.step(to_me(2, 8, vote_request(id(6, 10))));
        let granted = !matches!(name, "c" | "d");
        assert_eq!(drain(&mut follower)[0].body, vote(false, granted), "({name})");
    }
}

/// §5.3, Leader Append-Only: entries flow from the leader to the followers, never back.
#[test]
fn a_leader_changes_nothing_in_its_own_log_whatever_its_term_brings() {
    let mut core = restarted(1, entries(1, 1..=5));
    let term = elect(&mut core).0;
    drain(&mut core);
    let last = core.status().last;
    let bodies = [
        append(id(1, 2), entries(term, 3..=3), 3),
        append(id(0, 0), vec![], 9),
        rejected(5, id(1, 2)),
        rejected(5, id(0, 0)),
        Body::Heartbeat { leader_commit: Index(3), read_context: 0, fresh: None },
        vote_request(id(9, 99)),
    ];
    for body in bodies {
        core.step(to_me(2, term, body));
        drain(&mut core);
        assert_eq!((core.status().role, core.status().last), (RoleKind::Leader, last));
        assert_eq!(core.term_at(Index(3)), Some(Term(1)));
    }
    assert_eq!(core.status().commit_index, Index(0));
}

/// §5.3: in the normal case one round of requests to a majority; one slow follower does not matter.
#[test]
fn a_new_entry_costs_one_append_each_and_no_slow_follower_delays_it() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.settle();
    cluster.run(200);
    let slow = others(leader, 3)[0];
    cluster.weather = Weather { heartbeat_ms: 10_000, ..Weather::calm() };
    cluster.weather.own_disk_ms.insert(slow, 5000);
    for number in 0..20 {
        cluster.trace = Some(Vec::new());
        let index = cluster.put(leader, &format!("{number}")).index;
        let applied = |cluster: &Cluster| cluster.status(leader).applied_index == index;
        assert!(cluster.run_until(5, applied), "there and back, and two syncs");
        let sent = cluster.trace.take().unwrap();
        assert_eq!(sent.iter().filter(|message| message.body.is_request()).count(), 2, "{sent:?}");
        assert!(cluster.read(leader));
        cluster.run(3);
        assert_eq!(cluster.promises.reads_confirmed, number + 1, "nor does a read wait for a heartbeat");
    }
    assert!(cluster.status(slow).persisted_index < cluster.status(leader).applied_index, "it is slow");
}

/// §5.4.2: entries of previous terms keep their numbers, which makes it easier to reason about them.
#[test]
fn entries_of_earlier_terms_keep_their_terms_when_a_later_leader_replicates_them() {
    let mut core = restarted(6, vec![entry(1, 1), entry(3, 2), entry(6, 3)]);
    let term = elect(&mut core).0;
    drain(&mut core);
    core.step(to_me(2, term, rejected(3, id(0, 0))));
    let sent = drain(&mut core);
    let Body::AppendEntries { entries, .. } = &sent[0].body else { panic!("{sent:?}") };
    let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
    assert_eq!(ids, [id(1, 1), id(3, 2), id(6, 3), id(term, 4)]);
}

/// §5.5: a server that crashes after it did what was asked and before it answered is asked again.
#[test]
fn a_request_repeated_after_a_crash_is_answered_as_before_and_changes_nothing() {
    let mut core = restarted(5, vec![]);
    let append = append(id(0, 0), entries(5, 1..=3), 0);
    core.step(to_me(2, 5, append.clone()));
    let durable = core.ready().persist.unwrap();
    let hard_state = HardState { term: Term(5), vote: None };
    let mut core = node_with(config(3), Restored { hard_state, snapshot: None, entries: durable.entries });
    core.step(to_me(2, 5, append));
    let ready = core.ready();
    assert_eq!(ready.persist, None);
    let answers: Vec<_> = ready.messages_after_persist.iter().map(|message| message.body.clone()).collect();
    assert_eq!(answers, [accepted(3)]);

    (0..30).for_each(|_| core.tick_election());
    core.step(to_me(3, 6, vote_request(id(5, 3))));
    let hard_state = core.ready().persist.unwrap().hard_state.unwrap();
    let mut core = node_with(config(3), Restored { hard_state, snapshot: None, entries: entries(5, 1..=3) });
    core.step(to_me(3, 6, vote_request(id(5, 3))));
    let ready = core.ready();
    assert_eq!((ready.persist, ready.messages_after_persist[0].body.clone()), (None, vote(false, true)));
}

/// §5.6: a leader stays as long as a message takes much less than a timeout; safety asks for no timing at all.
#[test]
fn a_leader_stays_while_messages_are_fast_and_promises_hold_while_they_are_not() {
    let mut cluster = Cluster::new(5, 4);
    cluster.weather.delay_ms_max = 50;
    let leader = cluster.settle();
    let term = cluster.status(leader).term;
    cluster.run(20_000);
    assert_eq!((cluster.leader(), cluster.status(leader).term), (Some(leader), term));
    cluster.weather.delay_ms_max = 5000;
    for number in 0..200 {
        if let Some(leader) = cluster.leader() {
            let _ = cluster.propose(leader, vec![format!("{number}").into()]);
        }
        cluster.run(200);
    }
    assert!(cluster.promises.terms_led() > 0);
    cluster.check_log_matching();
    cluster.weather = Weather::calm();
    let leader = cluster.settle();
    let last = cluster.put(leader, "fast again").index;
    cluster.wait_applied(last);
}
