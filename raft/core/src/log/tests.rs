//! The log against a plain list of entries, which answers every question by walking along.

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::entry::Payload;
use crate::membership::Membership;
use crate::types::NodeId;

fn meta(last: EntryId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Membership::new([NodeId(1)]) }
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = Payload::Command(Bytes::from(vec![0; bytes]));
    Entry { term: Term(term), index: Index(index), payload }
}

/// Every question, answered by walking along a plain list of all entries ever.
fn agrees(log: &Log, all: &[Entry], rng: &mut ChaCha8Rng) {
    let (base, last) = (log.base().index.0, all.len() as u64);
    assert_eq!(log.last(), all.last().map_or(EntryId::ZERO, Entry::id));
    for index in 0..=last + 2 {
        let known = index >= base && index <= last;
        let term =
            if index == 0 { Some(Term(0)) } else { all.get(index as usize - 1).map(|entry| entry.term) };
        assert_eq!(log.term_at(Index(index)), term.filter(|_| known), "term at {index}");
    }
    let (from, through) = (rng.random_range(base + 1..=last + 1), rng.random_range(base..=last + 1));
    let kept: Vec<&Entry> = all.iter().filter(|entry| (from..=through).contains(&entry.index.0)).collect();
    let weight: u64 = kept.iter().map(|entry| entry.weight_bytes()).sum();
    assert_eq!(log.bytes_between(Index(from - 1), Index(through)), weight);
    let bytes_max = rng.random_range(1..400);
    let mut sum = 0;
    let fits = |entry: &&&Entry| {
        sum += entry.weight_bytes();
        sum <= bytes_max || sum == entry.weight_bytes()
    };
    let slice: Vec<Entry> = kept.iter().take_while(fits).map(|entry| (*entry).clone()).collect();
    assert_eq!(log.slice(Index(from), Index(through), bytes_max).0, slice);
    let (index, term) = (rng.random_range(0..=last + 1), Term(rng.random_range(0..9)));
    let meeting =
        (0..=index).rev().find(|index| log.term_at(Index(*index)).is_some_and(|found| found <= term));
    assert_eq!(log.last_no_later_than(Index(index), term).map(|id| id.index.0), meeting, "{index} {term}");
}

#[test]
fn whatever_is_done_to_it_a_log_answers_like_a_plain_list() {
    for seed in 0..60 {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (mut log, mut all, mut term) = (Log::new(meta(EntryId::ZERO), Vec::new()), Vec::new(), 1);
        for _ in 0..120 {
            term += u64::from(rng.random_range(0..12) == 0);
            let prev = rng.random_range(log.committed().0..=log.last_index().0);
            let new: Vec<Entry> = (1..rng.random_range(1..5))
                .map(|offset| entry(term, prev + offset, rng.random_range(0..90)))
                .collect();
            let differs = new.iter().position(|entry| !log.contains(entry.id()));
            log.splice(new.clone());
            if let Some(first) = differs {
                all.truncate(prev as usize + first);
                all.extend_from_slice(&new[first..]);
            }
            if rng.random_range(0..2) == 0 {
                let unwritten = log.take_unwritten();
                assert_eq!(unwritten[..], all[all.len() - unwritten.len()..]);
                log.persisted_to(log.last());
            }
            log.commit_to(Index(rng.random_range(log.committed().0..=log.last_index().0)));
            let delivered = log.delivered().0 as usize;
            let committed = log.take_committed(log.persisted(), 500);
            assert_eq!(committed[..], all[delivered..delivered + committed.len()]);
            log.applied_to(log.delivered());
            if rng.random_range(0..6) == 0 && log.applied() > log.snapshot().last.index {
                let last = EntryId { term: log.term_at(log.applied()).unwrap(), index: log.applied() };
                log.compact_to(meta(last), Index(rng.random_range(0..=last.index.0 + 3)));
            }
            agrees(&log, &all, rng);
        }
    }
}

#[test]
fn the_cut_for_bytes_leaves_no_more_than_these() {
    let log = Log::new(meta(EntryId::ZERO), (1..=9).map(|index| entry(1, index, 36)).collect());
    for (bytes_max, cut) in [(0, 9), (99, 9), (100, 8), (250, 7), (900, 1)] {
        assert_eq!(log.cut_for_bytes(Index(9), bytes_max), Index(cut));
        assert!(log.bytes_between(Index(cut), Index(9)) <= bytes_max);
    }
}
