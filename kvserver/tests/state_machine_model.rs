//! The state machine against a plain model, and replicas against each other: restored from snapshots taken at any
//! instant, read in any chunks while writes went on, restarted in the middle.

mod state_machine_support;

use kvserver::state_machine::{LegacyOp, Restore, StateMachine, StreamId, limits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use state_machine_support::{Copying, Entry, LegacyEntry, Log, Model, Random, apply, snapshot_of};

fn compare(state: &StateMachine, model: &Model) {
    let found: Vec<_> = state
        .store()
        .scan(b"", None, kvserver::mvcc::Version(state.applied()), usize::MAX)
        .map(|(key, value, version)| (key.to_vec(), (value.to_vec(), version.0)))
        .collect();
    assert!(found == model.values.clone().into_iter().collect::<Vec<_>>(), "after entry {}", state.applied());
}

#[test]
fn replies_and_values_are_those_of_a_plain_model() {
    for seed in 0..25 {
        let (mut state, mut model) = (StateMachine::new(), Model::default());
        let mut log = Log::new(seed, 6 + seed * 7);
        for _ in 0..2500 {
            let entry = log.entry();
            assert_eq!(apply(&mut state, &entry), model.apply(&entry), "seed {seed}: {entry:?}");
            if log.random.one_in(100) {
                compare(&state, &model);
            }
        }
        compare(&state, &model);
    }
}

/// Runs `entry` on every replica: all answer alike.
fn apply_to_all(replicas: &mut [StateMachine], entry: &Entry, seed: u64) {
    let replies: Vec<_> = replicas.iter_mut().map(|replica| apply(replica, entry)).collect();
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {entry:?}: {replies:?}");
}

#[test]
fn replicas_agree_however_they_were_restored() {
    for seed in 100..112 {
        let mut log = Log::new(seed, 40);
        let mut entries: Vec<Entry> = Vec::new();
        // The first is never touched; others come and go by snapshots of random replicas.
        let mut replicas = vec![StateMachine::new(), StateMachine::new()];
        let mut copying: Option<(usize, Copying)> = None;
        for round in 0..4000u64 {
            let entry = log.entry();
            apply_to_all(&mut replicas, &entry, seed);
            entries.push(entry);
            let from = 1 + log.random.below(replicas.len() as u64 - 1) as usize;
            match &mut copying {
                None if log.random.one_in(40) => copying = Some((from, Copying::begin(&mut replicas[from]))),
                None => {}
                Some((source, copy)) => {
                    let bytes_max = 1 + log.random.below(if round % 3 == 0 { 60 } else { 3000 }) as usize;
                    let Some(mut restored) = copy.advance(&replicas[*source], bytes_max) else { continue };
                    for entry in &entries[restored.applied() as usize..] {
                        apply(&mut restored, entry);
                    }
                    assert_eq!(restored.state_hash(), replicas[0].state_hash(), "seed {seed}, round {round}");
                    let (source, copy) = copying.take().expect("it was there");
                    replicas[source].unpin(copy.frozen());
                    if replicas.len() < 4 {
                        replicas.push(restored);
                    } else {
                        let position = 1 + log.random.below(3) as usize;
                        replicas[position] = restored;
                    }
                }
            }
            if log.random.one_in(50) {
                let hash = replicas[0].state_hash();
                assert!(replicas.iter().all(|replica| replica.state_hash() == hash), "seed {seed}, {round}");
            }
        }
        drop(copying);
        let bytes: Vec<_> = replicas.iter_mut().map(|replica| snapshot_of(replica, 1000)).collect();
        assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: snapshots differ");
        // Once the whole history is past, everybody holds the keys that live, and nothing else.
        for _ in 0..=limits::HISTORY_ENTRIES {
            apply_to_all(&mut replicas, &Entry::Noop, seed);
        }
        for replica in &mut replicas {
            while replica.reclaim(10) {}
            assert_eq!(replica.store().revisions_held(), replica.store().keys());
        }
        let held: Vec<_> = replicas.iter().map(|replica| replica.store().revisions_held()).collect();
        assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: memory held: {held:?}");
    }
}

/// What a replica does between two chunks of its input.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// Frees some of what nobody asks for any more.
    Reclaim(usize),
    /// Freezes an instant and lets it go again.
    Freeze,
    /// Stops and starts again from a snapshot of some earlier instant, written and read in pieces of these sizes, and
    /// the log behind it.
    Restart {
        back: usize,
        written: usize,
        read: usize,
    },
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        3 => Just(Between::Nothing),
        1 => (0..50usize).prop_map(Between::Reclaim),
        1 => Just(Between::Freeze),
        2 => (0..60usize, 1..4000usize, 1..4000usize)
            .prop_map(|(back, written, read)| Between::Restart { back, written, read }),
    ]
}

