//! Who takes part: how members are added, removed and replaced, and what those who are not have to say.

use raft_core::{
    Body, ChangeError, Entry, HardState, Index, InstallVerdict, Membership, NodeId, Payload, ProgressKind,
    RawNode, ReadOutcome, ReadState, Reason, Restored, RoleKind, SnapshotMeta, Stamp, Term,
};

use crate::cluster::{Cluster, TICK_MS, Weather};
use crate::rig::*;

/// The longest election timeout of the default settings, in ticks.
const TIMEOUT: u64 = 50;

pub(crate) fn members(
    voters: impl IntoIterator<Item = u64>,
    learners: impl IntoIterator<Item = u64>,
) -> Membership {
    Membership::new(voters.into_iter().map(NodeId)).with_learners(learners.into_iter().map(NodeId))
}

pub(crate) fn membership_entry(term: u64, index: u64, membership: Membership) -> Entry {
    Entry { payload: Payload::Membership(Box::new(membership)), ..entry(term, index) }
}

/// These peers have everything on disk.
pub(crate) fn acknowledge(core: &mut RawNode, peers: &[u64]) {
    let (term, last) = (core.status().term.0, core.status().last.index.0);
    for peer in peers {
        core.step(to_me(*peer, term, accepted(last)));
    }
    drain(core);
}

/// A leader of `voters` with these learners, which have caught up.
pub(crate) fn leader_with_learners(voters: u64, learners: &[u64]) -> RawNode {
    let mut core = node_with(config(voters), Restored::default());
    elect_and_commit(&mut core);
    core.change_membership(members(1..=voters, learners.iter().copied())).expect("a leader that has begun");
    drain(&mut core);
    let others: Vec<u64> = (2..=voters).chain(learners.iter().copied()).collect();
    acknowledge(&mut core, &others);
    assert!(!core.status().is_changing);
    core
}

/// Follower 1 of three, which has heard from leader 2 up to these entries.
fn follower(entries: Vec<Entry>, leader_commit: u64) -> RawNode {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), entries, leader_commit)));
    drain(&mut core);
    core
}

fn is_told_of_removal(core: &mut RawNode) -> bool {
    drain(core).iter().any(|message| message.body == Body::Removed)
}

#[test]
fn one_grows_to_five_and_five_shrink_to_three_while_commands_commit() {
    for (seed, weather) in [Weather::calm(), Weather::unreliable(), Weather::reordering()].iter().enumerate()
    {
        let mut cluster = Cluster::new(1, seed as u64);
        cluster.settle();
        cluster.weather = weather.clone();
        (2..=5).map(NodeId).for_each(|id| cluster.join(id));
        let steps = [
            members([1], [2, 3, 4, 5]),
            members([1, 2, 3, 4, 5], []),
            // Three of five go at once, the leader most likely among them.
            members([4, 5], []),
            members([4, 5], [1]),
            members([1, 4, 5], []),
        ];
        for (step, target) in steps.iter().enumerate() {
            if let Some(leader) = cluster.leader() {
                let _ = cluster.propose(leader, vec![format!("before step {step}").into()]);
            }
            cluster.change_until_done(target, 60_000);
        }
        cluster.weather = Weather::calm();
        let leader = cluster.settle();
        let last = cluster.put(leader, "after all").index;
        cluster.wait_applied(last);
        assert!(cluster.read(leader));
        cluster.check_log_matching();
    }
}

#[test]
fn three_are_replaced_by_three_others_at_once() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(3, seed);
        cluster.settle();
        cluster.weather = Weather::unreliable();
        (4..=6).map(NodeId).for_each(|id| cluster.join(id));
        cluster.change_until_done(&members([1, 2, 3], [4, 5, 6]), 60_000);
        cluster.change_until_done(&members([4, 5, 6], []), 60_000);
        (1..=3).map(NodeId).for_each(|id| cluster.crash(id));
        cluster.weather = Weather::calm();
        let leader = cluster.settle();
        assert!(leader > NodeId(3));
        let last = cluster.put(leader, "without any of the old ones").index;
        cluster.wait_applied(last);
    }
}

