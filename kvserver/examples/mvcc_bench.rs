//! Reads and writes per second of the store against `RwLock<BTreeMap>`, for information: one thread, keys that
//! begin alike, 256-byte values, random order. Run with `cargo run --release -p kvserver --example mvcc_bench`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvserver::mvcc::{Store, Version};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 256;
const OPERATIONS: u64 = 1_000_000;
const HISTORY_ENTRIES: u64 = 1024;

fn key(number: u64) -> [u8; 17] {
    let mut key = *b"bench-00000000000";
    let mut rest = number;
    for digit in key[6..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// The same sequence of random keys for everybody.
fn random_keys() -> impl FnMut() -> [u8; 17] {
    let mut state = 88_172_645_463_325_252u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        key(state % KEYS)
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures; nothing is decided by the figures")]
fn timed(mut operation: impl FnMut()) -> Duration {
    let begun = Instant::now();
    for _ in 0..OPERATIONS {
        operation();
    }
    begun.elapsed()
}

fn line(out: &mut impl Write, name: &str, took: Duration) -> io::Result<()> {
    let each = took.as_nanos() as f64 / OPERATIONS as f64;
    writeln!(out, "{name:<28} {:>10.0}/s {each:>8.0} ns", 1e9 / each)
}

/// Memory of this process in bytes, as the kernel counts it.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let value = vec![7u8; VALUE_BYTES];
    let mut version = 0;
    let before = resident_bytes();
    let mut store = Store::new();
    let mut next = random_keys();
    // In random order, as clients would; then whatever chance left out.
    for number in (0..KEYS).map(|_| next()).chain((0..KEYS).map(key)) {
        if store.latest(&number).is_none() {
            version += 1;
            store.put(&number, &value, Version(version));
        }
    }
    let each = (resident_bytes() - before) as f64 / KEYS as f64;
    writeln!(out, "{KEYS} keys of 17 bytes, values of {VALUE_BYTES}: {each:.0} bytes of memory each")?;

    let shared = RwLock::new(store);
    let mut next = random_keys();
    let took = timed(|| {
        let store = shared.read().expect("nobody panicked");
        black_box(store.latest(&next()).map(|(value, _)| value.clone()));
    });
    line(&mut out, "skip list get", took)?;
    let took = timed(|| {
        version += 1;
        let mut store = shared.write().expect("nobody panicked");
        store.put(&next(), &value, Version(version));
        store.compact_before(Version(version.saturating_sub(HISTORY_ENTRIES)));
    });
    line(&mut out, "skip list put", took)?;
    let mut from = random_keys();
    let took = timed(|| {
        let store = shared.read().expect("nobody panicked");
        black_box(store.scan(&from(), None, Version(version), 10).count());
    });
    line(&mut out, "skip list scan of 10", took)?;

    let map: RwLock<BTreeMap<Bytes, Bytes>> = RwLock::new(BTreeMap::new());
    for number in 0..KEYS {
        let mut map = map.write().expect("nobody panicked");
        map.insert(Bytes::copy_from_slice(&key(number)), Bytes::copy_from_slice(&value));
    }
    let mut next = random_keys();
    let took = timed(|| {
        black_box(map.read().expect("nobody panicked").get(&next()[..]).cloned());
    });
    line(&mut out, "BTreeMap get", took)?;
    let took = timed(|| {
        let mut map = map.write().expect("nobody panicked");
        map.insert(Bytes::copy_from_slice(&next()), Bytes::copy_from_slice(&value));
    });
    line(&mut out, "BTreeMap put, one version", took)?;
    Ok(())
}
