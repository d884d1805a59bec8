//! `bench`: operations per second and latencies, as a client sees them.
//!
//! Clients are closed loops driven by completions on one reactor thread: no thread a client, no lock that anybody else
//! wants, since the client shares the machine with the nodes it measures. What is counted is only what was answered
//! rightly: a get's value is compared with what was put, and its version with what was acknowledged before.

mod fill;
mod report;
mod run;
mod workload;

use std::{io::IsTerminal, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use rpc::{Reactor, ReactorConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{report::Report, workload::Workload};
use crate::{
    arguments::{BenchPlan, Target},
    failure::Failure,
    interrupt::Interrupt,
    status,
};

/// How long closing the connections may take at the end.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// Files and the like that are open besides the connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// What all parts of a benchmark need.
struct Context<'a> {
    target: &'a Target,
    plan: &'a BenchPlan,
    reactor: Reactor,
    /// The leader first, so that each client's only connection is the one it needs.
    endpoints: Vec<String>,
    interrupt: Interrupt,
}

pub(crate) fn run(target: &Target, plan: &BenchPlan) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let nodes = target.nodes()?;
    let endpoints = leader_first(&status::ask(&nodes, target.timeout())?)?;
    raise_descriptor_limit(plan, endpoints.len() as u64);
    let reactor = Reactor::start("clerk-bench", ReactorConfig::default())
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let context = Context { target, plan, reactor, endpoints, interrupt };
    let outcome = measure(&context, &nodes);
    context.reactor.stop(STOP_WITHIN);
    outcome
}

fn measure(context: &Context<'_>, nodes: &[crate::target::NodeTarget]) -> Result<(), Failure> {
    let plan = context.plan;
    let workload = Arc::new(Workload::new(plan.keys, plan.value_bytes as usize));
    fill::run(context, &workload)?;
    let report = Report::new(plan.json);
    // Asked after the fill, which gave the log's syncs something to be the median of.
    report.head(&status::ask(nodes, context.target.timeout())?)?;
    for operation in &plan.operations {
        for clients in &plan.clients {
            let result = run::run(context, &workload, *operation, *clients)?;
            if let Some(result) = result {
                report.row(&result)?;
            }
            if context.interrupt.is_asked() {
                return Err(Failure::Interrupted);
            }
        }
    }
    Ok(())
}

/// The addresses, the leader's first; an error if no node answers at all.
fn leader_first(answers: &[status::Answered]) -> Result<Vec<String>, Failure> {
    if let (true, Some(Err(error))) =
        (answers.iter().all(|answered| answered.reply.is_err()), answers.first().map(|first| &first.reply))
    {
        return Err(Failure::Unavailable(format!("no node answered: {error}")));
    }
    let leader = status::leader(answers).map(|leader| leader.node.address.clone());
    let mut endpoints: Vec<String> = leader.into_iter().collect();
    for answered in answers {
        if !endpoints.contains(&answered.node.address) {
            endpoints.push(answered.node.address.clone());
        }
    }
    Ok(endpoints)
}

/// Many clients are many sockets. If the system allows no more, connecting says so.
fn raise_descriptor_limit(plan: &BenchPlan, nodes: u64) {
    let clients = plan.clients.iter().copied().max().map_or(0, u64::from);
    let wanted = clients * nodes + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let raised = Rlimit { current: Some(current), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
        }
    }
}

/// A bar on standard error while it is a terminal; standard output belongs to the results.
fn progress(plan: &BenchPlan, length: u64, what: &str) -> ProgressBar {
    if plan.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg:24} {bar:40} {percent:>3}%").expect("the template is a constant");
    ProgressBar::new(length).with_style(style).with_message(what.to_string())
}
