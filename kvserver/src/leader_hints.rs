//! Where clients are sent: the advertised address of a leader, ready to be put into a refusal.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::core::NodeId;
use raft::net::AddressBook;

/// The members' addresses, shared so that a refusal copies none.
#[derive(Debug)]
pub struct LeaderHints {
    addresses: BTreeMap<NodeId, Arc<str>>,
}

impl LeaderHints {
    /// Hints out of the address book.
    pub fn new(book: &AddressBook) -> LeaderHints {
        LeaderHints { addresses: book.members().map(|(node, address)| (node, Arc::from(address))).collect() }
    }

    /// The address of `leader`, if there is one and it is a member.
    pub fn address(&self, leader: Option<NodeId>) -> Option<Arc<str>> {
        self.addresses.get(&leader?).cloned()
    }
}
