//! Leadership transfer: to whom, when, and what becomes of it when it fails.

use bytes::Bytes;
use raft_core::{
    Body, ChangeError, Message, NodeId, ProposeError, RawNode, Reason, Restored, RoleKind, Stamp,
    TransferError,
};
use rand::RngExt;

use crate::cluster::{Cluster, TICK_MS, Weather};
use crate::membership::members;
use crate::rig::*;

/// The longest election timeout of the default settings, in ticks.
const TIMEOUT: u64 = 50;

fn other_than(leader: NodeId) -> NodeId {
    NodeId(leader.0 % 3 + 1)
}

fn told(messages: &[Message]) -> Vec<u64> {
    messages.iter().filter(|message| message.body == Body::TimeoutNow).map(|message| message.to.0).collect()
}

fn propose(core: &mut RawNode) -> Result<(), ProposeError> {
    core.propose(vec![Bytes::from_static(b"x")]).map(|_| ())
}

#[test]
fn a_node_that_has_everything_takes_over_within_a_few_messages() {
    let mut cluster = Cluster::new(3, 1);
    let old = cluster.settle();
    cluster.put(old, "before");
    cluster.run(50);
    let to = other_than(old);
    assert_eq!(cluster.hand_over(old, to), Ok(()));
    assert!(cluster.run_until(TICK_MS, |cluster| cluster.leader() == Some(to)), "no timeout is waited for");
    assert_eq!(cluster.status(to).election_reason, Some(Reason::Transferred { from: old }));
    let put = cluster.put(to, "after").index;
    cluster.wait_applied(put);
}

#[test]
fn a_slow_node_is_told_only_when_it_has_the_last_entry_and_meanwhile_nothing_is_taken_on() {
    let mut core = restarted(1, vec![]);
    elect_and_commit(&mut core);
    propose(&mut core).unwrap();
    propose(&mut core).unwrap();
    drain(&mut core);
    core.transfer_leadership(NodeId(3)).unwrap();
    assert_eq!(core.status().transfer_to, Some(NodeId(3)));
    assert_eq!(propose(&mut core), Err(ProposeError::Transferring { to: NodeId(3) }));
    let refused = core.change_membership(members([1, 2], []));
    assert_eq!(refused, Err(ChangeError::Transferring { to: NodeId(3) }));
    core.read_index(1).expect("reads go on");
    for (peer, last, orders) in [(2, 3, 0), (3, 2, 0), (3, 3, 1)] {
        let term = core.status().term.0;
        core.step(to_me(peer, term, accepted(last)));
        assert_eq!(told(&drain(&mut core)), vec![3; orders], "{peer} has {last}");
    }
    core.tick_heartbeat();
    assert_eq!(told(&drain(&mut core)), [3], "the order may have been lost");
}

#[test]
fn who_needs_a_snapshot_takes_over_when_it_has_it() {
    let mut cluster = Cluster::with_config(3, 4, |config| config.trailing_entries = 0);
    let old = cluster.settle();
    let to = other_than(old);
    cluster.isolate(to);
    cluster.put(old, "missed");
    // For as long as it may come back soon, the log is kept for it.
    cluster.run(2 * TIMEOUT * TICK_MS);
    assert!(cluster.nodes.get_mut(&old).unwrap().snapshot());
    cluster.heal();
    assert_eq!(cluster.hand_over(old, to), Ok(()));
    assert!(cluster.run_until(TIMEOUT * TICK_MS, |cluster| cluster.leader() == Some(to)));
    assert!(cluster.status(to).snapshot_index > raft_core::Index::ZERO);
}

#[test]
fn to_itself_nothing_is_done_and_a_stranger_or_a_learner_is_refused() {
    let mut core = restarted(1, vec![]);
    let leads = |leader| Err(TransferError::NotLeader { leader });
    assert_eq!(core.transfer_leadership(NodeId(2)), leads(None));
    elect_and_commit(&mut core);
    core.change_membership(members([1, 2, 3], [4])).unwrap();
    drain(&mut core);
    let refused = |node| Err(TransferError::NotAVoter { node: NodeId(node) });
    assert_eq!(core.transfer_leadership(NodeId(1)), Ok(()));
    assert_eq!(core.transfer_leadership(NodeId(4)), refused(4));
    assert_eq!(core.transfer_leadership(NodeId(9)), Err(TransferError::Stranger { node: NodeId(9) }));
    let last = core.status().last.index.0;
    for peer in [2, 3, 4] {
        core.step(to_me(peer, 2, accepted(last)));
    }
    drain(&mut core);
    core.change_membership(members([1, 2, 4], [])).unwrap();
    assert_eq!(core.transfer_leadership(NodeId(3)), refused(3), "it is leaving");
    assert_eq!((core.status().transfer_to, told(&drain(&mut core))), (None, vec![]));
}

