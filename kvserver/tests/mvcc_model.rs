//! The store against the most obvious one: a `BTreeMap` that keeps every version for ever.
//!
//! Random writes, floors, pins and their release, over keys chosen to hurt (empty, each other's beginnings, zeros and
//! 0xFF at the end). Every read that may be asked is compared, and what is held in memory is counted.

#![expect(clippy::print_stdout, reason = "a failed test prints its seed")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kvserver::mvcc::{KEY_BYTES_MAX, PINS_MAX, Pin, Store, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, u8),
    Delete(Vec<u8>),
    /// Entries that write nothing.
    Skip(u8),
    /// Raises the floor to this share (of 255) of the way to the newest version.
    Floor(u8),
    Pin,
    /// Drops one of the pins.
    Unpin(u8),
    Reclaim(u8),
}

const STARTS: &[&[u8]] = &[b"", b"", b"a common start ", b"\xff\xff\xff\xff\xff\xff\xff"];

fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = vec(select(&[0u8, 1, 0x7f, 0xff][..]), 0..4);
    (select(STARTS), tail).prop_map(|(start, tail)| [start, &tail].concat())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (key(), any::<u8>()).prop_map(|(key, length)| Step::Put(key, length)),
        6 => key().prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::Skip),
        4 => any::<u8>().prop_map(Step::Floor),
        1 => Just(Step::Pin),
        1 => any::<u8>().prop_map(Step::Unpin),
        1 => any::<u8>().prop_map(Step::Reclaim),
    ]
}

/// A key and, newest first, a version.
type Place = (Vec<u8>, Reverse<u64>);

/// Everything ever written.
#[derive(Default)]
struct Model {
    written: BTreeMap<Place, Option<Vec<u8>>>,
    last: u64,
    floor: u64,
}

impl Model {
    fn at(&self, key: &[u8], version: u64) -> Option<(Vec<u8>, u64)> {
        let from = (key.to_vec(), Reverse(version));
        let ((found, Reverse(version)), value) = self.written.range(from..).next()?;
        let value = value.as_ref().filter(|_| found == key)?;
        Some((value.clone(), *version))
    }

    fn keys(&self) -> BTreeSet<Vec<u8>> {
        self.written.keys().map(|(key, _)| key.clone()).collect()
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        version: u64,
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
        let in_range = |key: &Vec<u8>| from <= &key[..] && to.is_none_or(|to| &key[..] < to);
        let keys = self.keys().into_iter().filter(in_range);
        keys.filter_map(|key| self.at(&key, version).map(|(value, version)| (key, value, version)))
            .take(limit)
            .collect()
    }

    /// Versions of `key`, oldest first, each with the one that supersedes it.
    fn chain(&self, key: &[u8]) -> Vec<(u64, bool, Option<u64>, usize)> {
        let from = (key.to_vec(), Reverse(u64::MAX));
        let versions = self.written.range(from..).take_while(|((found, _), _)| found == key);
        let mut next = None;
        let mut chain = Vec::new();
        for ((_, Reverse(version)), value) in versions {
            chain.push((*version, value.is_some(), next, value.as_ref().map_or(0, Vec::len)));
            next = Some(*version);
        }
        chain.reverse();
        chain
    }

    /// How many versions readers at the floor or later may ask for, and the bytes of those that are superseded.
    fn needed(&self) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        for key in self.keys() {
            for (version, is_value, next, length) in self.chain(&key) {
                let is_superseded = next.is_some_and(|next| next <= self.floor);
                if !is_superseded && (is_value || version > self.floor) {
                    count += 1;
                    bytes += next.map_or(0, |_| length as u64);
                }
            }
        }
        (count, bytes)
    }
}

impl Model {
    /// Tombstones below the floor whose key was written again above it: they may stay until that is below it too.
    fn rewritten(&self) -> usize {
        let all = self.keys().into_iter().flat_map(|key| self.chain(&key));
        all.filter(|(version, is_value, next, _)| {
            !is_value && *version <= self.floor && next.is_some_and(|next| next > self.floor)
        })
        .count()
    }
}