#[test]
fn a_change_is_refused_while_another_is_under_way_and_a_duplicate_changes_nothing() {
    let mut core = leader_with_learners(3, &[4]);
    let target = members([1, 2, 4], []);
    assert_eq!(core.change_membership(members([1, 2, 3], [4])), Ok(None), "as it is already");
    assert_eq!(core.change_membership(target.clone()), Ok(Some(id(1, 3))));
    for second in [target.clone(), members([1, 2, 3], [])] {
        assert_eq!(core.change_membership(second), Err(ChangeError::Pending), "the first entry");
    }
    drain(&mut core);
    acknowledge(&mut core, &[2, 3, 4]);
    assert!(core.status().is_changing, "the second entry is appended and not committed");
    assert_eq!(core.change_membership(target.clone()), Err(ChangeError::Pending));
    acknowledge(&mut core, &[2, 4]);
    assert_eq!(core.change_membership(target), Ok(None));
}

#[test]
fn no_change_begins_before_an_entry_of_the_own_term_is_committed() {
    let mut core = restarted(1, entries(1, 1..=3));
    let term = elect(&mut core);
    drain(&mut core);
    let target = members([1, 2], []);
    for peer in [2, 3] {
        core.step(to_me(peer, term.0, accepted(3)));
        assert_eq!(
            core.change_membership(target.clone()),
            Err(ChangeError::TooEarly),
            "entries of old terms"
        );
    }
    core.step(to_me(2, term.0, accepted(4)));
    assert!(matches!(core.change_membership(target), Ok(Some(_))));
}

#[test]
fn members_named_twice_or_out_of_order_are_each_once_and_sorted() {
    let mut core = leader_with_learners(3, &[5, 4]);
    let (voters, learners) = ([3, 1, 3, 4, 2].map(NodeId).to_vec(), [5, 5].map(NodeId).to_vec());
    assert!(core.change_membership(Membership { voters, learners, ..members([], []) }).is_ok());
    let joint = Membership { outgoing: [1, 2, 3].map(NodeId).to_vec(), ..members(1..=4, [5]) };
    assert_eq!(core.membership(), &joint);
}

#[test]
fn commits_reads_and_the_check_of_the_quorum_need_both_majorities_and_no_learner() {
    let mut core = leader_with_learners(3, &[4, 5, 6]);
    core.change_membership(members([1, 4, 5], [6])).unwrap();
    drain(&mut core);
    let begun = core.status().last.index;
    core.read_index(7).unwrap();
    let round = core.ready();
    assert_eq!(round.messages.len(), 5, "everybody is asked");
    for (peer, enough) in [(6, false), (4, false), (5, false), (2, true)] {
        core.step(to_me(peer, 1, accepted(begun.0)));
        core.step(to_me(peer, 1, Body::HeartbeatReply { read_context: 1, stamp: Stamp::default() }));
        assert_eq!(core.status().commit_index >= begun, enough, "after {peer}");
        let confirmed = [ReadState { context: 7, outcome: ReadOutcome::Confirmed(Index(2)) }];
        let expected = if enough { &confirmed[..] } else { &[] };
        assert_eq!(core.ready().read_states, expected, "after {peer}");
    }
    for (answering, stays) in [(&[4, 5, 6][..], false), (&[2, 3, 6][..], false), (&[2, 5][..], true)] {
        let mut core = leader_with_learners(3, &[4, 5, 6]);
        core.change_membership(members([1, 4, 5], [6])).unwrap();
        for _ in 0..TIMEOUT {
            answering.iter().for_each(|peer| {
                core.step(to_me(*peer, 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }))
            });
            core.tick_election();
        }
        let now = core.status();
        let expected = if stays { RoleKind::Leader } else { RoleKind::Follower };
        assert_eq!(now.role, expected, "{answering:?}: {}", now.reason);
    }
}

#[test]
fn a_leader_outside_the_members_counts_neither_its_disk_nor_its_word() {
    let mut core = leader_with_learners(3, &[]);
    core.change_membership(members([2, 3], [])).unwrap();
    drain(&mut core);
    acknowledge(&mut core, &[2, 3]);
    assert_eq!(core.membership(), &members([2, 3], []), "the change is committed, its end is not");
    core.read_index(7).unwrap();
    drain(&mut core);
    core.step(to_me(2, 1, Body::HeartbeatReply { read_context: 1, stamp: Stamp::default() }));
    assert_eq!(core.status().reads_pending, 1, "one of two is no majority");
    acknowledge(&mut core, &[2]);
    assert_eq!(core.status().commit_index, Index(2), "nor is its acknowledgement");
    core.step(to_me(3, 1, Body::HeartbeatReply { read_context: 1, stamp: Stamp::default() }));
    assert_eq!(core.status().reads_pending, 0);
    for _ in 0..TIMEOUT {
        core.step(to_me(2, 1, Body::HeartbeatReply { read_context: 1, stamp: Stamp::default() }));
        core.tick_election();
    }
    assert_eq!(core.status().reason, Reason::QuorumLost);
}

