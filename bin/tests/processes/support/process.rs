//! One process of ours: started with its output in a file, signalled, waited for, and never left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::wait::{LONG, eventually, until};

/// How many lines of a log are shown when a test fails.
const LINES_SHOWN: usize = 60;

pub fn raft_core_run() -> Command {
    clean(env!("CARGO_BIN_EXE_raft-core-run"))
}

pub fn clerk() -> Command {
    clean(env!("CARGO_BIN_EXE_clerk"))
}

/// A command that the environment of the test run does not change.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if name.starts_with("RAFT_KV_") || name.starts_with("CLERK_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A running process. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command with standard error appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        Process { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    /// Starts the command with standard error going into a pipe.
    pub fn start_into(mut command: Command, stderr: PipeWriter) -> Process {
        command.stdout(Stdio::null()).stderr(stderr);
        Process { child: command.spawn().unwrap(), log: PathBuf::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of process {}", self.pid());
        eventually(&what, within, || self.child.try_wait().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            eprintln!("---- end of {}:\n{shown}", self.log.display());
        }
    }
}

/// A pipe that is full and that nobody reads: whoever writes to it waits until the reader is dropped.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || while filler.write_all(&[b'x'; 512]).is_ok() {});
    (reader, writer)
}

/// Sends a signal to any process, which must exist.
pub fn send(pid: u32, signal: Signal) {
    kill_process(as_pid(pid), signal).unwrap();
}

/// Sends signals to a process in a way that it receives them all at the same time, as from `timeout`, which signals its
/// child and then the child's group.
pub fn send_at_once(pid: u32, signals: [Signal; 2]) {
    send(pid, Signal::STOP);
    until("the process sleeps", LONG, || threads_are_stopped(pid));
    signals.into_iter().for_each(|signal| send(pid, signal));
    send(pid, Signal::CONT);
}

/// Whether a process with this number exists and is not merely waiting to be reaped.
pub fn is_alive(pid: u32) -> bool {
    if test_kill_process(as_pid(pid)).is_err() {
        return false;
    }
    !matches!(state_in(Path::new(&format!("/proc/{pid}"))), None | Some('Z' | 'X'))
}

/// Whether every thread of the process has obeyed a SIGSTOP.
pub fn threads_are_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.map(|task| state_in(&task.path())).all(|state| state == Some('T'))
}

/// The state of a process or thread, the letter after its name in `stat`.
fn state_in(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// The processes whose parent this one is.
pub fn children_of(parent: u32) -> Vec<u32> {
    let of_thread =
        |entry: fs::DirEntry| fs::read_to_string(entry.path().join("children")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let text: Vec<String> = tasks.map(of_thread).collect();
    text.join(" ").split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Runs a command to its end, with a deadline.
pub fn run(command: Command, within: Duration) -> Output {
    run_with_input(command, Vec::new(), within)
}

/// The same with bytes on its standard input.
pub fn run_with_input(mut command: Command, input: Vec<u8>, within: Duration) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (input_path, out, err) =
        (folder.path().join("in"), folder.path().join("out"), folder.path().join("err"));
    fs::write(&input_path, input).unwrap();
    command.stdin(File::open(&input_path).unwrap());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let child = command.spawn().unwrap();
    let status = Process { child, log: err.clone() }.ended(within);
    Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
}

/// Runs a command that can write no file to its end: how it ended, and what it said on standard error.
pub fn run_without_files(mut command: Command, within: Duration) -> (ExitStatus, String) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap());
    let status = Process { child, log: PathBuf::new() }.ended(within);
    (status, reader.join().unwrap())
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}
