//! The wire, sans-IO: bytes in, frames out, and back. No socket, clock or thread is touched here.
//!
//! `varint` is the integer of protobuf, `header` the two headers of design §3.1, `frames` turns any chunking of a byte
//! stream into the same frames or the same refusal, `decoder` and `reply_decoder` tell it what the frames of their direction
//! look like, `encoder` appends frames to a buffer, `payload` is what a frame carries on its way out, `status` names what a
//! reply can say.

pub(crate) mod call_names;
pub mod decoder;
pub mod encoder;
pub mod frames;
pub mod header;
mod large_body;
pub(crate) mod payload;
pub(crate) mod recall;
pub mod reply_decoder;
pub mod status;
pub(crate) mod time_left;
pub mod varint;
