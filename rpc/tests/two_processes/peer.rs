//! A child process as its parent sees it: started, asked, watched, stopped in its tracks, killed, never left behind.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel};
use rustix::process::{Pid, Signal, kill_process};

use crate::child::PART;
use crate::common::LONG;

/// How long a child's `@WORD NUMBER` may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks. Nothing depends on its length but the load that looking makes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A child. Dropping it kills it.
pub struct Peer {
    process: Child,
    said: Receiver<(String, String)>,
}

impl Peer {
    /// Starts this program again, to play `part`.
    pub fn start(part: &str) -> Peer {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_part_of_another_process", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The harness has its say, too, at times in front of ours.
                let Some((_, word)) = line.split_once('@') else { continue };
                let Some((word, value)) = word.split_once(' ') else { continue };
                if sender.send((word.to_owned(), value.to_owned())).is_err() {
                    return;
                }
            }
        });
        Peer { process, said }
    }

    /// A server; the address that it listens on.
    pub fn server(settings: &str) -> (Peer, String) {
        let peer = Peer::start(&format!("server {settings}"));
        let port = peer.hear("port");
        (peer, format!("127.0.0.1:{port}"))
    }

    /// Waits for a word; what it says.
    pub fn hear(&self, expected: &str) -> u64 {
        loop {
            let (word, value) =
                self.said.recv_timeout(ANSWER_TIMEOUT).expect("the child has something to say");
            if word == expected {
                return value.parse().unwrap();
            }
        }
    }

    pub fn order(&mut self, order: &str) {
        writeln!(self.process.stdin.as_ref().unwrap(), "{order}").unwrap();
    }

    /// Asks for a number.
    pub fn ask(&mut self, what: &str) -> u64 {
        self.order(what);
        self.hear(what)
    }

    /// Asks for a number until it is the one.
    pub fn ask_until(&mut self, what: &str, is_it: impl Fn(u64) -> bool) {
        eventually(what, || is_it(self.ask(what)));
    }

    /// All the child has said with this word, once it has ended.
    pub fn last_words(mut self, expected: &str) -> Vec<u64> {
        self.process.wait().unwrap();
        let said = std::iter::from_fn(|| self.said.recv_timeout(LONG).ok());
        said.filter(|(word, _)| word == expected).map(|(_, value)| value.parse().unwrap()).collect()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Memory that is resident, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Time on a processor so far, in ticks of 10 ms.
    pub fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub fn open_descriptors(&self) -> u64 {
        super::descriptors_of(self.pid()).len() as u64
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + ANSWER_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < until, "it never comes to this: {what}");
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
}

/// A client of this process, with one channel.
pub fn client(address: &str, config: ChannelConfig) -> (Reactor, RpcChannel) {
    let reactor = Reactor::start("client", ReactorConfig::default()).unwrap();
    let channel = RpcChannel::new(&reactor, address, config);
    (reactor, channel)
}
