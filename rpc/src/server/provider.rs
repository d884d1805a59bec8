//! The server: listens, knows the services by name, counts what is in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::service::Service;
use crate::config::ProviderConfig;
use crate::error::RpcError;
use crate::log_gate::LogGate;
use crate::primitives::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::primitives::{Condvar, Mutex};
use crate::reactor::lock::lock;
use crate::reactor::mailbox::Command;
use crate::reactor::{Reactor, Shared, clock, connector};

/// Offers services to whoever connects.
///
/// A connection's calls are dispatched on the reactor's thread in the order they came; their replies leave in the order
/// they are given. Dropping the provider stops it.
pub struct RpcProvider {
    core: Arc<ProviderCore>,
}

/// What a connection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// One of [`ProviderConfig::connections_max`].
    Ordinary,
    /// One of the reserve; its first call has not shown yet that it may be.
    Unproven,
    /// One of the reserve.
    Reserved,
}

/// A registered service.
pub(crate) struct ServiceEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) service: Arc<dyn Service>,
    /// The latest turn in which the service was called; the reactor's thread alone uses it.
    pub(crate) called_in_turn: AtomicU64,
    /// Whether it may use the provider's reserve.
    pub(crate) is_reserved: bool,
}

/// All services, replaced as a whole when one is added.
pub(crate) type ServiceTable = Arc<Vec<Arc<ServiceEntry>>>;

/// What the handle, its listeners and its connections share.
pub(crate) struct ProviderCore {
    pub(crate) config: ProviderConfig,
    pub(crate) reactor: Arc<Shared>,
    services: Mutex<ServiceTable>,
    /// Counts the replacements of `services`.
    services_version: AtomicU64,
    /// Connections on ordinary places.
    connections: AtomicUsize,
    /// Connections on places of the reserve.
    reserved: AtomicUsize,
    /// Memory held for requests that have come in part; written by the reactor's thread only.
    unfinished_bytes: AtomicU64,
    /// Replies of all connections that wait for their peers to take them, in bytes.
    unsent_bytes: AtomicU64,
    pub(crate) warnings: Warnings,
    /// Calls begun; written by the reactor's thread only.
    begun: AtomicU64,
    answered: AtomicU64,
    is_stopping: AtomicBool,
    /// Whether all is closed.
    stopped: Mutex<bool>,
    has_stopped: Condvar,
}

/// What is said of peers, each kind not too often.
#[derive(Default)]
pub(crate) struct Warnings {
    /// Bytes that make no sense.
    pub(crate) refused: LogGate,
    /// Replies that are not taken.
    pub(crate) unread: LogGate,
    /// Frames that do not become whole.
    pub(crate) unfinished: LogGate,
    /// No further connection is taken.
    pub(crate) full: LogGate,
}

impl RpcProvider {
    /// A provider whose connections `reactor` serves.
    pub fn new(reactor: &Reactor, config: ProviderConfig) -> RpcProvider {
        let core = Arc::new(ProviderCore {
            config,
            reactor: reactor.shared().clone(),
            services: Mutex::default(),
            services_version: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            unfinished_bytes: AtomicU64::new(0),
            unsent_bytes: AtomicU64::new(0),
            warnings: Warnings::default(),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            stopped: Mutex::new(false),
            has_stopped: Condvar::new(),
        });
        if core.reactor.post(Command::Provider(Arc::downgrade(&core))).is_err() {
            core.mark_stopped();
        }
        RpcProvider { core }
    }

    /// Registers a service, also while connections are being served.
    ///
    /// # Errors
    /// [`RpcError::NameTaken`].
    pub fn notify_service(&self, service: Arc<dyn Service>) -> Result<(), RpcError> {
        let name = service.name().to_owned();
        let mut services = lock(&self.core.services);
        if services.iter().any(|entry| entry.name == name.as_bytes()) {
            return Err(RpcError::NameTaken { name });
        }
        let is_reserved = self.core.config.reserve.services.contains(&name);
        let called_in_turn = AtomicU64::new(0);
        let entry = ServiceEntry { name: name.into_bytes(), service, called_in_turn, is_reserved };
        let mut table = services.as_ref().clone();
        table.push(Arc::new(entry));
        *services = Arc::new(table);
        self.core.services_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Listens on `address`, `HOST:PORT`; port 0 lets the system choose. May be called several times. Returns the
    /// address listened on.
    ///
    /// # Errors
    /// [`RpcError::Resolve`] or [`RpcError::Listen`], naming the address; [`RpcError::Stopped`].
    pub fn listen(&self, address: &str) -> Result<SocketAddr, RpcError> {
        let failed = |error: std::io::Error| RpcError::Listen {
            address: address.to_owned(),
            cause: error.to_string(),
        };
        let mut result =
            Err(RpcError::Listen { address: address.to_owned(), cause: "no address".to_owned() });
        for candidate in connector::resolve(&self.core.reactor.world, address)? {
            result = self.core.reactor.world.listen(candidate).map_err(failed);
            if result.is_ok() {
                break;
            }
        }
        let (listener, local) = result?;
        let stopped = RpcError::Stopped { may_have_run: false };
        if self.core.is_stopping() {
            return Err(stopped);
        }
        match self.core.reactor.post(Command::Listen(listener, self.core.clone())) {
            Ok(()) => Ok(local),
            Err(_) => Err(stopped),
        }
    }

    /// Blocks until the provider has been stopped, or its reactor has.
    pub fn run(&self) {
        if self.core.reactor.world.runs_until(|| *lock(&self.core.stopped)) {
            return;
        }
        let stopped = lock(&self.core.stopped);
        drop(self.core.has_stopped.wait_while(stopped, |stopped| !*stopped));
    }

    /// Stops accepting and tells the peers, whose channels make their next calls on a new connection, wherever that leads;
    /// what they had sent before they knew is served. Connections end when their last call is answered, or after
    /// [`ProviderConfig::drain_timeout`]. Programs of the origin cannot be told: their connections are closed between
    /// two calls. Returns when all are closed; from a callback on the reactor's thread it only begins this. Idempotent.
    pub fn stop(&self) {
        if !self.core.is_stopping.swap(true, Ordering::SeqCst)
            && self.core.reactor.post(Command::StopProvider(self.core.clone())).is_err()
        {
            self.core.mark_stopped();
        }
        if !clock::is_reactor_thread() {
            self.run();
        }
    }
}

impl RpcProvider {
    /// How much of the provider's limits is taken up now. From any thread.
    pub fn gauges(&self) -> ProviderGauges {
        let core = &self.core;
        let answered = core.answered.load(Ordering::Relaxed);
        ProviderGauges {
            connections: core.connections(),
            calls_in_flight: core.begun.load(Ordering::Relaxed).saturating_sub(answered),
            unfinished_bytes: core.unfinished_bytes.load(Ordering::Relaxed),
            unsent_bytes: core.unsent_bytes.load(Ordering::Relaxed),
        }
    }
}

/// How much of a provider's limits is taken up at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderGauges {
    /// Of [`ProviderConfig::connections_max`] and the reserve's.
    pub connections: usize,
    /// Of [`ProviderConfig::calls_in_flight_max`].
    pub calls_in_flight: u64,
    /// Of [`ProviderConfig::unfinished_bytes_max`].
    pub unfinished_bytes: u64,
    /// Of [`ProviderConfig::unsent_bytes_total_max`]: what was left after the latest write to each connection.
    pub unsent_bytes: u64,
}

