//! The command line. Every flag may also be given as an environment variable; a flag wins over its variable.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
use clerk::Consistency;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  clerk                                      the origin's loop: 500 puts and gets of the key x
  clerk put colour red                       store a value
  clerk get colour                           print it
  clerk append colour dish                   now it is reddish
  clerk put photo - < photo.jpg              any bytes from standard input …
  clerk get photo --raw > copy.jpg           … and back, without a newline
  clerk get colour --consistency follower    any node serves it, and it is as new
  clerk get colour --consistency stale --max-age-ms 500
  clerk delete colour
  clerk status                               who leads, how far everybody is
  clerk status --explain                     … and why, what each follower waits for, how the disks do
  clerk member list                          who takes part
  clerk member add 3 10.0.0.4:8000           node 3, started with --join, learns …
  clerk member promote 3                     … and votes when it has caught up
  clerk transfer-leader 2                    node 2 is to lead
  clerk --endpoints 10.0.0.1:8000,10.0.0.2:8000 get colour
  clerk bench --op put,get --clients 1,64 --seconds 6

Exit codes: 0 done; 1 there is no such key; 2 wrong usage or configuration; 3 the store is unavailable or did
not finish in time, or the output cannot be written; 130 interrupted. RUST_LOG=debug shows what happens underneath.";

const BENCH_EXAMPLES: &str = "\
Examples:
  clerk bench                                           put, get and mixed with 1, 64 and 256 clients
  clerk bench --op put --clients 256 --value-bytes 1024 --json

Each client has one request outstanding and sends the next when the answer is there. Keys are filled first, untimed.
A get is linearizable; its value is compared with what was put. What fails, misses or differs counts in `errors` only.
--json prints one line a run: {\"op\",\"clients\",\"value_bytes\",\"ops_per_s\",\"p50_us\",\"p99_us\",\"p999_us\",\"errors\"}.";

/// Reads and writes a raft-kv store, shows its state, measures its speed.
///
/// Without a command it runs the loop of the origin.
#[derive(Debug, Parser)]
#[command(name = "clerk", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) target: Target,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Whom to talk to, and how long to wait.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The configuration of the cluster, as raft-core-run writes it
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "RAFT_KV_FILE",
        default_value = "test.conf"
    )]
    pub(crate) file: PathBuf,

    /// Talk to these nodes, HOST:PORT separated by commas; no file is read
    #[arg(long, global = true, value_name = "LIST", env = "RAFT_KV_ENDPOINTS", value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,

    /// How long one operation may take, retries included, in milliseconds
    #[arg(long, global = true, value_name = "MS", env = "RAFT_KV_TIMEOUT_MS", default_value_t = 5000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(crate) timeout_ms: u64,
}

/// What a get must see.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Sees {
    /// What the get must see
    #[arg(long, value_enum, env = "RAFT_KV_CONSISTENCY", default_value_t = ConsistencyName::Linearizable)]
    consistency: ConsistencyName,
    /// With `--consistency stale`: every write acknowledged so long before; a node that cannot prove that it has them
    /// refuses
    #[arg(long, value_name = "MS", env = "RAFT_KV_MAX_AGE_MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    max_age_ms: Option<u64>,
}

/// The names of `--consistency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ConsistencyName {
    /// Every write acknowledged before; the leader serves it, after a round of heartbeats
    Linearizable,
    /// The same, without the round while the leader's lease holds (lease_reads=1 in the configuration)
    Lease,
    /// The same, served by any node, which asks the leader how far it must be
    Follower,
    /// Whatever any node has
    Stale,
}

