//! Logs: to stderr, with UTC time, level and who speaks. `RUST_LOG` chooses what is shown, `info` by default.

use std::io::{IsTerminal, Write};

use env_logger::{Builder, Env, Target, WriteStyle};

use crate::failure::Failure;
use crate::outlet::Outlet;

/// Starts logging; `who` is `launcher` or `node 2` and stands in brackets before every line. What is returned must be
/// flushed before the process ends.
pub(crate) fn start(who: &str) -> Result<Outlet, Failure> {
    let outlet = Outlet::start(who)?;
    let mut builder = Builder::new();
    builder.target(Target::Pipe(Box::new(outlet.clone())));
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    builder.write_style(if is_coloured { WriteStyle::Always } else { WriteStyle::Never });
    let who = who.to_owned();
    builder
        .parse_env(Env::default().default_filter_or("info"))
        .format(move |buffer, record| {
            let time = buffer.timestamp_millis();
            let level = record.level();
            let style = buffer.default_level_style(level);
            writeln!(buffer, "[{who}] {time} {style}{level:<5}{style:#} {}", record.args())
        })
        .init();
    Ok(outlet)
}
