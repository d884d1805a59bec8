//! A bounded run of what the fuzz targets do: logs whose checksums fit whatever they say, and messages between nodes.

#[path = "../fuzz/check.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod check;

use proptest::collection::vec;
use proptest::prelude::*;

/// The script of a log as it might have been written: batches of entries that follow each other, and what comes between.
fn good_log() -> impl Strategy<Value = Vec<u8>> {
    vec((0_u8..12, 0_u8..3), 1..30).prop_map(|throws| {
        let (mut script, mut term, mut index) = (vec![0], 1, 0);
        for (throw, number) in throws {
            match throw {
                // Of a whole batch the head says that all before it is durable.
                0..=2 => script.extend([1, 0, 64]),
                3 => {
                    term += 1;
                    script.extend([2, term, number, 0, 1]);
                }
                4 => script.extend([3, index, term, 0]),
                5 => script.extend([6, 0, index]),
                6 => index = index.saturating_sub(number),
                _ => {
                    index += 1;
                    script.extend([5, term, index, number, 7, 7, 7][..4 + usize::from(number)].iter());
                }
            }
        }
        script
    })
}

/// Scripts of logs that once made the recovery panic; each is refused, or read alike however it is looked at.
#[test]
fn logs_that_once_were_too_much_are_read_or_refused() {
    for script in [
        // The head of a batch says that more was durable than came before it.
        &[0x2d, 0xf1, 0x06, 0xdf][..],
        // A snapshot up to the last index that there is.
        &[0x23, 0x03, 0xff, 0x03, 0x00, 0xff],
    ] {
        check::segments(script);
    }
}

/// What begins a field of a protobuf message.
fn tag(field: u16, form: u16) -> Vec<u8> {
    match field << 3 | form {
        tag @ ..0x80 => vec![tag as u8],
        tag => vec![tag as u8 | 0x80, (tag >> 7) as u8],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_log_whose_checksums_fit_is_read_or_refused_alike_however_it_is_looked_at(
        good in good_log(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any_bytes in vec(any::<u8>(), 0..200),
    ) {
        check::segments(&good);
        check::segments(&any_bytes);
        let mut nearly = good;
        for (index, byte) in changes {
            let place = index.index(nearly.len());
            nearly[place] = byte;
        }
        check::segments(&nearly);
    }

    #[test]
    fn any_message_that_is_let_in_means_on_the_wire_what_it_meant(
        what in any::<u8>(),
        fields in vec((1_u16..26, 0_u8..3, any::<u8>()), 0..8),
        any_bytes in vec(any::<u8>(), 0..100),
    ) {
        check::messages(&[&[what][..], &any_bytes].concat());
        let fields = fields.into_iter().flat_map(|(field, form, value)| match form {
            0 => [tag(field, 0), vec![value & 0x7f]].concat(),
            1 => [tag(field, 0), vec![value | 0x80, value >> 1]].concat(),
            // An entry, a name or members, as the case may be.
            _ => [tag(field, 2), vec![4, 0x10, value & 0x7f, 0x18, 1]].concat(),
        });
        check::messages(&std::iter::once(what).chain(fields).collect::<Vec<u8>>());
    }
}
