//! Ctrl-C and SIGTERM: the first asks to stop and print what there is, a second one at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use raft_kv::stop_signals::{self, Order, STOP_SIGNALS, StopOrders};

use crate::failure::Failure;

/// What a shell expects of a program ended by Ctrl-C.
pub(crate) const EXIT_CODE: u8 = 130;

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt { asked: Arc::default() };
        let asked = Arc::clone(&interrupt.asked);
        let mut orders = StopOrders::default();
        let forwarded =
            stop_signals::forward(&STOP_SIGNALS, move |_signal| match orders.receive(Instant::now()) {
                Order::Stop => asked.store(true, Ordering::Relaxed),
                Order::Repeated => {}
                Order::StopNow => std::process::exit(EXIT_CODE.into()),
            });
        forwarded.map_err(|error| Failure::Unavailable(format!("signals cannot be received: {error}")))?;
        Ok(interrupt)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}