fn compare(store: &Store, model: &Model, version: u64) {
    for key in model.keys() {
        let found = store.at(&key, Version(version)).map(|(value, version)| (value.to_vec(), version.0));
        assert_eq!(found, model.at(&key, version), "{key:?} at {version}");
    }
    let found: Vec<_> = store
        .scan(b"", None, Version(version), usize::MAX)
        .map(|(key, value, version)| (key.to_vec(), value.to_vec(), version.0))
        .collect();
    assert_eq!(found, model.scan(b"", None, version, usize::MAX), "at {version}");
}

fn run(steps: Vec<Step>) {
    let (mut store, mut model) = (Store::new(), Model::default());
    let mut pins: Vec<Pin> = Vec::new();
    for step in steps {
        match step {
            Step::Put(key, length) => {
                model.last += 1;
                let value = vec![model.last as u8; usize::from(length)];
                store.put(&key, &value, Version(model.last));
                model.written.insert((key, Reverse(model.last)), Some(value));
            }
            Step::Delete(key) => {
                model.last += 1;
                let exists = model.at(&key, model.last).is_some();
                assert_eq!(store.delete(&key, Version(model.last)), exists);
                if exists {
                    model.written.insert((key, Reverse(model.last)), None);
                }
            }
            Step::Skip(count) => model.last += u64::from(count % 4),
            Step::Floor(share) => {
                let way = model.last.saturating_sub(model.floor);
                model.floor += way * u64::from(share) / 255;
                store.compact_before(Version(model.floor));
                assert_eq!(store.floor(), Version(model.floor));
            }
            Step::Pin if pins.len() == PINS_MAX => assert!(store.pin(Version(model.last)).is_err()),
            Step::Pin => pins.push(store.pin(Version(model.last)).expect("there is room")),
            Step::Unpin(which) if !pins.is_empty() => drop(pins.remove(usize::from(which) % pins.len())),
            Step::Unpin(_) => {}
            Step::Reclaim(lines) => drop(store.reclaim(usize::from(lines))),
        }
        for key in model.keys() {
            let found = store.latest(&key).map(|(value, version)| (value.to_vec(), version.0));
            assert_eq!(found, model.at(&key, model.last));
        }
        assert_eq!(store.superseded_bytes(), model.needed().1, "pins must not change what is counted");
    }
    for version in model.floor..=model.last + 1 {
        compare(&store, &model, version);
    }
    for pin in &pins {
        assert!(store.knows(pin));
        for version in pin.floor().0..=pin.version().0 {
            compare(&store, &model, version);
        }
    }
    pins.clear();
    while store.reclaim(3) {}
    let held = store.revisions_held();
    let needed = model.needed().0;
    assert!((needed..=needed + model.rewritten()).contains(&held), "{held} held, {needed} needed");
    model.floor = model.last + 1;
    store.compact_before(Version(model.floor));
    let alive = model.scan(b"", None, model.last, usize::MAX).len();
    assert_eq!((store.keys(), store.revisions_held()), (alive, alive));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(2026), ..ProptestConfig::default() })]

    #[test]
    fn every_read_is_what_a_map_of_all_versions_says(steps in vec(step(), 1..120)) {
        run(steps);
    }

    #[test]
    fn every_range_and_limit_is_kept(
        steps in vec((key(), any::<bool>()), 1..60),
        ranges in vec((key(), proptest::option::of(key()), 0..8usize, any::<u8>()), 20),
    ) {
        let (mut store, mut model) = (Store::new(), Model::default());
        for (key, is_put) in steps {
            model.last += 1;
            if is_put {
                store.put(&key, &[1], Version(model.last));
                model.written.insert((key, Reverse(model.last)), Some(vec![1]));
            } else if store.delete(&key, Version(model.last)) {
                model.written.insert((key, Reverse(model.last)), None);
            }
        }
        for (from, to, limit, version) in ranges {
            let version = u64::from(version) % (model.last + 1);
            let found: Vec<_> = store
                .scan(&from, to.as_deref(), Version(version), limit)
                .map(|(key, value, version)| (key.to_vec(), value.to_vec(), version.0))
                .collect();
            prop_assert_eq!(found, model.scan(&from, to.as_deref(), version, limit));
        }
    }
}

