//! The data directory's identity: made once, kept for ever, refused with one useful sentence when it is not ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use raft::storage::{DataDirectory, IdentityError};
use raft_core::NodeId;

fn open(path: &Path) -> Result<DataDirectory, IdentityError> {
    DataDirectory::open(path, "example", NodeId(2))
}

#[test]
fn a_new_directory_is_private_and_keeps_its_incarnation_and_peers() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/node2");
    let mut directory = open(&path).unwrap();
    assert!(directory.is_fresh());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let incarnation = directory.identity().incarnation;
    let peers = vec![(NodeId(0), 5), (NodeId(1), u64::MAX)];
    directory.admit(&peers).unwrap();
    drop(directory);

    let directory = open(&path).unwrap();
    assert!(!directory.is_fresh());
    assert_eq!((directory.identity().incarnation, &directory.identity().peers), (incarnation, &peers));
    assert_ne!(open(&parent.path().join("b")).unwrap().identity().incarnation, incarnation);
}

#[test]
fn a_directory_that_stays_out_does_so_at_the_next_start_too() {
    let path = tempfile::tempdir().unwrap();
    let mut directory = open(path.path()).unwrap();
    let outcast = directory.identity().as_outcast();
    directory.record(outcast.clone()).unwrap();
    drop(directory);
    let directory = open(path.path()).unwrap();
    assert_eq!((directory.identity(), directory.is_fresh()), (&outcast, true));
}

#[test]
fn two_processes_cannot_use_one_directory() {
    let path = tempfile::tempdir().unwrap();
    let first = open(path.path()).unwrap();
    let refused = open(path.path()).unwrap_err();
    assert!(matches!(refused, IdentityError::InUse { .. }));
    assert!(refused.to_string().contains(&path.path().display().to_string()));
    drop(first);
    open(path.path()).unwrap();
}

#[test]
fn no_file_removed_nor_a_new_name_lets_a_second_process_in() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("node2");
    let first = open(&path).unwrap();
    for file in fs::read_dir(&path).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(matches!(open(&path).unwrap_err(), IdentityError::InUse { .. }));
    let other_name = parent.path().join("other");
    fs::rename(&path, &other_name).unwrap();
    assert!(matches!(open(&other_name).unwrap_err(), IdentityError::InUse { .. }));
    drop(first);
    open(&other_name).unwrap();
}

#[test]
fn a_directory_that_others_can_read_becomes_private_if_it_is_ours() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("node2");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    for wide in [0o755, 0o710, 0o701] {
        drop(open(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(wide)).unwrap();
        // Somebody else's directory stays as it is.
        DataDirectory::open(&path, "example", NodeId(3)).unwrap_err();
        assert_eq!(mode(), wide);
        open(&path).unwrap();
        assert_eq!(mode(), 0o700);
    }
}

#[test]
fn a_directory_that_cannot_become_private_is_refused_and_nothing_is_written_into_it() {
    // Others can look into it, and of its kind nobody can change the mode.
    let refused = open(Path::new("/proc/self")).unwrap_err();
    assert!(matches!(&refused, IdentityError::Io { action, .. } if action.contains("0700")), "{refused}");
    assert!(refused.to_string().starts_with("data directory /proc/self: cannot make it its owner's alone"));
}

#[test]
fn a_directory_of_another_cluster_node_or_version_is_refused() {
    let path = tempfile::tempdir().unwrap();
    open(path.path()).unwrap();
    let refused = DataDirectory::open(path.path(), "other", NodeId(2)).unwrap_err();
    assert!(matches!(refused, IdentityError::OtherCluster { .. }), "{refused}");
    let refused = DataDirectory::open(path.path(), "example", NodeId(3)).unwrap_err();
    assert!(matches!(refused, IdentityError::OtherNode { .. }), "{refused}");
    let file = path.path().join("identity");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("format 1", "format 2")).unwrap();
    assert!(matches!(open(path.path()).unwrap_err(), IdentityError::UnknownVersion { .. }));
}

#[test]
fn a_log_or_snapshot_without_identity_is_refused() {
    for name in ["wal-0000000000000001.log", "snapshot-0000000000000005-0000000000000001.snap"] {
        let path = tempfile::tempdir().unwrap();
        fs::write(path.path().join(name), "x").unwrap();
        let refused = open(path.path()).unwrap_err();
        assert!(matches!(&refused, IdentityError::WithoutIdentity { file, .. } if file == name), "{refused}");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_the_identity_is_noticed() {
    let path = tempfile::tempdir().unwrap();
    open(path.path()).unwrap().admit(&[(NodeId(1), 9)]).unwrap();
    let file = path.path().join("identity");
    let sound = fs::read(&file).unwrap();
    for place in 0..sound.len() {
        for bit in 0..8 {
            let mut broken = sound.clone();
            broken[place] ^= 1 << bit;
            fs::write(&file, &broken).unwrap();
            assert!(open(path.path()).is_err(), "bit {bit} of byte {place}");
        }
        fs::write(&file, &sound[..place]).unwrap();
        assert!(open(path.path()).is_err(), "cut at {place}");
    }
    fs::write(&file, &sound).unwrap();
    open(path.path()).unwrap();
}

#[test]
fn a_name_that_is_no_line_of_text_cannot_name_a_cluster() {
    let path = tempfile::tempdir().unwrap();
    for name in ["", "a\nb", " a", &"x".repeat(256)] {
        let refused = DataDirectory::open(path.path(), name, NodeId(1)).unwrap_err();
        assert!(matches!(refused, IdentityError::BadClusterId { .. }));
    }
}
