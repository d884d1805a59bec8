//! The gate: the one way to the core, and what happens around a visit to it.
//!
//! A visit locks the core, hands it what peers said since the last one, runs the visitor, takes the `Ready` and
//! *appends* what it holds to the lists of those who will do it. Then the lock is released, and only then is
//! anybody woken and anything encoded or sent. No disk, socket or callback ever runs under the core lock.
//!
//! Lock order: core → the application's waiters; inbox, work lists and outboxes are leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use log::error;
use raft_core::{Membership, Message, NodeId, RawNode, ReadState, Ready, SoftState, Term};

use crate::driver::{Applier, ApplyMsg, Clock, LogItem, WorkList};
use crate::net::Inbox;
use crate::sync::locked;

/// Carries messages to peers. The simulator has its own.
pub trait Transport: Send + Sync {
    /// Takes messages in the order the core said them. Called under the core lock: may only append.
    fn queue(&self, messages: Vec<Message>);
    /// Takes who the peers are from now on. Called under the core lock: may only note it. Where peers are fixed there is
    /// nothing to note.
    fn queue_membership(&self, _membership: Membership) {}
    /// Encodes and sends what is queued. Called without any lock.
    fn flush(&self);
}

/// What the application is told. The `queue_` methods run under the core lock and may only append.
pub trait Application: Send + Sync {
    /// Reads are confirmed or refused.
    fn queue_read_states(&self, states: Vec<ReadState>);
    /// Role or leader changed. After a loss of leadership every waiter must get its answer.
    fn queue_soft_state(&self, state: &SoftState);
    /// These peers need a snapshot, sent in the leader's term.
    fn queue_snapshots(&self, peers: Vec<(NodeId, Term)>);
    /// Does what was queued. Called without any lock.
    fn flush(&self);
    /// The node has stopped by itself, for this reason; nothing will be applied or confirmed any more.
    fn failed(&self, reason: &str);
}

/// The node has stopped; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct NodeStopped;

/// One node of a cluster, shared by all its threads.
pub struct RaftNode {
    core: Mutex<RawNode>,
    inbox: Mutex<Vec<Heard>>,
    log_work: Arc<WorkList<LogItem>>,
    applier: Arc<Applier>,
    transport: OnceLock<Arc<dyn Transport>>,
    application: OnceLock<Arc<dyn Application>>,
    /// What the core is told the time by.
    clock: OnceLock<Arc<dyn Clock>>,
    stopped: AtomicBool,
}

/// What the network brought since the last visit.
enum Heard {
    Message(Message),
    /// Something sent to this peer, or its answer, is lost.
    Lost(NodeId),
    /// The process of this peer is gone.
    Gone(NodeId),
}

/// Who must be told after a visit.
#[derive(Default)]
struct Told {
    log_writer: bool,
    applier: bool,
    transport: bool,
    application: bool,
}

