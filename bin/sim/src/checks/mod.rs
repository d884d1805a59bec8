//! The checkers. They see what nodes say, store and apply, and what clients are told; they share no code with what they
//! check, and keep models of their own.

pub(crate) mod consensus;
pub(crate) mod history;
pub mod linearize;
pub(crate) mod members;
pub(crate) mod node_log;
pub(crate) mod staleness;
pub(crate) mod store;
