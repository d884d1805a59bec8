//! Who lives where: the map from a node's id to the address its peers reach it at.
//!
//! Raft's log says who is a member; where a member lives comes from the configuration file. Clients are told a
//! leader's address out of this book, so it holds what is advertised, not what a node listens on.

use std::collections::BTreeMap;

use raft_core::NodeId;

/// The advertised `host:port` of every member.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    addresses: BTreeMap<NodeId, String>,
}

impl AddressBook {
    /// A book with these members.
    pub fn new(members: impl IntoIterator<Item = (NodeId, String)>) -> AddressBook {
        AddressBook { addresses: members.into_iter().collect() }
    }

    /// The advertised address of `node`, or None for a stranger.
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.addresses.get(&node).map(String::as_str)
    }

    /// Every member and its address, in the order of ids.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.addresses.iter().map(|(node, address)| (*node, address.as_str()))
    }

    /// Whether `node` is listed.
    pub fn contains(&self, node: NodeId) -> bool {
        self.addresses.contains_key(&node)
    }
}
