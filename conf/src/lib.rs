//! The configuration file of a cluster: parsed, checked, documented, and written when there is none.
//!
//! One file describes the whole cluster and is the same on every host: which nodes there are (the origin's
//! `node0ip=…` / `node0port=…` lines) and, on lines of the same kind, every setting of `sample.conf`. The
//! programs read it here and hand plain values to the libraries, so no library below ever opens it.
//!
//! What this crate must never do: guess. A key it does not know, a value out of range, an address named twice are
//! refused with file, line and what to write instead, because a misspelt limit that is silently ignored
//! shows itself on the day it was needed.

mod address;
mod config;
mod error;
mod line;
pub mod loopback_ports;
mod parser;
mod settings;
mod writer;

pub use address::{NODE_NUMBER_MAX, NODES_MAX, NodeAddress, parse_host_port};
pub use config::{Config, Limits, leases_fit};
pub use error::ConfError;
pub use settings::{SETTINGS, Setting, Unit};
pub use writer::{set_cluster_id, write_nodes};
