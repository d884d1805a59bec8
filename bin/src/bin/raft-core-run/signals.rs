//! Signals as values: a thread receives them and hands them on, so that no handler of ours runs anything.

use std::thread;

use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// The signals that ask a program to stop: by hand, by a service manager, by a closing terminal.
pub(crate) const STOP_SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// Starts the thread `signals`, which calls `receive` for each of `signals` until the process ends.
pub(crate) fn forward(signals: &[i32], mut receive: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::Runtime(format!("signals cannot be received: {error}"));
    let mut incoming = Signals::new(signals).map_err(failed)?;
    let body = move || incoming.forever().for_each(&mut receive);
    thread::Builder::new().name("signals".to_owned()).spawn(body).map_err(failed)?;
    Ok(())
}

/// How people call a signal.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}
