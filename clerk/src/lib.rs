//! The client of the store.
//!
//! A [`Clerk`] gets, puts, appends and deletes, each write exactly once, however often the leader changes or a server
//! restarts meanwhile: writes carry a place in a session, a retry carries the same one, and the servers remember what
//! they answered. Gets are linearizable. Each operation has a deadline, and its error says whether a write may have run.
//!
//! ```no_run
//! let endpoints = ["127.0.0.1:10000".to_string(), "127.0.0.1:10001".to_string()];
//! let clerk = clerk::Clerk::connect(&endpoints, clerk::ClerkConfig::default())?;
//! clerk.put("colour", "red")?;
//! clerk.append("colour", "dish")?;
//! assert_eq!(clerk.get("colour")?.as_deref(), Some(&b"reddish"[..]));
//! assert!(clerk.delete("colour")?);
//! # Ok::<(), clerk::ClerkError>(())
//! ```
//!
//! Inside, a pure [`machine`] decides and a small shell sends; `session`, `leader_cache`, `retry` are its parts. The
//! crate knows the `kv` service and nothing of Raft but the word "leader". It never repeats a write that may have run
//! under a new number, and never tries again without a wait between.

mod clerk;
mod clock;
mod config;
mod error;
pub mod leader_cache;
pub mod machine;
mod operation;
pub mod retry;
pub mod session;
pub mod wire;

pub use self::{
    clerk::Clerk,
    config::{ClerkConfig, NODES_MAX, SESSION_WINDOW},
    error::ClerkError,
    operation::{Answer, Operation, Refusal, Request, Stamp, Verdict},
};
pub use proto::Consistency;
