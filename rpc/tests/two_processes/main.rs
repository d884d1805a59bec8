//! Client and server in two processes, over real sockets: many connections, bad ones, and peers that stop or die.
//!
//! In the test command each scenario takes a few seconds. At full size (10,000 connections, 1,000 connects a second for ten
//! seconds, one byte a second) they print what they see:
//!
//! `RPC_LOAD=full cargo test --release -p rpc --test two_processes -- --nocapture --test-threads 1`
//!
//! It needs 10,200 open files in each process, so much as `ulimit -Hn` must allow; with less, there are fewer connections.

#![expect(unreachable_pub, reason = "modules of one test program; `pub` says what they share")]
#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]
#![expect(clippy::print_stdout, reason = "at full size the figures are what it is for")]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod killed;
mod many;
mod peer;
mod slow;
mod vanished;

/// Files that a process has open beside its connections, generously.
const OTHER_DESCRIPTORS: u64 = 200;

/// No test: what a child of the tests runs, being this program, too. In the first process there is nothing to do.
#[test]
fn the_part_of_another_process() {
    child::play();
}

/// How large a scenario is.
fn sized(quick: u64, full: u64) -> u64 {
    if std::env::var("RPC_LOAD").is_ok_and(|size| size == "full") { full } else { quick }
}

/// How many connections there are to be, of those that there may be.
fn connections(quick: u64, full: u64) -> u64 {
    sized(quick, full).min(child::raise_descriptor_limit() - OTHER_DESCRIPTORS)
}

/// Numbers of the files that a process has open.
fn descriptors_of(process: u32) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}
