//! The state machine as the threads share it: one writer, many readers, and the applied index beside it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::state_machine::StateMachine;

/// The state machine behind its lock.
pub struct SharedState {
    machine: RwLock<StateMachine>,
    applied_index: AtomicU64,
}

impl SharedState {
    /// Shares `machine`, which has been applied up to its own applied index.
    pub fn new(machine: StateMachine) -> SharedState {
        let applied_index = AtomicU64::new(machine.applied());
        SharedState { machine: RwLock::new(machine), applied_index }
    }

    /// The last index whose effects a reader sees.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// The state machine, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.machine.read().expect("the apply-loop died in the state machine: nothing may be read any more")
    }

    /// The state machine, for the apply-loop. The applied index is published when the guard goes.
    pub fn write(&self) -> Writing<'_> {
        let machine =
            self.machine.write().expect("the apply-loop is the only writer and holds the lock once");
        Writing { shared: self, machine }
    }
}

/// The write lock; publishes how far the state has been applied.
pub struct Writing<'a> {
    shared: &'a SharedState,
    machine: RwLockWriteGuard<'a, StateMachine>,
}

impl std::ops::Deref for Writing<'_> {
    type Target = StateMachine;

    fn deref(&self) -> &StateMachine {
        &self.machine
    }
}

impl std::ops::DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut StateMachine {
        &mut self.machine
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.shared.applied_index.store(self.machine.applied(), Ordering::Release);
    }
}
