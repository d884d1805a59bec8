//! The threads of one node: started by name, watched, and stopped in an order.
//!
//! A thread that panics stops the node loudly: a node without its applier or its log writer would be a zombie that
//! answers heartbeats and does nothing. The order of a stop is: tickers, log writer, applier; the application then
//! closes the queue, drains its own threads and answers every waiter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::warn;
use raft_core::RawNode;

use crate::driver::log_writer::LogWriter;
use crate::driver::{Applier, Clock, RaftNode, Tick, Ticker};
use crate::sync::StopSignal;

/// How long a thread may take to end when the node stops.
const JOIN_TIME: Duration = Duration::from_secs(5);

/// How often time passes for the core.
#[derive(Clone, Copy, Debug)]
pub struct TickTimes {
    /// One election tick.
    pub election_tick: Duration,
    /// One heartbeat.
    pub heartbeat: Duration,
}

/// The running threads of a node.
pub struct Supervisor {
    node: Arc<RaftNode>,
    applier: Arc<Applier>,
    stop: Arc<StopSignal>,
    tickers: Vec<Watched>,
    log_writer: Watched,
    apply_ticker: Watched,
}

/// A running thread of the node.
pub struct Watched {
    name: String,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Watched {
    /// Starts a thread of the node; if it panics, the node fails with the thread's name.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn spawn(
        node: &Arc<RaftNode>,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Watched> {
        let (node, name) = (Arc::clone(node), name.to_owned());
        let (ending, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name(name.clone()).spawn({
            let name = name.clone();
            move || {
                let _ending = ending;
                if catch_unwind(AssertUnwindSafe(body)).is_err() {
                    node.fail(&format!("its thread {name} panicked"));
                }
            }
        })?;
        Ok(Watched { name, thread, ended })
    }

    /// Waits for the end of the thread, but not for ever: a disk that does not answer must not keep a node from
    /// stopping. A thread left behind ends with the process.
    pub fn join(self) {
        if self.ended.recv_timeout(JOIN_TIME) == Err(RecvTimeoutError::Timeout) {
            warn!("the thread {} does not end: it waits for its disk", self.name);
            return;
        }
        // Its panic has been reported as the node's failure.
        let _ = self.thread.join();
    }
}

impl Supervisor {
    /// Starts `election-ticker`, `heartbeat-ticker`, `log-writer` and `apply-ticker`; the tickers go by `clock`.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(
        node: &Arc<RaftNode>,
        applier: &Arc<Applier>,
        mut writer: LogWriter,
        clock: &Arc<dyn Clock>,
        times: TickTimes,
    ) -> std::io::Result<Supervisor> {
        let stop = Arc::new(StopSignal::default());
        writer.tell_room(node);
        let log_writer = {
            let writer_node = Arc::clone(node);
            Watched::spawn(node, "log-writer", move || writer.run(&writer_node))?
        };
        let apply_ticker = {
            let applier = Arc::clone(applier);
            Watched::spawn(node, "apply-ticker", move || applier.run())?
        };
        let ticker = |name, interval, tick: Tick| {
            let (ticker_node, stop, clock) = (Arc::clone(node), Arc::clone(&stop), Arc::clone(clock));
            let ticker = Ticker::new(&*clock, interval, tick);
            Watched::spawn(node, name, move || ticker.run(&*clock, &ticker_node, &stop))
        };
        let election = ticker("election-ticker", times.election_tick, RawNode::tick_election)?;
        let heartbeat = ticker("heartbeat-ticker", times.heartbeat, RawNode::tick_heartbeat)?;
        Ok(Supervisor {
            node: Arc::clone(node),
            applier: Arc::clone(applier),
            stop,
            tickers: vec![election, heartbeat],
            log_writer,
            apply_ticker,
        })
    }

    /// Stops the four threads in order and waits for each: the log writer finishes what it has.
    pub fn stop(self) {
        self.stop.stop();
        for ticker in self.tickers {
            ticker.join();
        }
        self.node.log_work().close();
        self.log_writer.join();
        self.node.stop();
        self.applier.stop();
        self.apply_ticker.join();
    }
}
