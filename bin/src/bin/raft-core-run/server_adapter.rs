//! From the file's words to the server's: the one place where both are known.

use std::path::PathBuf;
use std::sync::Arc;

use conf::Config;
use kvserver::{Server, ServerConfig};

use crate::Outcome;
use crate::failure::Failure;

/// A server that runs; clones are handles of the same one.
#[derive(Clone)]
pub(crate) struct RunningServer {
    server: Arc<Server>,
}

/// Starts node `id` of the cluster on the data in `data_dir`.
pub(crate) fn start(config: &Config, id: u64, data_dir: PathBuf) -> Result<RunningServer, Failure> {
    let server = Server::start(server_config(config, id, data_dir))
        .map_err(|error| Failure::Runtime(error.to_string()))?;
    Ok(RunningServer { server: Arc::new(server) })
}

fn server_config(config: &Config, id: u64, data_dir: PathBuf) -> ServerConfig {
    let node = config.node(id).expect("the file was checked to name this node");
    ServerConfig {
        node_id: id,
        cluster_id: config.cluster_id.clone(),
        members: config.nodes.iter().map(|node| (node.id, node.address())).collect(),
        listen: node.listen_address(),
        data_dir,
        heartbeat_ms: config.heartbeat_ms,
        election_min_ms: config.election_min_ms,
        election_max_ms: config.election_max_ms,
        snapshot_log_bytes: config.snapshot_log_bytes,
    }
}

impl RunningServer {
    /// Stops the node in order; returns when it has stopped.
    pub(crate) fn stop(&self, reason: &str) {
        log::info!("{reason}: stopping");
        self.server.stop();
    }

    /// Until the node has stopped: Ok when it was asked to.
    pub(crate) fn wait(&self) -> Outcome {
        self.server.wait();
        Ok(())
    }
}