impl Sees {
    /// As the clerk wants it.
    pub(crate) fn consistency(self) -> Result<Consistency, Failure> {
        let max_age = self.max_age_ms.map(Duration::from_millis);
        Ok(match self.consistency {
            ConsistencyName::Stale => Consistency::Stale { max_age },
            _ if max_age.is_some() => {
                return Err(Failure::Usage("--max-age-ms goes with --consistency stale only".to_owned()));
            }
            ConsistencyName::Linearizable => Consistency::Linearizable,
            ConsistencyName::Lease => Consistency::Lease,
            ConsistencyName::Follower => Consistency::Follower,
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put and get the key x 500 times, as the origin's clerk does
    Loop,
    /// Set KEY to VALUE
    Put {
        /// The key
        key: OsString,
        /// The value; `-` takes it from standard input, any bytes
        #[arg(allow_negative_numbers = true)]
        value: OsString,
    },
    /// Add VALUE to the end of KEY's value
    Append {
        /// The key
        key: OsString,
        /// What to add; `-` takes it from standard input, any bytes
        #[arg(allow_negative_numbers = true)]
        value: OsString,
    },
    /// Print the value of KEY and a newline
    Get {
        /// The key
        key: OsString,
        /// Print the value without a newline after it
        #[arg(long, env = "RAFT_KV_RAW", value_parser = FalseyValueParser::new())]
        raw: bool,
        #[command(flatten)]
        sees: Sees,
    },
    /// Remove KEY
    Delete {
        /// The key
        key: OsString,
    },
    /// Show every node: its role (or busy, or down), its term, how far it is
    Status {
        /// Print a list of JSON objects instead of a table
        #[arg(long, env = "RAFT_KV_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
        /// Also say why: the last change, the last election, what each follower waits for, how the disks do
        #[arg(long, env = "RAFT_KV_EXPLAIN", value_parser = FalseyValueParser::new())]
        explain: bool,
    },
    /// Show the members of the cluster, or change them
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Make NODE the leader; done when it leads
    TransferLeader {
        /// The node's number
        node: u64,
    },
    /// Measure operations per second and latencies
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchPlan),
}

/// What to do with the members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Show every member: its number, its address, whether it votes
    List {
        /// Print a list of JSON objects instead of a table
        #[arg(long, env = "RAFT_KV_JSON", value_parser = FalseyValueParser::new())]
        json: bool,
    },
    /// Add NODE, which runs at ADDRESS, as a learner; of a member: it lives at ADDRESS from now on
    Add {
        /// The node's number, which was never used
        node: u64,
        /// HOST:PORT, as the others reach it
        address: String,
    },
    /// Make the learner NODE a voter, as soon as it has caught up
    Promote {
        /// The node's number
        node: u64,
    },
    /// Remove NODE, voter or learner
    Remove {
        /// The node's number
        node: u64,
    },
}

/// What one client of a benchmark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOperation {
    /// Overwrites a random key
    Put,
    /// Gets a random key
    Get,
    /// Half puts, half gets
    Mixed,
}

impl BenchOperation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            BenchOperation::Put => "put",
            BenchOperation::Get => "get",
            BenchOperation::Mixed => "mixed",
        }
    }
}

/// Which runs to make: one for each pair of an operation and a number of clients.
#[derive(Args, Debug)]
pub(crate) struct BenchPlan {
    /// What the clients do, one run each
    #[arg(long = "op", value_enum, value_delimiter = ',', value_name = "LIST", env = "RAFT_KV_BENCH_OP")]
    #[arg(default_value = "put,get,mixed")]
    pub(crate) operations: Vec<BenchOperation>,

    /// How many clients, one run each; a client has one request outstanding
    #[arg(long, value_delimiter = ',', value_name = "LIST", env = "RAFT_KV_BENCH_CLIENTS")]
    #[arg(default_value = "1,64,256", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) clients: Vec<u32>,

    /// Bytes of a value
    #[arg(long, value_name = "N", env = "RAFT_KV_BENCH_VALUE_BYTES", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=32 << 20))]
    pub(crate) value_bytes: u32,

    /// Seconds that are measured, at least 0.001
    #[arg(long, value_name = "S", env = "RAFT_KV_BENCH_SECONDS", default_value_t = 6.0, value_parser = measured_seconds)]
    pub(crate) seconds: f64,

