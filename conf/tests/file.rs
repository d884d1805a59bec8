//! The configuration file as its user sees it: what is accepted, and the one sentence that answers what is not.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use conf::{Config, NodeAddress, SETTINGS, set_cluster_id, write_nodes};

const THREE: &str = "node0ip=127.0.0.1\nnode0port=29016\nnode1ip=127.0.0.1\nnode1port=29017\nnode2ip=127.0.0.1\nnode2port=29018\n";

fn refusal(text: &str) -> String {
    Config::parse(text, "test.conf").expect_err("the text is wrong and must be refused").to_string()
}

fn loopback(id: u64, port: u16) -> NodeAddress {
    NodeAddress { id, host: "127.0.0.1".to_owned(), port, listen: None }
}

#[test]
fn the_origins_file_is_read_as_it_is() {
    let config = Config::parse(THREE, "test.conf").unwrap();
    assert_eq!(config.addresses(), ["127.0.0.1:29016", "127.0.0.1:29017", "127.0.0.1:29018"]);
    assert_eq!(config.cluster_id, "raft-kv");
    assert!(!config.cluster_id_is_set);
    assert_eq!(config.node(2).map(|node| node.port), Some(29018));
    assert_eq!(config.node(3), None);
}

#[test]
fn the_sample_parses_and_lists_every_setting_with_its_real_default() {
    let text = include_str!("../sample.conf");
    let sample = Config::parse(text, "sample.conf").unwrap();
    let mut expected = Config { nodes: sample.nodes.clone(), ..Config::default() };
    expected.cluster_id_is_set = true;
    assert_eq!(sample, expected);
    assert_eq!(sample.nodes.len(), 3);
    for setting in SETTINGS {
        let line = format!("{}={}", setting.key, setting.default);
        assert!(text.lines().any(|have| have == line), "sample.conf lacks the line {line}");
    }
    for key in ["cluster_id=", "data_dir=", "node0ip=", "node0port=", "node0listen="] {
        assert!(
            text.lines().any(|line| line.trim_start_matches("# ").starts_with(key)),
            "{key} is undocumented"
        );
    }
}

#[test]
fn comments_carriage_returns_a_byte_order_mark_and_a_missing_last_line_end_are_harmless() {
    let text =
        "\u{feff}# mine\r\n\r\nnode0ip = ::1\r\nnode0port = 29016 # the first\r\nnode0listen=[::]:29016";
    let config = Config::parse(text, "test.conf").unwrap();
    assert_eq!(config.addresses(), ["[::1]:29016"]);
    assert_eq!(config.nodes[0].listen_address(), "[::]:29016");
}

#[test]
fn settings_are_read_with_their_units() {
    let text = format!(
        "{THREE}heartbeat_ms=10\nelection_min_ms=100\nelection_max_ms=200\nsnapshot_log_bytes=1MiB\n"
    );
    let config =
        Config::parse(&format!("{text}data_dir=/var/lib/kv\nvalue_bytes_max=2MiB\n"), "test.conf").unwrap();
    assert_eq!((config.heartbeat_ms, config.election_min_ms, config.election_max_ms), (10, 100, 200));
    assert_eq!(config.snapshot_log_bytes, 1 << 20);
    assert_eq!(config.limits.value_bytes_max, 2 << 20);
    assert_eq!(config.data_dir.as_deref(), Some(Path::new("/var/lib/kv")));
}

#[test]
fn a_wrong_key_is_answered_with_the_line_and_the_right_one() {
    assert_eq!(
        refusal("# first\nheartbeet_ms=25\n"),
        "test.conf, line 2: there is no setting \"heartbeet_ms\"; did you mean heartbeat_ms?"
    );
    assert_eq!(
        refusal("node0host=a\n"),
        "test.conf, line 1: there is no setting \"node0host\"; a node has node0ip, node0port and, if need \
         be, node0listen and node0priority"
    );
    assert!(refusal("node01ip=a\n").contains("line 1: there is no setting"));
    assert!(refusal("colour=blue\n").contains("conf/sample.conf"));
}

#[test]
fn a_bad_value_is_answered_with_the_line_and_a_good_one() {
    assert!(
        refusal("\nheartbeat_ms=fast\n")
            .starts_with("test.conf, line 2: heartbeat_ms is \"fast\"; write a whole")
    );
    assert!(refusal("node0ip=127.0.0.1:29016\n").contains("line 1: node0ip: "));
    assert!(refusal("node0ip=0.0.0.0\nnode0port=1\n").contains("node0listen"));
    assert!(refusal("node0port=0\n").contains("1 to 65535"));
    assert!(refusal("node0ip=\n").contains("the host is empty; write a host name or an address"));
    assert!(refusal("snapshot_log_bytes=129MiB\n").contains("to 134217728 bytes"));
    assert!(refusal("node65536ip=a\n").contains("numbered from 0 to 65535"));
    let node = |id: u64| format!("node{id}ip=a\nnode{id}port={}\n", id + 1);
    let eight: String = (10..18).map(node).collect();
    assert!(refusal(&eight).contains("line 15: node17 is one too many; a file names at most 7 nodes"));
    assert!(refusal("cluster_id=a b\n").contains("cluster_id is \"a b\""));
    assert!(refusal("heartbeat_ms\n").contains("line 1: \"heartbeat_ms\" is no setting; write key=value"));
    assert!(refusal("[raft]\n").contains("line 1: sections"));
}

