//! What a get must see: one word for both ends of the `kv` service, which has two fields for it.

use std::time::Duration;

use crate::kv;

/// What a get must see: the cheaper, the less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Every write that had been answered, to anyone, when it began. The leader serves it, after a round of heartbeats.
    #[default]
    Linearizable,
    /// The same, without that round while the leader's lease holds, where the cluster has leases.
    Lease,
    /// The same, served by any node, which asks its leader what it must have applied.
    Follower,
    /// Whatever any node has applied.
    Stale {
        /// Every write that had been answered so long before a node got the get; a node that cannot prove that it has them
        /// refuses. On the wire in whole milliseconds, at least one. None: no such bound.
        max_age: Option<Duration>,
    },
}

impl Consistency {
    /// Whether any node may serve it.
    pub fn is_for_any_node(self) -> bool {
        matches!(self, Consistency::Follower | Consistency::Stale { .. })
    }

    /// What a [`kv::GetRequest`] says: its `consistency` and its `max_age_ms`.
    pub fn to_wire(self) -> (kv::Consistency, u64) {
        match self {
            Consistency::Linearizable => (kv::Consistency::Linearizable, 0),
            Consistency::Lease => (kv::Consistency::Lease, 0),
            Consistency::Follower => (kv::Consistency::Follower, 0),
            Consistency::Stale { max_age: None } => (kv::Consistency::Stale, 0),
            // Rounded up nothing would be promised that was asked for; a bound of nothing cannot be kept.
            Consistency::Stale { max_age: Some(max_age) } => {
                (kv::Consistency::Stale, u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX).max(1))
            }
        }
    }

    /// What these two fields say; none if that is unknown here.
    pub fn from_wire(consistency: i32, max_age_ms: u64) -> Option<Consistency> {
        Some(match kv::Consistency::try_from(consistency).ok()? {
            kv::Consistency::Linearizable => Consistency::Linearizable,
            kv::Consistency::Lease => Consistency::Lease,
            kv::Consistency::Follower => Consistency::Follower,
            kv::Consistency::Stale => {
                let max_age = Some(max_age_ms).filter(|ms| *ms != 0).map(Duration::from_millis);
                Consistency::Stale { max_age }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_get_must_see_survives_the_wire_in_whole_milliseconds() {
        let sent = |consistency: Consistency| {
            let (kind, max_age_ms) = consistency.to_wire();
            Consistency::from_wire(kind.into(), max_age_ms)
        };
        let stale = |max_age| Consistency::Stale { max_age };
        for whole in [
            Consistency::Linearizable,
            Consistency::Lease,
            Consistency::Follower,
            stale(None),
            stale(Some(Duration::from_millis(7))),
        ] {
            assert_eq!(sent(whole), Some(whole));
        }
        let one = stale(Some(Duration::from_millis(1)));
        assert_eq!(sent(stale(Some(Duration::from_micros(1_999)))), Some(one));
        assert_eq!(sent(stale(Some(Duration::ZERO))), Some(one), "no bound would be another wish");
        assert_eq!(Consistency::from_wire(99, 0), None);
    }
}
