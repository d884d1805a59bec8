//! The ordered map from keys to what is kept of each: a skip list whose links say how far two neighbours agree.
//!
//! A search for `K` that stands on `A < K` knows `matched`, the number of bytes `A` and `K` share. A link from
//! `A` to `B` stores `shared`, the number `A` and `B` share, and a [`Window`] of `B` from there. Then
//! * `shared > matched`: `B` continues as `A` does where `K` already parted upwards, so `B < K`: a step;
//! * `shared < matched`: `B` parted upwards from `A` where `K` still agreed, so `B > K`: one level down;
//! * equal: the windows decide, and only if these are equal too must the keys be compared, from there on.
//!
//! So long common beginnings cost nothing, and a search touches hardly a key on its way.
//!
//! It must never leave a link whose `shared` or `window` is not that of its two neighbours: a search would go wrong
//! silently. `insert` and `remove` are the only writers of links, and the tests recompute every one.

use super::arena::Arena;
use super::towers::{HEAD, HEIGHT_MAX, Towers};
use super::window::{Window, shared_bytes};

/// Where the generator of tower heights begins. Heights decide speed only, so one good seed serves every list.
const HEIGHT_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A key and what is kept of it.
#[derive(Debug, Default)]
pub(super) struct Node<T> {
    /// Exactly sized: it must not pin the buffer it came in.
    pub(super) key: Box<[u8]>,
    /// What is kept of the key.
    pub(super) content: T,
}

/// Keys in byte order, each with a content.
#[derive(Debug)]
pub(super) struct SkipList<T> {
    towers: Towers,
    nodes: Arena<Node<T>>,
    /// Levels in use; searches begin at the highest.
    height: usize,
    random: u64,
}

/// The towers after which a key belongs, per level, and how many bytes it shares with each.
#[derive(Debug)]
struct Trail {
    towers: [u32; HEIGHT_MAX],
    matched: [u16; HEIGHT_MAX],
}

/// The end of a list that is filled in key order, where a key's place need not be searched for.
#[derive(Debug)]
pub(super) struct End {
    /// The last tower of every level, and how many bytes its key shares with the last key of all; with itself, all.
    trail: Trail,
}

impl End {
    /// The end of an empty list.
    pub(super) fn of_empty() -> End {
        End { trail: Trail { towers: [HEAD; HEIGHT_MAX], matched: [0; HEIGHT_MAX] } }
    }
}

impl<T: Default> SkipList<T> {
    /// An empty list.
    pub(super) fn new() -> SkipList<T> {
        SkipList { towers: Towers::new(), nodes: Arena::default(), height: 1, random: HEIGHT_SEED }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node at a number that this list gave out; a vacant default one if its key is gone since.
    pub(super) fn node(&self, node: u32) -> &Node<T> {
        self.nodes.at(node)
    }

    /// The content of a node, to change it.
    pub(super) fn content_mut(&mut self, node: u32) -> &mut T {
        &mut self.nodes.at_mut(node).content
    }

    /// The tower of the first key that is not smaller than `key`, or [`HEAD`] if there is none.
    pub(super) fn first_from(&self, key: &[u8]) -> u32 {
        let trail = self.trail(key);
        self.towers.link(trail.towers[0], 0).next
    }

    /// The tower of the smallest key, or [`HEAD`] if there is none.
    pub(super) fn first(&self) -> u32 {
        self.towers.link(HEAD, 0).next
    }

    /// The tower after `tower` in key order, or [`HEAD`] if it is the last.
    pub(super) fn next(&self, tower: u32) -> u32 {
        self.towers.link(tower, 0).next
    }

    /// The node of a tower.
    pub(super) fn node_of(&self, tower: u32) -> &Node<T> {
        self.nodes.at(self.towers.node(tower))
    }

    /// Adds a key that is not there yet, and returns its node.
    pub(super) fn insert(&mut self, key: Box<[u8]>, content: T) -> u32 {
        let trail = self.trail(&key);
        let (tower, _) = self.insert_after(&trail, key, content);
        self.towers.node(tower)
    }

    /// Adds a key behind all others, whose `end` this is, and returns its node.
    pub(super) fn push(&mut self, end: &mut End, key: Box<[u8]>, content: T) -> u32 {
        let trail = &mut end.trail;
        let last: &[u8] = if trail.towers[0] == HEAD { b"" } else { &self.node_of(trail.towers[0]).key };
        debug_assert!(trail.towers[0] == HEAD || *last < *key, "keys rise");
        let shared = matched_of(shared_bytes(last, &key));
        for matched in &mut trail.matched {
            // Of three keys in order, the outer two share what both pairs share.
            *matched = shared.min(*matched);
        }
        let (tower, height) = self.insert_after(trail, key, content);
        trail.towers[..height].fill(tower);
        trail.matched[..height].fill(u16::MAX);
        self.towers.node(tower)
    }

    /// Adds a key that belongs behind the towers of `trail`: its tower and how high that is.
    fn insert_after(&mut self, trail: &Trail, key: Box<[u8]>, content: T) -> (u32, usize) {
        let height = self.draw_height();
        self.height = self.height.max(height);
        let node = self.nodes.insert(Node { key, content });
        let tower = self.towers.insert(height, node);
        for level in 0..height {
            let before = trail.towers[level];
            let next = self.towers.link(before, level).next;
            self.connect(tower, level, next, None);
            self.connect(before, level, tower, Some(trail.matched[level]));
        }
        (tower, height)
    }

    /// Removes a key with its node.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<T> {
        let trail = self.trail(key);
        let tower = self.towers.link(trail.towers[0], 0).next;
        if tower == HEAD || *self.node_of(tower).key != *key {
            return None;
        }
        let mut height = 0;
        while height < self.height && self.towers.link(trail.towers[height], height).next == tower {
            let before = *self.towers.link(trail.towers[height], height);
            let after = *self.towers.link(tower, height);
            // Of three keys in order, the outer two share what both pairs share.
            let shared = before.shared.min(after.shared);
            self.connect(trail.towers[height], height, after.next, Some(shared));
            height += 1;
        }
        let node = self.towers.node(tower);
        self.towers.remove(tower, height);
        Some(self.nodes.remove(node).content)
    }

