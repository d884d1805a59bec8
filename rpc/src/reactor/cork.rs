//! One write per connection for all that a scope sends.
//!
//! Inside [`corked`] replies and calls are only buffered; when the outermost scope of the thread ends, each connection
//! touched is flushed once. A few connections are written right here; many are handed to their reactor with one wake, so
//! that a thread like the apply-loop is not kept from its work by system calls. A reactor's own turn is such a scope, whose
//! connections stand in the reactor's line to be written.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mailbox::Command;
use super::outbox::Outbox;
use crate::primitives::thread_local;

/// Up to this many connections are written by the thread that ends a scope; more are the reactor's.
pub const DIRECT_FLUSH_CONNECTIONS_MAX: usize = 4;

/// Room for connections kept by a thread between scopes.
const TOUCHED_KEPT_MAX: usize = 1024;

/// The next scope's number; 0 means none.
static NEXT_SCOPE: AtomicU64 = AtomicU64::new(1);

/// In a scope's place: a reactor's turn.
pub(super) const TURN: u64 = u64::MAX;

thread_local! {
    static SCOPE: Cell<u64> = const { Cell::new(0) };
    static TOUCHED: RefCell<Vec<Arc<Outbox>>> = const { RefCell::new(Vec::new()) };
}

/// The thread's outermost scope, [`TURN`], or 0 outside of any.
pub(crate) fn current() -> u64 {
    SCOPE.with(Cell::get)
}

/// Remembers a connection to flush at the scope's end.
pub(crate) fn touch(outbox: &Arc<Outbox>) {
    TOUCHED.with(|touched| touched.borrow_mut().push(outbox.clone()));
}

/// Runs `f`. Replies and calls sent inside, on this thread, leave when the outermost scope ends: each connection is
/// written once. Whoever waits inside does not wait for that: before a blocking call or stream waits, everything leaves.
pub fn corked<R>(f: impl FnOnce() -> R) -> R {
    if current() != 0 {
        return f();
    }
    let scope = Scope::begin();
    let result = f();
    drop(scope);
    result
}

/// An open scope; its end flushes, also when the scope is left by a panic.
struct Scope;

impl Scope {
    fn begin() -> Scope {
        set_next_number();
        Scope
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPE.with(|scope| scope.set(0));
        flush_touched();
    }
}

fn set_next_number() {
    // Relaxed: a number only, nothing is published by it.
    let number = NEXT_SCOPE.fetch_add(1, Ordering::Relaxed);
    SCOPE.with(|scope| scope.set(number));
}

/// Has all leave that this thread's scope holds back: who begins to wait may wait for what follows from any of it.
pub(crate) fn let_go() {
    if !matches!(current(), 0 | TURN) {
        // What is sent from now on is held back anew.
        set_next_number();
        flush_touched();
    }
}

/// Writes the connections that this thread has touched, or has their reactors do it.
fn flush_touched() {
    let mut touched = TOUCHED.with(RefCell::take);
    if touched.len() <= DIRECT_FLUSH_CONNECTIONS_MAX {
        touched.drain(..).for_each(|outbox| outbox.flush());
    } else {
        hand_over(&mut touched);
    }
    if touched.capacity() <= TOUCHED_KEPT_MAX {
        TOUCHED.with(|kept| kept.replace(touched));
    }
}

/// A reactor's turn, during which nothing that its thread sends leaves.
pub(super) struct TurnScope {
    /// A simulated reactor turns on the thread of who waits for it, maybe in a scope, whose connections are not its.
    outer: u64,
    touched_outside: Vec<Arc<Outbox>>,
}

impl TurnScope {
    pub(super) fn begin() -> TurnScope {
        let outer = SCOPE.with(|scope| scope.replace(TURN));
        let touched_outside = if outer == 0 { Vec::new() } else { TOUCHED.with(RefCell::take) };
        TurnScope { outer, touched_outside }
    }

    /// Ends it, and hands over the connections that were touched.
    pub(super) fn end(self, touched: impl FnMut(Arc<Outbox>)) {
        TOUCHED.with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.drain(..).for_each(touched);
            kept.shrink_to(TOUCHED_KEPT_MAX);
        });
    }
}

impl Drop for TurnScope {
    fn drop(&mut self) {
        SCOPE.with(|scope| scope.set(self.outer));
        TOUCHED.with(|touched| touched.borrow_mut().append(&mut self.touched_outside));
    }
}

/// Gives each reactor its connections, in one visit of its mailbox.
fn hand_over(touched: &mut Vec<Arc<Outbox>>) {
    while let Some(last) = touched.last() {
        let reactor = last.reactor.clone();
        let (own, others) = touched.drain(..).partition(|outbox| Arc::ptr_eq(&outbox.reactor, &reactor));
        *touched = others;
        // A reactor that has stopped has closed its connections: nothing is left to flush.
        let _ = reactor.post(Command::Flush(own));
    }
}