/// A replica that went through the first `upto` entries, stopped at a snapshot `back` entries earlier.
fn restarted(log: &[Entry], back: usize, written: usize, read: usize) -> StateMachine {
    let (before, after) = log.split_at(log.len().saturating_sub(back));
    let mut stopped = StateMachine::new();
    for entry in before {
        apply(&mut stopped, entry);
    }
    let mut restore = Restore::new();
    snapshot_of(&mut stopped, written)
        .chunks(read)
        .for_each(|piece| restore.feed(piece).expect("our own bytes"));
    let mut started = restore.finish().expect("our own bytes");
    for entry in after {
        apply(&mut started, entry);
    }
    started
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2026),
        ..ProptestConfig::default()
    })]

    #[test]
    fn two_replicas_that_get_their_input_in_other_chunks_and_restart_have_equal_hashes(
        seed in any::<u64>(),
        chunks in vec((1..70usize, between()), 1..25),
    ) {
        let mut draw = Log::new(seed, 30);
        let length = chunks.iter().map(|(length, _)| length).sum();
        let log: Vec<Entry> = (0..length).map(|_| draw.entry()).collect();
        let (mut steady, mut restless) = (StateMachine::new(), StateMachine::new());
        let mut done = 0;
        for (length, between) in chunks {
            for entry in &log[done..done + length] {
                prop_assert_eq!(apply(&mut steady, entry), apply(&mut restless, entry));
            }
            done += length;
            match between {
                Between::Nothing => {}
                Between::Reclaim(lines) => drop(restless.reclaim(lines)),
                Between::Freeze => {
                    let frozen = restless.freeze(restless.applied(), 1).unwrap();
                    restless.unpin(frozen);
                }
                Between::Restart { back, written, read } => {
                    restless = restarted(&log[..done], back, written, read);
                }
            }
            prop_assert_eq!(steady.state_hash(), restless.state_hash());
        }
        prop_assert!(snapshot_of(&mut steady, 777) == snapshot_of(&mut restless, 50), "snapshots differ");
    }
}

#[test]
fn the_hash_sees_every_kind_of_difference() {
    let stamp = |seq| kvserver::state_machine::Stamp { client_id: 1, seq, acked_below: 1 };
    let legacy = |connection, value: &[u8]| {
        Entry::Legacy(LegacyEntry {
            client_id: b"c".to_vec(),
            request_id: 1,
            op: LegacyOp::Put,
            key: b"k".to_vec(),
            value: value.to_vec(),
            stream: StreamId { node: 1, incarnation: 1, connection },
        })
    };
    let put = |seq, key: &[u8], value: &[u8]| Entry::Put(stamp(seq), key.to_vec(), value.to_vec());
    let logs = [
        vec![],
        vec![Entry::Noop],
        vec![Entry::OpenSession],
        vec![Entry::OpenSession, put(1, b"k", b"v")],
        vec![Entry::OpenSession, put(2, b"k", b"v")],
        vec![Entry::OpenSession, put(1, b"k", b"w")],
        vec![Entry::OpenSession, put(1, b"kv", b"")],
        vec![Entry::OpenSession, Entry::Delete(stamp(1), b"k".to_vec())],
        vec![Entry::OpenSession, put(1, b"k", b"v"), put(2, b"k", b"v")],
        vec![Entry::OpenSession, put(1, b"k", b"v"), Entry::Delete(stamp(2), b"k".to_vec())],
        vec![legacy(1, b"v")],
        vec![legacy(2, b"v")],
        vec![legacy(1, b"w")],
    ];
    let mut seen = std::collections::BTreeMap::new();
    for (number, log) in logs.iter().enumerate() {
        let mut state = StateMachine::new();
        for entry in log {
            apply(&mut state, entry);
        }
        assert_eq!(seen.insert(state.state_hash(), number), None, "log {number}");
    }
}

/// 1,024 versions of a large value would be a gigabyte: the floor rises early, and alike everywhere.
#[test]
fn large_values_shorten_the_history_on_every_replica_alike() {
    let mut replicas = vec![StateMachine::new()];
    apply_to_all(&mut replicas, &Entry::OpenSession, 0);
    let mut random = Random(5);
    for seq in 1..80 {
        let stamp = kvserver::state_machine::Stamp { client_id: 1, seq, acked_below: seq };
        let key = vec![b'a' + random.below(3) as u8];
        apply_to_all(&mut replicas, &Entry::Put(stamp, key, vec![seq as u8; 1 << 20]), 0);
        let store = replicas[0].store();
        assert!(store.superseded_bytes() <= limits::HISTORY_BYTES_MAX);
        if seq == 40 {
            assert!(store.floor().0 > 0, "the floor did not rise for bytes");
            let mut copy = Copying::begin(&mut replicas[0]);
            let restored = loop {
                if let Some(restored) = copy.advance(&replicas[0], 300_000) {
                    break restored;
                }
            };
            replicas.push(restored);
        }
    }
    assert_eq!(replicas[0].store().floor(), replicas[1].store().floor());
    assert_eq!(replicas[0].state_hash(), replicas[1].state_hash());
    assert!(replicas[0].store().revisions_held() <= 3 + 16);
}
