//! Where the lines of a run go: nowhere, to whoever prints them, or to the last few that are kept for a report.
//!
//! A line is made only if somebody wants it: most runs are never looked at.

use std::collections::VecDeque;

/// How many lines a report of a violation ends with.
pub const LAST_LINES: usize = 40;

/// The lines of a run.
pub enum Trace<'a> {
    /// Nobody looks.
    Off,
    /// Each line is handed on.
    To(&'a mut dyn FnMut(&str)),
    /// The last ones are kept.
    Last(&'a mut VecDeque<String>),
}

impl Trace<'_> {
    /// Takes a line, if somebody wants it: the time in microseconds, who, and what.
    pub(crate) fn line(&mut self, now: u64, who: impl FnOnce() -> String, what: impl FnOnce() -> String) {
        let text = match self {
            Trace::Off => return,
            _ => format!("{now:>12} {:<4} {}", who(), what()),
        };
        match self {
            Trace::Off => {}
            Trace::To(print) => print(&text),
            Trace::Last(lines) => {
                if lines.len() >= LAST_LINES {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        !matches!(self, Trace::Off)
    }
}