impl RaftNode {
    /// The gate around a core. It must be [`connected`](RaftNode::connect) before the first visit.
    pub fn new(core: RawNode, applier: Arc<Applier>) -> RaftNode {
        RaftNode {
            core: Mutex::new(core),
            inbox: Mutex::default(),
            log_work: Arc::new(WorkList::default()),
            applier,
            transport: OnceLock::new(),
            application: OnceLock::new(),
            clock: OnceLock::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Says whom the node talks to. Called once.
    pub fn connect(&self, transport: Arc<dyn Transport>, application: Arc<dyn Application>) {
        assert!(self.transport.set(transport).is_ok(), "a node is connected once");
        assert!(self.application.set(application).is_ok(), "a node is connected once");
    }

    /// Says what the time is, for leases and the age of the state; a node without a clock has none. Called at most once.
    pub fn keep_time(&self, clock: Arc<dyn Clock>) {
        assert!(self.clock.set(clock).is_ok(), "a node has one clock");
    }

    fn transport(&self) -> &Arc<dyn Transport> {
        self.transport.get().expect("a node is connected before its first visit")
    }

    fn application(&self) -> &Arc<dyn Application> {
        self.application.get().expect("a node is connected before its first visit")
    }

    /// What the log writer takes its work from.
    pub fn log_work(&self) -> &Arc<WorkList<LogItem>> {
        &self.log_work
    }

    /// Visits the core.
    ///
    /// # Errors
    /// After [`stop`](RaftNode::stop) or a failure.
    ///
    /// # Panics
    /// When a thread died inside the core: a node without a sound core must not go on.
    pub fn with_core<R>(&self, visit: impl FnOnce(&mut RawNode) -> R) -> Result<R, NodeStopped> {
        if self.is_stopped() {
            return Err(NodeStopped);
        }
        outbound(|| {
            let (result, told) = {
                let mut core = locked(&self.core);
                if let Some(clock) = self.clock.get() {
                    core.time_is(clock.now());
                }
                let heard = std::mem::take(&mut *locked(&self.inbox));
                for heard in heard {
                    match heard {
                        Heard::Message(message) => core.step(message),
                        Heard::Lost(peer) => core.unreachable(peer),
                        Heard::Gone(peer) => core.peer_gone(peer),
                    }
                }
                let result = visit(&mut core);
                let told = if core.has_ready() { self.route(core.ready()) } else { Told::default() };
                (result, told)
            };
            self.tell(&told);
            Ok(result)
        })
    }

    /// Hands the core what peers said in this poll turn, if anything. The reactor calls it at the end of a turn.
    pub fn visit_if_spoken_to(&self) {
        if !locked(&self.inbox).is_empty() {
            // A stopped node has nothing to say to its peers.
            let _ = self.with_core(|_| ());
        }
    }

    /// Under the core lock: appends every part of a Ready to the list of the one who does it.
    fn route(&self, ready: Ready) -> Told {
        let mut told = Told::default();
        if let Some(state) = &ready.soft_state {
            self.application().queue_soft_state(state);
            told.application = true;
        }
        let (persist, heals, messages) = (ready.persist, ready.healed, ready.messages_after_persist);
        if persist.is_some() || heals || !messages.is_empty() {
            self.log_work.append(LogItem::Ready { persist, heals, messages });
            told.log_writer = true;
        }
        if let Some(membership) = ready.membership {
            self.transport().queue_membership(membership);
            told.transport = true;
        }
        if let Some(meta) = ready.restore {
            self.applier.append(ApplyMsg::Restore(meta));
            told.applier = true;
        }
        if !ready.committed.is_empty() {
            self.applier.append(ApplyMsg::Entries(ready.committed));
            told.applier = true;
        }
        if !ready.messages.is_empty() {
            self.transport().queue(ready.messages);
            told.transport = true;
        }
        if !ready.read_states.is_empty() {
            self.application().queue_read_states(ready.read_states);
            told.application = true;
        }
        if !ready.send_snapshots.is_empty() {
            self.application().queue_snapshots(ready.send_snapshots);
            told.application = true;
        }
        told
    }

    /// Whoever applies is told that a snapshot is done with.
    pub fn snapshot_done(&self) {
        self.applier.append(ApplyMsg::SnapshotDone);
        self.applier.turn();
    }

    /// Peers first: they are the longest way round.
    fn tell(&self, told: &Told) {
        if told.transport {
            self.transport().flush();
        }
        if told.log_writer {
            self.log_work.announce();
        }
        if told.applier {
            self.applier.turn();
        }
        if told.application {
            self.application().flush();
        }
    }

    /// Sends messages that waited for the disk. The log writer's.
    pub fn send(&self, messages: Vec<Message>) {
        if !messages.is_empty() && !self.is_stopped() {
            self.transport().queue(messages);
            outbound(|| self.transport().flush());
        }
    }

    /// Whether the node takes part no more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Ends the node's part in the cluster: no visit succeeds from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// The disk or a thread broke: the node stops taking part and says why. The first reason is the one told.
    pub fn fail(&self, reason: &str) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            error!("this node stops: {reason}");
            self.application().failed(reason);
        }
    }
}

/// Raft's messages leave together, and none inherits the deadline of the client's call in whose handler they arise.
fn outbound<R>(f: impl FnOnce() -> R) -> R {
    rpc::corked(|| rpc::detached(f))
}

impl Inbox for RaftNode {
    fn receive(&self, message: Message) {
        locked(&self.inbox).push(Heard::Message(message));
    }

    fn lost(&self, peer: NodeId) {
        locked(&self.inbox).push(Heard::Lost(peer));
    }

    fn gone(&self, peer: NodeId) {
        locked(&self.inbox).push(Heard::Gone(peer));
    }

    fn disowned(&self, why: &str) {
        self.fail(why);
    }
}