    /// Makes `from` lead to `next` at `level`. The keys share `shared` bytes if the caller knows it.
    fn connect(&mut self, from: u32, level: usize, next: u32, shared: Option<u16>) {
        let link = self.towers.link_mut(from, level);
        link.next = next;
        if next == HEAD {
            return;
        }
        let key = &self.nodes.at(self.towers.node(next)).key;
        let shared = shared.unwrap_or_else(|| {
            debug_assert_ne!(from, HEAD, "the head shares nothing, and says so");
            matched_of(shared_bytes(&self.node_of(from).key, key))
        });
        let window = Window::of(key, usize::from(shared));
        let link = self.towers.link_mut(from, level);
        link.shared = shared;
        link.window = window;
    }

    /// Whether the next tower's key is below `key`, and then how many bytes they share; see the module's text.
    fn next_below(
        &self,
        tower: u32,
        level: usize,
        key: &[u8],
        matched: usize,
        window: Window,
    ) -> Option<usize> {
        let link = self.towers.link(tower, level);
        let shared = usize::from(link.shared);
        if link.next == HEAD || shared < matched {
            return None;
        }
        if shared > matched {
            return Some(matched);
        }
        if link.window != window {
            return (link.window < window).then(|| matched + window.shared(link.window));
        }
        if window.sees_the_end() {
            return None;
        }
        let (next, key) = (&self.node_of(link.next).key[matched..], &key[matched..]);
        (next < key).then(|| matched + shared_bytes(next, key))
    }

    /// The last tower below `key` at every level. Levels not in use begin at the head.
    fn trail(&self, key: &[u8]) -> Trail {
        let mut trail = Trail { towers: [HEAD; HEIGHT_MAX], matched: [0; HEIGHT_MAX] };
        let (mut tower, mut matched, mut window) = (HEAD, 0, Window::of(key, 0));
        for level in (0..self.height).rev() {
            while let Some(now_matched) = self.next_below(tower, level, key, matched, window) {
                tower = self.towers.link(tower, level).next;
                if now_matched != matched {
                    matched = now_matched;
                    window = Window::of(key, matched);
                }
            }
            trail.towers[level] = tower;
            trail.matched[level] = matched_of(matched);
        }
        trail
    }

    /// One in four towers has a second level, one in sixteen a third, and so on (xorshift64).
    fn draw_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The high half: the low bits of this generator are its weaker ones.
        let zeros = (self.random >> 32 | 1 << 31).trailing_zeros() as usize;
        (1 + zeros / 2).min(HEIGHT_MAX)
    }
}

