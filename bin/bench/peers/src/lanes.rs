//! The closed loop of the asynchronous peers: one task per call in flight.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use rpc_bench::load::Load;
use rpc_bench::tally::Tally;

/// The tally of a client that runs on one thread.
pub type SharedTally = Rc<RefCell<Tally>>;

/// Calls again and again until the time is over or a call fails. `call` says whether the payload came back.
pub async fn run<F: Future<Output = bool>>(tally: SharedTally, mut call: impl FnMut() -> F) {
    let mut started = Instant::now();
    loop {
        let is_right = call().await;
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        if !is_right {
            tally.failed();
            return;
        }
        if !tally.answered(started, now) {
            return;
        }
        started = now;
    }
}

/// A runtime on the calling thread.
///
/// # Errors
/// When the system has no room for it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A tally that begins now.
pub fn begin(load: &Load) -> SharedTally {
    Rc::new(RefCell::new(Tally::begin(load)))
}
