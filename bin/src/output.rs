//! Standard output: bytes out, and an end without noise when nobody reads them any more.

use std::fmt;
use std::io::{self, Write};

/// Why nothing could be written.
#[derive(Debug)]
pub enum OutputError {
    /// Nobody reads standard output any more, e.g. `clerk get x | head`: the rest is not wanted.
    Closed,
    /// The system refused.
    Failed(io::Error),
}

impl fmt::Display for OutputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::Closed => formatter.write_str("nobody reads standard output any more"),
            OutputError::Failed(error) => write!(formatter, "standard output cannot be written: {error}"),
        }
    }
}

impl std::error::Error for OutputError {}

/// Writes all of it now.
///
/// # Errors
/// When the reader is gone, or the system refuses.
pub fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(failed)
}

/// Writes a line now.
///
/// # Errors
/// As [`write()`].
pub fn line(text: &str) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(failed)
}

fn failed(error: io::Error) -> OutputError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => OutputError::Closed,
        _ => OutputError::Failed(error),
    }
}
