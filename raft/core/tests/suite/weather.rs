//! How the virtual network and the virtual disks behave.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use raft_core::NodeId;

/// What happens to messages and writes; the seed decides to which.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Percent of messages that are lost.
    pub(crate) lost_percent: u32,
    /// Percent that come twice.
    pub(crate) doubled_percent: u32,
    /// Longest delay of a message; the shortest is 1 ms.
    pub(crate) delay_ms_max: u64,
    /// Percent of answers that come as late as [`LATE_MS`].
    pub(crate) late_answers_percent: u32,
    /// How long a write and its sync take at most.
    pub(crate) disk_ms_max: u64,
    /// What they always take on nodes whose disk is another.
    pub(crate) own_disk_ms: BTreeMap<NodeId, u64>,
    /// Between two heartbeats.
    pub(crate) heartbeat_ms: u64,
}

/// How late a late answer is, in milliseconds; longer than any election timeout.
pub(crate) const LATE_MS: RangeInclusive<u64> = 200..=2200;

impl Weather {
    pub(crate) fn calm() -> Weather {
        Weather {
            lost_percent: 0,
            doubled_percent: 0,
            delay_ms_max: 1,
            late_answers_percent: 0,
            disk_ms_max: 1,
            own_disk_ms: BTreeMap::new(),
            heartbeat_ms: 25,
        }
    }

    pub(crate) fn stormy() -> Weather {
        Weather {
            lost_percent: 15,
            doubled_percent: 15,
            delay_ms_max: 60,
            disk_ms_max: 30,
            ..Weather::calm()
        }
    }

    /// The courses' unreliable network: a tenth of the requests and of the answers is lost, the rest takes its time.
    pub(crate) fn unreliable() -> Weather {
        Weather { lost_percent: 10, delay_ms_max: 27, disk_ms_max: 5, ..Weather::calm() }
    }

    /// Their reordering one: of the answers that arrive, two thirds come after later ones.
    pub(crate) fn reordering() -> Weather {
        Weather { late_answers_percent: 67, ..Weather::unreliable() }
    }
}