#[test]
fn a_transfer_is_given_up_after_an_election_timeout_and_proposals_are_taken_again() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.transfer_leadership(NodeId(3)).unwrap();
    for tick in 1..=TIMEOUT {
        assert!(propose(&mut core).is_err(), "tick {tick}");
        core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        core.tick_election();
    }
    assert_eq!(propose(&mut core), Ok(()));
    let now = core.status();
    assert_eq!((now.role, now.transfer_to), (RoleKind::Leader, None));
    core.tick_heartbeat();
    assert_eq!(told(&drain(&mut core)), [3], "the order of the beginning and none since");
}

#[test]
fn a_second_transfer_replaces_the_first_and_has_a_timeout_of_its_own() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    propose(&mut core).unwrap();
    drain(&mut core);
    core.transfer_leadership(NodeId(2)).unwrap();
    for _ in 0..TIMEOUT - 1 {
        core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        core.tick_election();
    }
    core.transfer_leadership(NodeId(3)).unwrap();
    core.tick_election();
    assert_eq!(core.status().transfer_to, Some(NodeId(3)));
    let last = core.status().last.index.0;
    core.step(to_me(2, term, accepted(last)));
    assert_eq!(told(&drain(&mut core)), [], "nobody waits for node 2 any more");
    core.step(to_me(3, term, accepted(last)));
    assert_eq!(told(&drain(&mut core)), [3]);
}

#[test]
fn the_same_order_once_more_does_not_lengthen_a_transfer() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    for _ in 0..TIMEOUT {
        core.transfer_leadership(NodeId(3)).unwrap();
        core.step(to_me(2, term, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
        core.tick_election();
    }
    assert_eq!(core.status().transfer_to, None);
    assert_eq!(propose(&mut core), Ok(()));
}

#[test]
fn an_order_to_campaign_is_heeded_by_a_voter_that_follows_and_by_nobody_else() {
    let order = || to_me(2, 1, Body::TimeoutNow);
    let mut core = restarted(1, vec![]);
    core.step(order());
    assert_eq!((core.status().role, core.status().term.0), (RoleKind::Candidate, 2));
    let asked = drain(&mut core);
    let flagged =
        |message: &Message| matches!(message.body, Body::RequestVote { transfer: true, pre_vote: false, .. });
    assert!(asked.len() == 2 && asked.iter().all(flagged), "and says so");
    core.step(order());
    assert_eq!(core.status().term.0, 2, "of an earlier term, it is late or doubled");

    let mut core = restarted(1, vec![]);
    time_out(&mut core);
    core.step(order());
    assert_eq!(core.status().role, RoleKind::PreCandidate, "it comes again behind the leader's heartbeat");
    core.step(to_me(
        2,
        1,
        Body::Heartbeat { leader_commit: raft_core::Index(0), read_context: 0, fresh: None },
    ));
    core.step(order());
    assert_eq!(core.status().role, RoleKind::Candidate);

    let mut core = node_with(config(3), Restored::default());
    let term = elect_and_commit(&mut core);
    core.step(to_me(2, term.0, Body::TimeoutNow));
    assert_eq!((core.status().role, core.status().term), (RoleKind::Leader, term));
}

#[test]
fn a_change_goes_on_under_a_transfer_and_the_order_waits_for_its_end() {
    let mut core = node_with(config(3), Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.change_membership(members([1, 2], [])).unwrap();
    core.transfer_leadership(NodeId(2)).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, accepted(2)));
    assert_eq!(told(&drain(&mut core)), [], "the end of the change has just been appended");
    core.step(to_me(2, term, accepted(3)));
    assert_eq!(told(&drain(&mut core)), [2]);
    assert_eq!(core.membership(), &members([1, 2], []));
}

