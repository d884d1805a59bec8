//! Raft on threads, disks and sockets: what the pure core (`raft-core`) asks for is done here.
//!
//! The core decides, this crate acts: it keeps the log files, runs the threads and carries the messages. It must never
//! decide anything about consensus itself.

pub mod driver;
pub mod membership_bytes;
pub mod net;
pub mod storage;
pub mod sync;

pub use raft_core as core;
