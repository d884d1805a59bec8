//! The program `wal-dump` on data directories of every kind: what it says, which exit code it gives, and that it leaves
//! every byte where it was.

#![expect(clippy::unwrap_used, reason = "test code: what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use raft::core::{
    Entry, EntryId, HardState, Index, Membership, NodeId, Payload, Persist, SnapshotMeta, Term,
};
use raft::storage::wal::{Wal, WalConfig, segment_name};
use raft::storage::{DataDirectory, RealDisk, recover};
use serde_json::Value;
use tempfile::TempDir;

const CLUSTER: &str = "example";
const NODE: NodeId = NodeId(1);
const ENTRIES: u64 = 60;

fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, CLUSTER, NODE).unwrap()
}

fn config(seed: u64) -> WalConfig {
    WalConfig { segment_bytes: 4096, ..WalConfig::new(seed) }
}

/// A data directory whose log of several segments ends with a seal, with the snapshots of entries 20 and 40.
fn sound() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = open(folder.path());
    directory.admit(&[(NodeId(0), 7), (NodeId(2), 8)]).unwrap();
    let mut disk = RealDisk::new(folder.path());
    let recovery = recover(&mut disk, config(directory.identity().incarnation), false).unwrap();
    let (mut wal, mut snapshots) = (recovery.wal, recovery.snapshots);
    for index in 1..=ENTRIES {
        write(&mut wal, &mut disk, Term(2), index, 200);
        if index == 20 || index == 40 {
            let last = EntryId { index: Index(index), term: Term(2) };
            let meta = SnapshotMeta { last, membership: Membership::new([NodeId(0), NODE, NodeId(2)]) };
            let mut writer = snapshots.begin_write(&mut disk, meta).unwrap();
            writer.write(&mut disk, &[7; 5000]).unwrap();
            snapshots.finish_write(&mut disk, writer).unwrap();
        }
    }
    wal.seal(&mut disk).unwrap();
    wal.finish(&mut disk).unwrap();
    folder
}

fn write(wal: &mut Wal, disk: &mut RealDisk, term: Term, index: u64, bytes: usize) {
    let payload = match index {
        1 => Payload::Noop,
        _ => Payload::Command(Bytes::from(vec![b'x'; bytes])),
    };
    let hard_state = (index == 1).then_some(HardState { term, vote: Some(NODE) });
    let entries = vec![Entry { term, index: Index(index), payload }];
    wal.append(&Persist { hard_state, snapshot: None, entries });
    wal.submit(disk).unwrap();
    wal.finish(disk).unwrap();
}

fn segment(folder: &TempDir, sequence: u64) -> PathBuf {
    folder.path().join(segment_name(sequence).as_str())
}

/// The number of the newest segment.
fn newest(folder: &TempDir) -> u64 {
    (1..).take_while(|sequence| segment(folder, *sequence).exists()).last().unwrap()
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run(folder: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wal-dump"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAFT_KV_")) {
        command.env_remove(name);
    }
    command.arg(folder).args(flags).output().unwrap()
}

