//! The report for people: what a start would make of the directory, each segment and snapshot, the entries, the verdict
//! last.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::report::{
    EntryRow, HardStateRow, IdentityRow, MetaRow, Report, SegmentRow, SnapshotRow, StartRow,
};

/// The whole text, without a newline at its end.
pub(crate) fn render(report: &Report) -> String {
    let mut parts = vec![report.directory.clone()];
    parts.extend(report.identity.as_ref().map(identity));
    parts.extend(report.start.as_ref().map(start));
    if !report.segments.is_empty() {
        parts.push(format!("\n{}", segments(&report.segments)));
        parts.extend(report.segments.iter().filter_map(tail));
    }
    if !report.snapshots.is_empty() {
        parts.push(format!("\n{}", snapshots(&report.snapshots)));
    }
    if let Some(rows) = &report.entries {
        parts.push(format!("\n{}", entries(rows)));
    }
    parts.push(String::new());
    if !report.set_aside.is_empty() {
        let files = report.set_aside.join(", ");
        parts.push(format!(
            "set aside when the log was found damaged, until others have repaired it: {files}"
        ));
    }
    if !report.leftovers.is_empty() {
        parts.push(format!("without meaning, removed at the next start: {}", report.leftovers.join(", ")));
    }
    if !report.foreign.is_empty() {
        parts.push(format!("not of a node, left alone: {}", report.foreign.join(", ")));
    }
    parts.extend(report.remarks.iter().map(|text| format!("note: {text}")));
    parts.extend(report.damage.iter().map(|text| format!("damaged: {text}")));
    if report.is_sound {
        parts.push("sound".to_owned());
    }
    parts.join("\n")
}

fn identity(identity: &IdentityRow) -> String {
    let IdentityRow { cluster_id, node, incarnation, admitted, joined, stays_out, peers } = identity;
    let takes_part = match (admitted, joined) {
        (false, _) if *stays_out => "never takes part: the node did with other data",
        (false, _) => "does not take part yet",
        (true, false) => "takes part",
        (true, true) => "takes part, was added to a running cluster",
    };
    let mut text =
        format!("node {node} of cluster \"{cluster_id}\", incarnation {incarnation}, {takes_part}");
    for peer in peers {
        write!(text, "\n  peer {}, incarnation {}", peer.node, peer.incarnation)
            .expect("a string takes all there is");
    }
    text
}

fn start(start: &StartRow) -> String {
    let entries = match (start.first_index, start.last_index) {
        (Some(first), Some(last)) => format!("entries {first} to {last}"),
        _ => "no entries".to_owned(),
    };
    let snapshot = start.snapshot.as_ref().map_or_else(|| "no snapshot".to_owned(), meta);
    format!("a start begins with {}, {snapshot}, {entries}", hard_state(start.hard_state))
}

fn hard_state(hard_state: HardStateRow) -> String {
    match hard_state.vote {
        Some(vote) => format!("term {}, vote for node {vote}", hard_state.term),
        None => format!("term {}, no vote", hard_state.term),
    }
}

fn meta(meta: &MetaRow) -> String {
    let named = |title: &str, nodes: &[u64]| match nodes {
        [] => String::new(),
        nodes => format!(", {title} {}", nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")),
    };
    let (voters, outgoing) = (named("voters", &meta.voters), named("leaving", &meta.outgoing));
    let learners = named("learners", &meta.learners);
    format!("snapshot of entry {} of term {}{voters}{outgoing}{learners}", meta.index, meta.term)
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// A table whose columns of these places hold numbers.
fn table(header: &[&str], numbers: &[usize], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    rows.for_each(|row| _ = table.add_row(row));
    for column in numbers {
        let column = table.column_mut(*column).expect("the header has this column");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn segments(rows: &[SegmentRow]) -> String {
    let header = ["segment", "first", "last", "records", "batches", "seals", "bytes used", "of", "ends"];
    let row = |row: &SegmentRow| {
        let numbers = [row.records, row.batches, row.seals, row.end, row.file_bytes].map(|n| n.to_string());
        let mut cells = vec![row.file.clone(), number(row.first_index), number(row.last_index)];
        cells.extend(numbers);
        cells.push(ending(row));
        cells
    };
    table(&header, &[1, 2, 3, 4, 5, 6, 7], rows.iter().map(row))
}

/// How a segment's records end.
fn ending(row: &SegmentRow) -> String {
    match (&row.header_fault, &row.continued_to) {
        (Some(fault), _) => format!("header: {fault}"),
        (None, Some(place)) => format!("continued in {}", place.file),
        (None, None) if row.is_sealed => "sealed".to_owned(),
        (None, None) => "not sealed".to_owned(),
    }
}

/// What lies behind the records of a segment, if anything does.
fn tail(row: &SegmentRow) -> Option<String> {
    let reason = row.stop.as_ref()?;
    let SegmentRow { file, end, bytes_behind, .. } = row;
    Some(format!("{file}: no record at byte {end}, with {bytes_behind} bytes from there on: {reason}"))
}

fn snapshots(rows: &[SnapshotRow]) -> String {
    let header = ["snapshot", "bytes", "pieces", "content", "holds"];
    let row = |row: &SnapshotRow| {
        let holds = row.meta.as_ref().map_or_else(|| "damaged".to_owned(), meta);
        let numbers = [row.file_bytes, row.pieces, row.content_bytes].map(|number| number.to_string());
        let mut cells = vec![row.file.clone()];
        cells.extend(numbers);
        cells.push(holds);
        cells
    };
    table(&header, &[1, 2, 3], rows.iter().map(row))
}

fn entries(rows: &[EntryRow]) -> String {
    if rows.is_empty() {
        return "none of the entries asked for is in the log".to_owned();
    }
    let row = |row: &EntryRow| {
        vec![
            row.index.to_string(),
            row.term.to_string(),
            row.kind.to_owned(),
            row.bytes.to_string(),
            row.file.clone(),
            row.offset.to_string(),
        ]
    };
    table(&["entry", "term", "kind", "bytes", "segment", "at byte"], &[0, 1, 3, 5], rows.iter().map(row))
}
