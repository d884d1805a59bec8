//! The Raft consensus algorithm as a pure state machine.
//!
//! [`RawNode`] takes in messages, ticks, proposals and reports of what was done; [`RawNode::ready`] hands out what is to
//! be done: messages to send, things to write, entries to apply. There is no clock here (time is ticks, and for leases what
//! the driver says it is), no thread, no
//! file, no socket and no randomness of its own (the generator is handed in): the same inputs give the same outputs, bit
//! for bit, which is what makes it possible to test millions of schedules and to repeat the one that failed.
//!
//! The algorithm is that of Ongaro and Ousterhout's paper ("§" alone) and of Ongaro's dissertation, with PreVote,
//! CheckQuorum, ReadIndex, pipelined appends, joint consensus, learners, leadership transfer, and a leader that sends
//! before its own disk is done.
//!
//! # Where what is
//!
//! - [`RawNode`] is the face, [`Ready`] its output, [`Config`] what it is told, [`Status`] what it says about itself.
//! - `raft` is the state, and routes messages by term and then by role: `follower`, `candidate`, `leader`.
//! - `election`, `replication`, `commit`, `read_index`, `follower_reads`, `lease`, `freshness`, `snapshot`, `change` (of the membership) and `transfer` are the
//!   concerns, one a file.
//! - `log` is the log with its marks; `progress` and `inflights` are what a leader knows of a follower.
//! - `invariants` is checked at every call.
//!
//! # What a driver owes
//!
//! - Messages of a Ready leave in order; `messages_after_persist` when everything persisted before is durable, *also if
//!   that Ready persists nothing*: they queue behind what is being written.
//! - Writes happen in the order of the Readys; a failed write is never retried: the node stops.
//! - `restore` is applied before `committed`, Ready by Ready; everything applied is reported by [`RawNode::applied`].
//! - Each snapshot asked for is answered by one [`RawNode::snapshot_report`].
//! - After any call, [`RawNode::has_ready`] says whether to take a Ready.

mod candidate;
mod catch_up;
mod change;
mod commit;
mod config;
mod convalescence;
mod election;
mod entry;
mod error;
mod follower;
mod follower_reads;
mod freshness;
mod inflights;
mod invariants;
mod leader;
mod lease;
mod log;
mod membership;
mod message;
pub mod planted;
mod progress;
mod quorum;
mod raft;
mod raw_node;
mod read_index;
mod ready;
mod replication;
mod room;
mod snapshot;
mod status;
mod transfer;
mod types;

pub use config::Config;
pub use entry::{ENTRY_OVERHEAD_BYTES, Entry, HardState, Payload};
pub use error::{ChangeError, ConfigError, Limit, ProposeError, ReadError, TransferError};
pub use freshness::Freshness;
pub use membership::{LEARNERS_MAX, Membership, VOTERS_MAX};
pub use message::{AppendOutcome, Body, Fresh, Message, Stamp};
pub use raw_node::{Proposed, RawNode};
pub use ready::{Persist, ReadOutcome, ReadState, Ready, SoftState};
pub use room::LogRoom;
pub use snapshot::{ChunkVerdict, InstallVerdict, Restored, SnapshotMeta, SnapshotOutcome};
pub use status::{PeerStatus, ProgressKind, Reason, RoleKind, Status, WaitsFor};
pub use types::{EntryId, Index, NodeId, ReplyToken, Term};
