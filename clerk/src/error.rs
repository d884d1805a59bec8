//! How an operation ends badly, as a caller sees it.
//!
//! The one question a caller must get a true answer to is whether a write may have run; every variant answers it
//! through [`ClerkError::may_have_run`]. The texts are sentences for the person at the terminal.

use std::time::Duration;

use crate::operation::Refusal;

/// Why an operation, or the clerk itself, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClerkError {
    /// The clerk was given no node to talk to.
    #[error("the clerk was given no node to talk to")]
    NoEndpoints,
    /// A value of the configuration makes no sense.
    #[error("the clerk's configuration is wrong: {0}")]
    Config(String),
    /// The clerk's own event loop could not be started.
    #[error("the clerk could not start: {0}")]
    Start(String),
    /// The deadline passed and not one node had answered anything.
    #[error("no node of {endpoints} answered within {timeout_ms} ms: {last}")]
    Unavailable {
        /// The nodes asked, `host:port`, separated by commas.
        endpoints: String,
        /// The operation's deadline in milliseconds from its start.
        timeout_ms: u64,
        /// What went wrong last.
        last: String,
    },
    /// The deadline passed; nodes were there, but none gave the result.
    #[error("the operation was not finished within {timeout_ms} ms{}: {last}", outcome(*.may_have_run))]
    Timeout {
        /// The operation's deadline in milliseconds from its start.
        timeout_ms: u64,
        /// The write was sent and may have been, or may yet be, carried out.
        may_have_run: bool,
        /// What went wrong last.
        last: String,
    },
    /// The session is gone and the write had been sent in it: what became of it is unknown.
    #[error("the session expired while the write was under way; whether it was carried out is unknown")]
    SessionExpired,
    /// The store refuses the operation, and would again.
    #[error("{text}{}", outcome(*.may_have_run))]
    Refused {
        /// The kind of refusal.
        reason: Refusal,
        /// For people.
        text: String,
        /// An earlier attempt of the same write may have been carried out.
        may_have_run: bool,
    },
    /// Too many operations are under way at this clerk; nothing was sent.
    #[error("{operations_max} operations are under way at this clerk, no more are taken")]
    Busy {
        /// The clerk's limit, `ClerkConfig::operations_max`.
        operations_max: usize,
    },
    /// The clerk was closed before the operation ended.
    #[error("the clerk was closed before the operation ended{}", outcome(*.may_have_run))]
    Stopped {
        /// The write was sent and may have been, or may yet be, carried out.
        may_have_run: bool,
    },
}

impl ClerkError {
    /// Whether the write that failed may have been carried out, or may yet be. Of a get it says nothing of use.
    pub fn may_have_run(&self) -> bool {
        match self {
            ClerkError::Timeout { may_have_run, .. }
            | ClerkError::Refused { may_have_run, .. }
            | ClerkError::Stopped { may_have_run } => *may_have_run,
            ClerkError::SessionExpired => true,
            _ => false,
        }
    }
}

fn outcome(may_have_run: bool) -> &'static str {
    if may_have_run { " (it may have been carried out all the same)" } else { "" }
}

/// A duration in whole milliseconds, as the texts show it.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sentences_that_tell_what_is_unknown() {
        let unavailable = ClerkError::Unavailable {
            endpoints: "127.0.0.1:1,127.0.0.1:2".into(),
            timeout_ms: 5000,
            last: "connection refused".into(),
        };
        assert_eq!(
            unavailable.to_string(),
            "no node of 127.0.0.1:1,127.0.0.1:2 answered within 5000 ms: connection refused"
        );
        assert!(!unavailable.may_have_run());
        let timeout = ClerkError::Timeout { timeout_ms: 10, may_have_run: true, last: "x".into() };
        assert_eq!(
            timeout.to_string(),
            "the operation was not finished within 10 ms (it may have been carried out all the same): x"
        );
        assert!(timeout.may_have_run());
        assert!(ClerkError::SessionExpired.may_have_run());
        assert!(!ClerkError::Stopped { may_have_run: false }.may_have_run());
    }
}
