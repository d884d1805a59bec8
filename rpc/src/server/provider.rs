//! The server: listens, knows the services by name, counts what is in flight.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mio::net::TcpListener;

use super::service::Service;
use crate::config::ProviderConfig;
use crate::error::RpcError;
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

/// A registered service.
pub(crate) struct ServiceEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) service: Arc<dyn Service>,
    /// The latest turn in which the service was called; the reactor's thread alone uses it.
    pub(crate) called_in_turn: AtomicU64,
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
    connections: AtomicUsize,
    /// Calls begun; written by the reactor's thread only.
    begun: AtomicU64,
    answered: AtomicU64,
    is_stopping: AtomicBool,
    /// Whether all is closed.
    stopped: Mutex<bool>,
    has_stopped: Condvar,
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
        let entry = ServiceEntry { name: name.into_bytes(), service, called_in_turn: AtomicU64::new(0) };
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
        for candidate in connector::resolve(address)? {
            result = TcpListener::bind(candidate).map_err(failed);
            if result.is_ok() {
                break;
            }
        }
        let listener = result?;
        let local = listener.local_addr().map_err(failed)?;
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

    /// Whether no further connection may be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.config.connections_max
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a call. Returns whether the limit of calls in flight leaves room for it.
    pub(crate) fn call_begun(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed) + 1;
        self.begun.store(begun, Ordering::Relaxed);
        begun - self.answered.load(Ordering::Relaxed) <= self.config.calls_in_flight_max as u64
    }

    pub(crate) fn call_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The time-out of a call that named none.
    pub(crate) fn default_timeout(&self) -> Duration {
        self.config.default_timeout
    }
}
