//! Lease reads: served without a round, and never stale: not after a pause, a transfer, a restart, another membership, nor
//! by clocks that go wrong as far as the allowance says.

use std::time::Duration;

use raft_core::{
    Body, Config, HardState, Membership, NodeId, RawNode, ReadOutcome, ReadState, Restored, RoleKind, Stamp,
    Term,
};
use rand::RngExt;

use crate::cluster::{Cluster, ReadWay, TICK_MS, Weather};
use crate::membership::{members, membership_entry};
use crate::rig::*;

/// Less than the thirty ticks for which votes are held back, by two ticks and a tenth for the clocks.
const LEASE: Duration = Duration::from_millis(252);

const WAYS: [ReadWay; 3] = [RawNode::read_index, RawNode::lease_read, RawNode::follower_read];

fn with_lease(config: &mut Config) {
    config.lease = Some(LEASE);
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn kept(round: u64) -> Body {
    Body::HeartbeatReply { read_context: round, stamp: Stamp { at: 0, keeps_lease: true } }
}

/// A leader of three at 1,000 ms whose lease begins there.
fn leader_with_lease() -> (RawNode, u64) {
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.time_is(ms(1_000));
    core.tick_heartbeat();
    drain(&mut core);
    core.step(to_me(2, term, kept(1)));
    assert!(core.status().has_lease);
    (core, term)
}

/// Whether a lease read is confirmed at once.
fn is_served(core: &mut RawNode) -> bool {
    core.lease_read(7).expect("it leads");
    let outcomes = core.ready().read_states;
    matches!(outcomes[..], [ReadState { context: 7, outcome: ReadOutcome::Confirmed(_) }])
}

#[test]
fn a_lease_read_takes_no_round_while_the_lease_lasts_and_a_round_afterwards() {
    let (mut core, term) = leader_with_lease();
    core.time_is(ms(1_251));
    assert!(is_served(&mut core));
    core.time_is(ms(1_252));
    core.lease_read(8).unwrap();
    let ready = core.ready();
    assert_eq!(ready.read_states, []);
    assert_eq!(ready.messages.len(), 2, "the round that it needs");
    core.step(to_me(3, term, kept(2)));
    assert_eq!(core.ready().read_states.len(), 1);
    core.time_is(ms(1_252 + 251));
    assert!(is_served(&mut core), "a round for a read renews it like a heartbeat's");
}

fn pause() {
    let (mut core, _) = leader_with_lease();
    core.tick_election();
    // It sleeps: not one tick is missed by the count of ticks.
    core.time_is(ms(5_000));
    assert!(!is_served(&mut core), "a pause ends the lease before any tick");
}

#[test]
fn a_lease_is_over_after_a_pause_though_no_tick_has_come() {
    pause();
}

fn late_answer() {
    let (mut core, term) = leader_with_lease();
    core.time_is(ms(1_025));
    core.tick_heartbeat();
    drain(&mut core);
    core.time_is(ms(1_225));
    core.step(to_me(2, term, kept(2)));
    core.time_is(ms(1_025 + 252));
    assert!(!is_served(&mut core), "the lease counts from when the round was sent");
}

#[test]
fn a_lease_counts_from_the_sending_of_its_round_however_late_the_answer() {
    late_answer();
}

fn transfer() {
    let (mut core, term) = leader_with_lease();
    core.transfer_leadership(NodeId(3)).expect("it leads");
    drain(&mut core);
    assert!(!is_served(&mut core), "who is told to take over may be elected at once");
    (0..50).for_each(|_| {
        core.step(to_me(2, term, kept(1)));
        core.tick_election();
    });
    assert_eq!(core.status().transfer_to, None, "it was given up");
    core.time_is(ms(2_000));
    core.tick_heartbeat();
    drain(&mut core);
    let round = core_round(&mut core);
    core.step(to_me(2, term, kept(round)));
    assert_eq!(core.ready().read_states.len(), 1, "the round that the read had needed");
    assert!(!is_served(&mut core), "its order may still be obeyed");
}

/// The newest round of a leader.
fn core_round(core: &mut RawNode) -> u64 {
    core.tick_heartbeat();
    let rounds = drain(core).into_iter().filter_map(|message| match message.body {
        Body::Heartbeat { read_context, .. } => Some(read_context),
        _ => None,
    });
    rounds.max().expect("it leads")
}

#[test]
fn a_transfer_ends_the_lease_for_the_rest_of_the_term_also_when_it_fails() {
    transfer();
}

fn restart() {
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, Restored::default());
    let asked = |core: &mut RawNode, pre_vote| {
        let body = Body::RequestVote { pre_vote, transfer: false, last: id(9, 9) };
        core.step(to_me(2, 5, body));
        drain(core).iter().any(|m| matches!(m.body, Body::RequestVoteReply { granted: true, .. }))
    };
    (0..29).for_each(|_| core.tick_election());
    assert!(!asked(&mut core, true) && !asked(&mut core, false), "it may have promised not to");
    assert_eq!(core.status().term, Term(0), "not even the term is taken over");
    core.tick_election();
    assert!(asked(&mut core, true) && asked(&mut core, false));
}