#[test]
fn an_order_that_comes_when_its_receiver_was_removed_deposes_nobody() {
    let mut core = node_with(config(3), Restored::default());
    let term = elect_and_commit(&mut core);
    core.change_membership(members([1, 2], [])).unwrap();
    drain(&mut core);
    for last in [2, 3] {
        core.step(to_me(2, term.0, accepted(last)));
        drain(&mut core);
    }
    let request = |transfer| Body::RequestVote { pre_vote: false, transfer, last: id(term.0, 1) };
    for transfer in [true, false] {
        core.step(to_me(3, term.0 + 1, request(transfer)));
        assert_eq!(drain(&mut core)[0].body, Body::Removed);
        assert_eq!((core.status().role, core.status().term), (RoleKind::Leader, term));
    }
    core.step(to_me(2, term.0 + 1, request(true)));
    assert_eq!(core.status().role, RoleKind::Follower, "from a member it is what the leader wanted");
}

#[test]
fn on_a_bad_network_leadership_moves_or_stays_and_writes_go_on() {
    for (seed, weather) in
        [Weather::unreliable(), Weather::reordering(), Weather::stormy()].iter().enumerate()
    {
        let mut cluster = Cluster::new(3, 70 + seed as u64);
        cluster.weather = weather.clone();
        let mut moved = 0;
        for round in 0..60 {
            cluster.run_until(20_000, |cluster| cluster.leader().is_some());
            let old = cluster.leader().expect("somebody leads");
            let _ = cluster.propose(old, vec![format!("{round}").into()]);
            let to = NodeId(cluster.rng.random_range(1..=3));
            assert_eq!(cluster.hand_over(old, to), Ok(()));
            cluster.read(old);
            // A second one replaces it now and then.
            if round % 5 == 0 {
                cluster.run(3);
                let _ = cluster.hand_over(old, other_than(to));
            }
            cluster.run(2 * TIMEOUT * TICK_MS);
            moved += usize::from(cluster.leader().is_some_and(|leader| leader != old));
        }
        assert!(moved >= 5, "{moved} of 60 moved in weather {seed}");
        cluster.weather = Weather::calm();
        let leader = cluster.settle();
        cluster.run(2 * TIMEOUT * TICK_MS);
        let put = cluster.put(leader, "in the end").index;
        cluster.wait_applied(put);
        cluster.check_log_matching();
    }
}

/// A leader of three whose other two answer as the ticks pass, and who is told to take over meanwhile, at which tick.
fn preferred(priorities: &[(u64, u32)], has: [u64; 2], ticks: u64) -> Vec<(u64, u64)> {
    let priorities = priorities.iter().map(|(id, priority)| (NodeId(*id), *priority)).collect();
    let mut core = node_with(raft_core::Config { priorities, ..config(3) }, Restored::default());
    let term = elect(&mut core).0;
    drain(&mut core);
    let mut told = Vec::new();
    for tick in 1..=ticks {
        for (peer, has) in [2, 3].into_iter().zip(has) {
            core.step(to_me(peer, term, accepted(has)));
        }
        core.tick_election();
        for message in drain(&mut core) {
            if message.body == Body::TimeoutNow {
                told.push((message.to.0, tick));
            }
        }
    }
    told
}

#[test]
fn a_voter_of_higher_priority_that_has_caught_up_is_told_to_lead_and_rarely() {
    assert_eq!(preferred(&[(3, 5)], [1, 1], 1_000), [(3, 500), (3, 1_000)]);
    assert_eq!(preferred(&[(2, 4), (3, 5)], [1, 1], 500), [(3, 500)], "the highest");
    assert_eq!(preferred(&[(2, 4), (3, 5)], [1, 0], 500), [(2, 500)], "of those that have caught up");
    assert_eq!(preferred(&[(1, 5), (3, 5)], [1, 1], 2_000), [], "not one of the same");
    assert_eq!(preferred(&[], [1, 1], 2_000), []);
}

#[test]
fn a_preferred_node_leads_in_the_end_and_stays() {
    let mut cluster = Cluster::with_config(3, 77, |config| config.priorities = vec![(NodeId(2), 1)]);
    assert!(cluster.run_until(30_000, |cluster| cluster.leader() == Some(NodeId(2))));
    let term = cluster.status(NodeId(2)).term;
    cluster.run(20_000);
    assert_eq!((cluster.leader(), cluster.status(NodeId(2)).term), (Some(NodeId(2)), term));
}
