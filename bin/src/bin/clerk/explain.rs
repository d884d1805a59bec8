//! `status --explain`: why each node is what it is, what its followers wait for, and how its disk does.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use proto::admin::{Follower, StatusReply};
use serde::Serialize;

/// What `--explain` adds to one node's line.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explanation {
    reason: String,
    election_reason: Option<String>,
    leader: Option<u64>,
    first: u64,
    last: u64,
    persisted: u64,
    snapshot: u64,
    log_bytes: u64,
    reads_pending: u64,
    data_dir: String,
    file_system: String,
    fdatasync_p50_us: u64,
    fdatasync_p99_us: u64,
    fdatasync_max_us: u64,
    fdatasync_under_way_us: u64,
    convalescent: bool,
    disk_full: bool,
    log_room_bytes: u64,
    followers: Vec<FollowerRow>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct FollowerRow {
    node: u64,
    progress: String,
    match_index: u64,
    next_index: u64,
    inflight_messages: u64,
    inflight_bytes: u64,
    active: bool,
    waits_for: String,
}

impl Explanation {
    pub(crate) fn of(reply: &StatusReply) -> Explanation {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Explanation {
            reason: reply.reason.clone(),
            election_reason: text(&reply.election_reason),
            leader: reply.has_leader.then_some(reply.leader),
            first: reply.first,
            last: reply.last,
            persisted: reply.persisted,
            snapshot: reply.snapshot,
            log_bytes: reply.log_bytes,
            reads_pending: reply.reads_pending,
            data_dir: reply.data_dir.clone(),
            file_system: reply.file_system.clone(),
            fdatasync_p50_us: reply.fdatasync_p50_us,
            fdatasync_p99_us: reply.fdatasync_p99_us,
            fdatasync_max_us: reply.fdatasync_max_us,
            fdatasync_under_way_us: reply.fdatasync_under_way_us,
            convalescent: reply.convalescent,
            disk_full: reply.disk_full,
            log_room_bytes: reply.log_room_bytes,
            followers: reply.followers.iter().map(FollowerRow::of).collect(),
        }
    }
}

impl FollowerRow {
    fn of(follower: &Follower) -> FollowerRow {
        FollowerRow {
            node: follower.node,
            progress: follower.progress.clone(),
            match_index: follower.match_index,
            next_index: follower.next_index,
            inflight_messages: follower.inflight_messages,
            inflight_bytes: follower.inflight_bytes,
            active: follower.active,
            waits_for: follower.waits_for.clone(),
        }
    }
}

/// A paragraph about one node, without an empty line at its end.
pub(crate) fn paragraph(reply: &StatusReply) -> String {
    let mut text = format!("node {}: {}", reply.node, reply.role);
    // A node that does not take part yet, or no more, has nothing to tell but its disk.
    if !reply.reason.is_empty() {
        let StatusReply { term, reason, first, last, persisted, commit, applied, snapshot, .. } = reply;
        push(&mut text, &format!(" in term {term}{}: {reason}\n", under(reply)));
        if !reply.election_reason.is_empty() {
            push(&mut text, &format!("  its last election began because {}\n", reply.election_reason));
        }
        push(
            &mut text,
            &format!(
                "  log: {first} to {last}, durable {persisted}, committed {commit}, applied {applied}, \
                 snapshot {snapshot}; {} in memory; {} reads wait for a majority\n",
                bytes(reply.log_bytes),
                reply.reads_pending
            ),
        );
    } else {
        text.push('\n');
    }
    push(&mut text, &format!("  disk: {}", disk(reply)));
    if reply.convalescent {
        push(
            &mut text,
            "\n  its log or snapshots were damaged: it neither votes nor counts until the others have given back what it lost; if those \
             whose logs are whole are no majority, `raft-core-run recover` is the way out",
        );
    }
    if reply.disk_full {
        let (node, room) = (reply.node, bytes(reply.log_room_bytes));
        let full = format!(
            "\n  disk full on node {node}: the log can take {room} more; it is asked for room ten times a second"
        );
        push(&mut text, &full);
    }
    if !reply.followers.is_empty() {
        push(&mut text, &format!("\n{}", followers(&reply.followers)));
    }
    text
}

