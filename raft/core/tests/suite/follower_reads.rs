//! Reads that followers serve: what they must see comes from the leader, by a round, or they are refused.

use raft_core::{
    Body, Index, Limit, Message, NodeId, RawNode, ReadError, ReadOutcome, ReadState, Ready, Restored,
};

use crate::cluster::Cluster;
use crate::rig::*;

/// A follower of node 2 in term 3.
fn follower() -> RawNode {
    let mut core = restarted(3, vec![]);
    core.step(to_me(2, 3, append(id(0, 0), vec![], 0)));
    drain(&mut core);
    core
}

fn question(messages: &[Message]) -> Option<u64> {
    let numbers = messages.iter().filter_map(|message| match message.body {
        Body::ReadIndex { context } => Some(context),
        _ => None,
    });
    numbers.max()
}

fn reply(context: u64, index: u64) -> Body {
    Body::ReadIndexReply { context, read_index: Some(Index(index)) }
}

fn confirmed(context: u64, index: u64) -> ReadState {
    ReadState { context, outcome: ReadOutcome::Confirmed(Index(index)) }
}

fn refused(context: u64, leader: Option<u64>) -> ReadState {
    ReadState { context, outcome: ReadOutcome::Refused { leader: leader.map(NodeId) } }
}

#[test]
fn one_question_covers_all_reads_of_a_turn_and_later_ones_wait_for_the_next() {
    let mut core = follower();
    core.follower_read(1).unwrap();
    core.follower_read(2).unwrap();
    let asked = question(&drain(&mut core)).expect("the leader is asked");
    core.follower_read(3).unwrap();
    assert_eq!(question(&drain(&mut core)), None, "one question flies at a time");
    core.step(to_me(2, 3, reply(asked, 9)));
    let ready = core.ready();
    assert_eq!(ready.read_states, [confirmed(1, 9), confirmed(2, 9)]);
    let next = question(&ready.messages).expect("at once");
    core.step(to_me(2, 3, reply(asked, 9)));
    assert!(!core.has_ready(), "an answer that comes twice answers nothing new");
    core.step(to_me(2, 3, reply(next, 12)));
    assert_eq!(core.ready().read_states, [confirmed(3, 12)]);
}

/// One tick, after which the leader of term 3 is heard.
fn tick_and_hear(core: &mut RawNode) -> Ready {
    core.tick_election();
    core.step(to_me(2, 3, Body::Heartbeat { leader_commit: Index(0), read_context: 0, fresh: None }));
    core.ready()
}

#[test]
fn a_lost_question_is_repeated_and_in_the_end_its_reads_and_those_behind_it_are_refused() {
    let mut core = follower();
    core.follower_read(1).unwrap();
    let asked = question(&drain(&mut core));
    core.follower_read(2).unwrap();
    let mut repeated = 0;
    for tick in 1..=30 {
        let ready = tick_and_hear(&mut core);
        repeated += u64::from(question(&ready.messages) == asked && asked.is_some());
        let expected = if tick == 30 { vec![refused(1, Some(2)), refused(2, Some(2))] } else { vec![] };
        assert_eq!(ready.read_states, expected, "after {tick} ticks");
    }
    assert_eq!(repeated, 3);
}

#[test]
fn a_follower_that_hears_its_leader_and_is_not_heard_refuses_at_once_until_it_is_answered() {
    for read_index in [Some(Index(7)), None] {
        let mut core = follower();
        core.follower_read(1).unwrap();
        let asked = question(&drain(&mut core)).expect("the leader is asked");
        for tick in 1..=200 {
            let ready = tick_and_hear(&mut core);
            let repeated = question(&ready.messages);
            assert_eq!(repeated, (tick % 10 == 0).then_some(asked), "after {tick} ticks");
            if tick >= 30 {
                assert_eq!(core.follower_read(tick), Err(ReadError::NotLeader { leader: Some(NodeId(2)) }));
            }
        }
        core.step(to_me(2, 3, Body::ReadIndexReply { context: asked, read_index }));
        assert!(!core.has_ready(), "nobody waits for it any more");
        core.follower_read(300).unwrap();
        let next = question(&drain(&mut core)).expect("it is reached again");
        assert_ne!(next, asked);
        core.step(to_me(2, 3, reply(next, 9)));
        assert_eq!(core.ready().read_states, [confirmed(300, 9)]);
    }
}

#[test]
fn an_answer_to_a_question_of_an_earlier_life_answers_nothing() {
    let mut core = follower();
    core.follower_read(1).unwrap();
    let asked = question(&drain(&mut core)).expect("asked");
    let other_seed = rand::SeedableRng::seed_from_u64(99);
    let mut again = RawNode::new(config(3), Restored::default(), other_seed);
    again.step(to_me(2, 3, append(id(0, 0), vec![], 0)));
    drain(&mut again);
    again.follower_read(1).unwrap();
    assert_ne!(question(&drain(&mut again)), Some(asked));
    again.step(to_me(2, 3, reply(asked, 5)));
    assert!(!again.has_ready());
}

