//! A message on its way into a frame. A large one is serialized before any lock is taken; bytes of it that stand in memory of
//! their own are not copied, if they may come last.

use bytes::Bytes;
use prost::Message;

use super::encoder::Body;
use super::varint::put_varint;

/// Messages from this size on are large, and so are fields of bytes: fewer are cheaper copied than kept apart, in bytes.
pub(crate) const LARGE_BYTES_MIN: usize = 16 * 1024;

/// The wire type of byte strings, in the low bits of a tag.
const STRING: u64 = 2;

/// See the module's text.
pub(crate) enum Payload<'a> {
    /// To be serialized into its frame.
    Small(&'a dyn Body),
    /// Serialized, in two pieces of which one may be empty; boxed, since most messages are small.
    Large(Box<(Vec<u8>, Bytes)>),
}

impl<'a> Payload<'a> {
    /// A message of so many bytes, serialized into the `buffer` if it is large.
    pub(crate) fn of(body: &'a dyn Body, body_bytes: usize, buffer: impl FnOnce() -> Vec<u8>) -> Payload<'a> {
        if body_bytes < LARGE_BYTES_MIN {
            return Payload::Small(body);
        }
        let mut first = buffer();
        let last = body.put_apart(&mut first);
        Payload::Large(Box::new((first, last)))
    }
}

/// How a message is taken apart: all of it but its largest field of bytes, the number of that field, and what stood in it.
pub type TakeApart<M> = fn(&M) -> (M, u32, Bytes);

/// A message whose largest field of bytes is serialized behind all others, as protobuf allows, so that it leaves uncopied.
/// Generated stubs send their requests so.
pub struct LargestLast<'a, M> {
    message: &'a M,
    take_apart: TakeApart<M>,
}

impl<'a, M: Message> LargestLast<'a, M> {
    /// This message.
    pub fn new(message: &'a M, take_apart: TakeApart<M>) -> Self {
        LargestLast { message, take_apart }
    }
}

impl<M: Message> Body for LargestLast<'_, M> {
    fn body_len(&self) -> usize {
        self.message.encoded_len()
    }

    fn put(&self, buffer: &mut Vec<u8>) {
        self.message.put(buffer);
    }

    fn put_apart(&self, buffer: &mut Vec<u8>) -> Bytes {
        let (others, number, largest) = (self.take_apart)(self.message);
        if largest.len() < LARGE_BYTES_MIN {
            self.put(buffer);
            return Bytes::new();
        }
        others.put(buffer);
        put_varint(buffer, u64::from(number) << 3 | STRING);
        put_varint(buffer, largest.len() as u64);
        largest
    }
}

/// Takes a message apart, one of whose `fields` is the largest; each with its number. Generated code uses this.
pub fn take_largest<M: Clone, const N: usize>(
    message: &M,
    fields: fn(&mut M) -> [(u32, &mut Bytes); N],
) -> (M, u32, Bytes) {
    let mut others = message.clone();
    let largest = fields(&mut others).into_iter().max_by_key(|(_, bytes)| bytes.len());
    let (number, bytes) =
        largest.map_or((0, Bytes::new()), |(number, bytes)| (number, std::mem::take(bytes)));
    (others, number, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Pair {
        #[prost(bytes = "bytes", tag = "1")]
        key: Bytes,
        #[prost(bytes = "bytes", tag = "20")]
        value: Bytes,
        #[prost(uint64, tag = "3")]
        version: u64,
    }

    fn take_apart(pair: &Pair) -> (Pair, u32, Bytes) {
        take_largest(pair, |it| [(1, &mut it.key), (20, &mut it.value)])
    }

    #[test]
    fn the_largest_field_comes_last_uncopied_and_the_message_is_the_same() {
        for (key, value) in [(5, LARGE_BYTES_MIN), (100_000, 20_000), (0, 70_000), (LARGE_BYTES_MIN, 0)] {
            let [key, value] = [key, value].map(|size| Bytes::from(vec![7; size]));
            let largest = if key.len() > value.len() { key.clone() } else { value.clone() };
            let pair = Pair { key, value, version: 9 };
            let body = LargestLast::new(&pair, take_apart);
            let Payload::Large(pieces) = Payload::of(&body, body.body_len(), Vec::new) else {
                panic!("it is large");
            };
            let (first, last) = *pieces;
            assert_eq!(last.as_ptr(), largest.as_ptr(), "the very bytes");
            assert_eq!(first.len() + last.len(), body.body_len());
            assert_eq!(Pair::decode(&[&first[..], &last[..]].concat()[..]).unwrap(), pair);
        }
    }

    #[test]
    fn what_has_no_large_field_is_serialized_as_ever() {
        let half = Bytes::from(vec![7; LARGE_BYTES_MIN - 10]);
        let pair = Pair { key: half.clone(), value: half, version: 0 };
        let body = LargestLast::new(&pair, take_apart);
        let Payload::Large(pieces) = Payload::of(&body, body.body_len(), Vec::new) else {
            panic!("it is large as a whole");
        };
        let (first, last) = *pieces;
        assert!(first == pair.encode_to_vec() && last.is_empty());
        let small = Pair::default();
        assert!(matches!(Payload::of(&small, 0, Vec::new), Payload::Small(_)));
    }
}
