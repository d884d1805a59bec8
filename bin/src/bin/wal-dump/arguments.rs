//! The command line. Every flag may also be given as an environment variable; a flag wins over its variable.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::FalseyValueParser;

const EXAMPLES: &str = "\
Examples:
  wal-dump test-data/node0                         what is in the directory of node 0, and whether it is sound
  wal-dump test-data/node0 --entries 100..120      … with these entries of the log
  wal-dump test-data/node0 --entries .. --json     … with all of them, for a program

The node must be stopped, or what is read would move meanwhile: a directory in use is refused (a copy of it is not), and
no node can start on it while it is read. Nothing is ever written.

A torn tail is no damage: it is what a killed node was writing, which nobody was told is safe. Entries are shown in the order
in which they were written: a later one replaces those of its own and of higher indexes before it.

Exit codes: 0 sound; 1 damaged, so that a node would not start, or would fall back on an older snapshot; 2 wrong
usage, no data of a node, in use, or not to be read.";

/// Shows what is in a node's data directory: identity, log, snapshots, and where any of it is torn or damaged.
#[derive(Debug, Parser)]
#[command(name = "wal-dump", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The data directory of one node, e.g. test-data/node0
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Show the log's entries from index A to index B, both included; either may be left out
    #[arg(long, value_name = "A..B", env = "RAFT_KV_ENTRIES", value_parser = indexes)]
    pub(crate) entries: Option<RangeInclusive<u64>>,

    /// Print one JSON object instead of text
    #[arg(long, env = "RAFT_KV_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

fn indexes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || "write A..B with two indexes of the log, e.g. 100..120, 100.. or ..120".to_owned();
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str, absent: u64| match text {
        "" => Ok(absent),
        text => text.parse::<u64>().map_err(|_| wrong()),
    };
    let (first, last) = (number(first, 0)?, number(last, u64::MAX)?);
    if first > last {
        return Err(format!("{first} comes after {last}; {}", wrong()));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_has_its_variable_and_its_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
            assert!(argument.is_positional() || argument.get_env().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn a_range_may_be_open_at_either_end_and_nonsense_is_refused() {
        assert_eq!(indexes("3..7"), Ok(3..=7));
        assert_eq!(indexes("3.."), Ok(3..=u64::MAX));
        assert_eq!(indexes("..7"), Ok(0..=7));
        assert_eq!(indexes(".."), Ok(0..=u64::MAX));
        for bad in ["", "3", "7..3", "a..b", "-1..2", "1..2..3"] {
            assert!(indexes(bad).is_err(), "{bad}");
        }
    }
}
