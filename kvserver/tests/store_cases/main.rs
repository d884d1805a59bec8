//! The cases of the store (`../README.md`) on whole clusters in one thread: the shipped rooms, on a virtual clock and
//! network.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test prints its seed and stops where it fails"
)]

mod client;
mod cluster;
mod faults;
mod history;
mod operations;
mod reads;
mod sessions;
mod snapshots;
mod together;
#[path = "../virtual_node/mod.rs"]
mod virtual_node;
