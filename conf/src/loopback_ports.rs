//! Ports for nodes on this machine, below Linux' range of ephemeral ports (32768 and up): no outgoing connection sits on one
//! when its node wants to listen there.

use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Where they are looked for.
pub const PORTS: RangeInclusive<u16> = 10_000..=29_999;

/// How many ports are tried before the machine counts as full.
const PORT_TRIES_MAX: usize = 2_000;

/// So many ports of [`PORTS`] that nobody listens on. All are held until the last is found, which makes them distinct.
///
/// # Errors
/// Why the last one that was tried cannot be listened on, if too few can.
pub fn find(count: usize, rng: &mut ChaCha8Rng) -> io::Result<Vec<u16>> {
    let mut held: Vec<TcpListener> = Vec::new();
    let mut last_error = io::Error::other("none was tried");
    for _ in 0..PORT_TRIES_MAX {
        if held.len() == count {
            break;
        }
        match TcpListener::bind(("127.0.0.1", rng.random_range(PORTS))) {
            Ok(listener) => held.push(listener),
            Err(error) => last_error = error,
        }
    }
    if held.len() < count {
        return Err(last_error);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used, reason = "test code")]
    fn they_are_distinct_and_in_the_range() {
        let mut ports = find(7, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 7);
    }
}
