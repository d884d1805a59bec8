//! What threads share and wait by, in one place, so that a model checker can put its own in its stead.
//!
//! `rpc/tests/models` includes the whole crate by path beside a `primitives` module of its own, so that the very text that
//! ships is what is checked. Never take a lock, an atomic word, a thread or what is a thread's own from elsewhere; the
//! exceptions are words that merely number things, and buffers, which are nobody's.

pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::{thread, thread_local};
