//! What answers mean, one by one, and what comes of it when nodes ask each other.

use super::*;
use crate::net::{AddressBook, encode_homes};

/// The directory of a node that nobody knows, with this incarnation.
fn fresh(node: u64, incarnation: u64) -> Identity {
    Identity::new("c", NodeId(node), incarnation)
}

fn border(node: u64) -> Border {
    Border::new("c", NodeId(node), AddressBook::new((0..4).map(|id| (NodeId(id), format!("host{id}:1")))))
}

fn reply(fresh: bool, knows_sender: bool) -> ProbeReply {
    ProbeReply { incarnation: 1, fresh, knows_sender, ..ProbeReply::default() }
}

fn judge(joins: bool, replies: &[(u64, ProbeReply)]) -> Verdict {
    let mut newcomer = Newcomer::new(fresh(0, 7), joins);
    replies.iter().for_each(|(id, reply)| newcomer.hears(NodeId(*id), Ok(reply.clone())));
    newcomer.verdict(&[NodeId(1), NodeId(2)])
}

#[test]
fn a_new_cluster_begins_when_all_are_new_or_know_each_other() {
    let founder = Verdict::Admitted(fresh(0, 7).as_founder(vec![(NodeId(1), 1), (NodeId(2), 1)]));
    assert_eq!(judge(false, &[(1, reply(true, false)), (2, reply(true, false))]), founder);
    assert_eq!(judge(false, &[(1, reply(false, true)), (2, reply(true, false))]), founder);
}

#[test]
fn an_unseen_peer_is_waited_for() {
    assert_eq!(judge(false, &[(1, reply(true, false))]), Verdict::Waiting(NodeId(2)));
}

#[test]
fn a_refusal_is_told_before_a_silence() {
    let mut newcomer = Newcomer::new(fresh(0, 7), false);
    newcomer.hears(NodeId(2), Err("another cluster".to_owned()));
    let found = newcomer.verdict(&[NodeId(1), NodeId(2)]);
    assert_eq!(found, Verdict::Refused(NodeId(2), "another cluster".into()));
}

#[test]
fn who_joins_waits_until_a_log_has_it_and_stays_out_under_a_number_of_other_data() {
    assert_eq!(judge(true, &[]), Verdict::NotAdded);
    assert_eq!(judge(true, &[(1, reply(false, false)), (2, reply(true, false))]), Verdict::NotAdded);
    assert_eq!(
        judge(true, &[(1, reply(false, true))]),
        Verdict::NotAdded,
        "who began a cluster does not join it"
    );
    let added = ProbeReply { in_log: true, ..reply(false, true) };
    let joined = Verdict::Admitted(fresh(0, 7).as_joined());
    assert_eq!(judge(true, &[(1, added.clone()), (2, reply(false, false))]), joined);
    let other = ProbeReply { knows_another: true, ..reply(false, false) };
    let lost = Verdict::DiskLost(NodeId(2), fresh(0, 7).as_outcast());
    assert_eq!(judge(true, &[(1, added), (2, other)]), lost);
}

#[test]
fn a_peer_of_a_cluster_that_does_not_know_us_keeps_us_out() {
    assert_eq!(judge(false, &[(2, reply(false, false))]), Verdict::Unknown(NodeId(2)));
}

/// Every one of these asks every other, as often as it takes.
fn meet(newcomers: &mut [Newcomer]) -> Vec<Verdict> {
    let ids: Vec<NodeId> = newcomers.iter().map(|newcomer| newcomer.identity().node_id).collect();
    for _ in 0..2 {
        for asker in 0..newcomers.len() {
            let peers: Vec<NodeId> = ids.iter().copied().filter(|id| *id != ids[asker]).collect();
            for asked in (0..newcomers.len()).filter(|asked| *asked != asker) {
                let incarnation = newcomers[asker].identity().incarnation;
                let answer = newcomers[asked].answer(&border(ids[asked].0), ids[asker], incarnation);
                newcomers[asker].hears(ids[asked], Ok(answer));
            }
            if let Verdict::Admitted(identity) | Verdict::DiskLost(_, identity) =
                newcomers[asker].verdict(&peers)
            {
                newcomers[asker].recorded(identity);
            }
        }
    }
    let peers = |own: NodeId| ids.iter().copied().filter(|id| *id != own).collect::<Vec<_>>();
    newcomers.iter().map(|newcomer| newcomer.verdict(&peers(newcomer.identity().node_id))).collect()
}

