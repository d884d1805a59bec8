//! The store as Raft's application: what the node tells it is put where it belongs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use log::warn;
use raft::core::{NodeId, ReadState, RoleKind, SoftState, Term};
use raft::driver::{Application, ApplyMsg};
use raft::sync::{LockQueue, StopSignal, locked};

use crate::leader_hints::LeaderHints;
use crate::read_gate::ReadGate;
use crate::snapshotter::SnapshotDesk;
use crate::waiters::Waiters;

/// The receiver of everything the node tells.
pub struct StoreApplication {
    waiters: Arc<Waiters>,
    gate: Arc<ReadGate>,
    hints: Arc<LeaderHints>,
    snapshots: Arc<SnapshotDesk>,
    queue: Arc<LockQueue<ApplyMsg>>,
    state: Mutex<State>,
    follows: Condvar,
    stop: Arc<StopSignal>,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    leads: bool,
    leader: Option<NodeId>,
    leadership_lost: bool,
    snapshots_wanted: Vec<(NodeId, Term)>,
}

impl StoreApplication {
    /// The application over its parts; `stop` is raised when the node fails.
    pub fn new(
        waiters: Arc<Waiters>,
        gate: Arc<ReadGate>,
        hints: Arc<LeaderHints>,
        snapshots: Arc<SnapshotDesk>,
        queue: Arc<LockQueue<ApplyMsg>>,
        stop: Arc<StopSignal>,
    ) -> StoreApplication {
        let (state, follows, failure) = Default::default();
        StoreApplication { waiters, gate, hints, snapshots, queue, state, follows, stop, failure }
    }

    /// Waits until this node does not lead, at most so long. Returns whether it does not.
    pub fn follows_within(&self, timeout: Duration) -> bool {
        let state = locked(&self.state);
        // Of a thread that died in here only the flag is looked at.
        let waited = self.follows.wait_timeout_while(state, timeout, |state| state.leads);
        !waited.unwrap_or_else(PoisonError::into_inner).0.leads
    }

    /// Why the node failed, if it has.
    pub fn failure(&self) -> Option<String> {
        locked(&self.failure).clone()
    }
}

impl Application for StoreApplication {
    fn queue_read_states(&self, states: Vec<ReadState>) {
        self.gate.queue(states);
    }

    fn queue_soft_state(&self, soft: &SoftState) {
        let mut state = locked(&self.state);
        let leads = soft.role == RoleKind::Leader;
        if state.leads && !leads {
            self.waiters.lose_leadership();
            state.leadership_lost = true;
        }
        state.leads = leads;
        state.leader = soft.leader;
        if !leads {
            self.follows.notify_all();
        }
    }

    fn queue_snapshots(&self, peers: Vec<(NodeId, Term)>) {
        locked(&self.state).snapshots_wanted.extend(peers);
    }

    fn flush(&self) {
        let mut state = locked(&self.state);
        let lost = std::mem::take(&mut state.leadership_lost).then_some(state.leader);
        let wanted = std::mem::take(&mut state.snapshots_wanted);
        drop(state);
        if let Some(leader) = lost {
            self.waiters.answer_lost(self.hints.address(leader));
        }
        for (peer, term) in wanted {
            if let Err(error) = self.snapshots.send(peer, term) {
                warn!("node {peer} is not sent a snapshot now: {error}");
            }
        }
        self.gate.open();
    }

    fn failed(&self, reason: &str) {
        *locked(&self.failure) = Some(reason.to_owned());
        // First: should what broke the node have broken these locks as well, it must still be seen to stop.
        self.stop.stop();
        self.queue.close();
        self.waiters.shut_down();
        self.gate.shut_down();
    }
}
