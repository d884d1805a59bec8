//! A walk over a range of keys at one version: one instant, however long the walk takes.

use bytes::Bytes;

use super::Version;
use super::history::{Head, History};
use super::skip_list::SkipList;
use super::towers::HEAD;

/// Yields each key of the range that exists at the version, with its value and the version that wrote it.
/// Made by [`Store::scan`](super::Store::scan).
#[derive(Debug)]
pub struct Scan<'a> {
    list: &'a SkipList<Head>,
    history: &'a History,
    /// The next key's tower, or the head at the end.
    tower: u32,
    to: Option<&'a [u8]>,
    version: Version,
    left: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        list: &'a SkipList<Head>,
        history: &'a History,
        from: &[u8],
        to: Option<&'a [u8]>,
        version: Version,
        limit: usize,
    ) -> Scan<'a> {
        Scan { list, history, tower: list.first_from(from), to, version, left: limit }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = (&'a [u8], &'a Bytes, Version);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 && self.tower != HEAD {
            let node = self.list.node_of(self.tower);
            if self.to.is_some_and(|to| *node.key >= *to) {
                self.tower = HEAD;
                return None;
            }
            self.tower = self.list.next(self.tower);
            let Some(revision) = self.history.at(&node.content, self.version) else { continue };
            if let Some(value) = &revision.value {
                self.left -= 1;
                return Some((&node.key, value, revision.version));
            }
        }
        None
    }
}
