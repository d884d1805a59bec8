//! How long to wait before trying again: exponential, capped, jittered.
//!
//! Pure: the randomness is an argument. It must never give a wait of nothing, or a clerk whose cluster is away would
//! spin and take the processor from the election it waits for.

use std::time::Duration;

use rand::{RngExt, rngs::ChaCha8Rng};

/// The wait before round `round` (from 0): between half and all of `min × 2^round`, and never above `max`.
///
/// Half is certain, so that rounds do grow; half is random, so that clients that failed together do not return together.
pub fn backoff(min: Duration, max: Duration, round: u32, rng: &mut ChaCha8Rng) -> Duration {
    debug_assert!(!min.is_zero(), "a back-off without length would spin");
    let ceiling = min.saturating_mul(1u32.checked_shl(round.min(20)).unwrap_or(u32::MAX)).min(max);
    let ceiling_ns = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    let half_ns = ceiling_ns / 2;
    Duration::from_nanos(half_ns + rng.random_range(0..=ceiling_ns - half_ns))
}

/// How long attempt number `silent` (attempts of the same operation that got no reply) may take: it doubles.
pub fn attempt_timeout(first: Duration, silent: u32, remaining: Duration) -> Duration {
    first.saturating_mul(1 << silent.min(10)).min(remaining)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_millis(100);

    #[test]
    fn a_backoff_grows_to_its_cap_and_is_never_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for round in 0..64 {
            let ceiling = if round < 7 { MIN * (1 << round) } else { MAX };
            for _ in 0..100 {
                let wait = backoff(MIN, MAX, round, &mut rng);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "round {round}: {wait:?}");
            }
        }
    }

    #[test]
    fn backoffs_of_two_clients_differ_and_those_of_one_seed_do_not() {
        let draw = |seed| -> Vec<Duration> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..8).map(|round| backoff(MIN, MAX, round, &mut rng)).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn an_attempt_gets_longer_with_silence_but_never_outlives_the_operation() {
        let first = Duration::from_millis(500);
        let remaining = Duration::from_millis(1800);
        assert_eq!(attempt_timeout(first, 0, remaining), Duration::from_millis(500));
        assert_eq!(attempt_timeout(first, 1, remaining), Duration::from_millis(1000));
        assert_eq!(attempt_timeout(first, 2, remaining), remaining);
        assert_eq!(attempt_timeout(first, 4_000_000, remaining), remaining);
    }
}
