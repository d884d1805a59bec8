//! Nodes that cannot reach each other, in every shape: the cluster serves wherever a majority is together, and does not
//! change its leader over and over.

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

/// Operations that are to go well before a cluster counts as settled, and again before it is looked at.
const OPERATIONS: usize = 200;

fn operate(cluster: &Cluster) {
    let clerk = cluster.clerk();
    for number in 0..OPERATIONS {
        clerk.put("k", format!("{number}")).unwrap();
        assert_eq!(clerk.get("k").unwrap().as_deref(), Some(number.to_string().as_bytes()));
    }
}

/// The term of whoever leads, once operations have gone well for a while; after the same again it is this or the next.
fn settles(cluster: &Cluster, among: &[usize]) -> usize {
    operate(cluster);
    let leader = cluster.leader_among(among);
    let term = cluster.status(leader).unwrap().term;
    operate(cluster);
    let now = cluster.status(cluster.leader_among(among)).unwrap().term;
    assert!(now <= term + 1, "the leader changes over and over: term {term} became {now}");
    leader
}

#[test]
fn followers_that_cannot_reach_each_other_leave_it_at_one_leader() {
    let cluster = Cluster::start_on_network(3, "");
    let leader = cluster.leader();
    let others = cluster.others(leader);
    cluster.network().cut(others[0], others[1]);
    settles(&cluster, &[0, 1, 2]);
}

#[test]
fn a_leader_that_only_a_minority_sees_is_replaced_once() {
    let cluster = Cluster::start_on_network(5, "");
    let leader = cluster.leader();
    let others = cluster.others(leader);
    for other in &others[1..] {
        cluster.network().cut(leader, *other);
    }
    let next = settles(&cluster, &others);
    assert_ne!(next, leader);
}

#[test]
fn a_leader_that_hears_nobody_steps_down_and_one_that_nobody_hears_is_replaced() {
    for hears in [false, true] {
        let cluster = Cluster::start_on_network(3, "");
        let leader = cluster.leader();
        let others = cluster.others(leader);
        for other in &others {
            match hears {
                true => cluster.network().cut_way(leader, *other),
                false => cluster.network().cut_way(*other, leader),
            }
        }
        let next = settles(&cluster, &others);
        assert_ne!(next, leader);
        cluster.network().mend();
        until("all follow one again", LONG, || {
            let followed = |id| cluster.status(id).filter(|reply| reply.has_leader).map(|reply| reply.leader);
            followed(leader).is_some() && followed(leader) == followed(next)
        });
        settles(&cluster, &[0, 1, 2]);
    }
}