impl Drop for RpcProvider {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ProviderCore {
    /// The services, if they have changed since `version`, which is updated.
    pub(crate) fn services_since(&self, version: &mut u64) -> Option<ServiceTable> {
        let current = self.services_version.load(Ordering::Acquire);
        if current == *version {
            return None;
        }
        *version = current;
        Some(lock(&self.services).clone())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Nothing of the provider is open any more.
    pub(crate) fn mark_stopped(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        *lock(&self.stopped) = true;
        self.has_stopped.notify_all();
    }

    /// The place that the next connection gets; `None` when no further one may be taken.
    fn free_standing(&self) -> Option<Standing> {
        if self.connections.load(Ordering::Relaxed) < self.config.connections_max {
            Some(Standing::Ordinary)
        } else {
            let is_free = self.reserved.load(Ordering::Relaxed) < self.config.reserve.connections;
            is_free.then_some(Standing::Unproven)
        }
    }

    /// Like [`ProviderCore::free_standing`], when a connection may be waiting for it: that it must is logged.
    pub(crate) fn next_standing(&self, now: clock::Nanos) -> Option<Standing> {
        let standing = self.free_standing();
        if standing != Some(Standing::Ordinary) {
            let max = self.config.connections_max;
            self.warnings
                .full
                .warn(now, || format!("connections_max is reached: {max} connections are served"));
        }
        standing
    }

    fn count_of(&self, standing: Standing) -> &AtomicUsize {
        if standing == Standing::Ordinary { &self.connections } else { &self.reserved }
    }

    pub(crate) fn connection_opened(&self, standing: Standing) {
        self.count_of(standing).fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of the reserve takes an ordinary place, if one has become free.
    pub(crate) fn take_ordinary_place(&self) -> bool {
        let is_free = self.free_standing() == Some(Standing::Ordinary);
        if is_free {
            self.connection_closed(Standing::Reserved);
            self.connection_opened(Standing::Ordinary);
        }
        is_free
    }

    pub(crate) fn connection_closed(&self, standing: Standing) {
        self.count_of(standing).fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed) + self.reserved.load(Ordering::Relaxed)
    }

    /// A connection holds `now` bytes of an unfinished request, where it held `before`. Returns what all hold together.
    pub(crate) fn note_unfinished(&self, before: u64, now: u64) -> u64 {
        // Relaxed: the reactor's thread is the only one to use it.
        let total = self.unfinished_bytes.load(Ordering::Relaxed) + now - before;
        self.unfinished_bytes.store(total, Ordering::Relaxed);
        total
    }

    /// A connection has `now` bytes that its peer has not taken, where it had `before`.
    pub(crate) fn note_unsent(&self, before: u64, now: u64) {
        // Relaxed, here and below: a number only. Wrapping makes a difference below zero what it is.
        self.unsent_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether the peers together leave too much untaken.
    pub(crate) fn is_unread(&self) -> bool {
        self.unsent_bytes.load(Ordering::Relaxed) > self.config.unsent_bytes_total_max as u64
    }

    /// Counts a call. Returns by how many the calls in flight are beyond their limit.
    pub(crate) fn call_begun(&self) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed) + 1;
        self.begun.store(begun, Ordering::Relaxed);
        let in_flight = begun - self.answered.load(Ordering::Relaxed);
        in_flight.saturating_sub(self.config.calls_in_flight_max as u64)
    }

    pub(crate) fn call_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The time-out of a call that names this one, in milliseconds; 0: none.
    pub(crate) fn timeout_of(&self, timeout_ms: u64) -> Duration {
        if timeout_ms == 0 { self.config.default_timeout } else { Duration::from_millis(timeout_ms) }
    }
}
