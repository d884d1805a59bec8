//! Values and keys of every kind come back as they were put: through the library, through the program, after a restart.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::support::cluster::Cluster;
use crate::support::process::{clerk, run, run_with_input};
use crate::support::wait::LONG;

/// Name and content; the largest is what a client may well store and no origin client could read.
fn samples() -> Vec<(&'static str, Bytes)> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut random = |length: usize| {
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        Bytes::from(bytes)
    };
    vec![
        ("nothing", Bytes::new()),
        ("one kibibyte", random(1 << 10)),
        ("one mebibyte", random(1 << 20)),
        ("every byte", (0..=255).collect::<Vec<u8>>().into()),
        ("spaces", Bytes::from_static(b"  two words and a line\nend  ")),
        ("zeros", Bytes::from(vec![0; 5000])),
    ]
}

#[test]
fn values_of_every_size_and_kind_come_back_and_survive_a_restart() {
    let mut cluster = Cluster::start(3, "");
    let library = cluster.clerk();
    for (name, value) in samples() {
        library.put(name, value.clone()).unwrap();
        assert_eq!(library.get(name).unwrap(), Some(value), "{name}");
    }
    let binary_key = Bytes::from_static(b"\x00\xff key \n");
    library.put(binary_key.clone(), "v").unwrap();
    (0..cluster.size()).for_each(|id| cluster.kill_node(id));
    (0..cluster.size()).for_each(|id| cluster.start_node(id));
    for (name, value) in samples() {
        assert_eq!(library.get(name).unwrap(), Some(value), "{name} after the restart");
    }
    assert_eq!(library.get(binary_key).unwrap(), Some(Bytes::from_static(b"v")));
    assert_eq!(library.get("never put").unwrap(), None);
}

#[test]
fn the_program_carries_any_bytes_in_and_out() {
    let cluster = Cluster::start(3, "");
    let program = |arguments: &[&str]| {
        let mut command = clerk();
        command.arg("-f").arg(cluster.file()).args(["--timeout-ms", "30000"]).args(arguments);
        command
    };
    for (name, value) in samples() {
        let put = run_with_input(program(&["put", name, "-"]), value.to_vec(), LONG);
        assert!(put.status.success(), "{name}: {}", String::from_utf8_lossy(&put.stderr));
        let get = run(program(&["get", name, "--raw"]), LONG);
        assert!(get.status.success(), "{name}: {}", String::from_utf8_lossy(&get.stderr));
        assert!(get.stdout == value, "{name} came back changed");
    }
}

#[test]
fn a_value_over_the_limit_is_refused_and_the_cluster_serves_on() {
    let cluster = Cluster::start(3, "value_bytes_max=64KiB\nkey_bytes_max=1KiB\n");
    let library = cluster.clerk();
    library.put("fits", vec![1; 64 << 10]).unwrap();
    assert!(library.put("too long", vec![1; (64 << 10) + 1]).is_err());
    assert!(library.put(vec![1; 1025], "long key").is_err());
    assert_eq!(library.get("too long").unwrap(), None);
    assert_eq!(library.get("fits").unwrap().map(|value| value.len()), Some(64 << 10));
}

#[test]
fn clusters_of_one_and_of_five_work_too() {
    for count in [1, 5] {
        let cluster = Cluster::start(count, "");
        let library = cluster.clerk();
        library.put("k", "v").unwrap();
        library.append("k", "w").unwrap();
        assert_eq!(library.get("k").unwrap(), Some(Bytes::from_static(b"vw")), "{count} nodes");
        let status = cluster.status(cluster.leader()).expect("the leader answers");
        assert_eq!(status.cluster_id, "process-test");
        assert!(Duration::from_micros(status.fdatasync_p50_us) < LONG);
    }
}
