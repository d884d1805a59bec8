//! What a node says about itself: why it called an election, and what keeps its followers.

use bytes::Bytes;
use raft_core::{
    Body, Entry, Index, Membership, NodeId, Payload, Reason, Restored, RoleKind, Status, WaitsFor,
};

use crate::rig::{
    accepted, append, config, drain, elect, elect_and_commit, entry, id, node_with, restarted, time_out,
    to_me,
};

#[test]
fn an_election_is_put_down_to_what_began_it_and_not_to_how_it_ended() {
    let mut core = restarted(1, vec![]);
    assert_eq!(core.status().election_reason, None, "it has called none yet");
    elect(&mut core);
    assert_eq!(core.status().election_reason, Some(Reason::TimedOut));
    assert_eq!(core.status().reason, Reason::ElectionWon);
}

#[test]
fn an_election_for_a_leader_that_is_gone_names_it_and_the_next_timeout_is_one_again() {
    let mut core = restarted(1, vec![]);
    core.step(to_me(2, 1, append(id(0, 0), vec![], 0)));
    core.peer_gone(NodeId(2));
    time_out(&mut core);
    let Status { role, reason, election_reason, .. } = core.status();
    let gone = Reason::LeaderGone { leader: NodeId(2) };
    assert_eq!((role, reason, election_reason), (RoleKind::PreCandidate, gone, Some(gone)));

    core.step(to_me(3, 2, append(id(0, 0), vec![], 0)));
    time_out(&mut core);
    assert_eq!(core.status().election_reason, Some(Reason::TimedOut));
}

#[test]
fn one_alone_says_that_there_is_nobody_else_to_ask() {
    let mut core = node_with(config(1), Restored::default());
    time_out(&mut core);
    drain(&mut core);
    assert_eq!(core.status().election_reason, Some(Reason::OnlyVoter));
}

fn waits(core: &raft_core::RawNode) -> Vec<WaitsFor> {
    core.status().peers.iter().map(|peer| peer.waits_for).collect()
}

#[test]
fn each_follower_is_said_to_wait_for_what_it_lacks() {
    let mut limited = config(3);
    limited.inflight_messages_max = 1;
    let mut core = node_with(limited, Restored::default());
    let term = elect(&mut core);
    drain(&mut core);
    assert_eq!(waits(&core), [WaitsFor::ProbeAnswer; 2], "where the logs meet is not known yet");

    let last = core.status().last.index.0;
    core.step(to_me(2, term.0, accepted(last)));
    assert_eq!(waits(&core), [WaitsFor::Nothing, WaitsFor::ProbeAnswer]);

    core.propose(vec![Bytes::from_static(b"x")]).unwrap();
    assert_eq!(waits(&core)[0], WaitsFor::Answers);
    drain(&mut core);
    assert_eq!(waits(&core)[0], WaitsFor::Window, "one message may fly and one does");
    core.step(to_me(2, term.0, accepted(last + 1)));
    assert_eq!(waits(&core)[0], WaitsFor::Nothing);
}

#[test]
fn a_follower_that_was_not_heard_for_an_election_timeout_is_waited_for() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core);
    for _ in 0..60 {
        let last = core.status().last.index.0;
        core.step(to_me(2, term.0, accepted(last)));
        core.tick_election();
    }
    assert_eq!(waits(&core), [WaitsFor::Nothing, WaitsFor::Contact]);
}

#[test]
fn who_may_not_campaign_names_no_leader_that_it_does_not_hear() {
    // The log that leader 2 sends makes node 1 a learner, or removes it.
    for learners in [vec![NodeId(1)], vec![]] {
        let members = Membership::new([NodeId(2), NodeId(3)]).with_learners(learners);
        let change = Entry { payload: Payload::Membership(Box::new(members)), ..entry(1, 1) };
        let mut core = restarted(1, vec![]);
        core.step(to_me(2, 1, append(id(0, 0), vec![change], 1)));
        drain(&mut core);
        let config = config(3);
        (1..config.election_ticks_min).for_each(|_| core.tick_election());
        assert_eq!(core.status().leader, Some(NodeId(2)), "it may be heard yet");
        (config.election_ticks_min..=config.election_ticks_max).for_each(|_| core.tick_election());
        assert_eq!((core.status().leader, core.status().role), (None, RoleKind::Follower));
        assert_eq!(drain(&mut core), [], "it asks for no votes");
        core.step(to_me(2, 1, Body::Heartbeat { leader_commit: Index(1), read_context: 0, fresh: None }));
        assert_eq!(core.status().leader, Some(NodeId(2)));
    }
}
