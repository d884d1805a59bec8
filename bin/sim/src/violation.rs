//! A rule that was broken.

use std::fmt;

/// What the run found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// A broken rule as an error.
    pub(crate) fn of<T>(rule: &'static str, text: impl Into<String>) -> Result<T, Violation> {
        Err(Violation { rule, text: text.into() })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}
