//! The session table with small bounds, against a plain model; and that sharing it with a snapshot changes nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::mvcc::Version;

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// Which of the sessions ever opened, seq above the mark, mark.
    Write(u8, u8, u8),
    Share,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Open),
        8 => (any::<u8>(), 0..6u8, any::<u8>()).prop_map(|(which, seq, mark)| Step::Write(which, seq, mark)),
        1 => Just(Step::Share),
    ]
}

fn encoded(shards: &[Arc<Shard>]) -> Vec<u8> {
    let mut out = Vec::new();
    for shard in shards {
        for (client_id, session) in shard.iter() {
            session.encode(*client_id, &mut out);
        }
    }
    out
}

fn stamp(client_id: u64, seq: u64, acked_below: u64) -> Stamp {
    Stamp { client_id, seq, acked_below }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: RngSeed::Fixed(2026), ..ProptestConfig::default() })]

    #[test]
    fn the_longest_unused_goes_and_the_rest_stays(steps in vec(step(), 1..200)) {
        const MAX: usize = 5;
        let mut sessions = Sessions::new(MAX);
        // Oldest use first: id and mark.
        let mut model: Vec<(u64, u64)> = Vec::new();
        let mut opened = Vec::new();
        let mut shared: Vec<(Vec<Arc<Shard>>, Vec<u8>)> = Vec::new();
        for (index, step) in (1..).zip(steps) {
            match step {
                Step::Open => {
                    sessions.open(index);
                    opened.push(index);
                    if model.len() == MAX {
                        model.remove(0);
                    }
                    model.push((index, 0));
                }
                Step::Write(which, seq, mark) if !opened.is_empty() => {
                    let client_id = opened[usize::from(which) % opened.len()];
                    let stamp = stamp(client_id, u64::from(seq) + u64::from(mark), u64::from(mark));
                    let known = model.iter().position(|(id, _)| *id == client_id);
                    let Some(session) = sessions.touch(client_id, index) else {
                        prop_assert_eq!(known, None);
                        continue;
                    };
                    let (_, old_mark) = model.remove(known.expect("the table knows a session the model does not"));
                    model.push((client_id, old_mark.max(stamp.acked_below)));
                    match session.admit(stamp) {
                        None => session.record(stamp.seq, Outcome::Written(Version(index))),
                        Some(Reply::StaleSeq) => prop_assert!(stamp.seq < old_mark),
                        Some(Reply::Written { version }) => prop_assert!(version.0 < index),
                        Some(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Write(..) => {}
                Step::Share => {
                    let shards = sessions.shards();
                    let bytes = encoded(&shards);
                    shared.push((shards, bytes));
                }
            }
            prop_assert_eq!(sessions.by_use.len(), model.len());
        }
        for (shards, bytes) in &shared {
            prop_assert_eq!(&encoded(shards), bytes, "a shared table changed");
        }
        let mut restored = Sessions::new(MAX);
        let bytes = encoded(&sessions.shards());
        let mut reader = Reader::new(&bytes);
        while reader.left() > 0 {
            let (client_id, session) = Session::decode(&mut reader).unwrap();
            prop_assert!(restored.restore(client_id, session));
        }
        prop_assert_eq!(&restored.by_use, &sessions.by_use);
        prop_assert_eq!(encoded(&restored.shards()), bytes);
    }
}

#[test]
fn the_window_is_kept_whole_and_in_any_order() {
    let mut sessions = Sessions::new(1);
    sessions.open(1);
    let session = sessions.touch(1, 2).unwrap();
    for seq in (10..10 + SESSION_WINDOW).rev() {
        assert_eq!(session.admit(stamp(1, seq, 10)), None);
        session.record(seq, Outcome::Written(Version(seq)));
    }
    assert_eq!(session.admit(stamp(1, 10 + SESSION_WINDOW, 10)), Some(Reply::OutOfWindow));
    assert_eq!(session.admit(stamp(1, u64::MAX, 10)), Some(Reply::OutOfWindow));
    for seq in 10..10 + SESSION_WINDOW {
        assert_eq!(session.admit(stamp(1, seq, 9)), Some(Reply::Written { version: Version(seq) }));
    }
    assert_eq!(session.admit(stamp(1, 10 + SESSION_WINDOW, 11)), None);
    assert_eq!(session.admit(stamp(1, 10, 9)), Some(Reply::StaleSeq));
    assert_eq!(session.replies.len() as u64, SESSION_WINDOW - 1);
    assert_eq!(session.admit(stamp(1, u64::MAX, u64::MAX)), None);
    assert_eq!(session.replies.len(), 0);
}

#[test]
fn a_session_is_never_made_up_again() {
    let mut sessions = Sessions::new(2);
    for index in 1..=3 {
        sessions.open(index);
    }
    assert!(sessions.touch(1, 4).is_none());
    assert!(sessions.touch(2, 5).is_some());
    sessions.open(6);
    assert!(sessions.touch(3, 7).is_none(), "3 was used before 2");
    assert!(sessions.touch(2, 8).is_some());
    assert!(sessions.touch(7, 9).is_none(), "nobody opened 7");
}

#[test]
fn a_session_that_cannot_be_is_refused() {
    let decode = |numbers: &[u64]| {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_varint(&mut bytes, *number));
        Session::decode(&mut Reader::new(&bytes)).map(|(client_id, _)| client_id)
    };
    assert_eq!(decode(&[3, 4, 0, 0]), Ok(3));
    assert_eq!(decode(&[3, 2, 0, 0]), Err(ReadError::OutOfRange), "used before it was opened");
    assert_eq!(decode(&[3, 4, 0, 257]), Err(ReadError::OutOfRange), "more replies than the window");
    assert_eq!(decode(&[3, 4, 9, 1, 8, 1, 4]), Err(ReadError::OutOfRange), "a reply below the mark");
    assert_eq!(decode(&[3, 4, 0, 2, 8, 1, 4, 8, 1, 4]), Err(ReadError::OutOfRange), "one seq twice");
    assert_eq!(decode(&[3, 4, 0, 1, 8]), Err(ReadError::Short));
}
