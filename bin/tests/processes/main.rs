//! The shipped programs as a user meets them: real processes, real sockets, a real disk.
//!
//! Ports are free ones, data lies in temporary directories, and nothing sleeps for a fixed time: every wait looks for a
//! condition and has a deadline. Clusters run one at a time, because three nodes under load want the machine to themselves; what a
//! test starts is killed when its owner is dropped, also by a panic.

#![expect(unreachable_pub, reason = "modules of one test program; `pub` says what they share")]
#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]
#![expect(clippy::print_stderr, reason = "a test that fails shows the logs of its nodes")]

mod support;

mod bad_disk;
mod cut_cable;
mod damaged;
mod demo;
mod explained;
mod foreign_node;
mod forwarded;
mod full_disk;
mod full_node;
mod garbage;
mod handed_over;
mod histories;
mod launcher;
mod launcher_refusals;
mod leader_killed;
mod leader_paused;
mod lost_directory;
mod main_job;
mod members;
mod namespaces;
mod origin_client;
mod partitions;
mod preferred;
mod reads;
mod recovered;
mod snapshot_catch_up;
mod stop_orders;
mod values;
mod wal_dumped;
