//! Where clients are sent: the advertised address of a leader, ready to be put into a refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raft::core::NodeId;
use raft::net::AddressBook;

/// The members' addresses, as of the log.
#[derive(Debug)]
pub struct LeaderHints {
    own: NodeId,
    book: AddressBook,
    /// Which member a client was sent to last by a node that is none itself.
    turn: AtomicUsize,
}

impl LeaderHints {
    /// Hints of node `own` out of the address book.
    pub fn new(own: NodeId, book: AddressBook) -> LeaderHints {
        LeaderHints { own, book, turn: AtomicUsize::new(0) }
    }

    /// The address of `leader`, if there is one and it is a member. A node that was removed hears of no leader any more; it
    /// names the members in turn, so that a client which knows no other node finds them.
    pub fn address(&self, leader: Option<NodeId>) -> Option<Arc<str>> {
        if let Some(address) = leader.and_then(|leader| self.book.address(leader)) {
            return Some(address);
        }
        let members = self.book.members();
        let is_member = members.iter().any(|(node, _)| *node == self.own);
        if is_member || members.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        members.get(turn % members.len()).map(|(_, address)| Arc::clone(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> AddressBook {
        AddressBook::new([(NodeId(1), "a:1".into()), (NodeId(2), "b:1".into())])
    }

    #[test]
    fn a_member_names_the_leader_it_knows_and_one_that_was_removed_names_the_members_in_turn() {
        let member = LeaderHints::new(NodeId(1), book());
        assert_eq!(member.address(Some(NodeId(2))).as_deref(), Some("b:1"));
        assert_eq!(member.address(None), None);
        let removed = LeaderHints::new(NodeId(3), book());
        let named: Vec<_> = (0..3).map(|_| removed.address(None).unwrap()).collect();
        assert_eq!(named.iter().map(|address| &**address).collect::<Vec<_>>(), ["a:1", "b:1", "a:1"]);
    }
}