#[test]
fn reads_are_refused_when_the_leader_is_lost_or_replaced_or_refuses() {
    type Lose = fn(&mut RawNode);
    let lose: [(Lose, Option<u64>); 3] = [
        (|core| core.step(to_me(3, 4, append(id(0, 0), vec![], 0))), Some(3)),
        (|core| core.peer_gone(NodeId(2)), None),
        (|core| core.step(to_me(3, 9, Body::Removed)), None),
    ];
    for (lose, leader) in lose {
        let mut core = follower();
        core.follower_read(1).unwrap();
        drain(&mut core);
        core.follower_read(2).unwrap();
        lose(&mut core);
        let states = core.ready().read_states;
        assert_eq!(states, [refused(1, leader), refused(2, leader)]);
    }
    let mut core = follower();
    core.follower_read(1).unwrap();
    drain(&mut core);
    core.follower_read(2).unwrap();
    time_out(&mut core);
    assert_eq!(core.ready().read_states, [refused(1, Some(2)), refused(2, Some(2))], "just before");
    let mut core = follower();
    core.follower_read(1).unwrap();
    let context = question(&drain(&mut core)).expect("asked");
    core.step(to_me(2, 3, Body::ReadIndexReply { context, read_index: None }));
    assert_eq!(core.ready().read_states, [refused(1, Some(2))]);
}

#[test]
fn without_a_leader_or_room_a_read_is_not_taken_on() {
    let mut core = restarted(3, vec![]);
    assert_eq!(core.follower_read(1), Err(ReadError::NotLeader { leader: None }));
    let bounded = raft_core::Config { reads_pending_max: 2, ..config(3) };
    let mut core = node_with(bounded, Restored::default());
    core.step(to_me(2, 3, append(id(0, 0), vec![], 0)));
    core.follower_read(1).unwrap();
    drain(&mut core);
    core.follower_read(2).unwrap();
    assert_eq!(core.follower_read(3), Err(ReadError::Busy { limit: Limit::PendingReads }));
}

#[test]
fn a_leader_answers_followers_after_a_round_and_others_with_a_refusal() {
    let mut core = restarted(1, vec![]);
    let term = elect_and_commit(&mut core).0;
    core.step(to_me(2, term, Body::ReadIndex { context: 77 }));
    assert_eq!(answers(&drain(&mut core)), [], "first the round");
    core.step(to_me(3, term, Body::HeartbeatReply { read_context: 1, stamp: Default::default() }));
    assert_eq!(answers(&drain(&mut core)), [(2, 77, Some(Index(1)))]);
    core.step(to_me(9, term, Body::ReadIndex { context: 78 }));
    assert_eq!(answers(&drain(&mut core)), [(9, 78, None)], "a stranger would never get what is committed");
    core.step(to_me(2, term, Body::ReadIndex { context: 79 }));
    drain(&mut core);
    core.step(to_me(3, term + 1, append(id(0, 0), vec![], 0)));
    assert_eq!(answers(&drain(&mut core)), [(2, 79, None)], "it leads no more");
    core.step(to_me(2, term + 1, Body::ReadIndex { context: 80 }));
    core.step(to_me(2, term, Body::ReadIndex { context: 81 }));
    assert_eq!(answers(&drain(&mut core)), [(2, 80, None), (2, 81, None)], "a follower cannot say");
}

fn answers(messages: &[Message]) -> Vec<(u64, u64, Option<Index>)> {
    let answers = messages.iter().filter_map(|message| match message.body {
        Body::ReadIndexReply { context, read_index } => Some((message.to.0, context, read_index)),
        _ => None,
    });
    answers.collect()
}

fn cut_off_follower() {
    let mut cluster = Cluster::new(3, 5);
    let leader = cluster.settle();
    let follower = NodeId(leader.0 % 3 + 1);
    cluster.run(100);
    assert!(cluster.read_by(follower, RawNode::follower_read));
    cluster.run(50);
    assert_eq!(cluster.promises.reads_confirmed, 1);
    cluster.isolate(follower);
    cluster.put(leader, "what it does not know");
    cluster.run(50);
    cluster.read_by(follower, RawNode::follower_read);
    cluster.run(1_000);
    assert_eq!((cluster.promises.reads_confirmed, cluster.promises.reads_refused), (1, 1));
}

#[test]
fn a_follower_serves_what_is_confirmed_and_one_that_is_cut_off_refuses() {
    cut_off_follower();
}

#[cfg(feature = "planted_bugs")]
#[test]
fn a_follower_read_without_a_round_is_caught() {
    raft_core::planted::plant("follower-read-without-a-round");
    let caught = std::panic::catch_unwind(cut_off_follower).is_err();
    raft_core::planted::plant("");
    assert!(caught);
}
