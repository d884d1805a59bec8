//! How a change of the members goes on: when its second entry comes, and who may become a voter by it.

use bytes::Bytes;
use raft_core::{Body, ChangeError, NodeId, Stamp};

use crate::membership::{acknowledge, leader_with_learners, members};
use crate::rig::{accepted, config, drain, id, to_me};

#[test]
fn a_change_goes_on_when_its_first_entry_is_committed_and_not_with_one_before_it() {
    let mut core = leader_with_learners(3, &[4]);
    core.propose(vec![Bytes::from_static(b"x")]).expect("a leader takes it");
    assert_eq!(core.change_membership(members([1, 2, 4], [])), Ok(Some(id(1, 4))));
    drain(&mut core);
    core.step(to_me(2, 1, accepted(3)));
    drain(&mut core);
    let status = core.status();
    assert_eq!((status.commit_index.0, status.last), (3, id(1, 4)), "two of both sides have the command");
    core.step(to_me(2, 1, accepted(4)));
    drain(&mut core);
    let status = core.status();
    assert_eq!((status.commit_index.0, status.last), (4, id(1, 5)), "they have the change");
    acknowledge(&mut core, &[2]);
    assert!(!core.status().is_changing);
}

#[test]
fn a_learner_that_had_everything_and_fell_silent_is_not_made_a_voter() {
    let mut core = leader_with_learners(3, &[4]);
    for _ in 0..=config(3).election_ticks_max {
        (2..=3).for_each(|peer| {
            core.step(to_me(peer, 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }))
        });
        core.tick_election();
    }
    let refused = core.change_membership(members([1, 2, 3, 4], []));
    assert_eq!(refused, Err(ChangeError::NotCaughtUp { node: NodeId(4), missing: 0 }));
    core.step(to_me(4, 1, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    assert!(matches!(core.change_membership(members([1, 2, 3, 4], [])), Ok(Some(_))));
}
