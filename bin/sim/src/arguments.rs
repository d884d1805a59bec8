//! The arguments, and what they make of a seed's plan.

use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use sim::{FAULTS, Fault, Plan, Workload};

/// Runs simulated clusters with the shipped code and checks what they do.
#[derive(Debug, Parser)]
#[command(name = "sim", version, about)]
pub(crate) struct Arguments {
    /// Run this seed.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes", "until_failure"])]
    pub(crate) seed: Option<u64>,
    /// Run the seeds from A up to, but not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<(u64, u64)>,
    /// Begin no further seed after so long; without --seeds, from seed 0 on.
    #[arg(long, value_name = "M")]
    pub(crate) minutes: Option<u32>,
    /// Stop at the first seed that breaks a rule; without --seeds and --minutes, go on from seed 0 until there is one.
    #[arg(long)]
    pub(crate) until_failure: bool,
    /// What the clients do; drawn by the seed if not given.
    #[arg(long, value_name = "NAME", value_parser = workload_parser())]
    workload: Option<Workload>,
    /// Run without faults: three nodes, fifty operations per simulated second.
    #[arg(long)]
    calm: bool,
    /// Of the kinds of faults that a seed draws, leave out all but these; or "none".
    #[arg(long, value_name = "NAME,…", value_parser = parse_faults)]
    faults: Option<Faults>,
    /// Let the trouble end after so many simulated milliseconds, however few operations there were.
    #[arg(long, value_name = "T")]
    trouble_ms: Option<u32>,
    /// Print every event, one a line: virtual microseconds, who (n0 a node, c3 a client, ! a fault), what.
    #[arg(long)]
    pub(crate) trace: bool,
    /// Look for the shortest run with the fewest kinds of faults that still breaks a rule, in a bounded number of runs.
    #[arg(long)]
    pub(crate) minimize: bool,
    /// Make this mistake, and stop at the first seed that finds it; needs a build with the feature planted_bugs.
    #[arg(long, value_name = "NAME")]
    pub(crate) planted_bug: Option<String>,
    /// Name the mistakes that can be made, and what each does wrong.
    #[arg(long)]
    pub(crate) list_planted_bugs: bool,
}

/// A list of kinds of faults; one argument, also where it is empty.
#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

impl Arguments {
    /// The seeds to run one after the other, the end excluded; None if the arguments name none.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let is_open = self.minutes.is_some() || self.until_failure;
        self.seeds.or(is_open.then_some((0, u64::MAX)))
    }

    /// What is run of this seed.
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        let plan = if self.calm { Plan::calm(seed) } else { Plan::draw(seed, self.workload) };
        let plan = match &self.faults {
            None => plan,
            Some(Faults(kept)) => {
                let left_out: Vec<Fault> = FAULTS.into_iter().filter(|fault| !kept.contains(fault)).collect();
                plan.without(&left_out)
            }
        };
        match self.trouble_ms {
            None => plan,
            Some(ms) => Plan { trouble_us: u64::from(ms) * 1_000, operations_min: 0, ..plan },
        }
    }

    /// The command that runs this plan, which was made of these arguments' plan, and shows everything.
    pub(crate) fn command_of(&self, plan: &Plan) -> String {
        let mut command = format!("sim --seed {} --faults {}", plan.seed, fault_names(&plan.faults));
        if plan.operations_min == 0 {
            command.push_str(&format!(" --trouble-ms {}", plan.trouble_us / 1_000));
        }
        if let Some(workload) = self.workload {
            command.push_str(&format!(" --workload {}", workload.name()));
        }
        if let Some(name) = &self.planted_bug {
            command.push_str(&format!(" --planted-bug {name}"));
        }
        command.push_str(if self.calm { " --calm --trace" } else { " --trace" });
        command
    }
}

/// The names of kinds of faults as `--faults` takes them.
pub(crate) fn fault_names(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    names.join(",")
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("\"{text}\" is not of the form A..B");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let (first, end) = (first.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
    if first < end { Ok((first, end)) } else { Err(format!("there is no seed in {text}")) }
}

fn parse_faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    let named = |name: &str| {
        let found = FAULTS.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| format!("there is no fault {name}; there are {}", fault_names(&FAULTS)))
    };
    text.split(',').map(named).collect::<Result<_, _>>().map(Faults)
}

fn workload_parser() -> impl TypedValueParser<Value = Workload> {
    let names =
        Workload::ALL.map(|workload| PossibleValue::new(workload.name()).help(workload.description()));
    PossibleValuesParser::new(names).map(|name| Workload::named(&name).expect("it is one of these"))
}
