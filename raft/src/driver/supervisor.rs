//! The threads of one node: started by name, watched, and stopped in an order.
//!
//! A thread that panics stops the node loudly: a node without its applier or its log writer would be a zombie that
//! answers heartbeats and does nothing. The order of a stop is: tickers, log writer, applier; the application then
//! closes the queue, drains its own threads and answers every waiter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::driver::log_writer::LogWriter;
use crate::driver::{Applier, RaftNode, ticker};
use crate::sync::StopSignal;

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
    tickers: Vec<JoinHandle<()>>,
    log_writer: JoinHandle<()>,
    apply_ticker: JoinHandle<()>,
}

/// Starts a thread of the node; if it panics, the node fails with the thread's name.
///
/// # Errors
/// When the system has no room for another thread.
pub fn spawn_watched(
    node: &Arc<RaftNode>,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (node, thread_name) = (Arc::clone(node), name.to_owned());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            node.fail(&format!("its thread {thread_name} panicked"));
        }
    })
}

impl Supervisor {
    /// Starts `election-ticker`, `heartbeat-ticker`, `log-writer` and `apply-ticker`.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(
        node: &Arc<RaftNode>,
        applier: &Arc<Applier>,
        mut writer: LogWriter,
        times: TickTimes,
    ) -> std::io::Result<Supervisor> {
        let stop = Arc::new(StopSignal::default());
        let log_writer = {
            let writer_node = Arc::clone(node);
            spawn_watched(node, "log-writer", move || writer.run(&writer_node))?
        };
        let apply_ticker = {
            let applier = Arc::clone(applier);
            spawn_watched(node, "apply-ticker", move || applier.run())?
        };
        let election = {
            let (ticker_node, stop) = (Arc::clone(node), Arc::clone(&stop));
            spawn_watched(node, "election-ticker", move || {
                ticker::run_election_ticker(&ticker_node, &stop, times.election_tick);
            })?
        };
        let heartbeat = {
            let (ticker_node, stop) = (Arc::clone(node), Arc::clone(&stop));
            spawn_watched(node, "heartbeat-ticker", move || {
                ticker::run_heartbeat_ticker(&ticker_node, &stop, times.heartbeat);
            })?
        };
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
            join(ticker);
        }
        self.node.log_work().close();
        join(self.log_writer);
        self.node.stop();
        self.applier.stop();
        join(self.apply_ticker);
    }
}

/// Waits for a watched thread, whose panic has been reported already.
fn join(thread: JoinHandle<()>) {
    let _ = thread.join();
}
