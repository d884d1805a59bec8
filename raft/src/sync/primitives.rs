//! The locks `sync` is made of, in one place so that a model checker can put its own in their stead.
//!
//! `lock_queue` and `stop_signal` name them as `super::primitives`. The model test includes those two files by path
//! beside a `primitives` module of its own, so the very text that ships is what gets checked. Never add a lock to
//! `sync` that does not come from here.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
