//! What a node is started with, and the limits it keeps.

use std::path::PathBuf;

use raft::core::NodeId;

/// The configuration of one node. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This node's id; one of `members`.
    pub node_id: u64,
    /// The cluster's name. Nodes of another one are refused, on the wire and in the data directory.
    pub cluster_id: String,
    /// Every member with its advertised `host:port`, as of the configuration. Once the members have been changed the log
    /// says who they are and where they live.
    pub members: Vec<(u64, String)>,
    /// At its first start the node waits to be added to a cluster that exists, rather than begin one with `members`.
    pub joins: bool,
    /// The voters that the cluster began with; None until it has. They stay what they were, whatever is written into the
    /// configuration later.
    pub founders: Option<Vec<NodeId>>,
    /// The `host:port` to listen on.
    pub listen: String,
    /// The node's own directory; made with mode 0700 when it is not there.
    pub data_dir: PathBuf,
    /// How often a leader says that it lives. Default 25.
    pub heartbeat_ms: u64,
    /// The shortest election timeout. Default 300.
    pub election_min_ms: u64,
    /// The longest election timeout. Default 500.
    pub election_max_ms: u64,
    /// Whether the leader serves reads that allow it by a lease instead of a round. All nodes must say the same. Default no.
    pub lease_reads: bool,
    /// Nodes that should rather lead, the higher the rather; the others have 0.
    pub priorities: Vec<(u64, u32)>,
    /// How much log is applied before a snapshot is taken. A snapshot is also not taken before the log is as large
    /// as the last one, so that a big store does not write itself over and over. Default 64 MiB.
    pub snapshot_log_bytes: u64,
    /// Entries that stay in memory behind a snapshot, so that a follower a little behind needs none. Default 10,000.
    pub trailing_entries: u64,
    /// The largest key. A larger one is answered `TOO_LARGE`. Default 64 KiB.
    pub key_bytes_max: usize,
    /// The largest value of a request. A larger one is answered `TOO_LARGE`. Default 8 MiB.
    pub value_bytes_max: usize,
    /// Entries proposed and not yet committed. Beyond it writes are answered `BUSY`. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Entries in one message to a peer; one entry may be larger. Default 1 MiB, so that heartbeats pass.
    pub append_bytes_max: u64,
    /// Messages with entries on their way to one peer; what comes later shares a message. Default 256.
    pub inflight_messages_max: usize,
    /// Entries on their way to one peer; what comes later waits. Default 16 MiB.
    pub inflight_bytes_max: u64,
    /// Entries that a leader's own disk does not have yet. Beyond it writes are answered `BUSY`. Default 64 MiB.
    pub unpersisted_bytes_max: u64,
    /// Committed entries handed out and not yet applied. Beyond it nothing more is handed out, and writes are answered
    /// `BUSY`. Default 64 MiB.
    pub unapplied_bytes_max: u64,
    /// The log in memory. Beyond it writes are answered `BUSY` until a snapshot makes room. Default 512 MiB.
    pub log_bytes_max: u64,
    /// Entries that stay in memory behind a snapshot, in bytes; at most half of `log_bytes_max`. Default 16 MiB.
    pub trailing_bytes_max: u64,
    /// How long a peer's snapshot may take before it is asked for once more. Default 60,000.
    pub snapshot_patience_ms: u64,
    /// Batches of committed entries between Raft and the apply-loop. When full the applier waits. Default 64.
    pub apply_queue_batches: usize,
    /// Client and peer connections. Beyond it none is accepted until one closes. Default 10,000.
    pub connections_max: usize,
    /// Requests being served at once. Beyond it a request is answered `OVERLOADED`. Default 65,536.
    pub calls_in_flight_max: usize,
}

impl ServerConfig {
    /// A configuration with every limit at its default.
    pub fn new(
        node_id: u64,
        cluster_id: &str,
        members: Vec<(u64, String)>,
        listen: &str,
        data_dir: PathBuf,
    ) -> Self {
        ServerConfig {
            node_id,
            cluster_id: cluster_id.to_owned(),
            members,
            joins: false,
            founders: None,
            listen: listen.to_owned(),
            data_dir,
            heartbeat_ms: 25,
            election_min_ms: 300,
            election_max_ms: 500,
            lease_reads: false,
            priorities: Vec::new(),
            snapshot_log_bytes: 64 << 20,
            trailing_entries: 10_000,
            key_bytes_max: 64 << 10,
            value_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            append_bytes_max: 1 << 20,
            inflight_messages_max: 256,
            inflight_bytes_max: 16 << 20,
            unpersisted_bytes_max: 64 << 20,
            unapplied_bytes_max: 64 << 20,
            log_bytes_max: 512 << 20,
            trailing_bytes_max: 16 << 20,
            snapshot_patience_ms: 60_000,
            apply_queue_batches: 64,
            connections_max: 10_000,
            calls_in_flight_max: 65_536,
        }
    }
}
