//! A node that has all the connections it may have: clients are refused, and how it is can still be asked.

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::LONG;
use crate::support::wire::{Message, RawConnection, number, request};

/// The fewest that a file may allow.
const CONNECTIONS_MAX: usize = 16;

#[test]
fn a_node_with_all_its_connections_still_says_how_it_is() {
    let cluster = Cluster::start(1, &format!("connections_max={CONNECTIONS_MAX}\n"));
    let mut served = Vec::new();
    let is_full = (0..=CONNECTIONS_MAX).any(|_| {
        let mut connection = RawConnection::open(&cluster.address(0));
        connection.write(&request("kv", "Get", Some(1), &Message::default().bytes(1, b"k").done()));
        let (header, _) = connection.reply(LONG);
        served.push(connection);
        number(&header, 2) != 0
    });
    assert!(is_full, "{} connections are served", served.len());

    let mut command = clerk();
    command.args(["--endpoints", &cluster.address(0), "status", "--json"]);
    let output = run(command, LONG);
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["role"], "leader");
}
