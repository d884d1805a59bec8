//! Puts every key once before anything is measured, many at a time.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use clerk::{Answer, Clerk, ClerkError, Operation};

use super::{Context, progress, workload::Workload};
use crate::failure::Failure;

/// Connections that fill.
const CLERKS: usize = 4;

/// Puts under way at most: a session's window for each clerk.
const IN_FLIGHT_MAX: usize = CLERKS * clerk::SESSION_WINDOW;

/// Value bytes under way at most; large values go a few at a time.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

struct Fill {
    clerks: Vec<Clerk>,
    workload: Arc<Workload>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// The next key to put.
    next: u32,
    under_way: usize,
    stopped: bool,
    failed: Option<ClerkError>,
}

pub(super) fn run(context: &Context<'_>, workload: &Arc<Workload>) -> Result<(), Failure> {
    let config = context.target.clerk_config();
    let clerks =
        (0..CLERKS).map(|_| Clerk::with_reactor(&context.reactor, &context.endpoints, config.clone()));
    let clerks = clerks.collect::<Result<Vec<Clerk>, ClerkError>>()?;
    let fill = Fill {
        clerks,
        workload: Arc::clone(workload),
        state: Mutex::new(State::default()),
        ended: Condvar::new(),
    };
    let fill = Arc::new(fill);
    let at_once = IN_FLIGHT_BYTES_MAX / workload.value_bytes().max(1);
    for lane in 0..at_once.clamp(1, IN_FLIGHT_MAX).min(workload.key_count() as usize) {
        fill.lock().under_way += 1;
        next(&fill, lane);
    }
    let bar = progress(context.plan, u64::from(workload.key_count()), "filling");
    let mut state = fill.lock();
    while state.under_way > 0 {
        bar.set_position(u64::from(state.next));
        state.stopped |= context.interrupt.is_asked();
        (state, _) = fill.ended.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
    }
    bar.finish_and_clear();
    match state.failed.take() {
        Some(error) => Err(Failure::from(error)),
        None if state.stopped => Err(Failure::Interrupted),
        None => Ok(()),
    }
}

/// One lane puts its next key, or ends.
fn next(fill: &Arc<Fill>, lane: usize) {
    let Some((key, operation)) = fill.take() else { return };
    let owner = Arc::clone(fill);
    fill.clerks[lane % fill.clerks.len()].submit(operation, move |result| {
        owner.note(key, result);
        next(&owner, lane);
    });
}

impl Fill {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(u32, Operation)> {
        let mut state = self.lock();
        if state.stopped || state.failed.is_some() || state.next == self.workload.key_count() {
            state.under_way -= 1;
            self.ended.notify_all();
            return None;
        }
        let key = state.next;
        state.next += 1;
        drop(state);
        let value: Bytes = self.workload.book().next_value(key, self.workload.value_bytes());
        Some((key, Operation::Put { key: self.workload.key(key), value }))
    }

    fn note(&self, key: u32, result: Result<Answer, ClerkError>) {
        match result {
            Ok(Answer::Written { version }) => self.workload.book().acknowledge(key, version),
            Ok(_) => unreachable!("the border answers a put with a version"),
            Err(error) => self.lock().failed = Some(error),
        }
    }
}
