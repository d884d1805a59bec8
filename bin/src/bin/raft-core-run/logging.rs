//! Logs: to stderr, with UTC time, level and who speaks. `RUST_LOG` chooses what is shown, `info` by default.

use std::io::Write;

/// Starts logging; `who` is `launcher` or `node 2` and stands in brackets before every line.
pub(crate) fn start(who: String) {
    let environment = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(environment)
        .format(move |buffer, record| {
            let time = buffer.timestamp_millis();
            let level = record.level();
            let style = buffer.default_level_style(level);
            writeln!(buffer, "[{who}] {time} {style}{level:<5}{style:#} {}", record.args())
        })
        .init();
}
