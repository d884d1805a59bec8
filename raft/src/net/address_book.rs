//! Who lives where: the map from a node's id to the address its peers reach it at.
//!
//! It begins with the configuration file. From the first change of the members on, their addresses stand in the log beside
//! them (the membership's context), and what is there counts. Clients are told a leader's address out of this book, so
//! it holds what is advertised, not what a node listens on. It also has the incarnations of data directories, as far as
//! the log knows them: a node that lost its disk is told from one that did not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use log::error;
use prost::Message as _;
use proto::raft_rpc::{Home as WireHome, Homes};
use raft_core::{Membership, NodeId};

use crate::membership_bytes::CONTEXT_BYTES_MAX;

/// Where one member lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The advertised `host:port`.
    pub address: Arc<str>,
    /// Of its data directory, where it is known.
    pub incarnation: Option<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    members: BTreeMap<NodeId, Home>,
    /// Whoever was a member while this node runs: it may ask, and be told that it is none any more.
    acquaintances: BTreeSet<NodeId>,
}

/// The advertised `host:port` of every member; one book, shared by all its clones.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    pages: Arc<RwLock<Pages>>,
}

impl AddressBook {
    /// A book with these members.
    pub fn new(members: impl IntoIterator<Item = (NodeId, String)>) -> AddressBook {
        let home = |address: String| Home { address: address.into(), incarnation: None };
        let members: BTreeMap<_, _> =
            members.into_iter().map(|(node, address)| (node, home(address))).collect();
        let acquaintances = members.keys().copied().collect();
        AddressBook { pages: Arc::new(RwLock::new(Pages { members, acquaintances })) }
    }

    fn pages(&self) -> RwLockReadGuard<'_, Pages> {
        // Whoever died while it wrote had not begun to: a page is replaced whole.
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The advertised address of `node`, or None for a stranger.
    pub fn address(&self, node: NodeId) -> Option<Arc<str>> {
        self.pages().members.get(&node).map(|home| Arc::clone(&home.address))
    }

    /// Every member and its address, in the order of ids.
    pub fn members(&self) -> Vec<(NodeId, Arc<str>)> {
        self.pages().members.iter().map(|(node, home)| (*node, Arc::clone(&home.address))).collect()
    }

    /// Every member and where it lives.
    pub fn homes(&self) -> BTreeMap<NodeId, Home> {
        self.pages().members.clone()
    }

    /// The incarnation of `node`'s data directory, if the log knows it.
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.pages().members.get(&node).and_then(|home| home.incarnation)
    }

    /// Whether `node` is or was a member.
    pub fn contains(&self, node: NodeId) -> bool {
        self.pages().acquaintances.contains(&node)
    }

    /// Takes over what a membership says of its members' homes. One of before the first change says nothing.
    pub fn follow(&self, membership: &Membership) {
        if membership.context.is_empty() {
            return;
        }
        match decode_homes(&membership.context) {
            Ok(members) => {
                let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
                pages.acquaintances.extend(members.keys());
                pages.members = members;
            }
            Err(why) => {
                error!("the members' addresses in the log cannot be read and are not followed: {why}")
            }
        }
    }
}

/// Where members live, for the context of a membership.
///
/// # Errors
/// When it would be longer than a context may be.
pub fn encode_homes(homes: &BTreeMap<NodeId, Home>) -> Result<Bytes, String> {
    let wire = homes.iter().map(|(node, home)| WireHome {
        node: node.0,
        address: home.address.to_string(),
        incarnation: home.incarnation.unwrap_or(0),
        has_incarnation: home.incarnation.is_some(),
    });
    let bytes = Homes { homes: wire.collect() }.encode_to_vec();
    match bytes.len() <= CONTEXT_BYTES_MAX {
        true => Ok(bytes.into()),
        false => Err(format!(
            "the addresses of all members take {} bytes; there may be {CONTEXT_BYTES_MAX}",
            bytes.len()
        )),
    }
}

fn decode_homes(context: &Bytes) -> Result<BTreeMap<NodeId, Home>, String> {
    let wire = Homes::decode(&context[..]).map_err(|error| error.to_string())?;
    let home = |home: WireHome| {
        let incarnation = home.has_incarnation.then_some(home.incarnation);
        (NodeId(home.node), Home { address: home.address.into(), incarnation })
    };
    Ok(wire.homes.into_iter().map(home).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_follows_the_log_and_remembers_who_left() {
        let book = AddressBook::new((0..2).map(|id| (NodeId(id), format!("host{id}:1"))));
        let shared = book.clone();
        book.follow(&Membership::new([NodeId(0)]));
        assert_eq!(book.members().len(), 2, "before the first change the file counts");
        let homes = BTreeMap::from([
            (NodeId(0), Home { address: "host0:1".into(), incarnation: None }),
            (NodeId(5), Home { address: "host5:9".into(), incarnation: Some(7) }),
        ]);
        let context = encode_homes(&homes).unwrap();
        book.follow(&Membership { context, ..Membership::new([NodeId(0), NodeId(5)]) });
        assert_eq!(shared.homes(), homes);
        assert_eq!(shared.address(NodeId(5)).as_deref(), Some("host5:9"));
        assert_eq!((shared.incarnation(NodeId(5)), shared.address(NodeId(1))), (Some(7), None));
        assert!(shared.contains(NodeId(1)), "it may still ask");
        book.follow(&Membership { context: Bytes::from_static(b"\xff"), ..Membership::new([NodeId(0)]) });
        assert_eq!(shared.homes(), homes, "nonsense is not followed");
    }

    #[test]
    fn addresses_that_are_too_long_for_the_log_are_refused() {
        let long = Home { address: "x".repeat(CONTEXT_BYTES_MAX).into(), incarnation: None };
        assert!(encode_homes(&BTreeMap::from([(NodeId(0), long)])).is_err());
    }
}
