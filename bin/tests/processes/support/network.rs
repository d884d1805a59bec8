//! What lies between the nodes of a cluster, as far as a test can cut it.

use std::process::Command;

/// A network of numbered nodes. What is cut passes nothing and tells nobody; clients reach all nodes whatever is cut here.
pub trait Network {
    fn nodes(&self) -> usize;

    /// Nothing passes from the one to the other; the other way is as it was.
    fn cut_way(&self, from: usize, to: usize);

    /// All ways are open again.
    fn mend(&self);

    /// The command that starts a node, where it has to be started in a way of its own.
    fn start_here(&self, _node: usize, command: Command) -> Command {
        command
    }

    fn cut(&self, one: usize, other: usize) {
        self.cut_way(one, other);
        self.cut_way(other, one);
    }

    /// Cuts a node off from all others, both ways.
    fn isolate(&self, node: usize) {
        (0..self.nodes()).filter(|other| *other != node).for_each(|other| self.cut(node, other));
    }
}