/// Keys of one nasty family, numbered.
fn family_key(family: u64, number: u64) -> Vec<u8> {
    let number_bytes = number.to_be_bytes();
    match family {
        0 => number_bytes.to_vec(),
        1 => (u64::MAX - number).to_be_bytes().to_vec(),
        // Every new key falls between two that are there already.
        2 => number.reverse_bits().to_be_bytes().to_vec(),
        // Each is the beginning of the next.
        3 => vec![0; number as usize % 700],
        4 => vec![0xff; number as usize % 700],
        // They agree for as long as keys may, and differ in the last bytes.
        5 => [&vec![b'p'; KEY_BYTES_MAX - 2][..], &number_bytes[6..]].concat(),
        // They differ in the first byte and agree from there on.
        6 => [&number_bytes[7..], &[b's'; 300][..]].concat(),
        _ => number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec(),
    }
}

/// A family's keys in the order of their numbers, then again at random: written, deleted, read in ranges, compacted.
fn run_family(family: u64, seed: u64, keys: u64, steps: u64) {
    println!("family {family}, seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut store, mut model) = (Store::new(), Model::default());
    for step in 0..steps {
        let number = if step < keys { step } else { random.random_range(0..keys) };
        let key = family_key(family, number);
        model.last += 1;
        if step < keys || random.random_range(0..3) > 0 {
            let value = step.to_le_bytes();
            store.put(&key, &value, Version(model.last));
            model.written.insert((key, Reverse(model.last)), Some(value.to_vec()));
        } else {
            let exists = model.at(&key, model.last).is_some();
            assert_eq!(store.delete(&key, Version(model.last)), exists);
            if exists {
                model.written.insert((key, Reverse(model.last)), None);
            }
        }
        if random.random_range(0..20) == 0 {
            model.floor = random.random_range(model.floor..=model.last);
            store.compact_before(Version(model.floor));
        }
        if step % (steps / 12) == 0 {
            let version = random.random_range(model.floor..=model.last);
            let mut ends = [(); 2].map(|()| family_key(family, random.random_range(0..keys)));
            ends.sort();
            let found = store.scan(&ends[0], Some(&ends[1]), Version(version), 500);
            let found: Vec<_> = found.map(|(key, value, at)| (key.to_vec(), value.to_vec(), at.0)).collect();
            assert!(found == model.scan(&ends[0], Some(&ends[1]), version, 500), "at step {step}");
        }
    }
    for version in [model.floor, model.floor.midpoint(model.last), model.last] {
        compare(&store, &model, version);
    }
    store.compact_before(Version(model.last + 1));
    while store.reclaim(1_000) {}
    let alive = model.scan(b"", None, model.last, usize::MAX).len();
    assert_eq!((store.keys(), store.revisions_held()), (alive, alive));
}

#[test]
fn keys_chosen_to_hurt_are_kept_as_a_map_keeps_them() {
    for family in [0, 1, 2, 6, 7] {
        run_family(family, 100 + family, 3_000, 9_000);
    }
    for family in [3, 4] {
        run_family(family, 100 + family, 700, 3_000);
    }
    run_family(5, 105, 60, 600);
}

#[test]
fn a_hot_key_under_a_long_pin_keeps_what_the_pin_needs_and_no_more() {
    let mut store = Store::new();
    store.put(b"hot", b"0", Version(1));
    let pin = store.pin(Version(1)).unwrap();
    for version in 2..=50_000u64 {
        store.put(b"hot", &version.to_le_bytes(), Version(version));
        store.compact_before(Version(version.saturating_sub(100)));
        assert!(store.revisions_held() <= 102, "at version {version}");
    }
    assert_eq!(store.at(b"hot", Version(1)).unwrap().0, "0");
    drop(pin);
    store.compact_before(Version(50_000));
    assert_eq!(store.revisions_held(), 1);
}

#[test]
fn a_value_does_not_pin_the_buffer_it_came_in() {
    let mut store = Store::new();
    let buffer = bytes::Bytes::from(vec![7; 4096]);
    store.put(&buffer[..10], &buffer.slice(10..20), Version(1));
    assert!(buffer.is_unique(), "the store shares the receive buffer");
    assert_eq!(store.latest(&[7; 10]).unwrap().0, &[7; 10][..]);
}

#[test]
#[should_panic(expected = "versions rise")]
fn a_write_below_an_earlier_one_is_our_own_fault() {
    let mut store = Store::new();
    store.put(b"a", b"", Version(2));
    store.put(b"b", b"", Version(1));
}
