//! A node of another cluster at a listed address, say after a mistake in one host's file: neither side takes anything from the
//! other, and both say why.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

#[test]
fn a_node_of_another_cluster_is_refused_and_both_sides_say_so() {
    let mut cluster = Cluster::prepare(3, "");
    let good = fs::read_to_string(cluster.file()).unwrap();
    cluster.start_node(0);
    cluster.start_node(1);
    until("two nodes wait", LONG, || (0..2).all(|id| cluster.log(id).contains("waiting for node 2")));

    fs::write(cluster.file(), good.replace("process-test", "elsewhere")).unwrap();
    cluster.start_node(2);
    until("the foreign node says that it is refused", LONG, || {
        let log = cluster.log(2);
        log.contains("do not belong together") && log.contains("cluster \"process-test\"")
    });
    until("the others say whom they refuse", LONG, || {
        (0..2).all(|id| cluster.log(id).contains("belongs to cluster \"elsewhere\""))
    });
    assert!((0..2).all(|id| cluster.status(id).is_some_and(|status| status.role == "waiting")));

    cluster.kill_node(2);
    fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    fs::write(cluster.file(), good).unwrap();
    cluster.start_node(2);
    cluster.leader();
    cluster.clerk().put("k", "v").unwrap();
}
