//! One run: so many clients, each a closed loop, for so many seconds.
//!
//! A client is no more than the completion of its latest operation, which begins the next. All completions run on the
//! reactor's thread, so the one lock here is never waited for while clients run.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clerk::{Answer, Clerk, ClerkError, Operation};
use hdrhistogram::Histogram;
use rpc::Reactor;

use super::{
    Context, progress,
    workload::{Book, Workload},
};
use crate::{arguments::BenchOperation, failure::Failure};

/// The longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// How long a client whose operation failed waits before its next.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

/// What a run came to.
pub(super) struct RunResult {
    pub(super) operation: BenchOperation,
    pub(super) clients: u32,
    pub(super) value_bytes: u32,
    /// Answered rightly within the measured time.
    pub(super) operations: u64,
    pub(super) elapsed: Duration,
    /// Latencies in nanoseconds.
    pub(super) latencies: Histogram<u64>,
    /// Failures, misses and differences, from the warm-up on.
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
}

struct Run {
    clerks: Vec<Clerk>,
    reactor: Reactor,
    workload: Arc<Workload>,
    operation: BenchOperation,
    measured_from: Instant,
    measured_to: Instant,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
    ended: Condvar,
}

struct Tally {
    latencies: Histogram<u64>,
    errors: u64,
    last_error: Option<String>,
    running: u32,
}

/// What a client waits for.
struct Ticket {
    client: u32,
    key: u32,
    started: Instant,
    expected: Expected,
}

enum Expected {
    /// A put's version.
    Written,
    /// A value of the key, not older than this version.
    Value { version_min: u64 },
}

/// Makes one run; `None` if it was interrupted before its measured time.
pub(super) fn run(
    context: &Context<'_>,
    workload: &Arc<Workload>,
    operation: BenchOperation,
    clients: u32,
) -> Result<Option<RunResult>, Failure> {
    let plan = context.plan;
    let clerks = connect(context, clients)?;
    let begin = Instant::now();
    let measured_from = begin + Duration::from_secs_f64(plan.warmup);
    let measured_to = measured_from + Duration::from_secs_f64(plan.seconds);
    let latencies =
        Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants that fit");
    let run = Arc::new(Run {
        clerks,
        reactor: context.reactor.clone(),
        workload: Arc::clone(workload),
        operation,
        measured_from,
        measured_to,
        stopped: AtomicBool::new(false),
        tally: Mutex::new(Tally { latencies, errors: 0, last_error: None, running: clients }),
        ended: Condvar::new(),
    });
    for client in 0..clients {
        Run::begin(&run, client);
    }
    let stopped_at = watch(context, &run, begin);
    let elapsed = stopped_at.unwrap_or(measured_to).min(measured_to).saturating_duration_since(measured_from);
    // Replaced rather than cloned: a late holder of the run would only see an empty one.
    let mut tally = run.tally();
    let empty = Histogram::new(3).expect("three digits are allowed");
    let latencies = std::mem::replace(&mut tally.latencies, empty);
    let (errors, last_error) = (tally.errors, tally.last_error.take());
    drop(tally);
    for clerk in &run.clerks {
        clerk.close();
    }
    if elapsed.is_zero() {
        return Ok(None);
    }
    let operations = latencies.len();
    let value_bytes = plan.value_bytes;
    let result =
        RunResult { operation, clients, value_bytes, operations, elapsed, latencies, errors, last_error };
    Ok(Some(result))
}

fn connect(context: &Context<'_>, clients: u32) -> Result<Vec<Clerk>, Failure> {
    let connections = context.plan.connections.unwrap_or(clients).min(clients);
    let mut config = context.target.clerk_config();
    // Clients that share a connection share its clerk; none of them is ever refused for it.
    config.operations_max = config.operations_max.max(clients.div_ceil(connections) as usize);
    let clerks =
        (0..connections).map(|_| Clerk::with_reactor(&context.reactor, &context.endpoints, config.clone()));
    Ok(clerks.collect::<Result<Vec<Clerk>, ClerkError>>()?)
}