/// Its exit code and what it printed; on standard error there must be nothing.
fn dump(folder: &Path, flags: &[&str]) -> (i32, String) {
    let before = contents(folder);
    let output = run(folder, flags);
    assert!(before == contents(folder), "looking changed a file");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn json(folder: &Path, flags: &[&str]) -> (i32, Value) {
    let mut all = vec!["--json"];
    all.extend(flags);
    let (code, text) = dump(folder, &all);
    (code, serde_json::from_str(&text).unwrap())
}

/// Its exit code and its one sentence when it could say nothing about the directory.
fn refusal(folder: &Path) -> (i32, String) {
    let output = run(folder, &[]);
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code().unwrap(), text)
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn a_sound_directory_shows_all_there_is_and_ends_with_0() {
    let folder = sound();
    let (code, text) = dump(folder.path(), &["--entries", "40..41"]);
    assert_eq!(code, 0, "{text}");
    has(
        &text,
        &[
            "node 1 of cluster \"example\", incarnation ",
            "peer 2, incarnation 0000000000000008",
            "a start begins with term 2, vote for node 1, snapshot of entry 40 of term 2, voters 0 1 2, entries 1 to 60",
            "continued in wal-0000000000000002.log",
            "sealed",
            "snapshot-0000000000000014-0000000000000002.snap",
            "command",
        ],
    );
    assert_eq!(text.lines().last(), Some("sound"));
    assert_eq!(text.lines().filter(|line| line.contains(" command ")).count(), 2, "{text}");
}

#[test]
fn the_json_has_every_entry_where_it_stands_and_the_sums_agree() {
    let folder = sound();
    let (code, report) = json(folder.path(), &["--entries", ".."]);
    assert_eq!((code, &report["is_sound"]), (0, &Value::Bool(true)));
    let entries = report["entries"].as_array().unwrap();
    let indexes: Vec<u64> = entries.iter().map(|entry| entry["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (1..=ENTRIES).collect::<Vec<_>>());
    assert_eq!((&entries[0]["kind"], &entries[1]["bytes"]), (&"no-op".into(), &200.into()));
    for entry in entries {
        let file = fs::read(folder.path().join(entry["file"].as_str().unwrap())).unwrap();
        let offset = usize::try_from(entry["offset"].as_u64().unwrap()).unwrap();
        let index = u64::from_le_bytes(file[offset + 17..offset + 25].try_into().unwrap());
        assert_eq!(Some(index), entry["index"].as_u64(), "the entry stands at its place");
    }
    let segments = report["segments"].as_array().unwrap();
    assert!(segments.len() > 3);
    let sum = |key: &str| segments.iter().map(|segment| segment[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("entries"), ENTRIES);
    assert_eq!(report["snapshots"][1]["content_bytes"], 5000);
    assert!(json(folder.path(), &[]).1.get("entries").is_none(), "they are shown when asked for");
}

#[test]
fn a_torn_tail_is_named_by_file_and_byte_and_is_no_damage() {
    let folder = sound();
    let last = newest(&folder);
    let end = json(folder.path(), &[]).1["segments"][last as usize - 1]["end"].as_u64().unwrap();
    let mut bytes = fs::read(segment(&folder, last)).unwrap();
    bytes[end as usize..end as usize + 5].copy_from_slice(b"\x30\0\0\0x");
    fs::write(segment(&folder, last), bytes).unwrap();
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 0, "{text}");
    let name = segment_name(last);
    has(
        &text,
        &[&format!("{name}: no record at byte {end}, with 5 bytes from there on: "), "note: ", "sound"],
    );
}

#[test]
fn a_flipped_byte_is_named_by_file_and_byte_and_what_lies_behind_it_is_still_shown() {
    let folder = sound();
    let (_, report) = json(folder.path(), &["--entries", "5..5"]);
    let offset = report["entries"][0]["offset"].as_u64().unwrap();
    flip(&segment(&folder, 1), offset as usize + 100);
    let (code, report) = json(folder.path(), &["--entries", ".."]);
    assert_eq!(code, 1);
    let damage = report["damage"][0].as_str().unwrap();
    let place =
        format!("{} is damaged at byte {offset}, in a part that had been acknowledged", segment_name(1));
    assert!(damage.starts_with(&place), "{damage}");
    assert!(report["start"].is_null());
    let entries = report["entries"].as_array().unwrap();
    assert_eq!(entries[3]["index"], 4);
    assert!(entries[4]["index"].as_u64() > Some(5), "the next segment is read on its own");
    assert_eq!(entries.last().unwrap()["index"], ENTRIES);
}

#[test]
fn it_says_damaged_exactly_where_a_node_would_not_start() {
    let folder = sound();
    let last = newest(&folder);
    let mut seen = [0, 0];
    for sequence in [1, 2, last] {
        let file = segment(&folder, sequence);
        let sound = fs::read(&file).unwrap();
        for offset in (0..sound.len()).step_by(397) {
            flip(&file, offset);
            let (code, _) = json(folder.path(), &[]);
            let copy = tempfile::tempdir().unwrap();
            for (path, content) in contents(folder.path()) {
                fs::write(copy.path().join(path.file_name().unwrap()), content).unwrap();
            }
            let directory = DataDirectory::open(copy.path(), CLUSTER, NODE).unwrap();
            let seed = directory.identity().incarnation;
            let started = recover(&mut RealDisk::new(copy.path()), config(seed), true);
            assert_eq!(code == 0, started.is_ok(), "{} byte {offset}: {:?}", file.display(), started.err());
            seen[code as usize] += 1;
            fs::write(&file, &sound).unwrap();
        }
    }
    assert!(seen[0] > 3 && seen[1] > 10, "{seen:?}");
}

#[test]
fn a_damaged_snapshot_is_damage_also_where_an_older_one_would_do() {
    let folder = sound();
    let newer = "snapshot-0000000000000028-0000000000000002.snap";
    flip(&folder.path().join(newer), 3000);
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 1);
    has(&text, &[&format!("damaged: {newer} is damaged at byte "), "snapshot of entry 20 of term 2"]);
}

#[test]
fn a_missing_segment_and_a_lost_or_damaged_identity_are_damage() {
    let folder = sound();
    fs::remove_file(segment(&folder, 2)).unwrap();
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 1);
    has(&text, &[&format!("damaged: {} is missing", segment_name(2))]);

    let folder = sound();
    flip(&folder.path().join("identity"), 60);
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 1);
    has(&text, &["damaged: the file identity in data directory", "entries 1 to 60"]);

    fs::remove_file(folder.path().join("identity")).unwrap();
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 1);
    has(&text, &["holds wal-0000000000000001.log but no file identity", "entries 1 to 60"]);
}