#[test]
fn nodes_may_have_any_numbers_since_none_is_used_again() {
    let text = "node41ip=a\nnode41port=1\nnode7ip=b\nnode7port=2\nnode65535ip=c\nnode65535port=3\n";
    let config = Config::parse(text, "test.conf").unwrap();
    let ids: Vec<u64> = config.nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [7, 41, 65535]);
    assert_eq!(config.node(41).map(|node| node.port), Some(1));
}

#[test]
fn what_stands_twice_or_not_at_all_is_named() {
    assert_eq!(
        refusal("heartbeat_ms=25\nheartbeat_ms=26\n"),
        "test.conf, line 2: heartbeat_ms stands already in line 1; keep one of the two"
    );
    assert_eq!(
        refusal("node0ip=127.0.0.1\n"),
        "test.conf, line 1: node0port is missing; add for instance node0port=29016"
    );
    assert!(refusal("node0port=29016\n").contains("node0ip is missing"));
    assert_eq!(
        refusal("node0ip=::1\nnode0port=29016\nnode1ip=0:0:0:0:0:0:0:1\nnode1port=29016\n"),
        "test.conf, line 3: node1 has the address [0:0:0:0:0:0:0:1]:29016 of node0 (line 1); give it another port"
    );
}

#[test]
fn two_nodes_of_one_host_cannot_listen_on_the_same_and_two_hosts_can() {
    let file = |hosts: [&str; 2], listens: [&str; 2]| {
        let node = |id: usize| {
            format!("node{id}ip={}\nnode{id}port={}\nnode{id}listen={}\n", hosts[id], 29016 + id, listens[id])
        };
        format!("{}{}", node(0), node(1))
    };
    let same = ["0.0.0.0:29000", "0.0.0.0:29000"];
    assert_eq!(
        refusal(&file(["127.0.0.1", "127.0.0.1"], same)),
        "test.conf, line 6: node1 listens on 0.0.0.0:29000 as node0 of the same host does (line 3); give it another port"
    );
    assert!(
        refusal("node0ip=127.0.0.1\nnode0port=29016\nnode1ip=localhost\nnode1port=29016\n")
            .starts_with("test.conf, line 3: node1 has the address localhost:29016 of node0 (line 1)")
    );
    assert!(refusal(&file(["a", "A"], ["[::1]:1", "[0:0:0:0:0:0:0:1]:1"])).contains("line 6: node1 listens"));
    assert!(Config::parse(&file(["10.0.0.1", "10.0.0.2"], same), "test.conf").is_ok());
    assert!(Config::parse(&file(["a", "a"], ["0.0.0.0:1", "0.0.0.0:2"]), "test.conf").is_ok());
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_a_line_that_can_be_changed() {
    let text = refusal("heartbeat_ms=200\n");
    assert!(text.starts_with("test.conf, line 1: heartbeat_ms=200 must be less than half"), "{text}");
    let text = refusal("\nelection_min_ms=600\n");
    assert!(text.starts_with("test.conf, line 2: election_max_ms=500 must be more than"), "{text}");
    let text = refusal("uncommitted_bytes_max=1MiB\n");
    assert!(text.starts_with("test.conf, line 1: uncommitted_bytes_max=1048576 must be more"), "{text}");
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Config::load(&folder.path().join("absent.conf")).unwrap_err();
    assert!(absent.is_not_found());
    let binary = folder.path().join("binary.conf");
    fs::write(&binary, b"node0ip=127.0.0.1\n\xff\xfe\n").unwrap();
    let error = Config::load(&binary).unwrap_err();
    assert!(!error.is_not_found());
    assert!(error.to_string().contains("line 2: this is not UTF-8"), "{error}");
}

#[test]
fn written_nodes_are_read_back_and_a_new_file_gets_a_cluster_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    let nodes: Vec<NodeAddress> = (0..3).map(|id| loopback(id, 20000 + id as u16)).collect();
    let written = write_nodes(&path, &nodes, "c-1").unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config, written);
    assert_eq!(config.nodes, nodes);
    assert_eq!(config.cluster_id, "c-1");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
}

#[test]
fn settings_comments_and_line_ends_of_a_file_without_nodes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    let old = "# my cluster\r\nheartbeat_ms=50\r\ncluster_id=mine\r\n# the end";
    fs::write(&path, old).unwrap();
    write_nodes(&path, &[loopback(0, 20000)], "ignored").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("{old}\r\nnode0ip=127.0.0.1\r\nnode0port=20000\r\n"));
    let config = Config::load(&path).unwrap();
    assert_eq!((config.heartbeat_ms, config.cluster_id.as_str(), config.nodes.len()), (50, "mine", 1));
}

