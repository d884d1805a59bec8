//! What threads use to hand work to each other: a bounded queue and a stop signal.
//!
//! Both are a mutex and a condition variable and nothing else, so that their waits can be read from one page, and both
//! run unchanged under a model checker (`raft/tests/lock_queue_model.rs`). Nothing in here may know what it carries.

pub mod lock_queue;
mod locked;
mod primitives;
pub mod stop_signal;

pub use lock_queue::{LockQueue, PopTimeout, TryPushError};
pub use locked::locked;
pub use stop_signal::StopSignal;