#[test]
fn no_log_is_damage_for_a_node_that_took_part_and_none_for_one_that_never_did() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 0, "{text}");
    has(&text, &["does not take part yet", "no entries"]);
    open(folder.path()).admit(&[]).unwrap();
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 1);
    has(&text, &["damaged: the log is missing"]);
}

#[test]
fn files_of_others_and_leftovers_are_listed_and_harm_nothing() {
    let folder = sound();
    for file in ["notes.txt", "wal-1.log", "spare-0000000000000009.log", "snapshot-3.tmp"] {
        fs::write(folder.path().join(file), "what is this?").unwrap();
    }
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let (code, text) = dump(folder.path(), &[]);
    assert_eq!(code, 0, "{text}");
    has(
        &text,
        &[
            "not of a node, left alone: notes.txt, wal-1.log",
            "without meaning, removed at the next start: snapshot-3.tmp, spare-0000000000000009.log",
        ],
    );
}

#[test]
fn what_is_no_data_directory_is_one_sentence_and_2() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = refusal(folder.path());
    assert_eq!(code, 2);
    has(&text, &["is no data directory of a node"]);

    fs::create_dir(folder.path().join("node0")).unwrap();
    DataDirectory::open(&folder.path().join("node0"), CLUSTER, NodeId(0)).unwrap();
    has(&refusal(folder.path()).1, &["name one of ", "node0"]);

    fs::write(folder.path().join("file"), "").unwrap();
    for absent in ["absent", "file"] {
        let (code, text) = refusal(&folder.path().join(absent));
        assert_eq!(code, 2, "{text}");
        has(&text, &[absent]);
    }
    for wrong in [&["--entries", "7"][..], &["--entries", "9..1"], &["--nonsense"]] {
        assert_eq!(run(folder.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_directory_in_use_is_refused_with_what_to_do() {
    let folder = sound();
    let held = open(folder.path());
    let (code, text) = refusal(folder.path());
    assert_eq!(code, 2);
    has(&text, &["is in use", "stop the node first", "copy"]);
    drop(held);
    assert_eq!(dump(folder.path(), &[]).0, 0);
}

#[test]
fn help_names_the_exit_codes_and_that_nothing_is_written() {
    let output = run(Path::new("--help"), &[]);
    assert_eq!(output.status.code(), Some(0));
    has(&String::from_utf8(output.stdout).unwrap(), &["Exit codes:", "Nothing is ever written", "--entries"]);
}
