//! What goes on in a simulation: time, and whose turn it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::network::{Delivery, Network};
use crate::inherit;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::primitives::thread;
use crate::reactor::clock::{self, NEVER, Nanos, nanos_in, nanos_of};
use crate::reactor::lock::lock;
use crate::reactor::net::Poller;
use crate::reactor::poll_loop::PollLoop;

/// See the module's text.
pub(crate) struct SimulatedWorld {
    begun: Instant,
    /// Since then, in nanoseconds.
    passed: AtomicU64,
    /// What it takes a reactor to read or write a KiB, in nanoseconds.
    copying: AtomicU64,
    pub(crate) network: Network,
    /// By number. One that turns just now or has ended is not there.
    reactors: Mutex<Vec<Option<Box<PollLoop>>>>,
}

/// Something that may happen now.
enum Happening {
    /// A reactor turns.
    Turn(usize),
    Delivery(Delivery),
}

impl SimulatedWorld {
    pub(crate) fn new(seed: u64) -> SimulatedWorld {
        // The process' clock has begun before the world does.
        nanos_of(Instant::now());
        SimulatedWorld {
            begun: Instant::now(),
            passed: AtomicU64::new(0),
            copying: AtomicU64::new(0),
            network: Network::new(seed),
            reactors: Mutex::default(),
        }
    }

    /// Lets a reactor live here.
    pub(crate) fn add(self: &Arc<Self>, reactor: impl FnOnce(Poller) -> PollLoop) {
        let mut reactors = lock(&self.reactors);
        let number = self.network.add_reactor();
        debug_assert_eq!(number, reactors.len(), "both count the same reactors");
        reactors.push(Some(Box::new(reactor(Poller::Simulated { world: self.clone(), number }))));
    }

    pub(crate) fn passed(&self) -> Duration {
        // Relaxed, here and below: the world is for one thread.
        Duration::from_nanos(self.passed.load(Ordering::Relaxed))
    }

    pub(crate) fn now(&self) -> Instant {
        self.begun + self.passed()
    }

    /// Time passes in which nothing else happens.
    pub(super) fn work(&self, nanos: Nanos) {
        self.passed.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Nobody turns for so long, and then everybody is woken.
    pub(super) fn pause(&self, nanos: Nanos) {
        while let Some(delivery) = self.network.deliveries().pop() {
            self.network.deliver(delivery);
        }
        self.work(nanos);
        self.network.interrupt();
    }

    pub(super) fn set_copying(&self, per_kib: Nanos) {
        self.copying.store(per_kib, Ordering::Relaxed);
    }

    /// So many bytes have been read or written.
    pub(super) fn copied(&self, bytes: usize) {
        if clock::is_reactor_thread() {
            self.work(bytes as u64 * self.copying.load(Ordering::Relaxed) / 1024);
        }
    }

    /// Has one thing happen. Returns whether there was any.
    pub(super) fn step(&self) -> bool {
        assert!(!clock::is_reactor_thread(), "the world is turning already");
        let now = nanos_of(self.now());
        let is_due = |(number, place): (usize, &Option<Box<PollLoop>>)| {
            let reactor = place.as_ref()?;
            (self.network.has_news(number) || reactor.is_due(now)).then_some(Happening::Turn(number))
        };
        let mut choices: Vec<Happening> =
            lock(&self.reactors).iter().enumerate().filter_map(is_due).collect();
        choices.extend(self.network.deliveries().into_iter().map(Happening::Delivery));
        if choices.is_empty() {
            return false;
        }
        let chosen = (self.network.random() % choices.len() as u64) as usize;
        match choices.swap_remove(chosen) {
            Happening::Turn(number) => self.turn(number),
            Happening::Delivery(delivery) => self.network.deliver(delivery),
        }
        true
    }

    fn turn(&self, number: usize) {
        let Some(mut reactor) = lock(&self.reactors)[number].take() else { return };
        if inherit::detached(|| reactor.turn()) {
            lock(&self.reactors)[number] = Some(reactor);
        } else {
            reactor.end();
        }
        clock::leave();
    }

    /// When something is due, though nothing happens before.
    fn next_look(&self) -> Nanos {
        lock(&self.reactors).iter().flatten().map(|reactor| reactor.next_look()).min().unwrap_or(NEVER)
    }

    pub(super) fn advance(&self, by: Duration) {
        let end = nanos_of(self.now()).saturating_add(nanos_in(by));
        loop {
            while self.step() {}
            let next = self.next_look().min(end);
            if next <= nanos_of(self.now()) {
                return;
            }
            self.pass_to(next);
        }
    }

    fn pass_to(&self, moment: Nanos) {
        self.passed.store(moment - nanos_of(self.begun), Ordering::Relaxed);
    }

    /// Goes on until something is so.
    pub(crate) fn run_until(&self, is_so: impl Fn() -> bool) {
        // While a test fails, what it has left behind is left so.
        while !thread::panicking() && !is_so() {
            if !self.step() {
                let next = self.next_look();
                assert!(next != NEVER, "nothing will ever happen again, and somebody waits for it");
                self.pass_to(next);
            }
        }
    }
}
