//! What calls say of the time they have left, once they have waited to leave.

use super::varint::{read_varint, write_as_long};

/// The fields of a request's header that matter here.
const ARGS_SIZE: u64 = 3;
const TIMEOUT_MS: u64 = 5;

/// The type of a field that is a varint, and of one that is bytes, in the low bits of its tag.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// Takes what they have waited off the time-outs of requests of ours, whole frames that follow each other; 1 ms is left to
/// each, since none means that the server decides. No frame changes its length, and none that begins among the first `left`
/// bytes changes at all: it has begun to leave.
pub(crate) fn shorten_timeouts(frames: &mut [u8], left: usize, waited_ms: u64) {
    let mut start = 0;
    while let Some(frame) = frames.get_mut(start..)
        && let Some(bytes) = shorten_first(frame, if start < left { 0 } else { waited_ms })
    {
        start += bytes;
    }
}

/// Does so to the first frame, and returns its length.
fn shorten_first(frames: &mut [u8], waited_ms: u64) -> Option<usize> {
    let mut position = 0;
    let header_bytes = read_varint(frames, &mut position).ok()?;
    let header_end = position.checked_add(usize::try_from(header_bytes).ok()?)?;
    let mut args_size = 0;
    while position < header_end {
        let tag = read_varint(frames, &mut position).ok()?;
        let start = position;
        let value = read_varint(frames, &mut position).ok()?;
        match (tag >> 3, tag & 7) {
            (ARGS_SIZE, VARINT) => args_size = usize::try_from(value).ok()?,
            (TIMEOUT_MS, VARINT) => {
                write_as_long(&mut frames[start..position], value.saturating_sub(waited_ms).max(1));
            }
            (_, VARINT) => {}
            (_, BYTES) => position = position.checked_add(usize::try_from(value).ok()?)?,
            _ => return None,
        }
    }
    header_end.checked_add(args_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decoder::RequestDecoder;
    use crate::protocol::encoder::{Body, CallFields, Names, put_call_with, put_cancel, put_stream_message};
    use crate::protocol::recall::recall;

    /// The time-outs of the calls of a stream of frames, 0 for other frames.
    fn timeouts(bytes: &[u8]) -> Vec<u64> {
        let mut decoder = RequestDecoder::new(1 << 20);
        decoder.feed(bytes);
        std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.head.timeout_ms).collect()
    }

    #[test]
    fn each_call_says_what_is_left_and_nothing_else_changes() {
        let mut bytes = Vec::new();
        let bodies = [0, 1, 200, 20_000].map(|size| vec![0x28_u8; size]);
        let said = [1, 127, 128, 5_000, 16_384, u64::from(u32::MAX)];
        for (timeout_ms, body) in
            said.iter().flat_map(|timeout| bodies.iter().map(move |body| (timeout, body)))
        {
            let fields = CallFields { call_id: 1, timeout_ms: *timeout_ms, ..CallFields::default() };
            put_call_with(&mut bytes, Names::Plain("kv", "Get"), &fields, body, body.body_len());
            put_cancel(&mut bytes, 1);
            put_stream_message(&mut bytes, 1, body, body.body_len());
        }
        for waited_ms in [0, 1, 100, 4_999, 5_000, 1 << 40] {
            let mut shortened = bytes.clone();
            shorten_timeouts(&mut shortened, 0, waited_ms);
            assert_eq!(shortened.len(), bytes.len());
            let left = |said: u64| if said == 0 { 0 } else { said.saturating_sub(waited_ms).max(1) };
            let expected: Vec<u64> = timeouts(&bytes).into_iter().map(left).collect();
            assert_eq!(timeouts(&shortened), expected, "{waited_ms}");
        }
    }

    #[test]
    fn a_call_that_was_taken_back_holds_up_none_behind_it() {
        let mut bytes = Vec::new();
        let fields = CallFields { call_id: 1, timeout_ms: 900, ..CallFields::default() };
        for _ in 0..2 {
            put_call_with(&mut bytes, Names::Plain("kv", "Get"), &fields, &(), 0);
        }
        assert!(recall(&mut bytes));
        shorten_timeouts(&mut bytes, 0, 300);
        assert_eq!(timeouts(&bytes)[1], 600);
    }

    #[test]
    fn a_call_that_has_begun_to_leave_stays_as_it_is() {
        let mut bytes = Vec::new();
        let fields = CallFields { call_id: 1, timeout_ms: 900, ..CallFields::default() };
        let ends = [(); 3].map(|()| {
            put_call_with(&mut bytes, Names::Plain("kv", "Get"), &fields, &(), 0);
            bytes.len()
        });
        for (left, expected) in [
            (0, [600, 600, 600]),
            (1, [900, 600, 600]),
            (ends[0], [900, 600, 600]),
            (ends[0] + 1, [900, 900, 600]),
        ] {
            let mut shortened = bytes.clone();
            shorten_timeouts(&mut shortened, left, 300);
            assert_eq!(timeouts(&shortened), expected, "{left} bytes have left");
        }
    }

    #[test]
    fn what_is_no_frame_of_ours_is_left_alone() {
        for bytes in [&[][..], &[0x80], &[200, 1, 2], &[1, 0x2b], &[2, 0x0a, 0xff], &[3, 0x12, 0x7f, 0x28]] {
            let mut changed = bytes.to_vec();
            shorten_timeouts(&mut changed, 0, 1);
            assert_eq!(changed, bytes);
        }
    }
}
