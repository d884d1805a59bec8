//! The command line. Every flag may also be given as an environment variable; a flag wins over its variable.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The variables behind the flags; a parent keeps them from its children, whom it tells everything by flags.
pub(crate) const VARIABLES: [&str; 5] =
    ["RAFT_KV_NODES", "RAFT_KV_FILE", "RAFT_KV_DATA_DIR", "RAFT_KV_NODE", "RAFT_KV_JOIN"];

const EXAMPLES: &str = "\
Examples:
  raft-core-run -n 3 -f test.conf           three nodes on this machine; test.conf is written if it is not there
  raft-core-run -f test.conf                the nodes that test.conf names, with the data of the last time
  raft-core-run --node 1 -f cluster.conf    on a real host: node 1 of the cluster, in the foreground
  raft-core-run --node 3 -f cluster.conf --join   a further node, named in the file, of a cluster that exists
  raft-core-run recover -f cluster.conf     a majority of the nodes is lost for good: shows what is left, and asks
  RUST_LOG=debug raft-core-run -n 1         one node, talkative

The settings of the file are listed in conf/sample.conf. Logs go to stderr.
Exit codes: 0 stopped as asked; 1 a failure while starting or running; 2 wrong usage or configuration.";

/// Starts a raft-kv cluster on this machine, or one node of a cluster.
#[derive(Debug, Parser)]
#[command(name = "raft-core-run", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) order: Option<Order>,

    /// How many nodes, 1 to 7, at the first start [default: as many as the file names, 3 for a new file]
    #[arg(short = 'n', long = "nodes", value_name = "N", env = "RAFT_KV_NODES")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=conf::NODES_MAX as u64))]
    pub(crate) nodes: Option<u64>,

    /// The configuration of the cluster; written, with free ports, if it does not exist or names no node
    #[arg(short, long, value_name = "FILE", env = "RAFT_KV_FILE", default_value = "test.conf")]
    pub(crate) file: PathBuf,

    /// The folder that holds the nodes' data, node I in DIR/nodeI [default: beside FILE, e.g. test-data]
    #[arg(long, value_name = "DIR", env = "RAFT_KV_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Run node I of the cluster in the foreground instead of all of them
    #[arg(long, value_name = "I", env = "RAFT_KV_NODE")]
    pub(crate) node: Option<u64>,

    /// At the first start of node I: wait until `clerk member add` adds it to a cluster that exists
    #[arg(long, requires = "node", env = "RAFT_KV_JOIN", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) join: bool,

    /// The launcher whose child this node is: the node ends when that process does
    #[arg(long, hide = true, requires = "node")]
    pub(crate) parent_pid: Option<i32>,
}

/// What else than running nodes there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Makes a new cluster of what one node has left, or several damaged ones together, when a majority of the nodes is lost for good. Shows what is there and
    /// what would be lost, and asks; deletes nothing
    Recover(RecoverArguments),
}

/// See [`Order::Recover`].
#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// The configuration of the cluster; gets a new cluster_id
    #[arg(short, long, value_name = "FILE", default_value = "test.conf")]
    pub(crate) file: PathBuf,

    /// The folder that holds the nodes' data [default: as for the nodes]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// The node to recover from, or "all": what can be put together of logs that are all damaged [default: whichever has the
    /// furthest log]
    #[arg(long, value_name = "NODE|all", value_parser = parse_source)]
    pub(crate) from: Option<Source>,

    /// Do not ask; needs --from
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What a recovery starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// What one node has.
    Node(u64),
    /// What all of them have together.
    All,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Node(node) => node.fmt(f),
            Source::All => f.write_str("all"),
        }
    }
}

fn parse_source(text: &str) -> Result<Source, String> {
    match text {
        "all" => Ok(Source::All),
        _ => {
            text.parse().map(Source::Node).map_err(|_| "neither the number of a node nor \"all\"".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_visible_flag_has_its_variable() {
        let command = Arguments::command();
        command.clone().debug_assert();
        let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let variables: Vec<_> = visible.filter_map(|argument| argument.get_env()).collect();
        assert_eq!(variables, VARIABLES);
    }

    #[test]
    fn the_number_of_nodes_is_one_to_seven() {
        for good in ["1", "7"] {
            assert!(Arguments::try_parse_from(["raft-core-run", "-n", good]).is_ok());
        }
        for bad in ["0", "8", "-1", "three"] {
            assert!(Arguments::try_parse_from(["raft-core-run", "-n", bad]).is_err());
        }
    }
}
