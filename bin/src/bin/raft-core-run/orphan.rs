//! A child node must not outlive its launcher, however the launcher ends.
//!
//! Two nets. The kernel's parent-death signal is SIGKILL, which reaches a stopped process too; every acknowledged write
//! is on disk, so it costs nothing. Behind it, the child's standard input is a pipe that nobody writes to:
//! its end means the launcher is gone, and the node stops in order.

use std::io::{self, Read};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::failure::Failure;

/// Ties this process to its parent. Called first of all: a parent that died before is noticed here.
pub(crate) fn die_with_parent(parent_pid: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::Runtime(format!("the node cannot be tied to its launcher: {error}")))?;
    // The parent may have died between the start of this process and the line above.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent != Some(parent_pid) {
        return Err(Failure::Runtime("the launcher of this node is gone".to_owned()));
    }
    Ok(())
}

/// Starts the thread `orphan-watch`, which calls `stop` when the launcher's end of the pipe is closed.
pub(crate) fn watch_standard_input(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let body = move || {
        let mut buffer = [0; 64];
        let mut input = io::stdin().lock();
        // Whatever might be written there means nothing; only the end counts, and an error is an end.
        while matches!(input.read(&mut buffer), Ok(count) if count > 0) {}
        stop();
    };
    let failed = |error| Failure::Runtime(format!("a thread cannot be started: {error}"));
    thread::Builder::new().name("orphan-watch".to_owned()).spawn(body).map_err(failed)?;
    Ok(())
}
