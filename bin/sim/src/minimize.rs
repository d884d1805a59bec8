//! Makes a failing run small: fewer kinds of faults, less time.
//!
//! The same seed with less going wrong is another run; what counts is that it still breaks a rule, any rule.

use crate::faults::Fault;
use crate::plan::{Plan, SECOND};
use crate::trace::Trace;
use crate::{Report, run};

/// The smallest plan found that still breaks a rule, with its report; None if `plan` does not.
pub fn minimize(plan: &Plan) -> Option<(Plan, Report)> {
    let mut best = plan.clone();
    let mut report = failing(&best)?;
    let mut is_smaller = true;
    while is_smaller {
        is_smaller = false;
        for fault in best.faults.clone() {
            let fewer: Plan = best.without(&[fault as Fault]);
            if let Some(found) = failing(&fewer) {
                (best, report) = (fewer, found);
                is_smaller = true;
            }
        }
    }
    // The shortest trouble, by halves; the run's end counts as part of it.
    let (mut too_short, mut long_enough) = (0, best.trouble_us.min(report.counters.simulated_us));
    while long_enough - too_short > SECOND / 10 {
        let middle = too_short + (long_enough - too_short) / 2;
        let shorter = Plan { trouble_us: middle, operations_min: 0, ..best.clone() };
        match failing(&shorter) {
            Some(found) => {
                (best, report) = (shorter, found);
                long_enough = middle;
            }
            None => too_short = middle,
        }
    }
    Some((best, report))
}

fn failing(plan: &Plan) -> Option<Report> {
    let report = run(plan, Trace::Off);
    report.violation.is_some().then_some(report)
}
