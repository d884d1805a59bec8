//! The replicated key-value store: a deterministic state machine on Raft's log, the services that clients call, and
//! the server that puts a node together.
//!
//! - [`mvcc`]: the ordered multi-version skip list.
//! - [`state_machine`]: commands, sessions, replies, snapshots; the same log gives the same bytes on every node.
//! - [`service`]: `kv` for our own clients, `kvServerRpc` for the origin's, `admin` for operators.
//! - [`Intake`] → Raft → [`ApplyLoop`] → [`Waiters`] is the way of a write, [`Intake`] → [`ReadGate`] that of a read.
//! - [`Server`]: one node, its threads and their end.

mod application;
mod apply_loop;
mod config;
mod error;
mod file_system;
mod forwarder;
mod intake;
mod leader_hints;
mod opened;
mod outcome;
mod parts;
mod read_gate;
mod rebuild;
mod server;
mod shared_state;
mod snapshotter;
mod waiters;

pub mod mvcc;
pub mod service;
pub mod state_machine;

pub use application::StoreApplication;
pub use apply_loop::{ApplyLoop, ENTRIES_PER_LOCK, SnapshotRule};
pub use config::ServerConfig;
pub use error::StartError;
pub use forwarder::{Forwarder, PassOn, PassedWrite};
pub use intake::Intake;
pub use leader_hints::LeaderHints;
pub use outcome::{Outcome, Refusal, ReplySink};
pub use parts::{Parts, tick_times};
pub use proto::Consistency;
pub use read_gate::{PendingRead, ReadGate};
pub use rebuild::{Collected, Remains, rebuild};
pub use server::{Server, Stopped};
pub use shared_state::{SharedState, Writing};
pub use snapshotter::{ChunkSizes, DeskFull, LoadError, SnapshotDesk, Snapshotter, Task};
pub use waiters::Waiters;
