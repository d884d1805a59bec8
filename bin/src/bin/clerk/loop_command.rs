//! The origin's loop: put and get one key five hundred times, counting down, and say how fast it went.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use raft_kv::output;

use crate::{arguments::Target, failure::Failure, interrupt::Interrupt};

/// How many rounds the origin's clerk makes.
const ROUNDS: u32 = 500;

/// The longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

pub(crate) fn run(target: &Target) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let clerk = target.clerk()?;
    let mut latencies =
        Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants that fit");
    let begin = Instant::now();
    let mut rounds = (0..ROUNDS).rev();
    let outcome = rounds.try_for_each(|n| {
        if interrupt.is_asked() {
            return Err(Failure::Interrupted);
        }
        let started = Instant::now();
        clerk.put("x", n.to_string())?;
        let put_done = Instant::now();
        let value = clerk.get("x")?.ok_or_else(|| Failure::NotFound("the key x is gone".to_string()))?;
        latencies.saturating_record(nanoseconds(put_done - started));
        latencies.saturating_record(nanoseconds(put_done.elapsed()));
        output::line(&format!("get return :{{{}}}", String::from_utf8_lossy(&value)))?;
        Ok(())
    });
    if !matches!(outcome, Err(Failure::OutputClosed)) && !latencies.is_empty() {
        output::line(&summary(&latencies, begin.elapsed()))?;
    }
    outcome
}

fn summary(latencies: &Histogram<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let operations = latencies.len();
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
    format!(
        "{operations} operations in {seconds:.2} s: {:.0} operations/s, latency p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        operations as f64 / seconds,
        ms(0.5),
        ms(0.99),
        latencies.max() as f64 / 1e6
    )
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_operations_and_names_its_units() {
        let mut latencies = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap();
        latencies.saturating_record(1_000_000);
        latencies.saturating_record(2_000_000);
        let text = summary(&latencies, Duration::from_millis(4));
        assert!(
            text.starts_with("2 operations in 0.00 s: 500 operations/s, latency p50 1.00 ms, "),
            "{text}"
        );
    }
}