/// How many bytes two keys share, as links store it.
fn matched_of(shared: usize) -> u16 {
    u16::try_from(shared).expect("two keys of at most 65,536 bytes that differ share fewer")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Recomputes every link from the keys themselves.
    fn check(list: &SkipList<u32>, model: &BTreeMap<Vec<u8>, u32>) {
        for level in 0..HEIGHT_MAX {
            let (mut tower, mut before): (u32, &[u8]) = (HEAD, b"");
            loop {
                let link = list.towers.link(tower, level);
                if link.next == HEAD {
                    break;
                }
                assert!(level < list.height, "a level above the height is in use");
                let key = &list.node_of(link.next).key;
                assert!(tower == HEAD || before < &**key, "the order is broken");
                assert_eq!(usize::from(link.shared), shared_bytes(before, key));
                assert_eq!(link.window, Window::of(key, usize::from(link.shared)));
                (tower, before) = (link.next, key);
            }
        }
        let mut tower = list.first();
        for (key, content) in model {
            assert_eq!((&*list.node_of(tower).key, list.node_of(tower).content), (&key[..], *content));
            tower = list.next(tower);
        }
        assert_eq!(tower, HEAD);
        assert_eq!(list.len(), model.len());
    }

    fn find(list: &SkipList<u32>, key: &[u8]) -> Option<u32> {
        let tower = list.first_from(key);
        (tower != HEAD && *list.node_of(tower).key == *key).then(|| list.towers.node(tower))
    }

    /// Keys that agree for long, end in zeros, are each other's beginnings: drawn from few letters.
    fn key(random: &mut u64) -> Vec<u8> {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bits = *random >> 20;
        let length = bits % 12;
        bits >>= 4;
        let mut key = if bits & 1 == 1 { b"a common start".to_vec() } else { Vec::new() };
        for _ in 0..length {
            bits >>= 2;
            key.push([0, 1, 0xfe, 0xff][(bits & 3) as usize]);
        }
        key
    }

    #[test]
    fn it_keeps_what_a_btreemap_keeps_and_every_link_is_true() {
        let (mut list, mut model, mut random) = (SkipList::new(), BTreeMap::new(), 11);
        for round in 0..6000u32 {
            let key = key(&mut random);
            if round % 3 == 2 {
                assert_eq!(list.remove(&key), model.remove(&key));
            } else if let Some(node) = find(&list, &key) {
                assert_eq!(Some(&list.node(node).content), model.get(&key));
                assert_eq!(&*list.node(node).key, key);
            } else {
                assert_eq!(model.insert(key.clone(), round), None);
                list.insert(key.into(), round);
            }
            if round % 97 == 0 {
                check(&list, &model);
            }
        }
        for _ in 0..500 {
            let key = key(&mut random);
            let from = list.first_from(&key);
            let expected = model.range(key..).next().map(|(key, _)| key.clone());
            assert_eq!((from != HEAD).then(|| list.node_of(from).key.to_vec()), expected);
        }
        check(&list, &model);
    }

    #[test]
    fn a_list_filled_in_order_is_one_like_any_other() {
        let (mut model, mut random) = (BTreeMap::new(), 3);
        for content in 0..1_500u32 {
            model.insert(key(&mut random), content);
            // The longest keys there are, which differ in their last bytes.
            let mut long = vec![1; 65_534];
            long.extend((content as u16).to_le_bytes());
            model.extend((content < 5).then_some((long, content)));
        }
        let (mut list, mut end) = (SkipList::new(), End::of_empty());
        for (key, content) in &model {
            let node = list.push(&mut end, key.clone().into(), *content);
            assert_eq!(list.node(node).content, *content);
        }
        check(&list, &model);
        for _ in 0..2_000 {
            let key = key(&mut random);
            match model.remove(&key) {
                Some(content) => assert_eq!(list.remove(&key), Some(content)),
                None => drop((list.insert(key.clone().into(), 7), model.insert(key, 7))),
            }
        }
        check(&list, &model);
    }

    #[test]
    fn the_longest_keys_differ_in_their_last_byte() {
        let mut list = SkipList::new();
        let mut long = vec![7; 65_536];
        list.insert(long.clone().into(), 1u32);
        long[65_535] = 8;
        assert_eq!(find(&list, &long), None);
        let node = list.insert(long.clone().into(), 2);
        assert_eq!(find(&list, &long), Some(node));
        long.truncate(65_535);
        assert_eq!(find(&list, &long), None);
        list.insert(long.clone().into(), 3);
        let mut model = BTreeMap::from([(long.clone(), 3)]);
        long.push(7);
        model.insert(long.clone(), 1);
        long[65_535] = 8;
        model.insert(long, 2);
        check(&list, &model);
    }

    #[test]
    fn one_key_in_four_reaches_the_next_level() {
        let mut list: SkipList<u32> = SkipList::new();
        let mut heights = [0usize; HEIGHT_MAX + 1];
        for _ in 0..100_000 {
            heights[list.draw_height()] += 1;
        }
        let taller_than_one: usize = heights[2..].iter().sum();
        assert!((24_000..26_000).contains(&taller_than_one), "{heights:?}");
        assert!((5_500..7_000).contains(&heights[3..].iter().sum::<usize>()), "{heights:?}");
    }
}
