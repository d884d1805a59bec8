//! Signals as values: a thread receives them and hands them on, so that no handler of ours runs anything.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::iterator::Signals;

/// The signals that ask a program to stop: by hand, by a service manager, by a closing terminal.
pub const STOP_SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// A signal that comes so soon after the first is no second order: `timeout`, for one, signals its child and then the
/// child's group, and a key may bounce.
const SAME_ORDER_WITHIN: Duration = Duration::from_millis(500);

/// What a signal that asks to stop means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stop.
    Stop,
    /// The order of a moment ago, once more.
    Repeated,
    /// Stop at once: somebody does not want to wait.
    StopNow,
}

/// Tells a second order to stop from a repeated first one.
#[derive(Debug, Default)]
pub struct StopOrders {
    first: Option<Instant>,
}

impl StopOrders {
    /// What a signal means that was received at this time.
    pub fn receive(&mut self, at: Instant) -> Order {
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
///
/// # Errors
/// When the system does not hand these signals over, or has no room for another thread.
pub fn forward(signals: &[i32], mut receive: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let mut incoming = Signals::new(signals)?;
    let body = move || incoming.forever().for_each(&mut receive);
    thread::Builder::new().name("signals".to_owned()).spawn(body)?;
    Ok(())
}

/// How people call a signal.
pub fn name(signal: i32) -> String {
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
