//! Partitions and histories once more, in a network of the system's own instead of wires that the test lays: connections
//! whose packets are dropped, which both ends find out by themselves or not at all.

use crate::support::cluster::take_turn;
use crate::support::lab;

#[test]
fn partitions_are_survived_in_a_network_of_the_system_too() {
    let _turn = take_turn();
    for test in [
        "followers_that_cannot_reach_each_other_leave_it_at_one_leader",
        "a_leader_that_only_a_minority_sees_is_replaced_once",
        "a_leader_that_hears_nobody_steps_down_and_one_that_nobody_hears_is_replaced",
    ] {
        lab::run_inside(&format!("partitions::{test}"));
    }
}

#[test]
fn a_history_in_a_network_of_the_system_is_linearizable() {
    let _turn = take_turn();
    lab::run_inside("histories::every_history_under_kills_sleep_and_partitions_is_linearizable");
}