fn founders() -> Vec<Newcomer> {
    let mut nodes: Vec<Newcomer> = (0..3).map(|id| Newcomer::new(fresh(id, 10 + id), false)).collect();
    meet(&mut nodes);
    assert!(nodes.iter().all(|node| node.identity().admitted && node.identity().peers.len() == 2));
    nodes
}

#[test]
fn founders_admit_each_other_and_none_that_comes_back_with_an_empty_disk() {
    let mut nodes = founders();
    nodes[1] = Newcomer::new(fresh(1, 99), false);
    assert_eq!(meet(&mut nodes)[1], Verdict::StaysOut);
    assert_eq!(nodes[1].identity(), &fresh(1, 99).as_outcast());
}

#[test]
fn founders_that_lose_their_disks_one_after_the_other_begin_no_second_cluster() {
    let mut nodes = founders();
    for id in 0..3 {
        nodes[id as usize] = Newcomer::new(fresh(id, 20 + id), false);
        meet(&mut nodes);
    }
    let verdicts = meet(&mut nodes);
    assert_eq!(verdicts[..2], [Verdict::StaysOut, Verdict::StaysOut]);
    assert!(matches!(verdicts[2], Verdict::Unknown(_)), "the others know of a cluster, and nobody knows it");
}

#[test]
fn a_founder_begins_beside_one_that_lost_its_disk_before_the_cluster_had_begun() {
    let mut nodes: Vec<Newcomer> = (0..3).map(|id| Newcomer::new(fresh(id, 10 + id), false)).collect();
    nodes[0].recorded(fresh(0, 10).as_founder(vec![(NodeId(1), 11), (NodeId(2), 12)]));
    nodes[2] = Newcomer::new(fresh(2, 99), false);
    meet(&mut nodes);
    assert!(nodes[1].identity().admitted && nodes[2].identity().stays_out);
}

#[test]
fn who_began_beside_an_outcast_takes_it_for_nobody() {
    let mut nodes: Vec<Newcomer> =
        [(0, 10), (2, 99), (1, 11)].map(|(id, made)| Newcomer::new(fresh(id, made), false)).into();
    nodes[0].recorded(fresh(0, 10).as_founder(vec![(NodeId(1), 11), (NodeId(2), 12)]));
    assert_eq!(meet(&mut nodes[..2])[1], Verdict::StaysOut);
    meet(&mut nodes);
    let (late, border) = (&nodes[2], border(1));
    assert!(late.identity().admitted);
    let homes = late.homes(&border, &Membership::new((0..3).map(NodeId)));
    let known: Vec<_> = homes.values().map(|home| home.incarnation).collect();
    assert_eq!(
        known,
        [Some(10), Some(11), None],
        "node 2 may come back with what it lost, and is no stranger"
    );
    assert!(late.answer(&border, NodeId(2), 77).knows_another, "a third directory is kept out");
}

#[test]
fn a_founder_is_known_by_its_first_directory_even_if_the_log_has_another() {
    let homes = [(NodeId(1), Home { address: "host1:1".into(), incarnation: Some(99) })].into();
    let context = encode_homes(&homes).unwrap();
    let border = border(0);
    border.members().follow(&Membership { context, ..Membership::new([NodeId(0)]) });
    let answer = founders()[0].answer(&border, NodeId(1), 99);
    assert!(answer.in_log && answer.knows_another);
}
