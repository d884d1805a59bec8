//! Logs: to stderr, with UTC time, level and who speaks. `RUST_LOG` chooses what is shown, `info` by default.

use std::io::{IsTerminal, Write};

use env_logger::{Builder, Env, Target, WriteStyle};

use crate::outlet::Outlet;

/// Starts logging; `who` is `launcher` or `node 2` and stands in brackets before every line. Without an outlet, the
/// lines go to standard error at once.
pub(crate) fn start(who: String, outlet: Option<Outlet>) {
    let mut builder = Builder::new();
    if let Some(outlet) = outlet {
        builder.target(Target::Pipe(Box::new(outlet)));
        let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.write_style(if is_coloured { WriteStyle::Always } else { WriteStyle::Never });
    }
    builder
        .parse_env(Env::default().default_filter_or("info"))
        .format(move |buffer, record| {
            let time = buffer.timestamp_millis();
            let level = record.level();
            let style = buffer.default_level_style(level);
            writeln!(buffer, "[{who}] {time} {style}{level:<5}{style:#} {}", record.args())
        })
        .init();
}