#[test]
fn a_learner_votes_when_it_is_asked_and_never_asks() {
    let mut core = follower(vec![membership_entry(1, 1, members([2, 3], [1]))], 1);
    for _ in 0..10 * TIMEOUT {
        core.tick_election();
    }
    assert_eq!(drain(&mut core), [], "however long it hears nobody");
    core.step(to_me(3, 2, vote_request(id(1, 1))));
    let answer = Body::RequestVoteReply { pre_vote: false, granted: true };
    assert_eq!(drain(&mut core)[0].body, answer, "whoever asks knows that it is a voter");
    core.step(to_me(3, 2, Body::TimeoutNow));
    assert_eq!(core.status().role, RoleKind::Follower, "by its own log it cannot lead");
}

#[test]
fn a_node_that_joins_neither_campaigns_nor_ends_a_snapshot_before_it_knows_the_members() {
    let mut core = node_with(raft_core::Config::new(ME, []), Restored::default());
    for _ in 0..10 * TIMEOUT {
        core.tick_election();
    }
    assert!(!core.has_ready());
    core.step(to_me(2, 1, append(id(0, 0), entries(1, 1..=3), 3)));
    drain(&mut core);
    assert_eq!(core.status().applied_index, Index(3));
    assert_eq!(core.membership_at(Index(3)), None, "a snapshot that ended here would not say who takes part");
    core.step(to_me(3, 9, Body::TimeoutNow));
    assert_eq!(core.status().role, RoleKind::Follower);
    core.step(to_me(3, 9, append(id(1, 3), vec![membership_entry(2, 4, members([2, 3], [1]))], 4)));
    drain(&mut core);
    assert_eq!(core.membership_at(Index(4)), Some(&members([2, 3], [1])));
}

#[test]
fn a_membership_that_is_cut_off_was_never_in_effect_and_one_in_a_snapshot_stays() {
    let three = members([1, 2, 3], []);
    let four = members([1, 2, 3], [4]);
    let mut core = follower(vec![entry(1, 1), membership_entry(1, 2, four.clone())], 0);
    assert_eq!(core.membership(), &four, "from the append on");
    core.step(to_me(3, 2, append(id(1, 1), vec![entry(2, 2), entry(2, 3)], 2)));
    drain(&mut core);
    assert_eq!(core.membership(), &three);
    let meta = SnapshotMeta { last: id(2, 2), membership: three.clone() };
    core.step(to_me(3, 2, append(id(2, 3), vec![membership_entry(2, 4, four.clone())], 2)));
    drain(&mut core);
    assert_eq!(core.membership_at(Index(2)), Some(&three), "not what came later");
    assert!(core.compact(meta));
    assert_eq!(core.membership(), &four);
    core.step(to_me(2, 3, append(id(2, 3), vec![entry(3, 4)], 2)));
    assert_eq!(core.membership(), &three, "cut back to what the snapshot says");
}

#[test]
fn a_candidate_that_is_given_a_snapshot_asks_no_more_on_behalf_of_the_log_it_had() {
    let mut core = restarted(3, entries(3, 1..=9));
    time_out(&mut core);
    drain(&mut core);
    assert_eq!(core.status().role, RoleKind::PreCandidate);
    let meta = SnapshotMeta { last: id(4, 12), membership: members([1, 4, 5], []) };
    core.step(to_me(2, 4, Body::RequestVoteReply { pre_vote: true, granted: true }));
    assert_eq!(core.status().role, RoleKind::Candidate);
    assert_eq!(core.install_snapshot(meta), InstallVerdict::Installed);
    assert_eq!(core.status().reason, Reason::SnapshotInstalled);
    core.step(to_me(2, 4, Body::RequestVoteReply { pre_vote: false, granted: true }));
    assert_eq!(core.status().role, RoleKind::Follower, "the vote was for another log and other members");
}

