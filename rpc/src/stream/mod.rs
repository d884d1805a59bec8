//! Streams: calls with many messages in one direction or both, of which a slow reader holds up its own and nothing else.
//!
//! Each direction of a stream has a credit in bytes: what the reader has room for. A writer spends it message by message and
//! stops when nothing is left; a reader gives it back as it takes messages. So what a stream holds in memory is bounded by
//! its window and one message. Both ends are the same machine, [`state::StreamState`]; they differ in the frames they
//! write ([`carrier::Carrier`]).

pub(crate) mod carrier;
pub(crate) mod reader;
pub(crate) mod state;
pub(crate) mod writer;
