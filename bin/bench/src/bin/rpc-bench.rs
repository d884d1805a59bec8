//! The comparison: this framework beside tonic and tarpc and beside two floors, in one run on one machine.
//!
//! `cargo run --release -p rpc-bench --bin rpc-bench` builds the peers (in a workspace of their own, so that nobody else
//! builds them), runs each shape with each of them in turn, several times, and prints medians and ratios. Machines differ
//! and are shared: the ratios are what counts.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use comfy_table::Table;
use rpc_bench::tally::Report;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Clock ticks per second in `/proc`, the same on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Compares the RPC framework with its peers and with what the machine can do.
#[derive(Parser)]
#[command(name = "rpc-bench", version)]
struct Arguments {
    /// Runs of each pair of shape and framework; the medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these shapes: a, b, c, d, or with large payloads B, C, D.
    #[arg(long, value_delimiter = ',', default_value = "a,b,c,d,B,C,D")]
    shapes: Vec<char>,
    /// Only these: floor, ours, tarpc, tonic; for shape a ping-pong, too.
    #[arg(long, value_delimiter = ',', default_value = "floor,ours,tarpc,tonic")]
    peers: Vec<String>,
    /// On which processors the two sides run.
    #[arg(long, value_enum, default_value_t = Placement::Apart)]
    placement: Placement,
}

/// On which processors the two sides run. It decides more than anything else about calls one at a time: between two
/// processors each message wakes one that sleeps. Left to the system, it differs from run to run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// Each on one of its own.
    Apart,
    /// Both on the same one.
    Together,
    /// As the system likes.
    Free,
}

impl Placement {
    /// Has this thread, and the process that it starts next, run where one side does.
    fn enter(self, allowed: &CpuSet, is_client: bool) -> anyhow::Result<()> {
        let mut processors = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        let mut wanted = CpuSet::new();
        match self {
            Placement::Free => wanted = *allowed,
            Placement::Apart if is_client => {
                wanted.set(processors.nth(1).context("two processors are needed to run apart")?);
            }
            Placement::Apart | Placement::Together => {
                wanted.set(processors.next().context("a program runs on a processor")?);
            }
        }
        Ok(sched_setaffinity(None, &wanted)?)
    }
}

/// Connections, calls in flight on each, payload bytes.
struct Shape {
    letter: char,
    conns: u32,
    inflight: u32,
    payload: usize,
}

const SHAPES: [Shape; 7] = [
    Shape { letter: 'a', conns: 1, inflight: 1, payload: 16 },
    Shape { letter: 'b', conns: 1, inflight: 64, payload: 16 },
    Shape { letter: 'c', conns: 64, inflight: 1, payload: 16 },
    Shape { letter: 'd', conns: 8, inflight: 32, payload: 16 },
    Shape { letter: 'B', conns: 1, inflight: 64, payload: 65_536 },
    Shape { letter: 'C', conns: 64, inflight: 1, payload: 65_536 },
    Shape { letter: 'D', conns: 8, inflight: 32, payload: 65_536 },
];

/// A server process; it ends with this value.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(mut command: Command) -> anyhow::Result<Server> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {program}"))?;
        let mut server = Server { child, address: String::new() };
        let stdout = server.child.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ");
        server.address =
            address.with_context(|| format!("{program} does not say where it listens"))?.to_owned();
        Ok(server)
    }

    /// Processor time it has used so far, in seconds.
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').context("the name in a stat file stands in parentheses")?.1;
        let tick = |position: usize| {
            fields.split_whitespace().nth(position).and_then(|text| text.parse::<f64>().ok())
        };
        let (user, system) = tick(11).zip(tick(12)).context("a stat file has the times")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; there is nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One measured run.
struct Measured {
    report: Report,
    /// Processor seconds of the server per million calls.
    server_cpu: f64,
}

/// Where the programs lie, and where they run.
struct Programs {
    ours: PathBuf,
    peers: PathBuf,
    placement: Placement,
    /// The processors that there are.
    allowed: CpuSet,
}

