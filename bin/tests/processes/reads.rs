//! Gets that say what they must see: served by followers, by leases, stale ones with a bound on their age.

use std::process::Output;

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run};
use crate::support::wait::{LONG, until};

/// `clerk get k` at one node alone, with these words.
fn get_at(cluster: &Cluster, node: usize, words: &[&str]) -> Output {
    let mut command = clerk();
    command.args(["--endpoints", &cluster.address(node), "--timeout-ms", "2000", "get", "k"]).args(words);
    run(command, LONG)
}

fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_follower_serves_what_was_just_written() {
    let cluster = Cluster::start(3, "");
    let writer = cluster.clerk();
    for follower in cluster.others(cluster.leader()) {
        for number in 0..5 {
            writer.put("k", format!("{follower}.{number}")).unwrap();
            // Of the follower alone: a clerk with such a get follows no hints.
            let seen = get_at(&cluster, follower, &["--consistency", "follower"]);
            assert_eq!(shown(&seen), format!("{follower}.{number}\n"));
        }
    }
}

#[test]
fn a_node_that_is_left_alone_serves_stale_gets_and_refuses_those_it_is_too_old_for() {
    let cluster = Cluster::start(3, "");
    let leader = cluster.leader();
    let [alone, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let index = cluster.clerk().put("k", "v").unwrap();
    cluster.wait_until_applied(alone, index);
    let young = ["--consistency", "stale", "--max-age-ms", "1000"];
    until("it can prove its age", LONG, || get_at(&cluster, alone, &young).status.success());
    cluster.put_to_sleep(leader);
    cluster.put_to_sleep(other);
    assert_eq!(shown(&get_at(&cluster, alone, &["--consistency", "stale"])), "v\n");
    assert_eq!(
        shown(&get_at(&cluster, alone, &["--consistency", "stale", "--max-age-ms", "3600000"])),
        "v\n"
    );
    until("it is too old", LONG, || get_at(&cluster, alone, &young).status.code() == Some(3));
    let said = String::from_utf8(get_at(&cluster, alone, &young).stderr).unwrap();
    assert!(said.contains("ms old, 1000 ms are allowed"), "{said}");
    let refused = get_at(&cluster, alone, &["--consistency", "follower"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

#[test]
fn with_leases_gets_are_right_also_when_the_leader_is_killed() {
    let mut cluster = Cluster::start(3, "lease_reads=1\n");
    let writer = cluster.clerk();
    for value in ["a", "b", "c"] {
        writer.put("k", value).unwrap();
        let leader = cluster.leader();
        let seen = get_at(&cluster, leader, &["--consistency", "lease"]);
        assert_eq!(shown(&seen), format!("{value}\n"));
        cluster.kill_node(leader);
        cluster.leader_among(&cluster.others(leader));
        assert_eq!(writer.get("k").unwrap().as_deref(), Some(value.as_bytes()));
        cluster.start_node(leader);
    }
}
