//! Which node to ask: the one believed to lead, and where to turn when it does not.
//!
//! Pure: time is an argument. Nodes that kept silent or whose connection broke are avoided for a while, hints to them
//! included, since followers go on naming a dead leader until the next election. It must never let late answers of
//! an old leader turn the cache away from a newer one: only the current node's failure moves it.

use std::time::Duration;

use crate::config::NODES_MAX;

/// A node's place in the cache; never reused, never removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The cache now points at a node that is likelier to lead: at once.
    AtOnce,
    /// There is nothing better to do than to wait a little.
    AfterBackoff,
}

#[derive(Debug)]
struct Node {
    address: String,
    /// Until then the node is avoided.
    avoid_until: Duration,
    /// Until then others come first for what any node does.
    unfit_until: Duration,
}

/// The nodes and which of them is asked.
#[derive(Debug)]
pub struct LeaderCache {
    nodes: Vec<Node>,
    current: NodeIndex,
    /// How far the round through all nodes has come. Hints do not move it: two nodes, one of which names the other for
    /// ever, would keep the rest from being asked.
    round: NodeIndex,
}

impl LeaderCache {
    /// Starts with the first endpoint. There must be one; doubles are dropped.
    pub fn new(endpoints: &[String]) -> LeaderCache {
        assert!(!endpoints.is_empty(), "the border refuses an empty list of endpoints");
        let mut cache = LeaderCache { nodes: Vec::new(), current: NodeIndex(0), round: NodeIndex(0) };
        for endpoint in endpoints {
            cache.find_or_learn(endpoint);
        }
        cache
    }

