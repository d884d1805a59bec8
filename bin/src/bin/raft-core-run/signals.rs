//! Signals as values: a thread receives them and hands them on, so that no handler of ours runs anything.

use std::thread;
use std::time::{Duration, Instant};

use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// The signals that ask a program to stop: by hand, by a service manager, by a closing terminal.
pub(crate) const STOP_SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// A signal that comes so soon after the first is no second order: `timeout`, for one, signals its child and then the
/// child's group, and a key may bounce.
const SAME_ORDER_WITHIN: Duration = Duration::from_millis(500);

/// What a signal that asks to stop means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Stop.
    Stop,
    /// The order of a moment ago, once more.
    Repeated,
    /// Stop at once: somebody does not want to wait.
    StopNow,
}

/// Tells a second order to stop from a repeated first one.
#[derive(Debug, Default)]
pub(crate) struct StopOrders {
    first: Option<Instant>,
}

impl StopOrders {
    /// What a signal means that was received at this time.
    pub(crate) fn receive(&mut self, at: Instant) -> Order {
        match self.first {
            None => {
                self.first = Some(at);
                Order::Stop
            }
            Some(first) if at.saturating_duration_since(first) < SAME_ORDER_WITHIN => Order::Repeated,
            Some(_) => Order::StopNow,
        }
    }
}

/// Starts the thread `signals`, which calls `receive` for each of `signals` until the process ends.
pub(crate) fn forward(signals: &[i32], mut receive: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::Runtime(format!("signals cannot be received: {error}"));
    let mut incoming = Signals::new(signals).map_err(failed)?;
    let body = move || incoming.forever().for_each(&mut receive);
    thread::Builder::new().name("signals".to_owned()).spawn(body).map_err(failed)?;
    Ok(())
}

/// How people call a signal.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_soon_after_the_first_is_the_same_order_and_a_later_one_a_second() {
        let mut orders = StopOrders::default();
        let begin = Instant::now();
        let millisecond = Duration::from_millis(1);
        assert_eq!(orders.receive(begin), Order::Stop);
        for at in [begin, begin + millisecond, begin + SAME_ORDER_WITHIN - millisecond] {
            assert_eq!(orders.receive(at), Order::Repeated);
        }
        assert_eq!(orders.receive(begin + SAME_ORDER_WITHIN), Order::StopNow);
    }
}
