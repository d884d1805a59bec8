//! What the process tests share: a cluster of real nodes, a launcher, raw frames, and the checking of histories.

pub mod bad_disk;
pub mod cluster;
pub mod history;
pub mod lab;
pub mod linearizability;
pub mod network;
pub mod process;
pub mod wait;
pub mod wire;
pub mod wires;
