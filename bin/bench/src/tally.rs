//! What a client counts, and the line it prints at the end.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::load::Load;

/// The longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Answers and failures of one run. Each answer is counted at the time it came; only those within the measured time
/// make the figures.
pub struct Tally {
    measured_from: Instant,
    measured_to: Instant,
    latencies: Histogram<u64>,
    calls_total: u64,
    errors: u64,
}

/// The last line of a client, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Right answers per second of the measured time.
    pub calls_per_s: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Right answers from the first to the last, warm-up included.
    pub calls_total: u64,
    /// Calls that failed or came back with other bytes.
    pub errors: u64,
}

impl Tally {
    /// For a run that begins now.
    pub fn begin(load: &Load) -> Tally {
        let measured_from = Instant::now() + load.warmup();
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Tally {
            measured_from,
            measured_to: measured_from + load.measured(),
            latencies: latencies.expect("the bounds are constants that fit"),
            calls_total: 0,
            errors: 0,
        }
    }

    /// A right answer came at `now` to a call of `started`. Whether the lane goes on.
    pub fn answered(&mut self, started: Instant, now: Instant) -> bool {
        self.calls_total += 1;
        if now >= self.measured_from && now < self.measured_to {
            let latency_ns = u64::try_from(now.duration_since(started).as_nanos()).unwrap_or(LATENCY_NS_MAX);
            self.latencies.saturating_record(latency_ns.max(1));
        }
        now < self.measured_to
    }

    /// A call failed, or its answer was wrong: its lane ends.
    pub fn failed(&mut self) {
        self.errors += 1;
    }

    /// The figures.
    pub fn report(&self, measured: Duration) -> Report {
        let quantile_us = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Report {
            calls_per_s: (self.latencies.len() as f64 / measured.as_secs_f64()).round(),
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            calls_total: self.calls_total,
            errors: self.errors,
        }
    }
}

impl Report {
    /// The line that a client prints last.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("numbers can be written as JSON")
    }
}
