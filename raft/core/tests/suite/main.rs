//! The core's tests, in one program so that they share the cluster they run on.
//!
//! `node` is a node with a simulated disk, `cluster` is several of them on a virtual clock and network in some `weather`,
//! watched by `promises`; `world` is several that stand still until a script moves them; `rig` is one core fed by hand.
//! The rest are the cases, each named as a sentence.

mod clocks;
mod cluster;
mod node;
mod promises;
mod rig;
mod weather;
mod world;

mod changes;
mod convalescence;
mod election;
mod face;
mod figure_2;
mod follower_reads;
mod freshness;
mod inquiries;
mod leases;
mod losses;
mod membership;
mod membership_storms;
mod partitions;
mod reads;
mod replaced_leaders;
mod replication;
mod room;
mod safety;
mod scripts;
mod section_5;
mod snapshots;
mod status;
mod transfer;
