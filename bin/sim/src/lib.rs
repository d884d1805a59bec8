//! A whole cluster in one thread, on a virtual clock, a virtual network and disks in memory.
//!
//! What runs is what ships: the core, the gate, the log writer, the applier, the apply-loop, the snapshotter, the log and
//! snapshot files, the state machine, the sessions, the clerk's machine, the border at which messages between nodes are
//! written and read, and the words between clerk and service: each goes over as the bytes that a connection would carry.
//! How long a room waits for work, and what it does then, is the room's own to say. Only threads, sockets, clocks and
//! platters are made up, and they are made up out of a seed, so that a run can be repeated byte for byte and the schedule
//! that broke a rule can be looked at as often as it takes.
//!
//! # What a seed is
//!
//! [`Plan::draw`] draws the cluster (1 to 7 nodes), its timeouts, the clients, the [`Workload`], which kinds of faults
//! ([`Fault`]) there are, how often they strike the leader or whoever was just elected, or wait until a node says
//! something, and each node's [`Settings`]. Besides the clients there is a visitor, who now and then comes upon a node
//! that was struck without having heard of it, and a witness, who writes at a leader that was just elected and then asks
//! the one of before. Some gets are follower, lease or stale reads ([`Reads`]), lease reads only where clocks are as right
//! as leases want them. In nearly half of the seeds an operator takes nodes in, makes them voters and removes them, the
//! leader too, by the orders that ship. Who has a new directory takes part when the shipped admission says so: founders that
//! meet, nodes that join, and machines that lost their disk and come back under their old number, which it must never let
//! in. Where a log is damaged, it is repaired from the others, or, in some seeds, refused.
//!
//! At least 60 simulated seconds and 1,000 operations of at least 5 clients go by in trouble. Now and then there is a
//! lull: nothing further goes wrong, but what is wrong stays so, and if more than half of the voters are sound and reach
//! each other, they must serve within five election timeouts. In the end everything is made right, and the members must
//! serve within five election timeouts and come to rest in one state. At last leadership is handed over, which must take
//! less than an election timeout, and a member is removed, which must disturb nobody.
//!
//! Time is what the virtual clock says and goes one way: a node asks only a clock that never goes back, so that a jump
//! back of a wall clock cannot reach it. Its clock may run too fast or too slow, and goes on while it stands still; ticks of
//! its election timer may come by the hundred at once.
//!
//! What a transport notices of its peers is told as late and as wrongly as it may be: an answer that is lost, a process
//! that is gone although the next one runs already.
//!
//! # What is checked
//!
//! After every step, by checkers that share no code with what they check: one leader per term, with the votes of a
//! majority; log matching; leader completeness; nobody applies what another did not, or what the logs of no majority
//! hold; applied never falls; votes and acknowledged entries survive restarts. Majorities are those of the members as of
//! the place in the log, and of both sides while voters change; a node goes by the members that its log says, a snapshot
//! holds those of its last entry, and no leader changes them before an entry of its term is committed. Further: equal
//! states at equal index, namely those of a state machine that takes the log entry by entry, wherever a node stops while
//! they are small, and else at every 64th or 512th index; every request is answered, once; what a message means survives the wire, and what is not for a
//! node, or not of its cluster, is refused; who has lost what it had promised says so, counts for nothing, and takes part
//! again with all of it; and who took part with a disk that is gone never does with another. At the end: nobody waits for an answer any more; the store holds what the log's writes make of
//! it; the clients' history is linearizable, versions rise, no append is seen twice; a write is in the log where its client
//! was told, and nowhere if it was told that it did not run; a read saw what the log made of its key, and a stale one at a
//! moment no older than was asked for. A panic counts as a violation; so does a node that stops, or refuses to start,
//! without a disk fault, or that refuses to start on what others repair.
//!
//! # Reading a failure
//!
//! `sim --seed N` prints the rule, what was seen, and the last events. `sim --seed N --trace` prints every event, one a
//! line: the virtual time in microseconds, who (`n0` a node, `c3` a client, `!` a fault), and what happened: `step` a
//! room's turn, `says` and `hears` a message as `from→to term=… kind`, `asks`, `tells`, `hears of` a client's
//! attempt, `begins` and `ends` an operation, `learns` what a transport noticed.
//!
//! `sim --seed N --minimize` looks for the fewest kinds of faults and the shortest trouble that still break a rule, in at
//! most [`minimize::RUNS_MAX`] runs, and prints the command that shows what it found: `--faults` leaves out all kinds
//! but some, `--trouble-ms` ends the trouble early.
//!
//! A seed that failed is kept in `seeds.txt` with a line on what it found; the tests run it for ever.
//!
//! # Running long
//!
//! `README.md` has the commands: for all cores, for some hours, for a hundred thousand seeds.

mod births;
mod checks;
mod client;
mod dice;
mod ending;
mod estrangement;
mod event;
mod farewell;
mod faults;
mod links;
mod local_clock;
mod lulls;
pub mod minimize;
mod newcomers;
mod news;
mod node;
mod operator;
mod people;
mod plan;
mod planted;
mod post;
mod reads;
mod rooms;
mod service;
mod settings;
mod simulation;
mod standstills;
mod strikes;
mod tap;
mod trace;
mod violation;
mod visits;
mod wires;
mod workload;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use checks::linearize;
pub use faults::{Counters, FAULTS, Fault};
pub use plan::Plan;
pub use planted::{PLANTED_BUGS, plant};
pub use reads::{ReadCounters, Reads};
pub use settings::Settings;
pub use trace::{LAST_LINES, Trace};
pub use violation::Violation;
pub use workload::Workload;

use simulation::Simulation;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What happened how often, as far as the run came.
    pub counters: Counters,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
}

/// Runs a plan.
pub fn run<'a>(plan: &'a Plan, trace: Trace<'a>) -> Report {
    let mut simulation = Simulation::new(plan, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    let violation = match outcome {
        Ok(result) => result.err(),
        Err(payload) => {
            let said = PANIC.with(|said| said.borrow_mut().take());
            let text = said.unwrap_or_else(|| panic_text(&*payload));
            Some(Violation { rule: "no-panic", text })
        }
    };
    let counters = simulation.counted();
    // What panicked may be broken in a way that its end panics, too: it is let go of without an end.
    if violation.as_ref().is_some_and(|violation| violation.rule == "no-panic") {
        std::mem::forget(simulation);
    }
    Report { counters, violation }
}

/// Has panics of the simulated code noted, with their place, instead of printed. For programs; tests leave the standard
/// hook where it is.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with(|said| *said.borrow_mut() = Some(info.to_string().replace('\n', " ")));
    }));
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
