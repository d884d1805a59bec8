//! One node's process as its launcher sees it: started, listened to, signalled, and its end described.
//!
//! Two threads per child carry its output: `stderr-I` hands its log lines on, each in one piece and with the node's
//! prefix, `stdout-I` takes what a node says to its launcher alone: that it serves, and why it cannot. Both end with the
//! process.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use raft_kv::stop_signals;
use rustix::process::{Pid, Signal, kill_process};

use crate::arguments::VARIABLES;
use crate::failure::Failure;
use crate::outlet::Outlet;

/// What a node writes to its standard output when it has started.
pub(crate) const STARTED: &str = "started";
/// What it writes there before its reason when it cannot start or go on.
const FAILED: &str = "failed: ";
/// A longer line of a node's log is handed on in pieces of this size, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A running child. Dropping it kills the process: no path out of the launcher leaves one behind.
pub(crate) struct ChildNode {
    pub(crate) id: u64,
    process: Child,
    words: Arc<Words>,
    readers: Vec<JoinHandle<()>>,
}

/// What a child told its launcher.
#[derive(Default)]
struct Words {
    has_started: OnceLock<()>,
    failure: OnceLock<String>,
}

/// How a child ended.
pub(crate) struct End {
    words: Arc<Words>,
    status: ExitStatus,
}

/// How a child tells its launcher why it cannot start or go on.
pub(crate) fn failed_line(failure: &Failure) -> String {
    format!("{FAILED}{}", failure.to_string().replace('\n', " "))
}

impl ChildNode {
    /// Starts node `id`. NB: must be called on the main thread: the kernel sends the parent-death signal when the
    /// *thread* that started the child ends.
    pub(crate) fn start(id: u64, file: &Path, data_dir: &Path, outlet: Outlet) -> Result<ChildNode, Failure> {
        let failed = |error: io::Error| Failure::Runtime(format!("node {id} cannot be started: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        VARIABLES.iter().for_each(|variable| _ = command.env_remove(variable));
        command.arg("--node").arg(id.to_string());
        command.arg("--file").arg(file).arg("--data-dir").arg(data_dir);
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let stdout = process.stdout.take().expect("the child was started with a pipe");
        let stderr = process.stderr.take().expect("the child was started with a pipe");
        let words = Arc::new(Words::default());
        let mut child = ChildNode { id, process, words: words.clone(), readers: Vec::new() };
        child.read(format!("stdout-{id}"), move || note(stdout, &words)).map_err(failed)?;
        child.read(format!("stderr-{id}"), move || hand_on_log(id, stderr, &outlet)).map_err(failed)?;
        Ok(child)
    }

    fn read(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.readers.push(thread::Builder::new().name(name).spawn(body)?);
        Ok(())
    }

    /// The end of the process if it has ended; everything it had written is out by then.
    pub(crate) fn end(&mut self) -> Option<End> {
        // An error would mean that the child is not ours to wait for: as good as gone.
        let status = self.process.try_wait().unwrap_or(Some(ExitStatus::from_raw(0)))?;
        self.join_readers();
        Some(End { words: self.words.clone(), status })
    }

    /// Asks the node to stop; a stopped process (SIGSTOP) is woken so that it can hear.
    pub(crate) fn ask_to_stop(&self) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let pid = id.expect("a process id of Linux fits an i32 and is not zero");
        for signal in [Signal::TERM, Signal::CONT] {
            if let Err(error) = kill_process(pid, signal) {
                log::debug!("node {} did not get {signal:?}: {error}", self.id);
            }
        }
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            if reader.join().is_err() {
                log::error!("the reader of node {}'s output failed", self.id);
            }
        }
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        // Both fail only for a process that is reaped already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.join_readers();
    }
}

impl End {
    /// Whether the node never served and said itself why it cannot, as opposed to being killed.
    pub(crate) fn is_refusal(&self) -> bool {
        self.words.has_started.get().is_none() && matches!(self.status.code(), Some(1 | 2))
    }

    /// Whether the node's configuration was the reason.
    pub(crate) fn is_usage(&self) -> bool {
        self.status.code() == Some(2)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.status.success()
    }

    /// The node's own reason, else `exit code 101`, `killed by SIGKILL`.
    pub(crate) fn describe(&self) -> String {
        match (self.words.failure.get(), self.status.code(), self.status.signal()) {
            (Some(reason), ..) => reason.clone(),
            (None, Some(code), _) => format!("exit code {code}"),
            (None, None, Some(signal)) => format!("killed by {}", stop_signals::name(signal)),
            (None, None, None) => self.status.to_string(),
        }
    }
}

fn note(stdout: ChildStdout, words: &Words) {
    for_each_line(stdout, |line| {
        let line = String::from_utf8_lossy(&line);
        // Each is said once; what else may stand there means nothing, but must be read: a full pipe would stop the node.
        if let Some(reason) = line.trim_end().strip_prefix(FAILED) {
            let _ = words.failure.set(reason.to_owned());
        } else if line.trim_end() == STARTED {
            let _ = words.has_started.set(());
        }
    });
}

fn hand_on_log(id: u64, stderr: ChildStderr, outlet: &Outlet) {
    let prefix = format!("[node {id}] ");
    for_each_line(stderr, |line| outlet.put(whole_line(&prefix, line)));
}

/// Until the other end is closed.
fn for_each_line(pipe: impl Read, mut take: impl FnMut(Vec<u8>)) {
    let mut reader = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => take(line),
        }
    }
}

/// The line with its prefix and its end.
fn whole_line(prefix: &str, mut line: Vec<u8>) -> Vec<u8> {
    // The node's own log lines carry the prefix already; a panic's text, for instance, does not.
    if !line.starts_with(prefix.as_bytes()) {
        line.splice(0..0, prefix.bytes());
    }
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    line
}