/// Waits until all clients have ended; when they were stopped early, says when.
fn watch(context: &Context<'_>, run: &Run, begin: Instant) -> Option<Instant> {
    let length = run.measured_to.saturating_duration_since(begin);
    let what = format!("{} with {} clients", run.operation.name(), run.tally().running);
    let bar = progress(context.plan, u64::try_from(length.as_millis()).unwrap_or(u64::MAX), &what);
    let mut stopped_at = None;
    let mut tally = run.tally();
    while tally.running > 0 {
        (tally, _) = run.ended.wait_timeout(tally, LOOK).unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        bar.set_position(u64::try_from(now.duration_since(begin).as_millis()).unwrap_or(u64::MAX));
        if context.interrupt.is_asked() && stopped_at.is_none() {
            stopped_at = Some(now);
            run.stopped.store(true, Ordering::Relaxed);
        }
    }
    bar.finish_and_clear();
    stopped_at
}

impl Run {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client begins, or begins again after a failure.
    fn begin(run: &Arc<Run>, client: u32) {
        let now = Instant::now();
        if run.is_over(now) {
            run.end_client();
            return;
        }
        let (ticket, operation) = run.next(&mut run.workload.book(), client, now);
        Run::submit(run, ticket, operation);
    }

    fn submit(run: &Arc<Run>, ticket: Ticket, operation: Operation) {
        let owner = Arc::clone(run);
        let clerk = &run.clerks[ticket.client as usize % run.clerks.len()];
        clerk.submit(operation, move |result| Run::completed(&owner, &ticket, result));
    }

    /// The client's operation ended: counts it and begins the next.
    fn completed(run: &Arc<Run>, ticket: &Ticket, result: Result<Answer, ClerkError>) {
        let now = Instant::now();
        let mut book = run.workload.book();
        let verdict = run.judge(&mut book, ticket, result);
        let over = run.is_over(now);
        let failed = verdict.is_err();
        let next = (!over && !failed).then(|| run.next(&mut book, ticket.client, now));
        drop(book);
        run.count(ticket, verdict, now);
        match next {
            Some((ticket, operation)) => Run::submit(run, ticket, operation),
            None if over => run.end_client(),
            None => {
                let (owner, client) = (Arc::clone(run), ticket.client);
                run.reactor.run_after(FAILURE_PAUSE, Box::new(move || Run::begin(&owner, client)));
            }
        }
    }

    fn next(&self, book: &mut Book, client: u32, now: Instant) -> (Ticket, Operation) {
        let key = book.draw(self.workload.key_count());
        let is_put = match self.operation {
            BenchOperation::Put => true,
            BenchOperation::Get => false,
            BenchOperation::Mixed => book.draw(2) == 0,
        };
        let name = self.workload.key(key);
        let (expected, operation) = if is_put {
            let value = book.next_value(key, self.workload.value_bytes());
            (Expected::Written, Operation::Put { key: name, value })
        } else {
            (Expected::Value { version_min: book.acknowledged(key) }, Operation::get(name))
        };
        (Ticket { client, key, started: now, expected }, operation)
    }

    /// Whether the answer is right.
    fn judge(
        &self,
        book: &mut Book,
        ticket: &Ticket,
        result: Result<Answer, ClerkError>,
    ) -> Result<(), String> {
        let key = ticket.key;
        match (result, &ticket.expected) {
            (Ok(Answer::Written { version }), Expected::Written) => {
                book.acknowledge(key, version);
                Ok(())
            }
            (Ok(Answer::Value { value, version }), Expected::Value { version_min }) => {
                if !self.workload.is_value_of(key, &value) {
                    return Err(format!("key {key} holds {} bytes that were never put to it", value.len()));
                }
                if version < *version_min {
                    let text = format!(
                        "a get of key {key} saw version {version} after {version_min} was acknowledged"
                    );
                    return Err(text);
                }
                Ok(())
            }
            (Ok(Answer::NotFound), _) => Err(format!("key {key} was filled and is not there")),
            (Ok(_), _) => Err(format!("the answer does not fit the request of key {key}")),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    fn count(&self, ticket: &Ticket, verdict: Result<(), String>, now: Instant) {
        let mut tally = self.tally();
        match verdict {
            Ok(()) if now >= self.measured_from && now < self.measured_to => {
                let latency = now.saturating_duration_since(ticket.started).as_nanos();
                tally.latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
            }
            Ok(()) => {}
            Err(text) => {
                tally.errors += 1;
                tally.last_error = Some(text);
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.measured_to || self.stopped.load(Ordering::Relaxed)
    }

    fn end_client(&self) {
        let mut tally = self.tally();
        tally.running -= 1;
        if tally.running == 0 {
            self.ended.notify_all();
        }
    }
}
