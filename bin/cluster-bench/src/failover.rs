//! A leader ends, or sleeps: how long do clients that write all the time get no answer?

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::figure::Figure;
use crate::load::Load;
use crate::nodes::Nodes;
use crate::{Setting, What};

/// How long clients are watched from the incident on; longer than any of them should cost.
const WINDOW: Duration = Duration::from_millis(1_500);

/// How long the cluster is left alone before the next one.
const REST: Duration = Duration::from_millis(500);

/// Three nodes and one client. After each trial the node comes back.
pub(crate) fn measure(setting: &Setting, what: What) -> anyhow::Result<Figure> {
    let mut figure = Figure::new(name(what), "ms");
    let mut nodes = Nodes::start(setting, 3)?;
    let load = Load::start(&nodes.addresses(), 1, 1_000)?;
    for _ in 0..setting.trials {
        let leader = nodes.settled()?;
        thread::sleep(REST);
        load.watch();
        match what {
            What::Killed => nodes.signal(leader, Signal::KILL)?,
            What::Stopped => nodes.signal(leader, Signal::TERM)?,
            What::Paused => nodes.signal(leader, Signal::STOP)?,
            _ => {}
        }
        thread::sleep(WINDOW);
        figure.add(load.longest_silence().as_secs_f64() * 1e3);
        match what {
            What::Killed | What::Stopped => {
                nodes.reap(leader)?;
                nodes.start_node(leader, &[])?;
            }
            What::Paused => nodes.signal(leader, Signal::CONT)?,
            _ => {}
        }
    }
    figure.add_errors(load.errors());
    Ok(figure)
}

fn name(what: What) -> &'static str {
    match what {
        What::Killed => "leader killed: no write for",
        What::Stopped => "leader stopped by SIGTERM: no write for",
        What::Paused => "leader paused by SIGSTOP: no write for",
        _ => "nothing happens: no write for",
    }
}
