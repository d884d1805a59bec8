//! The friend-list demo of the RPC framework: what a user runs first after reading about it.

use std::process::Command;

use rustix::process::Signal;

use crate::support::cluster::free_ports;
use crate::support::process::{Process, run};
use crate::support::wait::{LONG, eventually};

#[test]
fn the_consumer_lists_the_friends_that_the_provider_knows() {
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_provider"));
    command.args(["--addr", &address]);
    let mut provider = Process::start(command, &folder.path().join("provider.log"));

    let consumer = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
        command.args(["--addr", &address]).args(arguments);
        run(command, LONG)
    };
    let list = eventually("the provider answers", LONG, || {
        Some(consumer(&[])).filter(|output| output.status.success())
    });
    let text = String::from_utf8(list.stdout).unwrap();
    assert!(text.contains("index: 1 name: gao yang\n") && text.lines().count() == 3, "{text}");
    // As a client of the origin would ask, and for somebody the service does not know.
    assert_eq!(String::from_utf8(consumer(&["--legacy"]).stdout).unwrap(), text);
    assert_eq!(consumer(&["--userid", "7"]).status.code(), Some(1));
    assert_eq!(
        consumer(&["--version"]).stdout,
        format!("consumer {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );

    provider.signal(Signal::TERM);
    assert!(provider.ended(LONG).success());
    assert_eq!(consumer(&[]).status.code(), Some(3), "nobody answers any more");
}
