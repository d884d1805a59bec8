//! Standard output: bytes out, and an end without noise when nobody reads them any more.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes all of it now.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(failed)
}

/// Writes a line now.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(failed)
}

fn failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Unavailable(format!("standard output cannot be written: {error}")),
    }
}
