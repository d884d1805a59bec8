//! From the file's words to the server's: the one place where both are known.

use std::path::PathBuf;

use conf::Config;
use kvserver::{Server, ServerConfig, StartError, Stopped};

use rpc::RpcError;
use rustix::io::Errno;

use crate::Outcome;
use crate::advice::quoted;
use crate::failure::Failure;

/// A node that runs.
pub(crate) struct RunningServer {
    server: Server,
}

/// Starts node `id` of the cluster on the data in `data_dir`; a new one that `joins` waits to be added.
pub(crate) fn start(
    config: &Config,
    id: u64,
    data_dir: PathBuf,
    joins: bool,
) -> Result<RunningServer, Failure> {
    match Server::start(&ServerConfig { joins, ..server_config(config, id, data_dir.clone())? }) {
        Ok(server) => Ok(RunningServer { server }),
        Err(StartError::Config(text)) => Err(Failure::Usage(text)),
        Err(error @ StartError::Storage { .. }) => {
            let data_dir = quoted(data_dir.as_os_str());
            Err(Failure::Runtime(format!("{error}; `wal-dump {data_dir}` shows what is there")))
        }
        Err(StartError::Rpc(error)) => Err(Failure::Runtime(listen_text(id, &error))),
        Err(error) => Err(Failure::Runtime(error.to_string())),
    }
}

/// What the reactor says, with what to write where the machine has not the address that others connect to.
fn listen_text(id: u64, error: &RpcError) -> String {
    let foreign = std::io::Error::from(Errno::ADDRNOTAVAIL).to_string();
    match error {
        RpcError::Listen { cause, address } if *cause == foreign => {
            let port = address.rsplit(':').next().unwrap_or_default();
            format!(
                "{error}: this machine does not have that address; if it is right for the others, name one to listen \
                 on, for instance node{id}listen=0.0.0.0:{port}"
            )
        }
        _ => error.to_string(),
    }
}

impl RunningServer {
    /// What makes [`RunningServer::run`] return; may be called from any thread, any number of times.
    pub(crate) fn stopper(&self) -> impl Fn() + Clone + Send + 'static {
        let signal = self.server.stop_signal();
        move || signal.stop()
    }

    /// Until the node is told to stop (Ok) or cannot go on (Err); it has stopped in order then.
    pub(crate) fn run(self) -> Outcome {
        let stopped = self.server.wait();
        self.server.stop();
        match stopped {
            Stopped::Asked => Ok(()),
            Stopped::Failed(text) => Err(Failure::Runtime(text)),
        }
    }
}

fn server_config(config: &Config, id: u64, data_dir: PathBuf) -> Result<ServerConfig, Failure> {
    let node = config.node(id).expect("the file was checked to name this node");
    let members = config.nodes.iter().map(|node| (node.id, node.address())).collect();
    let mut server = ServerConfig::new(id, &config.cluster_id, members, &node.listen_address(), data_dir);
    server.heartbeat_ms = config.heartbeat_ms;
    server.election_min_ms = config.election_min_ms;
    server.election_max_ms = config.election_max_ms;
    server.priorities = config.priorities.iter().map(|(id, priority)| (*id, *priority)).collect();
    server.lease_reads = config.lease_reads == 1;
    server.snapshot_log_bytes = config.snapshot_log_bytes;
    server.key_bytes_max = size("key_bytes_max", config.limits.key_bytes_max)?;
    server.value_bytes_max = size("value_bytes_max", config.limits.value_bytes_max)?;
    server.uncommitted_bytes_max = size("uncommitted_bytes_max", config.limits.uncommitted_bytes_max)?;
    server.apply_queue_batches = size("apply_queue_batches", config.limits.apply_queue_batches)?;
    server.connections_max = size("connections_max", config.limits.connections_max)?;
    server.calls_in_flight_max = size("calls_in_flight_max", config.limits.calls_in_flight_max)?;
    Ok(server)
}

/// A setting as a size in memory, which on a 32-bit machine may be less than the file asks for.
fn size(key: &str, value: u64) -> Result<usize, Failure> {
    usize::try_from(value)
        .map_err(|_| Failure::Usage(format!("{key}={value} is more than this machine can count")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_machine_is_answered_with_the_setting_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        // Kept for documentation (RFC 5737): no machine has it.
        let config = Config::parse("node0ip=192.0.2.1\nnode0port=29016\n", "test.conf").unwrap();
        let refused = start(&config, 0, folder.path().to_owned(), false);
        let Err(Failure::Runtime(text)) = refused else { panic!("the node listens on a foreign address") };
        assert!(text.ends_with("for instance node0listen=0.0.0.0:29016"), "{text}");
    }

    #[test]
    fn what_the_file_does_not_say_is_the_servers_own_default() {
        let config = Config::parse("node0ip=127.0.0.1\nnode0port=29016\n", "test.conf").unwrap();
        let adapted = server_config(&config, 0, PathBuf::from("data")).unwrap();
        let members = vec![(0, "127.0.0.1:29016".to_owned())];
        let own = ServerConfig::new(0, "raft-kv", members, "127.0.0.1:29016", PathBuf::from("data"));
        assert_eq!(format!("{adapted:?}"), format!("{own:?}"));
    }
}
