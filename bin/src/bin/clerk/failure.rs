//! How the program ends when not well: one sentence, one exit code.

use std::process::ExitCode;

use clerk::{ClerkError, Refusal};
use conf::ConfError;
use raft_kv::output::OutputError;

use crate::interrupt;

/// Why the program stops early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such key: exit code 1.
    NotFound(String),
    /// The arguments, the configuration or the value cannot be used as they stand: exit code 2.
    Usage(String),
    /// The store could not be reached or did not finish in time, or the output cannot be written: exit code 3.
    Unavailable(String),
    /// Nobody reads standard output any more, e.g. `clerk get x | head`: the rest is not wanted, exit code 0.
    OutputClosed,
    /// Ctrl-C or SIGTERM; what was there has been printed: exit code 130, as shells expect.
    Interrupted,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::OutputClosed => 0,
            Failure::NotFound(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unavailable(_) => 3,
            Failure::Interrupted => interrupt::EXIT_CODE,
        })
    }

    /// The sentence, if there is anything to say.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Failure::NotFound(text) | Failure::Usage(text) | Failure::Unavailable(text) => Some(text),
            Failure::OutputClosed | Failure::Interrupted => None,
        }
    }
}

impl From<ClerkError> for Failure {
    fn from(error: ClerkError) -> Failure {
        let text = error.to_string();
        match error {
            ClerkError::NoEndpoints | ClerkError::Config(_) => Failure::Usage(text),
            ClerkError::Refused { reason: Refusal::TooLarge | Refusal::Invalid, .. } => Failure::Usage(text),
            _ => Failure::Unavailable(text),
        }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Failure {
        match error {
            OutputError::Closed => Failure::OutputClosed,
            OutputError::Failed(_) => Failure::Unavailable(error.to_string()),
        }
    }
}

impl From<ConfError> for Failure {
    fn from(error: ConfError) -> Failure {
        if error.is_not_found() {
            let how = "start a cluster with `raft-core-run -n 3 -f test.conf`, which writes one, name another with -f, \
                       or name the nodes with --endpoints HOST:PORT,…";
            return Failure::Usage(format!("{error}; {how}"));
        }
        Failure::Usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_can_mend_is_usage_and_the_rest_is_unavailable() {
        let too_large =
            ClerkError::Refused { reason: Refusal::TooLarge, text: "too large".into(), may_have_run: false };
        assert!(matches!(Failure::from(too_large), Failure::Usage(_)));
        assert!(matches!(Failure::from(ClerkError::SessionExpired), Failure::Unavailable(_)));
    }
}