    /// Seconds before the measured ones
    #[arg(long, value_name = "S", env = "RAFT_KV_BENCH_WARMUP", default_value_t = 1.0, value_parser = seconds)]
    pub(crate) warmup: f64,

    /// How many keys there are
    #[arg(long, value_name = "N", env = "RAFT_KV_BENCH_KEYS", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,

    /// Connections that the clients share [default: one for each client]
    #[arg(long, value_name = "N", env = "RAFT_KV_BENCH_CONNECTIONS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) connections: Option<u32>,

    /// Print one JSON object a run and nothing else
    #[arg(long, env = "RAFT_KV_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// In nothing nothing can be measured.
fn measured_seconds(text: &str) -> Result<f64, String> {
    seconds_from(0.001, text)
}

fn seconds(text: &str) -> Result<f64, String> {
    seconds_from(0.0, text)
}

fn seconds_from(min: f64, text: &str) -> Result<f64, String> {
    const MAX: f64 = 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if (min..=MAX).contains(&seconds) => Ok(seconds),
        _ => Err(format!("write a number of seconds from {min} to {MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_has_its_variable_and_its_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        let subcommands = command.get_subcommands().flat_map(|command| command.get_arguments());
        for argument in command.get_arguments().chain(subcommands) {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
            assert!(argument.is_positional() || argument.get_env().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_handbook() {
        let arguments = Arguments::try_parse_from(["clerk"]).unwrap();
        assert_eq!(arguments.target.file, PathBuf::from("test.conf"));
        assert_eq!(arguments.target.timeout_ms, 5000);
        assert!(arguments.target.endpoints.is_empty() && arguments.command.is_none());
        let bench = Arguments::try_parse_from(["clerk", "bench"]).unwrap();
        let Some(Command::Bench(plan)) = bench.command else { panic!("no bench") };
        assert_eq!((plan.operations.len(), plan.clients), (3, vec![1, 64, 256]));
        assert_eq!((plan.value_bytes, plan.keys, plan.connections), (256, 100_000, None));
        assert_eq!((plan.seconds, plan.warmup, plan.json), (6.0, 1.0, false));
    }

    #[test]
    fn a_bound_on_the_age_goes_with_stale_gets_only() {
        let sees = |words: &[&str]| {
            let words = [&["clerk", "get", "k"], words].concat();
            match Arguments::try_parse_from(words).unwrap().command {
                Some(Command::Get { sees, .. }) => sees.consistency(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(sees(&[]).unwrap(), Consistency::Linearizable);
        let bounded = sees(&["--consistency", "stale", "--max-age-ms", "250"]).unwrap();
        assert_eq!(bounded, Consistency::Stale { max_age: Some(Duration::from_millis(250)) });
        assert!(matches!(sees(&["--max-age-ms", "250"]), Err(Failure::Usage(_))));
    }

    #[test]
    fn values_may_look_like_flags_and_global_flags_may_stand_anywhere() {
        let value = |words: &[&str]| match Arguments::try_parse_from(words).unwrap().command {
            Some(Command::Put { value, .. }) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(&["clerk", "put", "k", "-"]), "-");
        assert_eq!(value(&["clerk", "put", "k", "-5"]), "-5");
        assert_eq!(value(&["clerk", "put", "--", "k", "--help"]), "--help");
        assert_eq!(value(&["clerk", "put", "k", ""]), "");
        let after = Arguments::try_parse_from(["clerk", "get", "k", "--endpoints", "a:1,b:2"]).unwrap();
        assert_eq!(after.target.endpoints, ["a:1", "b:2"]);
    }

    #[test]
    fn wrong_usage_ends_with_exit_code_2_and_help_with_0() {
        for words in
            [&["clerk", "put", "k"][..], &["clerk", "nonsense"], &["clerk", "bench", "--clients", "0"]]
        {
            assert_eq!(Arguments::try_parse_from(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(Arguments::try_parse_from(["clerk", "--help"]).unwrap_err().exit_code(), 0);
    }
}
