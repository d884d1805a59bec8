//! The table of settings: one row per key, with its unit, default, range and meaning.
//!
//! The table is the only place that knows a default. The parser walks it, [`crate::Config::default`] is filled
//! from it, and a test holds `sample.conf` against it, so that the documented figure is the one in force.

use crate::config::Config;

/// What a setting's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Bytes; the file may say `64MiB` for `67108864`.
    Bytes,
    /// Things: connections, calls, entries.
    Count,
}

impl Unit {
    /// The unit's name after a number, in a message for people.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "milliseconds",
            Unit::Bytes => "bytes",
            Unit::Count => "",
        }
    }
}

/// One row of the table: a key whose value is a whole number.
pub struct Setting {
    /// The key, as it stands in the file.
    pub key: &'static str,
    /// What the number counts.
    pub unit: Unit,
    /// The value when the file does not say.
    pub default: u64,
    /// The smallest value that makes sense.
    pub min: u64,
    /// The largest value that makes sense.
    pub max: u64,
    /// Where the value lives in a [`Config`].
    pub(crate) slot: fn(&mut Config) -> &mut u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A node takes a snapshot at the latest after this much log, bytes; a setting beyond it would have no effect.
const SNAPSHOT_LOG_BYTES_MAX: u64 = 128 * MIB;

/// Every numeric setting, in the order of `sample.conf`.
pub const SETTINGS: &[Setting] = &[
    row("heartbeat_ms", Unit::Milliseconds, 25, 1, 10_000, |c| &mut c.heartbeat_ms),
    row("election_min_ms", Unit::Milliseconds, 300, 10, 60_000, |c| &mut c.election_min_ms),
    row("election_max_ms", Unit::Milliseconds, 500, 11, 120_000, |c| &mut c.election_max_ms),
    row("lease_reads", Unit::Count, 0, 0, 1, |c| &mut c.lease_reads),
    row("snapshot_log_bytes", Unit::Bytes, 64 * MIB, 64 * KIB, SNAPSHOT_LOG_BYTES_MAX, |c| {
        &mut c.snapshot_log_bytes
    }),
    row("connections_max", Unit::Count, 10_000, 16, 1_000_000, |c| &mut c.limits.connections_max),
    row("calls_in_flight_max", Unit::Count, 65_536, 1, 10_000_000, |c| &mut c.limits.calls_in_flight_max),
    row("key_bytes_max", Unit::Bytes, 64 * KIB, 1, MIB, |c| &mut c.limits.key_bytes_max),
    row("value_bytes_max", Unit::Bytes, 8 * MIB, 1, 32 * MIB, |c| &mut c.limits.value_bytes_max),
    row("uncommitted_bytes_max", Unit::Bytes, 64 * MIB, MIB, 4 * GIB, |c| {
        &mut c.limits.uncommitted_bytes_max
    }),
    row("apply_queue_batches", Unit::Count, 64, 1, 65_536, |c| &mut c.limits.apply_queue_batches),
];

const fn row(
    key: &'static str,
    unit: Unit,
    default: u64,
    min: u64,
    max: u64,
    slot: fn(&mut Config) -> &mut u64,
) -> Setting {
    Setting { key, unit, default, min, max, slot }
}

impl Setting {
    /// Reads a value of this setting; the error says what to write instead.
    pub(crate) fn parse(&self, text: &str) -> Result<u64, String> {
        let value = self.parse_number(text).ok_or_else(|| self.refusal(text))?;
        if value < self.min || value > self.max { Err(self.refusal(text)) } else { Ok(value) }
    }

    fn parse_number(&self, text: &str) -> Option<u64> {
        let (digits, factor) = match self.unit {
            Unit::Bytes => split_suffix(text),
            Unit::Milliseconds | Unit::Count => (text, 1),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(factor)
    }

    fn refusal(&self, text: &str) -> String {
        let unit = self.unit.name();
        let space = if unit.is_empty() { "" } else { " " };
        let Setting { key, default, min, max, .. } = self;
        format!(
            "{key} is {text:?}; write a whole number from {min} to {max}{space}{unit}, for instance {key}={default}"
        )
    }
}

/// `64MiB` → (`64`, 1048576). Only the binary suffixes: a `MB` that means one or the other is refused.
fn split_suffix(text: &str) -> (&str, u64) {
    for (suffix, factor) in [("KiB", KIB), ("MiB", MIB), ("GiB", GIB)] {
        if let Some(digits) = text.strip_suffix(suffix) {
            return (digits.trim_end(), factor);
        }
    }
    (text, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.key == key).expect("the test names a key of the table")
    }

    #[test]
    fn bytes_take_binary_suffixes_and_nothing_else() {
        let bytes = setting("snapshot_log_bytes");
        assert_eq!(bytes.parse("67108864"), Ok(64 * MIB));
        assert_eq!(bytes.parse("64MiB"), Ok(64 * MIB));
        assert_eq!(bytes.parse("128 KiB"), Ok(128 * KIB));
        for text in
            ["64MB", "64M", "-1", "+64", "1e9", "", "MiB", "99999999999999999999", "18446744073709551615GiB"]
        {
            assert!(bytes.parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(setting("heartbeat_ms").parse("1KiB").is_err());
    }

    #[test]
    fn a_value_out_of_range_is_answered_with_the_range() {
        let refusal = setting("heartbeat_ms").parse("0").expect_err("zero is below the range");
        assert_eq!(
            refusal,
            "heartbeat_ms is \"0\"; write a whole number from 1 to 10000 milliseconds, for instance heartbeat_ms=25"
        );
    }

    #[test]
    fn every_default_is_in_its_own_range_and_no_key_stands_twice() {
        for (position, setting) in SETTINGS.iter().enumerate() {
            assert!((setting.min..=setting.max).contains(&setting.default), "{}", setting.key);
            assert!(SETTINGS[..position].iter().all(|earlier| earlier.key != setting.key), "{}", setting.key);
        }
    }
}
