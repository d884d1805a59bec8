//! One node's rooms and how they are joined, without a thread or a socket: the server puts threads around them, the
//! simulator steps through them.

use std::sync::Arc;
use std::time::Duration;

use raft::core::{Config, EntryId, NodeId, RawNode};
use raft::driver::{Applier, ApplyMsg, RaftNode, TickTimes, Transport};
use raft::net::AddressBook;
use raft::sync::{LockQueue, StopSignal};
use rand::rngs::ChaCha8Rng;

use crate::application::StoreApplication;
use crate::apply_loop::{ApplyLoop, SnapshotRule};
use crate::config::ServerConfig;
use crate::error::StartError;
use crate::intake::Intake;
use crate::leader_hints::LeaderHints;
use crate::read_gate::ReadGate;
use crate::shared_state::SharedState;
use crate::snapshotter::SnapshotDesk;
use crate::waiters::Waiters;

/// A snapshot is taken at the latest when this part of what the log may have in memory has been applied: the rest is
/// room for what followers still need and for what comes while the snapshot is written.
const LOG_PARTS_PER_SNAPSHOT: u64 = 4;

/// One election tick. The election timeout is drawn in whole ticks.
const ELECTION_TICK_MS: u64 = 10;

/// Two clocks that should show the same may differ by this part of the time: quartzes do by a few thousandths of that, but a
/// daemon that sets a clock right may make it run a twelfth too fast or too slow meanwhile.
const CLOCK_DRIFT_PART: u32 = 5;

/// A follower's promise of so many ticks may be shorter by these: one had begun when it promised, and one may come right
/// behind another that was late.
const TICKS_CUT: u64 = 2;

/// The rooms of one node.
pub struct Parts {
    /// The gate to the core.
    pub node: Arc<RaftNode>,
    /// Where the members live.
    pub book: AddressBook,
    /// The way of committed entries.
    pub applier: Arc<Applier>,
    /// Between Raft and the apply-loop.
    pub queue: Arc<LockQueue<ApplyMsg>>,
    /// The state, for readers.
    pub state: Arc<SharedState>,
    /// Writes that wait.
    pub waiters: Arc<Waiters>,
    /// Reads that wait.
    pub gate: Arc<ReadGate>,
    /// Where requests enter.
    pub intake: Arc<Intake>,
    /// What the node tells.
    pub application: Arc<StoreApplication>,
}

impl Parts {
    /// Joins the rooms of the node that `config` describes. `log` is what recovery found, `state` holds the state of
    /// its snapshot. `stop` is raised when the node fails; the caller still has to [`connect`](Parts::connect) it.
    ///
    /// # Errors
    /// When the configuration contradicts itself.
    pub fn join(
        config: &ServerConfig,
        log: raft::core::Restored,
        state: &Arc<SharedState>,
        desk: &Arc<SnapshotDesk>,
        stop: &Arc<StopSignal>,
        random: ChaCha8Rng,
    ) -> Result<(Parts, ApplyLoop), StartError> {
        let core_config = core_config(config)?;
        let snapshot_rule = SnapshotRule {
            log_bytes: config.snapshot_log_bytes,
            log_bytes_max: core_config.log_bytes_max / LOG_PARTS_PER_SNAPSHOT,
        };
        let last = log.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        let queue = Arc::new(LockQueue::new(config.apply_queue_batches));
        let applier = Arc::new(Applier::new(Arc::clone(&queue)));
        let core = RawNode::new(core_config, log, random);
        let book =
            AddressBook::new(config.members.iter().map(|(id, address)| (NodeId(*id), address.clone())));
        book.follow(core.membership());
        let node = Arc::new(RaftNode::new(core, Arc::clone(&applier)));
        let state = Arc::clone(state);
        let waiters = Arc::new(Waiters::default());
        let hints = Arc::new(LeaderHints::new(NodeId(config.node_id), book.clone()));
        let gate = Arc::new(ReadGate::new(Arc::clone(&state), Arc::clone(&hints)));
        let intake = Arc::new(Intake::new(
            Arc::clone(&node),
            Arc::clone(&waiters),
            Arc::clone(&gate),
            Arc::clone(&hints),
            config.data_dir.display().to_string(),
        ));
        let application = Arc::new(StoreApplication::new(
            Arc::clone(&waiters),
            Arc::clone(&gate),
            hints,
            Arc::clone(desk),
            Arc::clone(&queue),
            Arc::clone(stop),
        ));
        let apply_loop = ApplyLoop::new(
            Arc::clone(&node),
            Arc::clone(&state),
            Arc::clone(&waiters),
            Arc::clone(&gate),
            Arc::clone(desk),
            last,
            snapshot_rule,
        );
        let parts = Parts { node, book, applier, queue, state, waiters, gate, intake, application };
        Ok((parts, apply_loop))
    }

