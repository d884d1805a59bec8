//! What a read must see, by name: the cheaper, the less.

use std::time::Duration;

/// What a read must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Every write that was acknowledged before it began; served by the leader, after a round of heartbeats.
    #[default]
    Linearizable,
    /// The same, without a round while the leader's lease holds. Where leases are off it is the above.
    Lease,
    /// The same, served by the node that is asked, which asks its leader what it must have applied.
    Follower,
    /// Whatever the node that is asked has applied.
    Stale {
        /// Every write that was acknowledged so long before it arrived, or a refusal; without: no promise.
        max_age: Option<Duration>,
    },
}