fn push(text: &mut String, more: &str) {
    text.write_str(more).expect("a string takes all there is");
}

fn under(reply: &StatusReply) -> String {
    match reply.has_leader {
        true if reply.leader != reply.node => format!(" under node {}", reply.leader),
        true => String::new(),
        false => ", no leader known".to_owned(),
    }
}

fn disk(reply: &StatusReply) -> String {
    let StatusReply { data_dir, file_system, .. } = reply;
    let [p50, p99, max] =
        [reply.fdatasync_p50_us, reply.fdatasync_p99_us, reply.fdatasync_max_us].map(duration);
    let syncs = match reply.fdatasync_max_us {
        0 => "nothing synced yet".to_owned(),
        _ => format!("fdatasync p50 {p50}, p99 {p99}, longest {max}"),
    };
    let under_way = match reply.fdatasync_under_way_us {
        0 => String::new(),
        us => format!(", a write or sync under way for {}", duration(us)),
    };
    format!("{data_dir} on {file_system}, {syncs}{under_way}")
}

fn followers(followers: &[Follower]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["  follower", "state", "match", "next", "in flight", "waits for"]);
    for follower in followers {
        table.add_row([
            follower.node.to_string(),
            follower.progress.clone(),
            follower.match_index.to_string(),
            follower.next_index.to_string(),
            format!("{} ({})", follower.inflight_messages, bytes(follower.inflight_bytes)),
            follower.waits_for.clone(),
        ]);
    }
    for column in [0, 2, 3, 4] {
        let column = table.column_mut(column).expect("the header has six columns");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> StatusReply {
        StatusReply {
            node: 1,
            role: "leader".to_owned(),
            has_leader: true,
            leader: 1,
            term: 4,
            last: 90,
            reason: "a majority voted for it".to_owned(),
            election_reason: "the process of node 0, which led, is gone".to_owned(),
            log_bytes: 3 << 20,
            data_dir: "/var/lib/kv/node1".to_owned(),
            file_system: "ext4".to_owned(),
            fdatasync_p50_us: 112,
            fdatasync_p99_us: 2_140,
            fdatasync_max_us: 3_200_000,
            followers: vec![Follower {
                node: 0,
                progress: "snapshot".to_owned(),
                match_index: 7,
                next_index: 8,
                inflight_messages: 0,
                inflight_bytes: 0,
                active: true,
                waits_for: "a snapshot up to 80".to_owned(),
            }],
            ..StatusReply::default()
        }
    }

    #[test]
    fn a_leader_says_why_it_was_elected_and_what_its_followers_wait_for() {
        let text = paragraph(&leader());
        for part in [
            "node 1: leader in term 4: a majority voted for it",
            "its last election began because the process of node 0, which led, is gone",
            "p50 112 µs, p99 2.1 ms, longest 3.2 s",
            "3.0 MiB in memory",
            "a snapshot up to 80",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains("under way") && !text.ends_with('\n'), "{text}");
    }

    #[test]
    fn a_write_or_sync_that_does_not_end_is_shown() {
        let stalled = StatusReply { fdatasync_under_way_us: 4_500_000, ..leader() };
        assert!(paragraph(&stalled).contains("a write or sync under way for 4.5 s"));
    }

    #[test]
    fn a_full_disk_is_named() {
        let full = StatusReply { disk_full: true, log_room_bytes: 3 << 20, ..leader() };
        assert!(paragraph(&full).contains("disk full on node 1: the log can take 3.0 MiB more"));
        assert!(!paragraph(&leader()).contains("disk full"));
    }

    #[test]
    fn a_node_that_waits_to_be_admitted_has_no_term_and_no_log_to_tell_of() {
        let waiting =
            StatusReply { role: "waiting".to_owned(), data_dir: "d".to_owned(), ..StatusReply::default() };
        assert_eq!(paragraph(&waiting), "node 0: waiting\n  disk: d on , nothing synced yet");
    }
}
