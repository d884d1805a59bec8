//! Where a channel's server is, and when the next attempt to reach it may be made.
//!
//! A numeric address is parsed on the spot. A name is looked up by a thread of its own, because the system's resolver
//! blocks for as long as it likes; that thread lives for one look-up, at most one per channel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::mailbox::Command;
use super::world::World;
use crate::client::core::Core;
use crate::error::RpcError;
use crate::primitives::thread;

/// The server's address where it needs no look-up.
pub(crate) fn numeric_address(address: &str) -> Option<SocketAddr> {
    address.parse().ok()
}

/// Looks a name up, blocking.
///
/// # Errors
/// [`RpcError::Resolve`].
pub(crate) fn resolve(world: &World, address: &str) -> Result<Vec<SocketAddr>, RpcError> {
    if let Some(address) = numeric_address(address) {
        return Ok(vec![address]);
    }
    let failed = |cause: String| RpcError::Resolve { address: address.to_owned(), cause };
    let addresses = world.look_up(address).map_err(|error| failed(error.to_string()))?;
    if addresses.is_empty() { Err(failed("the name has no addresses".to_owned())) } else { Ok(addresses) }
}

/// Looks the channel's server up on a thread of its own, which posts the result.
pub(crate) fn resolve_aside(core: &Arc<Core>) -> std::io::Result<()> {
    let core = core.clone();
    let is_quick = matches!(core.reactor().world, World::Simulated(_));
    let look_up = move || {
        let reactor = core.reactor().clone();
        let resolved = resolve(&reactor.world, core.address());
        // A reactor that has stopped has answered the channel's calls already.
        let _ = reactor.post(Command::Resolved(core, resolved));
    };
    if is_quick {
        look_up();
        return Ok(());
    }
    thread::Builder::new().name("resolver".to_owned()).spawn(look_up).map(drop)
}

/// The pause after the `failures`-th failed attempt in a row: doubling from `min` to `max`, of which `random` decides
/// how much between a half and the whole is taken, so that clients of a restarted server do not come back in step.
pub(crate) fn backoff(failures: u32, (min, max): (Duration, Duration), random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let whole = min.saturating_mul(1 << doublings).min(max);
    let half = whole / 2;
    half + Duration::from_nanos(random % (half.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_maximum_and_varies() {
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(1));
        for (failures, whole_ms) in [(1, 10), (2, 20), (3, 40), (7, 640), (8, 1000), (100, 1000)] {
            let pauses: Vec<Duration> =
                (0..50).map(|_| backoff(failures, (min, max), World::System.random())).collect();
            let whole = Duration::from_millis(whole_ms);
            assert!(
                pauses.iter().all(|pause| *pause >= whole / 2 && *pause <= whole),
                "{failures}: {pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "no jitter");
        }
    }
}