#[test]
fn a_restarted_node_gives_no_vote_for_the_shortest_election_timeout() {
    restart();
}

#[test]
fn a_restarted_node_that_is_the_only_voter_does_not_vote_for_itself_sooner() {
    // The leader that removes itself and all others but this one leads, and has a lease, until it hears that this one has
    // the entry; then it might have been stopped and started.
    let entries = vec![membership_entry(5, 1, members([1], []))];
    let hard_state = HardState { term: Term(5), vote: None };
    let restored = Restored { hard_state, snapshot: None, entries };
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, restored);
    (0..29).for_each(|_| core.tick_election());
    assert_eq!(core.status().term, Term(5), "it may have promised not to");
    core.tick_election();
    assert_eq!(core.status().role, RoleKind::Leader);
}

#[test]
fn without_leases_a_restarted_node_votes_at_once() {
    let mut core = node_with(config(3), Restored::default());
    core.step(to_me(2, 5, vote_request(id(9, 9))));
    assert!(drain(&mut core).iter().any(|m| matches!(m.body, Body::RequestVoteReply { granted: true, .. })));
}

#[test]
fn a_later_term_that_was_only_heard_of_does_not_free_the_vote() {
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, Restored::default());
    core.step(to_me(2, 6, append(id(0, 0), vec![], 0)));
    core.step(to_me(3, 7, Body::HeartbeatReply { read_context: 0, stamp: Stamp::default() }));
    drain(&mut core);
    assert_eq!(core.status().term, Term(7));
    core.step(to_me(3, 7, vote_request(id(9, 9))));
    let granted = drain(&mut core);
    assert!(granted.iter().all(|m| matches!(m.body, Body::RequestVoteReply { granted: false, .. })));
}

#[test]
fn a_leader_whose_process_is_said_to_be_gone_is_waited_for_all_the_same() {
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, Restored::default());
    core.step(to_me(2, 1, append(id(0, 0), vec![], 0)));
    drain(&mut core);
    core.peer_gone(NodeId(2));
    (0..29).for_each(|_| core.tick_election());
    assert_eq!((core.status().role, core.status().leader), (RoleKind::Follower, Some(NodeId(2))));
}

#[test]
fn answers_of_nodes_that_keep_no_leases_and_of_learners_give_none() {
    let mut core = node_with(Config { lease: Some(LEASE), ..config(3) }, Restored::default());
    let term = elect_and_commit(&mut core).0;
    core.time_is(ms(1_000));
    core.change_membership(members([1, 2, 3], [4])).unwrap();
    drain(&mut core);
    core.step(to_me(2, term, accepted(2)));
    let round = core_round(&mut core);
    core.step(to_me(4, term, kept(round)));
    core.step(to_me(2, term, Body::HeartbeatReply { read_context: round, stamp: Stamp::default() }));
    assert!(!core.status().has_lease);
    let next = core_round(&mut core);
    core.step(to_me(3, term, kept(next)));
    assert!(core.status().has_lease);
}

#[test]
fn another_membership_ends_the_lease_until_a_round_under_it_is_confirmed() {
    let (mut core, term) = leader_with_lease();
    core.change_membership(members([1, 2, 3], [4])).unwrap();
    assert!(!core.status().has_lease);
    drain(&mut core);
    let round = core_round(&mut core);
    core.step(to_me(3, term, kept(round)));
    assert!(core.status().has_lease);
}

#[test]
fn without_the_setting_or_a_clock_a_lease_read_is_a_read_with_a_round() {
    for (lease, clock) in [(None, Some(ms(1_000))), (Some(LEASE), None)] {
        let mut core = node_with(Config { lease, ..config(3) }, Restored::default());
        let term = elect_and_commit(&mut core).0;
        clock.into_iter().for_each(|clock| core.time_is(clock));
        let round = core_round(&mut core);
        core.step(to_me(2, term, kept(round)));
        assert!(!is_served(&mut core));
    }
}

#[test]
fn a_cut_off_leader_serves_by_its_lease_only_until_it_ends_and_before_another_is_elected() {
    for seed in 0..20 {
        let mut cluster = Cluster::with_config(3, seed, with_lease);
        let old = cluster.settle();
        cluster.run(200);
        cluster.isolate(old);
        let replaced = |cluster: &Cluster| cluster.leader().is_some_and(|leader| leader != old);
        let mut before = cluster.promises.reads_confirmed;
        while !replaced(&cluster) {
            cluster.read_by(old, RawNode::lease_read);
            cluster.run(1);
        }
        assert!(cluster.promises.reads_confirmed > before + 100, "it had a lease");
        cluster.put(cluster.leader().expect("just seen"), "what the old one does not know");
        cluster.run(50);
        before = cluster.promises.reads_confirmed;
        cluster.read_by(old, RawNode::lease_read);
        assert_eq!(cluster.promises.reads_confirmed, before, "the checks watch for stale ones");
    }
}

