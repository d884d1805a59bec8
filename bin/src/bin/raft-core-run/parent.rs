//! The launcher: one child process per node, watched until it is told to stop.
//!
//! The main thread sleeps on one queue of events (a signal, news about the leader) and does everything else itself. It keeps
//! nothing a node needs: a node that dies is reported and the others go on, as they would on hosts of their own. A
//! node that refuses to start ends the whole start, since what it says wants reading before anything runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use conf::Config;
use log::Level;
use raft_kv::stop_signals::{self, Order, STOP_SIGNALS, StopOrders};
use signal_hook::consts::SIGCHLD;

use crate::Outcome;
use crate::advice::RunByHand;
use crate::arguments::Arguments;
use crate::child::{ChildNode, End};
use crate::failure::Failure;
use crate::leader_watch::{LeaderNews, LeaderWatch};
use crate::outlet::Outlet;
use crate::{cluster_file, data_dir, logging, resources};

/// How long the nodes have to stop in order before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Events that wait for the main thread; a sender waits when it is full.
const EVENTS_MAX: usize = 64;

/// What wakes the launcher.
pub(crate) enum Event {
    /// Some child ended.
    ChildEnded,
    /// This signal asks to stop.
    Stop(i32),
    /// This signal asks a second time.
    StopNow(i32),
    /// The leader changed.
    Leader(LeaderNews),
}

/// Starts all nodes of the file and watches them until a signal says stop.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let outlet = logging::start("launcher")?;
    let outcome = launch(arguments, &outlet);
    outlet.flush();
    outcome
}

fn launch(arguments: &Arguments, outlet: &Outlet) -> Outcome {
    resources::raise_descriptor_limit();
    let config = cluster_file::open_or_create(&arguments.file, arguments.nodes)?;
    let base = data_dir::base(arguments.data_dir.as_deref(), config.data_dir.as_deref(), &arguments.file);
    cluster_file::check_count(&config, &arguments.file, &base, arguments.nodes)?;
    advise(config.nodes.len());
    let (sender, events) = sync_channel(EVENTS_MAX);
    forward_signals(sender.clone())?;
    let mut parent = Parent::start(arguments, &config, &base, events, outlet)?;
    let watch = LeaderWatch::start(config.addresses(), sender)?;
    let outcome = parent.watch(&watch);
    watch.stop();
    parent.stop_all().and(outcome)
}

fn advise(nodes: usize) {
    if nodes.is_multiple_of(2) {
        let (loss, fewer) = match nodes {
            2 => ("none".to_owned(), "1 does".to_owned()),
            _ => (((nodes - 1) / 2).to_string(), format!("{} do", nodes - 1)),
        };
        log::warn!("{nodes} nodes survive the loss of {loss}, as {fewer}; an odd number is cheaper");
    }
}

fn forward_signals(events: SyncSender<Event>) -> Outcome {
    let mut wanted = STOP_SIGNALS.to_vec();
    wanted.push(SIGCHLD);
    let mut orders = StopOrders::default();
    let forwarded = stop_signals::forward(&wanted, move |signal| {
        let event = match signal {
            SIGCHLD => Event::ChildEnded,
            _ => match orders.receive(Instant::now()) {
                Order::Stop => Event::Stop(signal),
                Order::Repeated => return,
                Order::StopNow => Event::StopNow(signal),
            },
        };
        // The queue is gone only when the launcher is about to end.
        let _ = events.send(event);
    });
    forwarded.map_err(Failure::without_signals)
}

struct Parent {
    children: Vec<ChildNode>,
    events: Receiver<Event>,
    file: PathBuf,
    by_hand: RunByHand,
    nodes: usize,
    /// Open for as long as the launcher has nodes to look after; see [`data_dir::lock`].
    _lock: File,
}

impl Parent {
    fn start(
        arguments: &Arguments,
        config: &Config,
        base: &Path,
        events: Receiver<Event>,
        outlet: &Outlet,
    ) -> Result<Parent, Failure> {
        let file = arguments.file.clone();
        let lock = data_dir::lock(base)?;
        let mut children = Vec::new();
        for node in &config.nodes {
            children.push(ChildNode::start(node.id, &file, base, outlet.clone())?);
        }
        let nodes = children.len();
        let noun = if nodes == 1 { "node" } else { "nodes" };
        log::info!("{nodes} {noun} of {} started, data in {}", file.display(), base.display());
        Ok(Parent {
            nodes,
            children,
            events,
            file,
            by_hand: RunByHand::new(&arguments.file, arguments.data_dir.as_deref()),
            _lock: lock,
        })
    }