    /// The node to ask.
    pub fn current(&self) -> NodeIndex {
        self.current
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a cache has at least one node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's `host:port`.
    pub fn address(&self, node: NodeIndex) -> &str {
        &self.nodes[node.0].address
    }

    /// All addresses, separated by commas, for people.
    pub fn addresses(&self) -> String {
        let all: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        all.join(",")
    }

    /// `node` did what only a leader does.
    pub fn confirmed(&mut self, node: NodeIndex) {
        let place = &mut self.nodes[node.0];
        (place.avoid_until, place.unfit_until) = Default::default();
        (self.current, self.round) = (node, node);
    }

    /// `node` says that it does not lead, and perhaps who does.
    pub fn refused(&mut self, node: NodeIndex, hint: Option<&str>, now: Duration) -> Next {
        self.nodes[node.0].avoid_until = Duration::ZERO;
        if node != self.current {
            return Next::AtOnce;
        }
        let hinted =
            hint.filter(|address| !address.is_empty()).and_then(|address| self.find_or_learn(address));
        match hinted {
            Some(leader) if leader != node && !self.is_avoided(leader, now) => {
                self.current = leader;
                Next::AtOnce
            }
            _ => {
                self.move_on(now);
                Next::AfterBackoff
            }
        }
    }

    /// `node` could not be reached or kept silent: it is avoided for `pause`.
    pub fn failed(&mut self, node: NodeIndex, pause: Duration, now: Duration) -> Next {
        self.nodes[node.0].avoid_until = now.saturating_add(pause);
        if node == self.current {
            self.move_on(now);
        }
        if self.is_avoided(self.current, now) { Next::AfterBackoff } else { Next::AtOnce }
    }

    /// `node` cannot do what any node does: others come first for `pause`. It may lead all the same, the next moment.
    pub fn unfit(&mut self, node: NodeIndex, pause: Duration, now: Duration) {
        self.nodes[node.0].unfit_until = now.saturating_add(pause);
    }

    /// A node for what any node does: each in its turn, those that are avoided or unfit left out if there are others.
    pub fn any(&self, turn: usize, now: Duration) -> NodeIndex {
        let count = self.nodes.len();
        let left_out_until = |node: &NodeIndex| {
            let Node { avoid_until, unfit_until, .. } = self.nodes[node.0];
            avoid_until.max(unfit_until)
        };
        // The first of those whose pause is over, or of those whose pause ends first.
        let round = (0..count).map(|step| NodeIndex((turn + step) % count));
        round.min_by_key(|node| left_out_until(node).max(now)).expect("there is a node")
    }

    fn is_avoided(&self, node: NodeIndex, now: Duration) -> bool {
        self.nodes[node.0].avoid_until > now
    }

    /// The next node in the round that is not avoided; if all are, the one whose pause ends first.
    fn move_on(&mut self, now: Duration) {
        let count = self.nodes.len();
        let round = (1..=count).map(|step| NodeIndex((self.round.0 + step) % count));
        let next = round.clone().find(|node| !self.is_avoided(*node, now));
        let next = next.or_else(|| round.min_by_key(|node| self.nodes[node.0].avoid_until));
        self.current = next.expect("the round ends where it began");
        self.round = self.current;
    }

    fn find_or_learn(&mut self, address: &str) -> Option<NodeIndex> {
        if let Some(place) = self.nodes.iter().position(|node| node.address == address) {
            return Some(NodeIndex(place));
        }
        if self.nodes.len() >= NODES_MAX {
            return None;
        }
        self.nodes.push(Node {
            address: address.to_string(),
            avoid_until: Duration::ZERO,
            unfit_until: Duration::ZERO,
        });
        Some(NodeIndex(self.nodes.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn three() -> LeaderCache {
        LeaderCache::new(&["a:1".to_string(), "b:2".to_string(), "c:3".to_string()])
    }

    #[test]
    fn a_hint_is_followed_at_once_and_a_stranger_is_learned() {
        let mut cache = three();
        assert_eq!(cache.refused(NodeIndex(0), Some("c:3"), ms(0)), Next::AtOnce);
        assert_eq!(cache.current(), NodeIndex(2));
        assert_eq!(cache.refused(NodeIndex(2), Some("d:4"), ms(1)), Next::AtOnce);
        assert_eq!(cache.address(cache.current()), "d:4");
        assert_eq!(cache.addresses(), "a:1,b:2,c:3,d:4");
    }

    #[test]
    fn without_a_hint_or_with_one_to_itself_the_next_node_comes_after_a_wait() {
        let mut cache = three();
        assert_eq!(cache.refused(NodeIndex(0), None, ms(0)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(1));
        assert_eq!(cache.refused(NodeIndex(1), Some("b:2"), ms(0)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(2));
    }

    #[test]
    fn a_hint_to_a_dead_leader_is_not_followed_until_its_pause_is_over() {
        let mut cache = three();
        assert_eq!(cache.failed(NodeIndex(0), PAUSE, ms(0)), Next::AtOnce);
        assert_eq!(cache.current(), NodeIndex(1));
        assert_eq!(cache.refused(NodeIndex(1), Some("a:1"), ms(1)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(2));
        assert_eq!(cache.refused(NodeIndex(2), Some("a:1"), ms(2)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(1), "the dead one is left out of the round");
        assert_eq!(cache.refused(NodeIndex(1), Some("a:1"), ms(101)), Next::AtOnce);
        assert_eq!(cache.current(), NodeIndex(0));
    }

    #[test]
    fn a_node_that_names_another_for_ever_keeps_nobody_from_being_asked() {
        let mut cache = three();
        assert_eq!(cache.refused(NodeIndex(0), Some("c:3"), ms(0)), Next::AtOnce);
        assert_eq!(cache.refused(NodeIndex(2), None, ms(0)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(1), "not the one that sent it there");
    }

    #[test]
    fn when_all_are_dead_the_one_tried_longest_ago_comes_after_a_wait() {
        let mut cache = three();
        assert_eq!(cache.failed(NodeIndex(0), PAUSE, ms(0)), Next::AtOnce);
        assert_eq!(cache.failed(NodeIndex(1), PAUSE, ms(1)), Next::AtOnce);
        assert_eq!(cache.failed(NodeIndex(2), PAUSE, ms(2)), Next::AfterBackoff);
        assert_eq!(cache.current(), NodeIndex(0));
    }

    #[test]
    fn a_late_refusal_of_the_old_leader_does_not_move_the_cache() {
        let mut cache = three();
        cache.confirmed(NodeIndex(2));
        assert_eq!(cache.refused(NodeIndex(0), Some("b:2"), ms(0)), Next::AtOnce);
        assert_eq!(cache.failed(NodeIndex(1), PAUSE, ms(0)), Next::AtOnce);
        assert_eq!(cache.current(), NodeIndex(2));
    }

    #[test]
    fn an_unfit_node_is_left_out_where_any_will_do_and_is_still_asked_where_it_is_named() {
        let mut cache = three();
        cache.unfit(NodeIndex(1), PAUSE, ms(0));
        let asked = |cache: &LeaderCache, now| (0..3).map(|turn| cache.any(turn, now).0).collect::<Vec<_>>();
        assert_eq!(asked(&cache, ms(99)), [0, 2, 2]);
        assert_eq!(asked(&cache, ms(100)), [0, 1, 2]);
        cache.unfit(NodeIndex(1), PAUSE, ms(100));
        assert_eq!(cache.refused(NodeIndex(0), Some("b:2"), ms(101)), Next::AtOnce);
        assert_eq!(cache.current(), NodeIndex(1));
        cache.failed(NodeIndex(0), PAUSE, ms(101));
        cache.unfit(NodeIndex(2), PAUSE, ms(102));
        assert_eq!(
            asked(&cache, ms(103)),
            [1, 1, 1],
            "of none that would do, the one whose pause ends first"
        );
    }

    #[test]
    fn hints_cannot_grow_the_table_without_bound() {
        let mut cache = three();
        for port in 0..10 * NODES_MAX {
            let current = cache.current();
            cache.refused(current, Some(&format!("x:{port}")), ms(0));
        }
        assert_eq!(cache.len(), NODES_MAX);
    }
}
