//! A membership as bytes: the same on the wire, in the log and in snapshot files.
//!
//! It is the protobuf message `Membership` of `raft_rpc.proto`. What comes from outside is checked, so that the core may
//! rely on its order and its bounds.

use prost::Message as _;
use proto::raft_rpc::Membership as Wire;
use raft_core::{LEARNERS_MAX, Membership, NodeId, VOTERS_MAX};
use thiserror::Error;

/// The most bytes of [`Membership::context`]: room for a long address of every member.
pub const CONTEXT_BYTES_MAX: usize = 16 * 1024;

/// More bytes than this no membership has; bounds the memory taken for a damaged one.
pub const MEMBERSHIP_BYTES_MAX: usize = CONTEXT_BYTES_MAX + 1024;

/// Why bytes are no membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the members cannot be read: {0}")]
pub struct MembershipError(&'static str);

fn numbers(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

/// `membership` as bytes.
pub fn encode(membership: &Membership) -> Vec<u8> {
    let wire = Wire {
        voters: numbers(&membership.voters),
        outgoing: numbers(&membership.outgoing),
        learners: numbers(&membership.learners),
        context: membership.context.clone(),
    };
    wire.encode_to_vec()
}

/// The membership in `bytes`.
///
/// # Errors
/// When they are none, or one that no leader makes.
pub fn decode(bytes: &[u8]) -> Result<Membership, MembershipError> {
    let wire = Wire::decode(bytes).map_err(|_| MembershipError("they are no protobuf message"))?;
    Ok(Membership {
        voters: nodes(&wire.voters, VOTERS_MAX)?,
        outgoing: nodes(&wire.outgoing, VOTERS_MAX)?,
        learners: nodes(&wire.learners, LEARNERS_MAX)?,
        context: match wire.context.len() <= CONTEXT_BYTES_MAX {
            true => wire.context,
            false => return Err(MembershipError("their addresses are too long")),
        },
    })
}

fn nodes(numbers: &[u64], count_max: usize) -> Result<Vec<NodeId>, MembershipError> {
    if numbers.len() > count_max {
        return Err(MembershipError("there are too many"));
    }
    if !numbers.is_sorted_by(|one, next| one < next) {
        return Err(MembershipError("they are not in order, each once"));
    }
    Ok(numbers.iter().map(|number| NodeId(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_membership_comes_back_as_it_was_and_nonsense_is_refused() {
        let nodes = |numbers: &[u64]| numbers.iter().map(|number| NodeId(*number)).collect::<Vec<_>>();
        let membership = Membership {
            voters: nodes(&[0, 1, u64::MAX]),
            outgoing: nodes(&[0, 2]),
            learners: nodes(&[7]),
            context: Bytes::from_static(b"where"),
        };
        assert_eq!(decode(&encode(&membership)), Ok(membership.clone()));
        assert_eq!(decode(&encode(&Membership::default())), Ok(Membership::default()));
        let too_many = (0..=VOTERS_MAX as u64).map(NodeId).collect();
        let refused = [
            Membership { voters: nodes(&[2, 1]), ..membership.clone() },
            Membership { learners: nodes(&[7, 7]), ..membership.clone() },
            Membership { outgoing: too_many, ..membership.clone() },
            Membership { context: Bytes::from(vec![0; CONTEXT_BYTES_MAX + 1]), ..membership },
        ];
        for nonsense in refused {
            assert!(decode(&encode(&nonsense)).is_err(), "{nonsense:?}");
        }
        assert!(decode(b"\xff\xff").is_err());
        let largest = Membership {
            voters: (0..VOTERS_MAX as u64).map(|node| NodeId(u64::MAX - node)).rev().collect(),
            outgoing: (0..VOTERS_MAX as u64).map(|node| NodeId(u64::MAX - node)).rev().collect(),
            learners: (0..LEARNERS_MAX as u64).map(|node| NodeId(u64::MAX - node)).rev().collect(),
            context: Bytes::from(vec![0; CONTEXT_BYTES_MAX]),
        };
        assert!(encode(&largest).len() <= MEMBERSHIP_BYTES_MAX);
    }
}
