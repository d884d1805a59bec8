//! Makes a failing run small: fewer kinds of faults, less time.
//!
//! The same seed with less going wrong is another run; what counts is that it still breaks a rule, any rule. The search
//! leaves out half of the kinds of faults, then a quarter, and so on down to single ones, and then halves the time.
//! Leaving out one kind can make another needless, so it begins again until nothing can be left out; it is bounded by a
//! number of runs, not by time, so that it comes to the same everywhere.

use crate::faults::Fault;
use crate::plan::{MS, Plan};
use crate::trace::Trace;
use crate::{Report, run};

/// How many runs a search takes at most.
pub const RUNS_MAX: usize = 150;

/// How far the time is narrowed down.
const PRECISION_US: u64 = 100 * MS;

/// The smallest plan found that still breaks a rule, with its report; None if `plan` does not. `say` is told of each
/// step.
pub fn minimize(plan: &Plan, say: &mut dyn FnMut(&str)) -> Option<(Plan, Report)> {
    search(plan, say, &mut |plan| run(plan, Trace::Off))
}

/// A search under way.
struct Search<'a> {
    best: Plan,
    report: Report,
    runs: usize,
    say: &'a mut dyn FnMut(&str),
    run: &'a mut dyn FnMut(&Plan) -> Report,
}

fn search(
    plan: &Plan,
    say: &mut dyn FnMut(&str),
    run: &mut dyn FnMut(&Plan) -> Report,
) -> Option<(Plan, Report)> {
    let report = run(plan);
    report.violation.as_ref()?;
    let mut search = Search { best: plan.clone(), report, runs: 1, say, run };
    search.leave_faults_out();
    search.shorten();
    Some((search.best, search.report))
}

impl Search<'_> {
    /// Runs a smaller plan; whether it still breaks a rule. Then it is the best so far.
    fn still_fails(&mut self, smaller: Plan, what: &str) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let report = (self.run)(&smaller);
        let rule = report.violation.as_ref().map(|violation| violation.rule);
        (self.say)(&format!("run {}: {what}: {}", self.runs, rule.unwrap_or("clean")));
        if rule.is_some() {
            (self.best, self.report) = (smaller, report);
        }
        rule.is_some()
    }

    fn leave_faults_out(&mut self) {
        let mut size = self.best.faults.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            let mut is_smaller = false;
            while from < self.best.faults.len() {
                let end = self.best.faults.len().min(from + size);
                let left_out: Vec<Fault> = self.best.faults[from..end].to_vec();
                let names: Vec<&str> = left_out.iter().map(|fault| fault.name()).collect();
                if self.still_fails(self.best.without(&left_out), &format!("without {}", names.join(","))) {
                    is_smaller = true;
                } else {
                    from = end;
                }
            }
            if size > 1 || !is_smaller {
                size /= 2;
            }
        }
    }

    /// The shortest trouble: first what had gone by when the rule was broken, then by halves.
    fn shorten(&mut self) {
        let (mut too_short, mut long_enough) = (0, self.best.trouble_us);
        let until_broken = self.report.counters.simulated_us.next_multiple_of(MS);
        if until_broken < long_enough && self.still_fails_within(until_broken) {
            long_enough = until_broken;
        }
        while long_enough - too_short > PRECISION_US && self.runs < RUNS_MAX {
            let middle = (too_short + (long_enough - too_short) / 2) / MS * MS;
            match self.still_fails_within(middle) {
                true => long_enough = middle,
                false => too_short = middle,
            }
        }
    }

    fn still_fails_within(&mut self, trouble_us: u64) -> bool {
        let shorter = Plan { trouble_us, operations_min: 0, ..self.best.clone() };
        self.still_fails(shorter, &format!("trouble for {} ms", trouble_us / MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Counters, FAULTS};
    use crate::plan::SECOND;
    use crate::violation::Violation;

    /// A run that breaks a rule at this time if it lasts that long and these kinds of faults are there.
    fn failing_at(at_us: u64, needed: &'static [Fault]) -> impl FnMut(&Plan) -> Report {
        move |plan| {
            let fails = plan.trouble_us >= at_us && needed.iter().all(|fault| plan.faults.contains(fault));
            let violation = fails.then(|| Violation { rule: "made-up", text: String::new() });
            let mut counters = Counters::default();
            counters.simulated_us = if fails { at_us } else { plan.trouble_us };
            Report { counters, violation }
        }
    }

    fn plan() -> Plan {
        Plan { faults: FAULTS.to_vec(), trouble_us: 60 * SECOND, ..Plan::draw(1, None) }
    }

    fn minimized(run: &mut dyn FnMut(&Plan) -> Report) -> (Option<(Plan, Report)>, Vec<String>) {
        let mut lines = Vec::new();
        let found = search(&plan(), &mut |line| lines.push(line.to_owned()), run);
        (found, lines)
    }

    #[test]
    fn just_the_faults_and_the_time_that_are_needed_remain() {
        let needed = &[Fault::Loss, Fault::PowerLoss, Fault::BitFlip];
        let (found, lines) = minimized(&mut failing_at(7 * SECOND, needed));
        let (small, report) = found.expect("the plan fails");
        assert_eq!(small.faults, needed);
        assert!((7 * SECOND..=7 * SECOND + PRECISION_US).contains(&small.trouble_us), "{}", small.trouble_us);
        assert!(report.violation.is_some());
        assert!(
            lines.len() < RUNS_MAX && lines[0].starts_with("run 2: without lost,duplicated,"),
            "{lines:?}"
        );
    }

    #[test]
    fn what_needs_no_fault_is_left_without_any() {
        let (found, _) = minimized(&mut failing_at(SECOND, &[]));
        assert_eq!(found.expect("the plan fails").0.faults, []);
    }

    #[test]
    fn a_clean_plan_is_not_searched() {
        let (found, lines) = minimized(&mut failing_at(61 * SECOND, &[]));
        assert_eq!((found, lines.len()), (None, 0));
    }

    #[test]
    fn a_search_ends_after_its_number_of_runs() {
        let mut runs = 0;
        let mut fails = failing_at(0, FAULTS.as_slice());
        let (found, _) = minimized(&mut |plan| {
            runs += 1;
            // As though the time could be halved for ever.
            let mut report = fails(plan);
            report.counters.simulated_us = u64::MAX / 2;
            report
        });
        assert!(found.is_some() && runs <= RUNS_MAX, "{runs} runs");
    }
}
