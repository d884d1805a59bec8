//! What the clients' gets must see: a seed draws how many of them are content with less than a linearizable one, or want
//! another node to serve it.
//!
//! Follower and lease reads stand in the history beside all others: they must be linearizable, too. What a stale read may
//! see is judged by `checks::staleness`.

use std::fmt;
use std::time::Duration;

use clerk::{Answer, ClerkError, Consistency, Operation, Refusal};

use crate::dice::Dice;

/// Bounds on the age of what a stale read sees, in milliseconds: some that can hardly be kept, and none.
const AGES_MS: [Option<u64>; 6] = [None, Some(10), Some(60), Some(150), Some(500), Some(3_000)];

/// How many gets in a thousand want which consistency; the others are linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Served by any node, after asking the leader.
    pub follower_permille: u64,
    /// Served by the leader, without a round while its lease holds.
    pub lease_permille: u64,
    /// Whatever any node has, mostly with a bound on its age.
    pub stale_permille: u64,
}

impl Reads {
    /// `has_leases`: whether any node keeps the rule of leases; else nobody asks for such reads.
    pub(crate) fn draw(dice: &mut Dice, has_leases: bool) -> Reads {
        Reads {
            follower_permille: dice.one(&[0, 150, 300, 500]),
            lease_permille: if has_leases { dice.one(&[200, 400]) } else { 0 },
            stale_permille: dice.one(&[0, 50, 100]),
        }
    }

    /// The operation with what it must see, if it is a get.
    pub(crate) fn draw_consistency(self, operation: Operation, dice: &mut Dice) -> Operation {
        let Operation::Get { key, .. } = operation else { return operation };
        let drawn = dice.between(0, 999);
        let [follower, lease, stale] = [self.follower_permille, self.lease_permille, self.stale_permille];
        let consistency = if drawn < follower {
            Consistency::Follower
        } else if drawn < follower + lease {
            Consistency::Lease
        } else if drawn < follower + lease + stale {
            Consistency::Stale { max_age: dice.one(&AGES_MS).map(Duration::from_millis) }
        } else {
            Consistency::Linearizable
        };
        Operation::Get { key, consistency }
    }
}

/// How many reads of which kind ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounters([u64; NAMES.len()]);

/// How they are called on the closing line.
const NAMES: [&str; 6] = [
    "linearizable-reads",
    "lease-reads",
    "follower-reads",
    "stale-reads",
    "stale-reads-in-time",
    "too-stale",
];

impl ReadCounters {
    /// An operation ended.
    pub(crate) fn count(&mut self, operation: &Operation, result: &Result<Answer, ClerkError>) {
        let Operation::Get { consistency, .. } = operation else { return };
        let place = match (result, consistency) {
            (Ok(_), Consistency::Linearizable) => 0,
            (Ok(_), Consistency::Lease) => 1,
            (Ok(_), Consistency::Follower) => 2,
            (Ok(_), Consistency::Stale { max_age: None }) => 3,
            (Ok(_), Consistency::Stale { max_age: Some(_) }) => 4,
            (Err(ClerkError::Refused { reason: Refusal::TooStale, .. }), _) => 5,
            (Err(_), _) => return,
        };
        self.0[place] += 1;
    }

    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: &ReadCounters) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// How many there were, by name.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0)
    }
}

impl fmt::Display for ReadCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by_name().try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}
