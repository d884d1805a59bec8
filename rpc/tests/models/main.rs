//! The crate under a model checker, which tries the interleavings of threads that a machine may never show.
//!
//! All of its files are included by path beside locks, words and threads of the checker's own: the very text that ships is
//! what is checked. Time and network are those of the crate's simulation, which one of the checked threads has go on. A
//! wake-up that is lost shows as a deadlock, or as a scenario that goes on for ever; the checker reports both. What mistakes
//! the scenarios have been seen to find stands in `README.md` beside this file.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the crate as a whole, of which a part is used here"
)]
#![allow(unfulfilled_lint_expectations, reason = "what a crate offers others is no offer here")]
#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod primitives {
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub use shuttle::{thread, thread_local};
}

#[path = "../../src/client/mod.rs"]
mod client;
#[path = "../../src/config.rs"]
mod config;
#[path = "../../src/controller.rs"]
mod controller;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/inherit.rs"]
mod inherit;
#[path = "../../src/log_gate.rs"]
mod log_gate;
#[path = "../../src/middleware/mod.rs"]
mod middleware;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../src/reactor/mod.rs"]
mod reactor;
#[path = "../../src/server/mod.rs"]
mod server;
#[path = "../../src/simulation/mod.rs"]
mod simulation;
#[path = "../../src/stream/mod.rs"]
mod stream;

pub use client::channel::{Method, RpcChannel};
pub use config::{ChannelConfig, ProviderConfig, ReactorConfig};
pub use controller::RpcController;
pub use error::RpcError;
pub use protocol::status::Status;
pub use reactor::Reactor;
pub use server::provider::RpcProvider;
pub use server::responder::{Reply, Responder};
pub use server::service::{Call, CallContext, Service, dispatch};
pub use server::thread_pool::{ThreadPool, ThreadPoolConfig};
pub use simulation::{Peer, Simulation};

mod answers;
mod calls;
mod cancelling;
mod counters;
mod outbox;
mod parts;
mod stopping;
mod world;

/// Random schedules tried for each scenario, and as many that preempt seldom but anywhere.
const SCHEDULES: usize = 100;

/// Tries a scenario.
fn check(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(scenario.clone(), SCHEDULES);
    shuttle::check_pct(scenario, SCHEDULES, 3);
}

/// A scenario by the name of its function.
macro_rules! trial {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || {
            $module::$name();
            Ok(())
        })),+]
    };
}

fn main() -> std::process::ExitCode {
    let trials = trial![
        answers::a_call_gets_one_terminal_reply_whoever_gives_it,
        answers::a_thread_pool_answers_every_call_once_also_those_it_has_no_time_for,
        calls::a_call_that_is_answered_late_cancelled_and_closed_at_once_ends_once,
        calls::a_call_that_is_told_not_to_have_run_never_runs,
        calls::a_call_whose_reactor_ends_ends_too,
        calls::many_threads_call_on_one_channel_and_each_call_has_its_answer,
        cancelling::a_call_that_another_ones_answer_has_begun_is_cancelled,
        cancelling::a_call_that_is_cancelled_while_it_is_begun_ends,
        cancelling::a_call_that_rests_again_is_cancelled_at_once,
        counters::every_warning_is_logged_or_counted,
        counters::no_more_calls_are_repeated_than_the_budget_has,
        outbox::replies_that_nobody_takes_count_until_their_connection_ends_and_no_longer,
        outbox::what_has_not_left_counts_until_its_connection_ends_and_no_longer,
        outbox::what_is_sent_beside_a_call_that_is_taken_back_leaves,
        outbox::what_many_threads_send_leaves_whole_and_in_each_threads_order,
        parts::a_call_that_many_want_to_end_is_ended_by_one,
        parts::a_blocked_caller_is_woken_for_each_of_its_calls,
        parts::a_command_is_taken_handed_back_or_found_at_the_end,
        parts::a_reactor_never_sleeps_on_a_command_or_a_deadline,
        parts::a_reader_of_a_stream_gets_every_message_and_the_end,
        parts::a_writer_of_a_stream_waits_for_credit_or_the_end_and_no_longer,
        stopping::a_provider_that_stops_ends_every_call_once_and_leaves_nothing,
        stopping::nobody_is_listened_to_when_the_provider_has_stopped,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}