#[test]
fn a_learner_that_took_long_but_has_everything_becomes_a_voter_though_nothing_is_written() {
    let mut core = leader_with_learners(1, &[]);
    core.change_membership(members([1], [2])).unwrap();
    drain(&mut core);
    for _ in 0..10 * TIMEOUT {
        core.step(to_me(2, 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        core.tick_election();
    }
    let refused = core.change_membership(members([1, 2], []));
    assert_eq!(refused, Err(ChangeError::NotCaughtUp { node: NodeId(2), missing: 2 }));
    acknowledge(&mut core, &[2]);
    assert!(matches!(core.change_membership(members([1, 2], [])), Ok(Some(_))));
}

#[test]
fn a_learner_whose_disk_stands_still_is_not_made_a_voter_though_it_answers() {
    let mut core = leader_with_learners(3, &[4]);
    core.propose(vec![bytes::Bytes::from_static(b"x")]).unwrap();
    drain(&mut core);
    acknowledge(&mut core, &[2, 3]);
    for _ in 0..=TIMEOUT {
        (2..=4).for_each(|peer| {
            core.step(to_me(peer, 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }))
        });
        core.tick_election();
    }
    let refused = core.change_membership(members([1, 2, 3, 4], []));
    assert_eq!(refused, Err(ChangeError::NotCaughtUp { node: NodeId(4), missing: 1 }));
}

#[test]
fn a_learner_catches_up_before_it_votes_and_one_out_of_reach_never_joins() {
    let mut cluster = Cluster::with_config(3, 5, |config| config.trailing_entries = 0);
    let leader = cluster.settle();
    for round in 0..20 {
        cluster.put(leader, &format!("{round}"));
        cluster.run(20);
    }
    assert!(cluster.nodes.get_mut(&leader).unwrap().snapshot());
    [4, 5].map(NodeId).into_iter().for_each(|id| cluster.join(id));
    cluster.isolate(NodeId(5));
    cluster.change_until_done(&members([1, 2, 3], [4, 5]), 1000);
    let refused = cluster.change(leader, members([1, 2, 3, 4], [5]));
    assert!(matches!(refused, Err(ChangeError::NotCaughtUp { node: NodeId(4), .. })), "{refused:?}");
    cluster.change_until_done(&members([1, 2, 3, 4], [5]), 5000);
    for _ in 0..20 {
        let refused = cluster.change(leader, members([1, 2, 3, 4, 5], []));
        assert!(matches!(refused, Err(ChangeError::NotCaughtUp { node: NodeId(5), .. })), "{refused:?}");
        cluster.run(100);
    }
    // The quorum is three of four, and nobody waits for the fifth.
    cluster.crash((1..=3).map(NodeId).find(|id| *id != leader).unwrap());
    let put = cluster.put(leader, "with three").index;
    assert!(cluster.run_until(1000, |cluster| cluster.status(leader).commit_index >= put));
    let peers = cluster.status(leader).peers;
    let lost = peers.iter().find(|peer| peer.node == NodeId(5)).unwrap();
    assert_eq!((lost.match_index, lost.progress, lost.active), (Index::ZERO, ProgressKind::Probe, false));
}

#[test]
fn a_removed_node_disturbs_nobody_and_finds_out() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.settle();
        let removed = (1..=3).map(NodeId).find(|id| *id != leader).unwrap();
        // Half of them hear of the beginning of the change, half were away all the time.
        if seed % 2 == 0 {
            cluster.isolate(removed);
        }
        let rest = (1..=3).filter(|id| NodeId(*id) != removed);
        cluster.change_until_done(&members(rest, []), 5000);
        cluster.heal();
        let before = cluster.status(leader);
        cluster.run(20 * TIMEOUT * TICK_MS);
        let after = cluster.status(leader);
        assert_eq!((after.role, after.term), (RoleKind::Leader, before.term), "seed {seed}");
        let told = cluster.status(removed);
        assert!(matches!(told.reason, Reason::Removed { .. }), "seed {seed}: {told:?}");
        assert!(told.term <= before.term, "it raised no term");
    }
}

