//! Which nodes the program talks to: those of the configuration file, or those named on the command line.

use std::time::Duration;

use clerk::{Clerk, ClerkConfig};

use crate::{arguments::Target, failure::Failure};

/// One node as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeTarget {
    /// Its number in the file; unknown when it was named by `--endpoints`.
    pub(crate) id: Option<u64>,
    /// `host:port`.
    pub(crate) address: String,
}

impl Target {
    /// The nodes. `--endpoints` needs no file and wins over it.
    pub(crate) fn nodes(&self) -> Result<Vec<NodeTarget>, Failure> {
        if !self.endpoints.is_empty() {
            let named = self.endpoints.iter();
            let nodes = named.map(|address| NodeTarget { id: None, address: address.trim().to_string() });
            return Ok(nodes.collect());
        }
        let config = conf::Config::load(&self.file)?;
        if config.nodes.is_empty() {
            let file = self.file.display();
            return Err(Failure::Usage(format!(
                "{file} names no node; `raft-core-run -n 3 -f {file}` writes them, or use --endpoints HOST:PORT,…"
            )));
        }
        let nodes = config.nodes.iter();
        Ok(nodes.map(|node| NodeTarget { id: Some(node.id), address: node.address() }).collect())
    }

    /// Deadline of one operation.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The clerk's settings as the command line has them.
    pub(crate) fn clerk_config(&self) -> ClerkConfig {
        ClerkConfig { operation_timeout: self.timeout(), ..ClerkConfig::default() }
    }

    /// A clerk of these nodes.
    pub(crate) fn clerk(&self) -> Result<Clerk, Failure> {
        let endpoints: Vec<String> = self.nodes()?.into_iter().map(|node| node.address).collect();
        Ok(Clerk::connect(&endpoints, self.clerk_config())?)
    }
}
