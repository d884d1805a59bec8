//! The configuration as values: what a program gets after the file was read and checked.
//!
//! A [`Config`] that exists is sound: relations between settings hold and no two nodes are one. It may
//! name no node at all, because a launcher fills such a file; whoever needs nodes asks [`Config::node`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::address::NodeAddress;
use crate::error::ConfError;
use crate::parser;
use crate::settings::SETTINGS;

/// The cluster id of a file that does not name one.
pub(crate) const CLUSTER_ID_DEFAULT: &str = "raft-kv";

/// With leases the shortest election timeout is no shorter than so many heartbeats and so many milliseconds.
const LEASE_HEARTBEATS_MIN: u64 = 3;
const LEASE_MARGIN_MS: u64 = 20;

/// The largest file that is read, bytes; one with every setting and a page of comments has some thousand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole configuration of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The nodes in the order of their numbers; empty if the file names none.
    pub nodes: Vec<NodeAddress>,
    /// What tells this cluster from another one; nodes refuse to talk to, and to start on data of, a foreign one.
    pub cluster_id: String,
    /// Whether the file itself names the cluster id.
    pub cluster_id_is_set: bool,
    /// The folder that holds one folder per node; relative to the file's own folder. `None`: beside the file.
    pub data_dir: Option<PathBuf>,
    /// A leader's heartbeat interval, milliseconds.
    pub heartbeat_ms: u64,
    /// The shortest election timeout, milliseconds.
    pub election_min_ms: u64,
    /// The longest election timeout, milliseconds.
    pub election_max_ms: u64,
    /// How much a node is preferred as leader, for those whose line says more than 0.
    pub priorities: BTreeMap<u64, u32>,
    /// 1: the leader serves reads that allow it by a lease; the same on all nodes. 0: never.
    pub lease_reads: u64,
    /// How many bytes of log make a node take a snapshot and drop the log before it, at most 128 MiB.
    pub snapshot_log_bytes: u64,
    /// The named maxima of a node.
    pub limits: Limits,
}

/// The named maxima of one node; beyond them requests are refused with a typed answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections open at the same time.
    pub connections_max: u64,
    /// Requests being served at once, over all connections.
    pub calls_in_flight_max: u64,
    /// The longest key, bytes.
    pub key_bytes_max: u64,
    /// The longest value of a request, bytes.
    pub value_bytes_max: u64,
    /// Proposed and not yet committed, bytes, on a leader.
    pub uncommitted_bytes_max: u64,
    /// Batches of committed entries that wait for the state machine.
    pub apply_queue_batches: u64,
}

/// The text of the file at `place`, which messages call `path`. By mistake it may be any file.
pub(crate) fn read_text(place: &Path, path: &Path) -> Result<String, ConfError> {
    let mut bytes = Vec::new();
    let read = File::open(place).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|reason| ConfError::Read { file: path.to_owned(), reason })?;
    let name = path.display().to_string();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it is larger than {FILE_BYTES_MAX} bytes, which no configuration is");
        return Err(ConfError::Whole { file: name, what });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let what = "this is not UTF-8 text; save the file as UTF-8".into();
        ConfError::Line { file: name, line, what }
    })
}

impl Default for Config {
    fn default() -> Config {
        let mut config = Config {
            nodes: Vec::new(),
            cluster_id: CLUSTER_ID_DEFAULT.to_owned(),
            cluster_id_is_set: false,
            data_dir: None,
            heartbeat_ms: 0,
            election_min_ms: 0,
            election_max_ms: 0,
            priorities: BTreeMap::new(),
            lease_reads: 0,
            snapshot_log_bytes: 0,
            limits: Limits::default(),
        };
        for setting in SETTINGS {
            *(setting.slot)(&mut config) = setting.default;
        }
        config
    }
}

impl Config {
    /// Reads and checks the file. A file that does not exist is an error, see [`ConfError::is_not_found`].
    pub fn load(path: &Path) -> Result<Config, ConfError> {
        Config::parse(&read_text(path, path)?, &path.display().to_string())
    }

    /// Checks a text as if it stood in the file `name`, which is used in messages only.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfError> {
        parser::parse(text, name)
    }

    /// The node with this number.
    pub fn node(&self, id: u64) -> Option<&NodeAddress> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Every node's advertised address, `host:port`, in the order of their numbers.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(NodeAddress::address).collect()
    }
}

/// Whether leases are of use with this time between heartbeats and this shortest election timeout, both in milliseconds:
/// one lasts until the next heartbeat is answered. `lease_reads=1` is refused where they are not.
pub fn leases_fit(heartbeat_ms: u64, election_min_ms: u64) -> bool {
    heartbeat_ms * LEASE_HEARTBEATS_MIN + LEASE_MARGIN_MS <= election_min_ms
}