impl Programs {
    fn build(placement: Placement) -> anyhow::Result<Programs> {
        let ours = std::env::current_exe()?.parent().context("a program lies in a folder")?.to_owned();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = ours.parent().context("profiles lie in a target folder")?.join("peers");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        for arguments in [
            vec!["build", "--release", "--locked", "-p", "rpc-bench", "--bins"],
            vec!["build", "--release", "--locked", "--manifest-path", "peers/Cargo.toml", "--target-dir"],
        ] {
            let mut command = Command::new(&cargo);
            command.current_dir(here).args(&arguments);
            if arguments.last() == Some(&"--target-dir") {
                command.arg(&target);
            } else {
                // This very program is not written anew while it runs.
                command.env("CARGO_TARGET_DIR", ours.parent().unwrap_or(&ours));
            }
            ensure!(command.status()?.success(), "cargo {} failed", arguments.join(" "));
        }
        Ok(Programs { ours, peers: target.join("release"), placement, allowed: sched_getaffinity(None)? })
    }

    fn command(&self, peer: &str, side: &str) -> Command {
        if peer == "ours" {
            return Command::new(self.ours.join(format!("rpc-bench-{side}")));
        }
        let mut command = Command::new(self.peers.join(format!("{peer}-peer")));
        command.arg(side);
        command
    }

    fn measure(&self, peer: &str, shape: &Shape, seconds: f64) -> anyhow::Result<Measured> {
        self.placement.enter(&self.allowed, false)?;
        let server = Server::start(self.command(peer, "server"))?;
        let before = server.cpu_seconds()?;
        let mut client = self.command(peer, "client");
        client.args(["--addr", &server.address, "--conns", &shape.conns.to_string()]);
        client.args(["--inflight", &shape.inflight.to_string(), "--payload", &shape.payload.to_string()]);
        client.args(["--seconds", &seconds.to_string(), "--warmup", "1"]);
        self.placement.enter(&self.allowed, true)?;
        let output = client.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the client of {peer} failed");
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().with_context(|| format!("the client of {peer} printed nothing"))?;
        let report: Report = serde_json::from_str(line)?;
        if report.errors > 0 {
            bail!("{peer} failed {} calls of shape {}", report.errors, shape.letter);
        }
        let server_cpu = (server.cpu_seconds()? - before) * 1e6 / report.calls_total.max(1) as f64;
        Ok(Measured { report, server_cpu })
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Medians of one shape for one peer.
struct Medians {
    calls_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    server_cpu: f64,
}

impl Medians {
    fn of(runs: &[Measured]) -> Medians {
        let of = |figure: fn(&Measured) -> f64| median(runs.iter().map(figure).collect());
        Medians {
            calls_per_s: of(|run| run.report.calls_per_s),
            p50_us: of(|run| run.report.p50_us),
            p99_us: of(|run| run.report.p99_us),
            server_cpu: of(|run| run.server_cpu),
        }
    }
}

fn rows(table: &mut Table, shape: &Shape, peers: &[String], runs: &BTreeMap<String, Vec<Measured>>) {
    let medians: Vec<_> = peers.iter().map(|peer| (peer, Medians::of(&runs[peer]))).collect();
    let base =
        |name: &str| medians.iter().find(|(peer, _)| *peer == name).map(|(_, found)| found.calls_per_s);
    for (peer, found) in &medians {
        let ratio =
            |name| base(name).map_or("–".to_owned(), |base| format!("{:.2}", found.calls_per_s / base));
        table.add_row([
            format!("{} {} × {}, {} B", shape.letter, shape.conns, shape.inflight, shape.payload),
            (*peer).clone(),
            format!("{:.0}", found.calls_per_s),
            format!("{:.0}", found.p50_us),
            format!("{:.0}", found.p99_us),
            format!("{:.2}", found.server_cpu),
            ratio("floor"),
            ratio("tarpc"),
        ]);
    }
}

fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = Programs::build(arguments.placement)?;
    let mut table = Table::new();
    table.set_header(["shape", "who", "calls/s", "p50 µs", "p99 µs", "server s/M", "× floor", "× tarpc"]);
    for shape in SHAPES.iter().filter(|shape| arguments.shapes.contains(&shape.letter)) {
        let mut runs: BTreeMap<String, Vec<Measured>> = BTreeMap::new();
        for run in 1..=arguments.runs {
            // In turn, so that a slow moment of the machine meets all of them.
            for peer in &arguments.peers {
                eprintln!("shape {}, run {run} of {}: {peer}", shape.letter, arguments.runs);
                let measured = programs.measure(peer, shape, arguments.seconds)?;
                runs.entry(peer.clone()).or_default().push(measured);
            }
        }
        rows(&mut table, shape, &arguments.peers, &runs);
    }
    println!("{table}");
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = compare(&Arguments::parse()) else { return ExitCode::SUCCESS };
    eprintln!("rpc-bench: {error:#}");
    ExitCode::FAILURE
}