    /// Says what carries the node's messages.
    pub fn connect(&self, transport: Arc<dyn Transport>) {
        self.node.connect(transport, Arc::clone(&self.application) as _);
    }

    /// The node has lost a part of its log that it had acknowledged: it counts for nothing until that is repaired. To be said
    /// before anything else is done.
    pub fn convalesce(&self) {
        // A node that has stopped already counts for nothing.
        let _ = self.node.with_core(raft::core::RawNode::convalesce);
    }

    /// Answers everybody who still waits: the node stops.
    pub fn shut_down(&self) {
        self.waiters.shut_down();
        self.gate.shut_down();
    }
}

/// How often the tickers of a node with this configuration tick.
pub fn tick_times(config: &ServerConfig) -> TickTimes {
    TickTimes {
        election_tick: Duration::from_millis(ELECTION_TICK_MS),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
    }
}

/// The voters whose log begins at its beginning: none on a node that joins, which learns them from the log.
fn founders(config: &ServerConfig) -> Vec<NodeId> {
    match &config.founders {
        Some(founders) => founders.clone(),
        None if config.joins => Vec::new(),
        None => config.members.iter().map(|(id, _)| NodeId(*id)).collect(),
    }
}

/// How long a lease lasts: the shortest election timeout, less what its followers may count wrong.
fn lease(election_min_ms: u64) -> Duration {
    let promised = Duration::from_millis(election_min_ms.saturating_sub(TICKS_CUT * ELECTION_TICK_MS));
    promised - promised / CLOCK_DRIFT_PART
}

fn core_config(config: &ServerConfig) -> Result<Config, StartError> {
    if !config.members.iter().any(|(id, _)| *id == config.node_id) {
        return Err(StartError::Config(format!("node {} is not one of the members", config.node_id)));
    }
    let ticks = |ms: u64| u32::try_from(ms.div_ceil(ELECTION_TICK_MS)).unwrap_or(u32::MAX);
    let core = Config {
        election_ticks_min: ticks(config.election_min_ms),
        election_ticks_max: ticks(config.election_max_ms),
        trailing_entries: config.trailing_entries,
        uncommitted_bytes_max: config.uncommitted_bytes_max as u64,
        append_bytes_max: config.append_bytes_max,
        inflight_messages_max: config.inflight_messages_max,
        inflight_bytes_max: config.inflight_bytes_max,
        unpersisted_bytes_max: config.unpersisted_bytes_max,
        unapplied_bytes_max: config.unapplied_bytes_max,
        log_bytes_max: config.log_bytes_max,
        trailing_bytes_max: config.trailing_bytes_max,
        snapshot_ticks_max: ticks(config.snapshot_patience_ms),
        priorities: config.priorities.iter().map(|(id, priority)| (NodeId(*id), *priority)).collect(),
        lease: config.lease_reads.then(|| lease(config.election_min_ms)),
        ..Config::new(NodeId(config.node_id), founders(config))
    };
    core.validate().map_err(|error| StartError::Config(error.to_string()))?;
    Ok(core)
}
