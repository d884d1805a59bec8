//! One node in the foreground: how real hosts run it, and what the launcher's children are.

use std::io::{self, Write};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::child::STARTED;
use crate::failure::Failure;
use crate::{cluster_file, data_dir, logging, orphan, resources, server_adapter, signals};

/// Runs node `id` until a signal stops it, its launcher is gone, or it cannot go on.
pub(crate) fn run(arguments: &Arguments, id: u64) -> Outcome {
    if let Some(parent_pid) = arguments.parent_pid {
        orphan::die_with_parent(parent_pid)?;
    }
    logging::start(format!("node {id}"));
    resources::raise_descriptor_limit();
    let config = cluster_file::open(&arguments.file, arguments.nodes, id)?;
    let base = data_dir::base(arguments.data_dir.as_deref(), config.data_dir.as_deref(), &arguments.file);
    let folder = data_dir::create_for_node(&base, id)?;
    let server = server_adapter::start(&config, id, folder)?;
    let is_child = arguments.parent_pid.is_some();
    stop_on_signals(server.stopper(), is_child)?;
    if is_child {
        let stop = server.stopper();
        orphan::watch_standard_input(move || {
            log::warn!("the launcher is gone: stopping");
            stop();
        })?;
        say_started()?;
    }
    server.run()
}

fn stop_on_signals(stop: impl Fn() + Send + 'static, is_child: bool) -> Outcome {
    let mut is_stopping = false;
    signals::forward(&signals::STOP_SIGNALS, move |signal| {
        // Ctrl-C and a closing terminal reach the whole group; a child leaves the order of stopping to its launcher.
        if is_child && signal != signal_hook::consts::SIGTERM {
            return;
        }
        let name = signals::name(signal);
        if std::mem::replace(&mut is_stopping, true) {
            // A service manager signals every process and the launcher then signals its children: no second order.
            if is_child {
                return;
            }
            log::warn!("{name} again: ending without further order");
            std::process::exit(1);
        }
        log::info!("{name}: stopping");
        stop();
    })
}

/// Tells the launcher, and nobody else: standard output of a child is the launcher's pipe.
fn say_started() -> Outcome {
    let mut output = io::stdout().lock();
    let said = writeln!(output, "{STARTED}").and_then(|()| output.flush());
    said.map_err(|error| Failure::Runtime(format!("the launcher cannot be told of the start: {error}")))
}
