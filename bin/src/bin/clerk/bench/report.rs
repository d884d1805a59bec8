//! What a benchmark prints: a table for people, or one JSON object a run for programs.

use raft_kv::output;
use serde::Serialize;

use super::run::RunResult;
use crate::{failure::Failure, status::Answered};

/// Prints results as they come.
pub(super) struct Report {
    json: bool,
}

/// One run, as `--json` prints it; the order and the names are a promise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct JsonRow {
    op: &'static str,
    clients: u32,
    value_bytes: u32,
    ops_per_s: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    errors: u64,
}

impl Report {
    pub(super) fn new(json: bool) -> Report {
        Report { json }
    }

    /// What the figures stand on: each node's disk. Then the names of the columns.
    pub(super) fn head(&self, answers: &[Answered]) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        for answered in answers {
            output::line(&disk(answered))?;
        }
        output::line(&columns([
            "op",
            "clients",
            "value B",
            "ops/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "errors",
        ]))?;
        Ok(())
    }

    pub(super) fn row(&self, result: &RunResult) -> Result<(), Failure> {
        let row = JsonRow::of(result);
        if self.json {
            output::line(&serde_json::to_string(&row).expect("numbers and a name always make JSON"))?;
            return Ok(());
        }
        let numbers = [row.p50_us, row.p99_us, row.p999_us, row.errors].map(|number| number.to_string());
        let [p50, p99, p999, errors] = numbers.each_ref().map(String::as_str);
        let (clients, value_bytes) = (row.clients.to_string(), row.value_bytes.to_string());
        output::line(&columns([
            row.op,
            &clients,
            &value_bytes,
            &row.ops_per_s.to_string(),
            p50,
            p99,
            p999,
            errors,
        ]))?;
        if let Some(text) = &result.last_error {
            output::line(&format!("      the latest error: {text}"))?;
        }
        Ok(())
    }
}

impl JsonRow {
    fn of(result: &RunResult) -> JsonRow {
        let us = |quantile| (result.latencies.value_at_quantile(quantile) + 500) / 1000;
        JsonRow {
            op: result.operation.name(),
            clients: result.clients,
            value_bytes: result.value_bytes,
            ops_per_s: (result.operations as f64 / result.elapsed.as_secs_f64()).round() as u64,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            errors: result.errors,
        }
    }
}

fn columns(cells: [&str; 8]) -> String {
    let [op, clients, value, ops, p50, p99, p999, errors] = cells;
    format!("{op:<6}{clients:>8}{value:>9}{ops:>10}{p50:>9}{p99:>9}{p999:>10}{errors:>8}")
}

fn disk(answered: &Answered) -> String {
    let address = &answered.node.address;
    match &answered.reply {
        Err(error) => format!("{address} is down: {error}"),
        Ok(reply) => {
            let (node, role, directory) = (reply.node, &reply.role, &reply.data_dir);
            let (file_system, p50) = (&reply.file_system, reply.fdatasync_p50_us);
            format!("node {node} ({role}): {directory} on {file_system}, fdatasync p50 {p50} µs")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;
    use crate::arguments::BenchOperation;

    #[test]
    fn json_has_exactly_the_promised_keys_in_their_order() {
        let mut latencies = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for _ in 0..1000 {
            latencies.saturating_record(250_000);
        }
        let result = RunResult {
            operation: BenchOperation::Put,
            clients: 64,
            value_bytes: 256,
            operations: 1000,
            elapsed: Duration::from_millis(500),
            latencies,
            errors: 2,
            last_error: None,
        };
        let text = serde_json::to_string(&JsonRow::of(&result)).unwrap();
        let expected = "{\"op\":\"put\",\"clients\":64,\"value_bytes\":256,\"ops_per_s\":2000,\
                        \"p50_us\":250,\"p99_us\":250,\"p999_us\":250,\"errors\":2}";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_columns_of_the_table_stand_under_their_names() {
        let head = columns(["op", "clients", "value B", "ops/s", "p50 µs", "p99 µs", "p99.9 µs", "errors"]);
        let row = columns(["mixed", "256", "1048576", "123456", "99999", "999999", "9999999", "0"]);
        assert_eq!(head.chars().count(), row.chars().count());
    }
}
