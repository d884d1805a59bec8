//! What threads count without a lock: a channel's budget of repetitions, and the warnings that are held back.

use std::sync::Arc;

use crate::client::retry::{Budget, RetryConfig};
use crate::log_gate::{INTERVAL, LogGate};
use crate::{check, primitives::thread};

/// Repetitions that can be paid for, until there are none.
fn spend_all(budget: &Budget) -> usize {
    (0..).take_while(|_| budget.spend()).count()
}

pub fn no_more_calls_are_repeated_than_the_budget_has() {
    check(|| {
        let config = RetryConfig { budget_percent: 50, budget_max: 2, ..RetryConfig::default() };
        let budget = Arc::new(Budget::new(&config));
        let calling = [0, 1].map(|_| {
            let (budget, config) = (budget.clone(), config.clone());
            thread::spawn(move || {
                let spent = usize::from(budget.spend());
                budget.earn(&config);
                spent + usize::from(budget.spend())
            })
        });
        let spent: usize = calling.into_iter().map(|thread| thread.join().unwrap()).sum();
        // Two there were, and two calls have earned a half each; what is earned on top of all there may be is lost.
        let all = spent + spend_all(&budget);
        assert!((2..=3).contains(&all), "{all} repetitions");
        (0..10).for_each(|_| budget.earn(&config));
        assert_eq!(spend_all(&budget), 2, "it has a maximum");
    });
}

pub fn every_warning_is_logged_or_counted() {
    check(|| {
        let gate = Arc::new(LogGate::default());
        let warning = [0, INTERVAL, INTERVAL].map(|now| {
            let gate = gate.clone();
            thread::spawn(move || gate.pass(now).map_or(0, |held_back| 1 + held_back))
        });
        let told: u64 = warning.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(told > 0, "the first one is logged, whichever that is");
        assert_eq!(told + gate.pass(10 * INTERVAL).unwrap(), 3);
    });
}