    /// Until a signal says stop (Ok) or there is nothing left to watch (Err).
    fn watch(&mut self, watch: &LeaderWatch) -> Outcome {
        loop {
            // Both senders live as long as this loop: the signal thread for ever, the watch until it is stopped.
            match self.events.recv().expect("the signal thread holds a sender") {
                Event::ChildEnded => {
                    for (id, end) in self.reap() {
                        self.report(id, &end)?;
                        watch.look_now();
                    }
                    if self.children.is_empty() {
                        return Err(Failure::Runtime("no node is left".to_owned()));
                    }
                }
                Event::Stop(signal) | Event::StopNow(signal) => {
                    log::info!("{}: stopping all nodes", stop_signals::name(signal));
                    return Ok(());
                }
                Event::Leader(news) => self.announce(&news),
            }
        }
    }

    /// Takes the children that have ended out of the list.
    fn reap(&mut self) -> Vec<(u64, End)> {
        let mut ended = Vec::new();
        self.children.retain_mut(|child| match child.end() {
            Some(end) => {
                ended.push((child.id, end));
                false
            }
            None => true,
        });
        ended
    }

    fn report(&self, id: u64, end: &End) -> Outcome {
        if end.is_refusal() {
            let mut text = format!("node {id} did not start, so none is kept running: {}", end.describe());
            if self.nodes > 1 && !end.is_usage() {
                let command = self.by_hand.command("I");
                text.push_str(&format!(
                    "; until that is mended, each of the others can be run by `{command}`"
                ));
            }
            return Err(if end.is_usage() { Failure::Usage(text) } else { Failure::Runtime(text) });
        }
        let (left, nodes) = (self.children.len(), self.nodes);
        let enough = if left > nodes / 2 { "which is enough to go on" } else { "too few to go on" };
        let are = if left == 1 { "is" } else { "are" };
        let command = self.by_hand.command(&id.to_string());
        let (level, what) = match end.is_clean() {
            true => (Level::Warn, "has stopped as it was asked to".to_owned()),
            false => (Level::Error, format!("has died: {}", end.describe())),
        };
        log::log!(
            level,
            "node {id} {what}; {left} of {nodes} nodes {are} left, {enough}; start it again with `{command}`"
        );
        Ok(())
    }

    fn announce(&self, news: &LeaderNews) {
        match news {
            LeaderNews::Leads { node, term } => {
                log::info!("node {node} leads in term {term}; clients: clerk -f {}", self.file.display());
            }
            LeaderNews::Nobody => log::warn!("there is no leader"),
        }
    }

    /// Stops every child: first asked, then killed. An error if any had to be killed.
    fn stop_all(&mut self) -> Outcome {
        self.children.iter().for_each(ChildNode::ask_to_stop);
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.children.is_empty() {
            for (id, end) in self.reap() {
                if !end.is_clean() {
                    log::warn!("node {id} did not stop in order: {}", end.describe());
                }
            }
            if self.children.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                // A stop after a failure is under way when the first order comes.
                Ok(Event::ChildEnded | Event::Leader(_) | Event::Stop(_)) => {}
                Ok(Event::StopNow(signal)) => {
                    return self.kill_all(&format!("asked a second time ({})", stop_signals::name(signal)));
                }
                Err(RecvTimeoutError::Timeout) => return self.kill_all("not stopped in time"),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the signal thread holds a sender"),
            }
        }
        log::info!("all nodes have stopped");
        Ok(())
    }

    fn kill_all(&mut self, why: &str) -> Outcome {
        let ids: Vec<String> = self.children.iter().map(|child| child.id.to_string()).collect();
        // Dropping a child kills it and waits for its end.
        self.children.clear();
        let (noun, were) = if ids.len() == 1 { ("node", "was") } else { ("nodes", "were") };
        Err(Failure::Runtime(format!("{why}: {noun} {} {were} killed", ids.join(", "))))
    }
}
