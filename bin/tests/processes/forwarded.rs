//! Clients that know one node only, and that one does not lead: it passes their writes on and serves their gets.

use clerk::{Clerk, ClerkConfig};

use crate::origin_client::{OriginClerk, ok};
use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, until};

#[test]
fn an_origin_client_of_a_follower_puts_appends_and_gets() {
    let cluster = Cluster::start(3, "");
    let leader = cluster.leader();
    for follower in cluster.others(leader) {
        let mut clerk = OriginClerk::connect(&cluster.address(follower));
        // What another process of the origin wrote in the same words would pass for its retry.
        let key = format!("x{follower}");
        assert_eq!(clerk.write("Put", &key, "1"), "OK");
        assert_eq!(clerk.write("Append", &key, "23"), "OK");
        assert_eq!(clerk.get(&key), ok("123"));
        assert_eq!(clerk.get("none").0, "ErrNoKey");
        assert_eq!(cluster.clerk().get(key).unwrap().as_deref(), Some(b"123".as_slice()));
    }
}

#[test]
fn a_clerk_that_reaches_one_follower_only_does_everything_by_it() {
    let cluster = Cluster::start(3, "");
    let follower = cluster.others(cluster.leader())[0];
    let config = ClerkConfig { follows_hints: false, ..ClerkConfig::default() };
    let clerk = Clerk::connect(&[cluster.address(follower)], config).unwrap();
    clerk.put("k", "a").unwrap();
    clerk.append("k", "b").unwrap();
    assert_eq!(clerk.get("k").unwrap().as_deref(), Some(b"ab".as_slice()));
    assert!(clerk.delete("k").unwrap() && !clerk.delete("k").unwrap());
    assert_eq!(clerk.get("k").unwrap(), None);
}

#[test]
fn each_append_passed_on_happens_once_though_the_leader_is_killed_and_comes_back() {
    let mut cluster = Cluster::start(3, "");
    let first = cluster.leader();
    let follower = cluster.others(first)[0];
    let mut clerk = OriginClerk::connect(&cluster.address(follower));
    let mut expected = String::new();
    for number in 1..=300_u64 {
        if number == 100 {
            cluster.kill_node(first);
        }
        if number == 200 {
            cluster.start_node(first);
        }
        let piece = format!("{number},");
        // What it is refused it repeats as it is, as the origin's clerk does.
        until("the append is taken", LONG, || clerk.write_as(number, "Append", "list", &piece) == "OK");
        expected.push_str(&piece);
    }
    assert_eq!(cluster.clerk().get("list").unwrap(), Some(expected.into()));
}
