//! A bounded run of what the fuzz targets do: commands, logs and snapshots that are any bytes, or nearly good ones.

#[path = "../fuzz/check.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod check;

use kvserver::state_machine::{Command, LegacyOp, Stamp, StateMachine, StreamId};
use proptest::collection::vec;
use proptest::prelude::*;

/// A good command of any kind.
fn command() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..6, 0_u64..4, 1_u64..6, vec(0_u8..3, 0..4), vec(any::<u8>(), 0..20)).prop_map(
        |(kind, id, number, key, value)| {
            let stamp = Stamp { client_id: id, seq: number, acked_below: number / 2 };
            let stream = StreamId { node: id, incarnation: number, connection: id };
            let (key, value) = (&key[..], &value[..]);
            let legacy =
                |op| Command::Legacy { client_id: b"me", request_id: number, op, key, value, stream };
            match kind {
                0 => Command::OpenSession,
                1 => Command::Put { stamp, key, value },
                2 => Command::Append { stamp, key, value },
                3 => Command::Delete { stamp, key },
                4 => legacy(LegacyOp::Put),
                _ => legacy(LegacyOp::Append),
            }
            .encode()
            .to_vec()
        },
    )
}

/// Changes some of its bytes.
fn damaged(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (index, byte) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
        let place = index.index(bytes.len());
        bytes[place] = *byte;
    }
    bytes
}

proptest! {
    #[test]
    fn what_can_be_read_of_any_command_is_written_alike(
        good in command(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any_bytes in vec(any::<u8>(), 0..60),
    ) {
        check::commands(&damaged(good, &changes));
        check::commands(&any_bytes);
    }

    #[test]
    fn any_log_is_applied_and_its_snapshot_is_the_same_state(
        commands in vec(command(), 0..30),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let log: Vec<u8> = commands.into_iter().flat_map(|entry| [vec![entry.len() as u8], entry].concat()).collect();
        check::entries(&log);
        check::entries(&damaged(log, &changes));
    }

    #[test]
    fn any_snapshot_in_any_pieces_is_the_same_state_or_the_same_refusal(
        commands in vec(command(), 0..30),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        piece in any::<u8>(),
    ) {
        let mut state = StateMachine::new();
        for (entry, index) in commands.iter().zip(1..) {
            state.apply(index, entry);
        }
        let bytes = check::snapshot_of(&mut state, commands.len() as u64);
        check::snapshots(&[vec![piece], damaged(bytes, &changes)].concat());
    }
}
