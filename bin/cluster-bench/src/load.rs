//! The clients: each has one write outstanding and sends the next when the answer is there. The longest time without any
//! answer is what an incident cost them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerk::{Clerk, ClerkConfig, Operation};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// How long an operation may take: an incident must not make one fail.
const OPERATION_WITHIN: Duration = Duration::from_secs(30);

/// Clients that write over and over. Dropping it ends them.
pub(crate) struct Load {
    shared: Arc<Shared>,
    _clerk: Arc<Clerk>,
}

struct Shared {
    keys: u64,
    /// Keys in their order, each once, instead of random ones.
    fills: bool,
    next: AtomicU64,
    answered: AtomicU64,
    errors: AtomicU64,
    lanes: AtomicU64,
    stops: AtomicBool,
    silence: Mutex<Silence>,
}

/// When something was last answered, and the longest time that nothing was.
struct Silence {
    last: Instant,
    longest: Duration,
}

impl Shared {
    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next write is about; None ends the client.
    fn next_key(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        if self.stops.load(Ordering::Relaxed) {
            return None;
        }
        match self.fills {
            true => Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|key| *key < self.keys),
            false => Some(rng.random_range(0..self.keys)),
        }
    }
}

fn write(clerk: &Arc<Clerk>, shared: Arc<Shared>, mut rng: ChaCha8Rng) {
    let Some(number) = shared.next_key(&mut rng) else {
        shared.lanes.fetch_sub(1, Ordering::Release);
        return;
    };
    let mut value = vec![0; VALUE_BYTES];
    rng.fill(&mut value[..]);
    let put = Operation::Put { key: Bytes::from(format!("key-{number:09}")), value: Bytes::from(value) };
    // Whoever completes an operation must not be the last to hold the clerk, which waits for that thread.
    let weak: Weak<Clerk> = Arc::downgrade(clerk);
    clerk.submit(put, move |result| {
        match result {
            Ok(_) => {
                shared.answered.fetch_add(1, Ordering::Relaxed);
                let mut silence = shared.silence();
                let now = Instant::now();
                silence.longest = silence.longest.max(now - silence.last);
                silence.last = now;
            }
            Err(_) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        match weak.upgrade() {
            Some(clerk) => write(&clerk, shared, rng),
            None => {
                shared.lanes.fetch_sub(1, Ordering::Release);
            }
        }
    });
}

impl Load {
    /// So many clients, which overwrite random ones of `keys` keys.
    pub(crate) fn start(addresses: &[String], clients: u64, keys: u64) -> anyhow::Result<Load> {
        Load::begin(addresses, clients, keys, false)
    }

    fn begin(addresses: &[String], clients: u64, keys: u64, fills: bool) -> anyhow::Result<Load> {
        let config = ClerkConfig { operation_timeout: OPERATION_WITHIN, ..ClerkConfig::default() };
        let clerk = Arc::new(Clerk::connect(addresses, config)?);
        let shared = Arc::new(Shared {
            keys,
            fills,
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            lanes: AtomicU64::new(clients),
            stops: AtomicBool::new(false),
            silence: Mutex::new(Silence { last: Instant::now(), longest: Duration::ZERO }),
        });
        for client in 0..clients {
            write(&clerk, Arc::clone(&shared), ChaCha8Rng::seed_from_u64(client));
        }
        Ok(Load { shared, _clerk: clerk })
    }

    /// Forgets how long clients have waited so far.
    pub(crate) fn watch(&self) {
        self.shared.silence().longest = Duration::ZERO;
    }

    /// The longest time without an answer since [`Load::watch`], the present silence included.
    pub(crate) fn longest_silence(&self) -> Duration {
        let silence = self.shared.silence();
        silence.longest.max(silence.last.elapsed())
    }

    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Answers per second while so much time passes.
    pub(crate) fn rate(&self, during: Duration) -> f64 {
        let (before, began) = (self.answered(), Instant::now());
        thread::sleep(during);
        (self.answered() - before) as f64 / began.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
    }
}

/// Writes each of `keys` keys once, and returns when all are there.
pub(crate) fn fill(addresses: &[String], clients: u64, keys: u64) -> anyhow::Result<()> {
    let load = Load::begin(addresses, clients, keys, true)?;
    while load.shared.lanes.load(Ordering::Acquire) > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    anyhow::ensure!(load.errors() == 0, "{} of {keys} writes failed", load.errors());
    Ok(())
}
