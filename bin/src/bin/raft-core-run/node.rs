//! One node in the foreground: how real hosts run it, and what the launcher's children are.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raft_kv::stop_signals::{self, Order, STOP_SIGNALS, StopOrders};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::child::STARTED;
use crate::failure::Failure;
use crate::outlet::Outlet;
use crate::{cluster_file, data_dir, logging, orphan, resources, server_adapter};

/// Runs node `id` until a signal stops it, its launcher is gone, or it cannot go on.
pub(crate) fn run(arguments: &Arguments, id: u64) -> Outcome {
    if let Some(parent_pid) = arguments.parent_pid {
        orphan::die_with_parent(parent_pid)?;
    }
    let outlet = logging::start(&format!("node {id}"))?;
    let outcome = serve(arguments, id, &outlet);
    outlet.flush();
    outcome
}

fn serve(arguments: &Arguments, id: u64, outlet: &Outlet) -> Outcome {
    resources::raise_descriptor_limit();
    let mut config = cluster_file::open(&arguments.file, id)?;
    let (allowed, nodes) = (config.limits.connections_max, config.nodes.len() as u64);
    config.limits.connections_max = resources::affordable_connections(allowed, nodes)?;
    let base = data_dir::base(arguments.data_dir.as_deref(), config.data_dir.as_deref(), &arguments.file);
    cluster_file::check_count(&config, &arguments.file, &base, arguments.nodes)?;
    let folder = data_dir::create_for_node(&base, id)?;
    // Before the start, which may take a while: a signal is an order from the first moment on.
    let is_child = arguments.parent_pid.is_some();
    let order = Arc::new(StopOrder::default());
    stop_on_signals(&order, is_child, outlet.clone())?;
    let server = server_adapter::start(&config, id, folder, arguments.join)?;
    order.carry_out_with(server.stopper());
    if is_child {
        orphan::watch_standard_input(move || {
            log::warn!("the launcher is gone: stopping");
            order.give();
        })?;
        say_started()?;
    }
    server.run()
}

/// The order to stop, which may come before there is a server to stop.
#[derive(Default)]
struct StopOrder {
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    is_given: bool,
    stop: Option<Box<dyn Fn() + Send>>,
}

impl StopOrder {
    /// Gives the order; again, if it was given before.
    fn give(&self) {
        let mut state = self.lock();
        if let Some(stop) = &state.stop {
            stop();
        }
        state.is_given = true;
    }

    /// Says how to obey, which happens at once if the order has been given.
    fn carry_out_with(&self, stop: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.is_given {
            stop();
        }
        state.stop = Some(Box::new(stop));
    }

    fn lock(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().expect("nothing that runs under this lock panics")
    }
}

fn stop_on_signals(order: &Arc<StopOrder>, is_child: bool, outlet: Outlet) -> Outcome {
    let order = Arc::clone(order);
    let mut orders = StopOrders::default();
    let forwarded = stop_signals::forward(&STOP_SIGNALS, move |signal| {
        // Ctrl-C and a closing terminal reach the whole group; a child leaves the order of stopping to its launcher.
        if is_child && signal != signal_hook::consts::SIGTERM {
            return;
        }
        let name = stop_signals::name(signal);
        match orders.receive(Instant::now()) {
            Order::Stop => {
                order.give();
                log::info!("{name}: stopping");
            }
            // A child's launcher has SIGKILL for that; and a service manager signals every process, and the launcher
            // then signals its children, which is no second order.
            Order::StopNow if !is_child => {
                log::warn!("{name}: asked a second time, ending at once");
                outlet.flush();
                std::process::exit(1);
            }
            Order::StopNow | Order::Repeated => {}
        }
    });
    forwarded.map_err(Failure::without_signals)
}

/// Tells the launcher, and nobody else: standard output of a child is the launcher's pipe.
fn say_started() -> Outcome {
    let mut output = io::stdout().lock();
    let said = writeln!(output, "{STARTED}").and_then(|()| output.flush());
    said.map_err(|error| Failure::Runtime(format!("the launcher cannot be told of the start: {error}")))
}