#[test]
fn a_leader_that_sleeps_past_its_reign_serves_nothing_by_its_lease_when_it_wakes() {
    for seed in 0..20 {
        let mut cluster = Cluster::with_config(3, seed, with_lease);
        let old = cluster.settle();
        cluster.run(100);
        cluster.put_to_sleep(old);
        assert!(cluster.run_until(5_000, |cluster| cluster.leader().is_some_and(|leader| leader != old)));
        let new = cluster.leader().expect("just seen");
        cluster.put(new, "what the sleeper does not know");
        cluster.run(50);
        let before = cluster.promises.reads_confirmed;
        cluster.wake(old);
        cluster.read_by(old, RawNode::lease_read);
        cluster.run(500);
        assert_eq!(cluster.promises.reads_confirmed, before);
    }
}

/// One run: reads of every kind at every node, under crashes, cuts, sleep, transfers and changes of the members, with clocks
/// that go as wrong as is allowed for. The checks see to it that no read is stale.
fn storm(seed: u64) {
    let size = [3, 3, 5, 4][(seed % 4) as usize];
    let mut cluster = Cluster::with_config(size, seed, with_lease);
    cluster.weather = Weather::stormy();
    cluster.weather.lost_percent = (seed % 3) as u32 * 4;
    cluster.weather.delay_ms_max = [3, 15, 60][(seed % 3) as usize];
    for round in 0..250 {
        let id = NodeId(cluster.rng.random_range(1..=size));
        let leader = cluster.leader();
        match cluster.rng.random_range(0..60) {
            0 if cluster.is_up(id) => cluster.crash(id),
            1..8 if !cluster.is_up(id) => cluster.start(id),
            8 => cluster.isolate(id),
            9 => leader.into_iter().for_each(|leader| cluster.isolate(leader)),
            10..14 => cluster.heal(),
            14 | 15 => leader.into_iter().for_each(|leader| cluster.put_to_sleep(leader)),
            16..24 => (1..=size).for_each(|id| cluster.wake(NodeId(id))),
            24 => {
                let _ = leader.map(|leader| cluster.hand_over(leader, id));
            }
            25 => leader.into_iter().for_each(|leader| change(&mut cluster, leader, size)),
            _ => {}
        }
        for id in (1..=size).map(NodeId) {
            if cluster.is_awake(id) {
                let _ = cluster.propose(id, vec![format!("{round} by {id}").into()]);
                for way in WAYS {
                    cluster.read_by(id, way);
                }
            }
        }
        let ms = cluster.rng.random_range(1..40);
        cluster.run(ms);
    }
    calm(&mut cluster, size);
}

/// All but one vote, or all.
fn change(cluster: &mut Cluster, leader: NodeId, size: u64) {
    let left_out = cluster.rng.random_range(0..=size);
    let (learners, voters): (Vec<u64>, Vec<u64>) = (1..=size).partition(|id| *id == left_out);
    // Refused while another is under way.
    let _ = cluster.change(leader, Membership::clone(&members(voters, learners)));
}

fn calm(cluster: &mut Cluster, size: u64) {
    cluster.heal();
    cluster.weather = Weather::calm();
    for id in (1..=size).map(NodeId) {
        cluster.wake(id);
        if !cluster.is_up(id) {
            cluster.start(id);
        }
    }
    cluster.settle();
    // A leader that is no member any more leaves when that is committed.
    cluster.run(200 * TICK_MS);
    let leader = cluster.settle();
    cluster.run(20 * TICK_MS);
    let before = cluster.promises.reads_confirmed;
    assert!((1..=size).all(|id| cluster.read_by(NodeId(id), RawNode::follower_read)));
    cluster.run(100);
    assert_eq!(cluster.promises.reads_confirmed, before + size, "every node serves");
    assert!(cluster.statuses().all(|status| status.reads_pending == 0));
    assert!(cluster.status(leader).transfer_to.is_none());
}

#[test]
fn no_read_of_any_kind_is_stale_in_any_of_a_hundred_and_sixty_storms() {
    for seed in 0..160 {
        storm(seed);
    }
}

#[cfg(feature = "planted_bugs")]
#[test]
fn the_mistakes_that_can_be_planted_in_leases_are_caught() {
    use raft_core::planted::plant;
    let cases: [(&str, fn()); 4] = [
        ("lease-kept-over-a-pause", pause),
        ("lease-counted-from-the-answer", late_answer),
        ("lease-kept-through-a-transfer", transfer),
        ("vote-granted-right-after-a-restart-under-lease", restart),
    ];
    for (name, case) in cases {
        plant(name);
        let caught = std::panic::catch_unwind(case).is_err();
        plant("");
        assert!(caught, "{name}");
    }
}
