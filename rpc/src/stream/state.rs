//! One stream's two directions, as they stand between the reactor's thread and whoever reads and writes.
//!
//! A leaf lock guards them. Whoever waits is woken by a condition variable, whoever does not want to wait is told by a
//! callback, which runs when no lock is held.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::RpcError;
use crate::primitives::{Condvar, Mutex, MutexGuard};
use crate::reactor::lock::lock;

/// What a message costs of the credit beside its bytes: what it takes to keep one.
pub(crate) const MESSAGE_COST_BYTES: u64 = 32;

/// What a client may send on a stream before it has been granted anything, in bytes.
pub(crate) const FIRST_WINDOW_BYTES: u64 = 64 * 1024;

/// Told that something may have changed.
type Observer = Arc<dyn Fn() + Send + Sync>;

/// See the module's text.
pub(crate) struct StreamState {
    inner: Mutex<Inner>,
    has_changed: Condvar,
}

struct Inner {
    /// Messages that have come and were not taken.
    come: VecDeque<Bytes>,
    /// What the peer may still send; it may go beyond by one message.
    allowance: i64,
    /// What was taken and has not been given back to the peer.
    taken: u64,
    /// What the peer may have under way at a time.
    window: u64,
    /// No further message comes: all have, or why not.
    come_end: Option<Result<(), RpcError>>,
    /// Nobody takes messages any more.
    is_deaf: bool,
    /// The call has ended: what is still on its way is late.
    is_over: bool,
    /// What may still be sent; the last message may go beyond.
    credit: i64,
    /// Nothing more can be sent, and why.
    closed: Option<RpcError>,
    observer: Option<Observer>,
}

/// What a reader finds.
pub(crate) enum Taken {
    /// A message; and credit to be given back to the peer, in bytes, if that is not 0.
    Message(Bytes, u64),
    /// The stream's end, or why it broke off.
    End(Result<(), RpcError>),
    /// Nothing yet.
    Nothing,
}

impl StreamState {
    /// A stream whose peer may send `window` bytes, and which may send `credit` bytes.
    pub(crate) fn new(window: u64, credit: u64) -> StreamState {
        let inner = Inner {
            come: VecDeque::new(),
            allowance: signed(window),
            taken: 0,
            window,
            come_end: None,
            is_deaf: false,
            is_over: false,
            credit: signed(credit),
            closed: None,
            observer: None,
        };
        StreamState { inner: Mutex::new(inner), has_changed: Condvar::new() }
    }

    /// A message has come. Returns whether the peer was allowed to send it; it is dropped if not, or if the call has ended.
    pub(crate) fn push(&self, message: Bytes) -> bool {
        let mut inner = lock(&self.inner);
        if inner.is_over {
            return true;
        }
        if inner.allowance <= 0 || inner.come_end.is_some() {
            return false;
        }
        inner.allowance -= signed(cost(message.len()));
        if !inner.is_deaf {
            inner.come.push_back(message);
        }
        self.tell(inner);
        true
    }

    /// No further message comes from the peer.
    pub(crate) fn end(&self, outcome: Result<(), RpcError>) {
        let mut inner = lock(&self.inner);
        inner.come_end.get_or_insert(outcome);
        self.tell(inner);
    }

    /// The peer may be sent more.
    pub(crate) fn grant(&self, bytes: u64) {
        let mut inner = lock(&self.inner);
        inner.credit = inner.credit.saturating_add(signed(bytes));
        self.tell(inner);
    }

    /// The call has ended: nothing comes or goes any more. `outcome` is what a reader finds behind the last message.
    pub(crate) fn close(&self, outcome: Result<(), RpcError>) {
        let observer = {
            let mut inner = lock(&self.inner);
            inner.is_over = true;
            let why = outcome.as_ref().err().cloned();
            inner.come_end.get_or_insert(outcome);
            inner.closed.get_or_insert(why.unwrap_or(RpcError::StreamEnded));
            self.has_changed.notify_all();
            // It may hold the ends of this very stream.
            inner.observer.take()
        };
        if let Some(observer) = observer {
            observer();
        }
    }

    /// Takes the next message.
    pub(crate) fn take(&self) -> Taken {
        lock(&self.inner).take()
    }

    /// Like [`StreamState::take`], but waits for something.
    pub(crate) fn wait_and_take(&self) -> Taken {
        let mut inner = lock(&self.inner);
        loop {
            match inner.take() {
                Taken::Nothing => inner = self.wait(inner),
                taken => return taken,
            }
        }
    }

    /// Nobody takes messages any more: what has come and what comes is dropped.
    pub(crate) fn turn_deaf(&self) {
        let dropped = {
            let mut inner = lock(&self.inner);
            inner.is_deaf = true;
            std::mem::take(&mut inner.come)
        };
        drop(dropped);
    }

