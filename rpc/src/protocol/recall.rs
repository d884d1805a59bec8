//! Taking back a call that has been written and has not left.

use super::varint::read_varint;

/// The tags of a call's names, which stand first in its header.
const NAME_TAGS: [u8; 2] = [1 << 3 | 2, 2 << 3 | 2];

/// The field `kind` of a cancellation.
const IS_CANCEL: [u8; 2] = [6 << 3, 1];

/// The tag of a field that no header has, so that every reader skips it: bytes, number 15.
const PADDING_TAG: u8 = 15 << 3 | 2;

/// A field of bytes with a length of two bytes takes so many before its first.
const PADDING_HEAD_BYTES: usize = 3;

/// Makes of the call of ours that `bytes` begin with a cancellation of itself, as long as it was: its names give way to that
/// word and to padding, its arguments will be skipped. Returns whether it has; else nothing is changed.
pub(crate) fn recall(bytes: &mut [u8]) -> bool {
    let mut start = 0;
    let Ok(header_bytes) = read_varint(bytes, &mut start) else { return false };
    let mut end = start;
    for tag in NAME_TAGS {
        if bytes.get(end) != Some(&tag) {
            return false;
        }
        end += 1;
        let Ok(name_bytes) = read_varint(bytes, &mut end) else { return false };
        end += name_bytes as usize;
    }
    let Some(names) = bytes.get_mut(start..end) else { return false };
    let Some(padding) = names.len().checked_sub(IS_CANCEL.len() + PADDING_HEAD_BYTES) else { return false };
    if names.len() as u64 > header_bytes || padding >= 1 << 14 {
        return false;
    }
    let [a, b] = IS_CANCEL;
    // Longer than need be where it is short: a varint may be.
    let head = [a, b, PADDING_TAG, padding as u8 & 0x7f | 0x80, (padding >> 7) as u8];
    names.fill(0);
    names[..head.len()].copy_from_slice(&head);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decoder::RequestDecoder;
    use crate::protocol::encoder::{Body, CallFields, Names, put_call_with, put_cancel};
    use crate::protocol::header::Kind;

    #[test]
    fn a_call_taken_back_is_its_own_cancellation_whatever_its_names() {
        let long = "n".repeat(1000);
        let body = vec![7_u8; 100];
        for (service, method) in
            [("a", "b"), ("kv", "Get"), (&long[..120], "b"), ("a", &long[..122]), (&long, &long)]
        {
            for auth_token in [&[][..], b"token"] {
                let fields = CallFields {
                    call_id: 1 << 40,
                    timeout_ms: 5000,
                    request_id: 9,
                    auth_token,
                    ..CallFields::default()
                };
                let mut bytes = Vec::new();
                put_call_with(&mut bytes, Names::Plain(service, method), &fields, &body, body.body_len());
                let len = bytes.len();
                assert!(recall(&mut bytes));
                put_cancel(&mut bytes, 77);
                let mut decoder = RequestDecoder::new(1000);
                decoder.feed(&bytes);
                let frame = decoder.next_frame().unwrap().unwrap();
                assert_eq!((frame.head.kind, frame.head.call_id), (Kind::Cancel, 1 << 40));
                assert_eq!(frame.head.auth_token(), auth_token, "it may be the connection's first frame");
                assert!(frame.head.service().is_empty());
                let next = decoder.next_frame().unwrap().unwrap();
                assert_eq!(next.head.call_id, 77, "of {len} bytes none is left over");
            }
        }
    }

    #[test]
    fn what_is_no_call_of_ours_is_left_as_it_is() {
        let mut cancel = Vec::new();
        put_cancel(&mut cancel, 5);
        for bytes in [&cancel[..], &[], &[200], &[5, 0x0a, 200, 1], &[3, 0x0a, 1, b'x', 0x12, 1, b'y']] {
            let mut changed = bytes.to_vec();
            assert!(!recall(&mut changed));
            assert_eq!(changed, bytes);
        }
    }
}
