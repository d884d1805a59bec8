//! The clerk's settings: every wait and every table has a name, a unit and a default here.

use std::time::Duration;

use crate::error::ClerkError;

/// How many writes of one session may be unanswered at the server: its window (design.md §6).
pub const SESSION_WINDOW: usize = 256;

/// How many nodes a clerk knows at most, endpoints and learned hints together; later hints are not followed.
pub const NODES_MAX: usize = 64;

/// Settings of a [`Clerk`](crate::Clerk).
#[derive(Clone, Debug)]
pub struct ClerkConfig {
    /// Deadline of an operation from its start. Default 5 s.
    pub operation_timeout: Duration,
    /// How long the first attempt waits for a reply before another node is asked; it doubles with each attempt of the
    /// operation that got none, so that a merely slow cluster is not flooded with repeats. A dead leader ends its
    /// connections at once; this is for one that is paused or cut off, which the others replace within an election
    /// timeout: asking them sooner finds nobody, later loses time. Default 400 ms.
    pub attempt_timeout: Duration,
    /// How long a node that did not reply in time is avoided, hints to it included; gets that others may serve leave it out for
    /// ten times `attempt_timeout`. Default 250 ms.
    pub silent_node_pause: Duration,
    /// How long a node whose connection broke or was refused is avoided, hints to it included; and one that cannot say what a
    /// get must see, for such gets. Default 100 ms.
    pub broken_node_pause: Duration,
    /// First back-off; each further one of the operation doubles. Default 1 ms.
    pub backoff_min: Duration,
    /// Longest back-off while nodes answer but none leads: an election is under way, and whoever finds its winner
    /// early loses least. Default 20 ms.
    pub search_backoff_max: Duration,
    /// Longest back-off while a node is busy or no node can be reached. Default 100 ms.
    pub backoff_max: Duration,
    /// Operations under way, waiting ones included; beyond it `ClerkError::Busy`. Default 1,024.
    pub operations_max: usize,
    /// Whether the clerk goes to the leader itself when a node names it. If not, a node that does not lead passes its writes
    /// on and serves its gets: for a clerk that reaches only the nodes it was given. Default yes.
    pub follows_hints: bool,
    /// Seed of the jitter; `None` takes one from the operating system.
    pub seed: Option<u64>,
}

impl Default for ClerkConfig {
    fn default() -> ClerkConfig {
        ClerkConfig {
            operation_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_millis(400),
            silent_node_pause: Duration::from_millis(250),
            broken_node_pause: Duration::from_millis(100),
            backoff_min: Duration::from_millis(1),
            search_backoff_max: Duration::from_millis(20),
            backoff_max: Duration::from_millis(100),
            operations_max: 1024,
            follows_hints: true,
            seed: None,
        }
    }
}

impl ClerkConfig {
    /// Refuses what would spin, hang or never work, in a sentence.
    pub fn validate(&self) -> Result<(), ClerkError> {
        let wrong = |text: &str| Err(ClerkError::Config(text.to_string()));
        if self.operation_timeout < Duration::from_millis(1) {
            return wrong("operation_timeout must be at least 1 ms");
        }
        if self.attempt_timeout < Duration::from_millis(1) {
            return wrong("attempt_timeout must be at least 1 ms");
        }
        if self.backoff_min < Duration::from_micros(100) {
            return wrong("backoff_min must be at least 0.1 ms, less would spin");
        }
        if self.search_backoff_max < self.backoff_min || self.backoff_max < self.backoff_min {
            return wrong("the longest back-off must not be shorter than backoff_min");
        }
        if self.operations_max == 0 {
            return wrong("operations_max must be at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_spinning_backoff_is_not() {
        assert_eq!(ClerkConfig::default().validate(), Ok(()));
        let spinning = ClerkConfig { backoff_min: Duration::ZERO, ..ClerkConfig::default() };
        assert!(matches!(spinning.validate(), Err(ClerkError::Config(_))));
        let none = ClerkConfig { operations_max: 0, ..ClerkConfig::default() };
        assert!(none.validate().is_err());
    }
}