#[test]
fn the_leader_is_removed_and_so_is_the_leader_of_two_and_another_leads_at_once() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        let mut rest = vec![1, 2, 3];
        while rest.len() > 1 {
            let leader = cluster.settle();
            let before = cluster.put(leader, "before").index;
            cluster.wait_applied(before);
            rest.retain(|id| NodeId(*id) != leader);
            assert!(matches!(cluster.change(leader, members(rest.clone(), [])), Ok(Some(_))));
            let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|now| now != leader);
            assert!(cluster.run_until(15 * TICK_MS, replaced), "long before a timeout");
            assert_eq!(cluster.status(leader).reason, Reason::NotAVoter, "seed {seed}");
        }
        let last = cluster.settle();
        let put = cluster.put(last, "alone").index;
        cluster.run(10);
        assert!(cluster.status(last).applied_index >= put);
        assert!(cluster.read(last));
        assert_eq!(cluster.status(last).reads_pending, 0);
    }
}

#[test]
fn who_was_told_of_its_removal_asks_again_only_much_later() {
    let mut core = restarted(1, vec![]);
    let mut asked = 0;
    for _ in 0..450 * TIMEOUT {
        core.tick_election();
        if core.status().role == RoleKind::PreCandidate {
            asked += 1;
            drain(&mut core);
            core.step(to_me(2, 1, Body::Removed));
            assert_eq!(core.status().reason, Reason::Removed { by: NodeId(2) });
        }
    }
    assert!((4..=9).contains(&asked), "once, and then every hundred timeouts: {asked}");
    core.step(to_me(2, 1, append(id(0, 0), vec![], 0)));
    drain(&mut core);
    time_out(&mut core);
    assert_eq!(core.status().role, RoleKind::PreCandidate, "who was taken in again is as any other");
}

#[test]
fn only_who_is_behind_what_is_committed_without_it_is_told_that_it_was_removed() {
    let removal = || vec![entry(1, 1), membership_entry(1, 2, members([1, 2], [])), entry(1, 3)];
    let pre_vote = |last| Body::RequestVote { pre_vote: true, transfer: false, last };
    let told = |commit: u64, last| {
        let mut core = follower(removal(), commit);
        core.step(to_me(3, 2, pre_vote(last)));
        is_told_of_removal(&mut core)
    };
    assert!(!told(1, id(1, 1)), "the removal may be rolled back");
    assert!(told(2, id(1, 1)) && told(2, id(1, 2)));
    assert!(!told(2, id(1, 3)), "its log may say that it was taken in again");
    assert!(told(2, id(0, 9)), "a longer log of an earlier term does not");

    let mut core = follower(removal(), 3);
    let again = membership_entry(1, 4, members([1, 2], [3]));
    core.step(to_me(2, 1, append(id(1, 3), vec![again], 3)));
    core.step(to_me(3, 2, pre_vote(id(1, 1))));
    assert!(!is_told_of_removal(&mut core), "it is being taken in again");
    let mut joining = node_with(raft_core::Config::new(ME, []), Restored::default());
    joining.step(to_me(3, 2, pre_vote(id(0, 0))));
    assert!(!is_told_of_removal(&mut joining), "who knows of no members knows of no strangers");
}

#[test]
fn a_leader_that_restarts_outside_the_members_asks_until_it_knows_that_they_are_committed() {
    let left = Membership { outgoing: vec![NodeId(1), NodeId(2)], ..members([2], []) };
    let log = |end: Membership| vec![membership_entry(1, 1, left.clone()), membership_entry(1, 2, end)];
    let hard_state = HardState { term: Term(1), vote: None };
    let start = |entries| node_with(config(2), Restored { hard_state, snapshot: None, entries });
    for end in [members([2], []), members([2], [1])] {
        let mut core = start(log(end.clone()));
        time_out(&mut core);
        assert_eq!(core.status().role, RoleKind::PreCandidate, "nobody else may have that entry");
        drain(&mut core);
        core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: true, granted: true }));
        drain(&mut core);
        assert_eq!(core.status().role, RoleKind::Candidate, "its own vote counts for nothing");
        core.step(to_me(2, 2, Body::RequestVoteReply { pre_vote: false, granted: true }));
        drain(&mut core);
        acknowledge(&mut core, &[2]);
        assert_eq!(core.status().reason, Reason::NotAVoter, "it makes room when it is committed");

        let mut core = start(log(end));
        core.step(to_me(2, 1, append(id(1, 2), vec![], 2)));
        drain(&mut core);
        for _ in 0..10 * TIMEOUT {
            core.tick_election();
        }
        assert_eq!(drain(&mut core), [], "it is committed");
    }
}
