//! The two ways to fail, told apart by exit code: what the user wrote, and what happened.

use std::fmt;
use std::io;
use std::process::ExitCode;

use conf::ConfError;

/// Why the program stops, as one sentence, and whose turn it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the configuration cannot be used as they stand: exit code 2.
    Usage(String),
    /// Something failed while starting or running: exit code 1.
    Runtime(String),
}

impl Failure {
    /// Without signals there would be no orderly way to stop.
    pub(crate) fn without_signals(error: io::Error) -> Failure {
        Failure::Runtime(format!("signals cannot be received: {error}"))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Runtime(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Runtime(text) => formatter.write_str(text),
        }
    }
}

impl From<ConfError> for Failure {
    fn from(error: ConfError) -> Failure {
        match error {
            // The file is all right, the disk is not.
            ConfError::Write { .. } => Failure::Runtime(error.to_string()),
            _ => Failure::Usage(error.to_string()),
        }
    }
}