    /// Whether the peer has said all, or the call has ended.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.inner).come_end.is_some()
    }

    /// Whether [`StreamState::wait_and_take`] need not wait.
    pub(crate) fn has_news(&self) -> bool {
        let inner = lock(&self.inner);
        !inner.come.is_empty() || inner.come_end.is_some()
    }

    /// Whether [`StreamState::wait_and_spend`] need not wait.
    pub(crate) fn may_be_spent(&self) -> bool {
        let inner = lock(&self.inner);
        inner.credit > 0 || inner.closed.is_some()
    }

    /// Spends credit for a message of so many bytes. Returns whether there was any.
    ///
    /// # Errors
    /// Why nothing can be sent any more.
    pub(crate) fn spend(&self, bytes: usize) -> Result<bool, RpcError> {
        lock(&self.inner).spend(bytes)
    }

    /// Gives back what was spent for a message that could not be sent.
    pub(crate) fn unspend(&self, bytes: usize) {
        let mut inner = lock(&self.inner);
        inner.credit = inner.credit.saturating_add(signed(cost(bytes)));
    }

    /// Like [`StreamState::spend`], but waits for credit.
    ///
    /// # Errors
    /// Why nothing can be sent any more.
    pub(crate) fn wait_and_spend(&self, bytes: usize) -> Result<(), RpcError> {
        let mut inner = lock(&self.inner);
        while !inner.spend(bytes)? {
            inner = self.wait(inner);
        }
        Ok(())
    }

    /// Nothing more is sent from this end.
    pub(crate) fn close_sending(&self) {
        lock(&self.inner).closed.get_or_insert(RpcError::StreamEnded);
    }

    /// Has `observer` told whenever something may have changed, and once now.
    pub(crate) fn observe(&self, observer: Observer) {
        {
            let mut inner = lock(&self.inner);
            if inner.closed.is_none() || inner.come_end.is_none() {
                inner.observer = Some(observer.clone());
            }
        }
        observer();
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.has_changed.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell(&self, inner: MutexGuard<'_, Inner>) {
        let observer = inner.observer.clone();
        drop(inner);
        self.has_changed.notify_all();
        if let Some(observer) = observer {
            observer();
        }
    }
}

impl Inner {
    fn take(&mut self) -> Taken {
        let Some(message) = self.come.pop_front() else {
            return self.come_end.clone().map_or(Taken::Nothing, Taken::End);
        };
        self.taken += cost(message.len());
        // Half a window at a time: a grant for each message would double the frames.
        let is_worth_it = self.taken * 2 >= self.window && self.come_end.is_none();
        let granted = if is_worth_it { std::mem::take(&mut self.taken) } else { 0 };
        self.allowance += signed(granted);
        Taken::Message(message, granted)
    }

    fn spend(&mut self, bytes: usize) -> Result<bool, RpcError> {
        if let Some(why) = &self.closed {
            return Err(why.clone());
        }
        let has_credit = self.credit > 0;
        if has_credit {
            self.credit -= signed(cost(bytes));
        }
        Ok(has_credit)
    }
}

/// What a message of so many bytes costs.
fn cost(bytes: usize) -> u64 {
    bytes as u64 + MESSAGE_COST_BYTES
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl fmt::Debug for StreamState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = lock(&self.inner);
        formatter
            .debug_struct("StreamState")
            .field("come", &inner.come.len())
            .field("allowance", &inner.allowance)
            .field("credit", &inner.credit)
            .field("come_end", &inner.come_end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn credit_is_spent_by_messages_and_the_last_one_may_go_beyond() {
        let stream = StreamState::new(0, 100);
        assert_eq!(stream.spend(60), Ok(true));
        assert_eq!(stream.spend(500), Ok(true), "8 bytes are left, and one message may go beyond");
        assert_eq!(stream.spend(0), Ok(false));
        stream.grant(524);
        assert_eq!(stream.spend(0), Ok(false), "the debt is paid, nothing is left");
        stream.grant(1);
        assert_eq!(stream.spend(0), Ok(true));
        stream.close(Err(RpcError::Cancelled { may_have_run: true }));
        assert_eq!(stream.spend(0), Err(RpcError::Cancelled { may_have_run: true }));
    }

    #[test]
    fn a_peer_is_given_back_what_was_taken_and_may_not_send_more() {
        let stream = StreamState::new(200, 0);
        let message = || Bytes::from_static(&[7; 68]);
        assert!(stream.push(message()) && stream.push(message()));
        assert!(!stream.push(message()), "200 bytes are spent");
        assert!(matches!(stream.take(), Taken::Message(_, 100)), "half a window is worth a grant");
        assert!(stream.push(message()) && !stream.push(message()));
        assert!(matches!(stream.take(), Taken::Message(_, 100)));
        stream.end(Ok(()));
        assert!(!stream.push(message()), "it had said all");
        assert!(matches!(stream.take(), Taken::Message(_, 0)), "who has said all needs no credit");
        assert!(matches!(stream.take(), Taken::End(Ok(()))) && stream.has_ended());
        stream.close(Ok(()));
        assert!(stream.push(message()), "what comes after the call's end is merely late");
        assert!(matches!(stream.take(), Taken::End(Ok(()))));
    }

    #[test]
    fn empty_messages_cost_something_too() {
        let stream = StreamState::new(3200, 0);
        assert_eq!((0..1000).filter(|_| stream.push(Bytes::new())).count(), 100);
    }

    #[test]
    fn an_observer_is_told_of_everything_and_forgotten_at_the_end() {
        let stream = Arc::new(StreamState::new(100, 0));
        let told = Arc::new(AtomicUsize::new(0));
        let (counter, held) = (told.clone(), stream.clone());
        stream.observe(Arc::new(move || {
            let _held = &held;
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        assert!(stream.push(Bytes::new()));
        stream.grant(1);
        stream.end(Ok(()));
        stream.close(Ok(()));
        assert_eq!(
            told.load(Ordering::SeqCst),
            5,
            "at first, a message, credit, the end, the end of the call"
        );
        assert_eq!(Arc::strong_count(&stream), 1, "the observer has gone, and what it held");
    }
}