#[test]
fn another_cluster_id_takes_the_place_of_the_first_wherever_that_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    for old in ["\u{feff}cluster_id=old\nheartbeat_ms=50\n", "heartbeat_ms=50\n cluster_id = old # mine\n"] {
        fs::write(&path, old).unwrap();
        let config = set_cluster_id(&path, "new").unwrap();
        assert_eq!((config.cluster_id.as_str(), config.heartbeat_ms), ("new", 50));
        assert_eq!(fs::read_to_string(&path).unwrap(), "heartbeat_ms=50\ncluster_id=new\n");
    }
}

#[test]
fn nodes_that_are_there_are_given_back_and_neither_they_nor_a_broken_file_are_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    for text in [THREE, "heartbeet_ms=1\n"] {
        fs::write(&path, text).unwrap();
        let outcome = write_nodes(&path, &[loopback(0, 20000)], "c").ok();
        assert_eq!(outcome, Config::parse(text, "test.conf").ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
    }
}

#[test]
fn of_several_that_write_at_the_same_time_one_is_followed_by_all() {
    const WRITERS: u16 = 8;
    for round in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.conf");
        if round % 2 == 1 {
            fs::write(&path, "heartbeat_ms=20\n").unwrap();
        }
        let begin = Barrier::new(usize::from(WRITERS));
        let write = |writer: u16| {
            let nodes = [loopback(0, 20000 + writer), loopback(1, 21000 + writer)];
            begin.wait();
            write_nodes(&path, &nodes, &format!("cluster-{writer}")).unwrap()
        };
        let seen: Vec<Config> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let stands = Config::load(&path).unwrap();
        assert!(seen.iter().all(|config| *config == stands), "round {round}: {stands:?} is not in {seen:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
    }
}

#[test]
fn who_comes_while_another_writes_waits_and_takes_what_that_one_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    // A writer at work: it holds the file that is going to be renamed.
    let draft_path = folder.path().join(".test.conf.tmp");
    let draft = File::create(&draft_path).unwrap();
    draft.lock().unwrap();
    let config = thread::scope(|scope| {
        let second = scope.spawn(|| write_nodes(&path, &[loopback(0, 20000)], "second").unwrap());
        fs::write(&draft_path, THREE).unwrap();
        fs::rename(&draft_path, &path).unwrap();
        drop(draft);
        second.join().unwrap()
    });
    assert_eq!(config, Config::parse(THREE, "test.conf").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), THREE);
}

#[test]
fn what_a_crash_left_of_an_earlier_attempt_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.conf");
    fs::write(folder.path().join(".test.conf.tmp"), "x".repeat(10_000)).unwrap();
    let written = write_nodes(&path, &[loopback(0, 20000)], "c").unwrap();
    assert_eq!(Config::load(&path).unwrap(), written);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_is_kept_and_the_file_is_made() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.conf"), folder.path().join("second.conf"));
    fs::create_dir(folder.path().join("etc")).unwrap();
    symlink("second.conf", &first).unwrap();
    symlink("etc/real.conf", &second).unwrap();
    write_nodes(&first, &[loopback(0, 20000)], "c").unwrap();
    for link in [&first, &second] {
        assert!(fs::symlink_metadata(link).unwrap().file_type().is_symlink());
        assert_eq!(Config::load(link).unwrap().nodes.len(), 1);
    }
    assert!(fs::symlink_metadata(folder.path().join("etc/real.conf")).unwrap().is_file());
}

#[test]
fn a_file_that_has_no_end_is_refused_and_not_read_to_it() {
    let endless = Path::new("/dev/zero");
    for error in
        [Config::load(endless).unwrap_err(), write_nodes(endless, &[loopback(0, 1)], "c").unwrap_err()]
    {
        assert_eq!(
            error.to_string(),
            "/dev/zero: it is larger than 1048576 bytes, which no configuration is"
        );
    }
}

#[test]
fn a_link_is_followed_and_the_permissions_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real.conf");
    let link = folder.path().join("link.conf");
    fs::write(&real, "# empty\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    write_nodes(&link, &[loopback(0, 20000)], "c").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(Config::load(&real).unwrap().nodes.len(), 1);
}

#[test]
fn a_node_may_be_preferred_as_leader_and_leases_need_room_for_heartbeats() {
    let nodes = "node0ip=a\nnode0port=1\nnode1ip=b\nnode1port=1\n";
    let preferred = Config::parse(&format!("{nodes}node1priority=7\nnode0priority=0\n"), "f").unwrap();
    assert_eq!(preferred.priorities.into_iter().collect::<Vec<_>>(), [(1, 7)]);
    assert!(refusal("node0ip=a\nnode0port=1\nnode0priority=101\n").contains("from 0 to 100"));
    assert_eq!(Config::parse("lease_reads=1\n", "f").unwrap().lease_reads, 1);
    assert!(refusal("lease_reads=2\n").contains("from 0 to 1"));
    assert!(refusal("lease_reads=1\nelection_min_ms=90\n").contains("lease_reads=1 needs"));
}
