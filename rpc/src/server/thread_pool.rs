//! Threads for handlers that must block: a service around a service.
//!
//! The reactor's thread leaves a call in a bounded queue, from which the pool's threads take it. A full queue answers
//! `OVERLOADED` at once, so that a slow disk or a slow neighbour shows as that and not as memory.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::responder::Responder;
use super::service::{Call, Service};
use crate::error::RpcError;
use crate::primitives::atomic::{AtomicUsize, Ordering};
use crate::primitives::thread::{self, JoinHandle};
use crate::primitives::{Condvar, Mutex};
use crate::protocol::status::Status;
use crate::reactor::lock::lock;

/// Settings of a [`ThreadPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadPoolConfig {
    /// Handlers that run at a time; default 8.
    pub threads: usize,
    /// Calls that wait while all threads are busy; default 1,024. A further one is answered `OVERLOADED`.
    pub waiting_max: usize,
}

impl Default for ThreadPoolConfig {
    fn default() -> Self {
        ThreadPoolConfig { threads: 8, waiting_max: 1024 }
    }
}

/// Runs the handlers of the services that it wraps. When the last handle to it and to its services is dropped, calls that
/// wait are answered `SHUTTING_DOWN` and its threads end.
pub struct ThreadPool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queue {
    config: ThreadPoolConfig,
    /// Calls that wait or run. A call that a thread has yet to wake up for does not wait for others.
    unfinished: AtomicUsize,
    /// `None` once the pool has ended.
    waiting: Mutex<Option<VecDeque<Job>>>,
    has_work: Condvar,
}

/// A call that waits for a thread.
struct Job {
    service: Arc<dyn Service>,
    method: Box<[u8]>,
    args: Bytes,
    responder: Responder,
}

impl ThreadPool {
    /// Starts the threads, called `name` and a number.
    ///
    /// # Errors
    /// [`RpcError::Start`] when the system gives no thread.
    pub fn start(name: &str, config: ThreadPoolConfig) -> Result<Arc<ThreadPool>, RpcError> {
        let (waiting, has_work) = (Mutex::new(Some(VecDeque::new())), Condvar::new());
        let config = ThreadPoolConfig { threads: config.threads.max(1), ..config };
        let queue = Arc::new(Queue { config, unfinished: AtomicUsize::new(0), waiting, has_work });
        let pool = Arc::new(ThreadPool { queue: queue.clone(), threads: Mutex::default() });
        for number in 0..config.threads {
            let queue = queue.clone();
            let thread = thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || queue.work())
                .map_err(|error| RpcError::Start { cause: error.to_string() })?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// A service of the same name whose handlers run on the pool's threads, where they may block; the service's own
    /// [`Service::end_of_turn`] follows each. Calls that nobody waits for any more when their turn comes are not run. Methods
    /// with streams are begun on the reactor's thread, as without a pool: what comes for a stream must find it.
    pub fn wrap(self: &Arc<Self>, service: Arc<dyn Service>) -> Arc<dyn Service> {
        Arc::new(Pooled { pool: self.clone(), service })
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        let left = lock(&self.queue.waiting).take();
        self.queue.has_work.notify_all();
        for job in left.into_iter().flatten() {
            job.responder.fail(Status::ShuttingDown, "the server is stopping");
        }
        let own = thread::current().id();
        for thread in lock(&self.threads).drain(..) {
            // The last handle may have been a handler's: its thread ends by itself. What panics in there has been caught.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}

impl Queue {
    /// Leaves a call for the threads; hands it back if there is no room.
    fn push(&self, job: Job) -> Option<Job> {
        let ThreadPoolConfig { threads, waiting_max } = self.config;
        match lock(&self.waiting).as_mut() {
            // Relaxed: a number only, and it grows under this lock.
            Some(waiting)
                if self.unfinished.load(Ordering::Relaxed) < threads.saturating_add(waiting_max) =>
            {
                self.unfinished.fetch_add(1, Ordering::Relaxed);
                waiting.push_back(job);
            }
            _ => return Some(job),
        }
        self.has_work.notify_one();
        None
    }

    /// A thread's life.
    fn work(&self) {
        while let Some(job) = self.next() {
            job.run();
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for a call; `None` when the pool has ended.
    fn next(&self) -> Option<Job> {
        let waiting = lock(&self.waiting);
        let is_idle = |waiting: &mut Option<VecDeque<Job>>| waiting.as_ref().is_some_and(VecDeque::is_empty);
        let waiting = self.has_work.wait_while(waiting, is_idle);
        waiting.unwrap_or_else(PoisonError::into_inner).as_mut()?.pop_front()
    }
}

impl Job {
    fn run(self) {
        let Job { service, method, args, responder } = self;
        if responder.context().is_cancelled() {
            return responder.fail(Status::Cancelled, "nobody waits for it any more");
        }
        let context = responder.context().clone();
        let call = Call { method: &method, args, credit_bytes: 0 };
        context.outbox.reactor.shielded("a handler", || context.scope(|| service.call(call, responder)));
        context.outbox.reactor.shielded("the end of a service's turn", || service.end_of_turn());
    }
}

/// See [`ThreadPool::wrap`].
struct Pooled {
    pool: Arc<ThreadPool>,
    service: Arc<dyn Service>,
}

impl Service for Pooled {
    fn name(&self) -> &str {
        self.service.name()
    }

    fn accepts_legacy(&self) -> bool {
        self.service.accepts_legacy()
    }

    fn is_stream(&self, method: &[u8]) -> bool {
        self.service.is_stream(method)
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        if self.service.is_stream(call.method) {
            return self.service.call(call, responder);
        }
        let (service, method) = (self.service.clone(), call.method.into());
        let job = Job { service, method, args: call.args, responder };
        if let Some(job) = self.pool.queue.push(job) {
            let text = format!("{} calls wait for a thread, waiting_max", self.pool.queue.config.waiting_max);
            job.responder.fail(Status::Overloaded, &text);
        }
    }
}
