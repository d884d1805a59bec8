//! Which bytes of the files are what: so that a sample leaves out no frame, and each flip has its one right answer.

use raft::storage::FileName;
use raft::storage::snapshot_file::PIECE_BYTES_MAX;
use raft::storage::wal::{Record, SEGMENT_HEADER_BYTES, SegmentReader, segment_sequence};

use super::written::SEED;
use super::{Files, Verdict};

/// A record's header, term and index; for the other kinds most of the record.
const RECORD_FRAME_BYTES: u64 = 25;

/// A snapshot's header, with three voters, and a little of its first piece.
const SNAPSHOT_HEAD_BYTES: u64 = 80;

/// A snapshot's footer, and a little of its last piece.
const SNAPSHOT_TAIL_BYTES: u64 = 40;

/// Bytes of one file that have the same right answer.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) file: FileName,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What must come of a flip here.
    pub(crate) verdict: Verdict,
    /// Whether these bytes say what others mean: lengths, checksums, kinds, numbers, padding.
    pub(crate) is_frame: bool,
}

/// All bytes of the log and the snapshots, none twice, in order. A snapshot is what `snapshot` says.
pub(crate) fn parts(files: &Files, snapshot: Verdict) -> Vec<Part> {
    let segments = files.named("wal");
    let (last, _) = segments.last().expect("there is a log");
    let mut parts = Vec::new();
    for (file, _) in &segments {
        segment_parts(files.content(file), file, file == last, &mut parts);
    }
    for (file, bytes) in files.named("snapshot") {
        let piece_end = SNAPSHOT_HEAD_BYTES + PIECE_BYTES_MAX as u64;
        let tail = bytes - SNAPSHOT_TAIL_BYTES;
        let mut ends = vec![(SNAPSHOT_HEAD_BYTES, true)];
        if piece_end < tail {
            ends.extend([(piece_end - 40, false), (piece_end + 40, true)]);
        }
        ends.extend([(tail, false), (bytes, true)]);
        let verdict = snapshot;
        add(&mut parts, &file, ends.into_iter().map(|(end, is_frame)| (end, is_frame, verdict)));
    }
    parts
}

/// A segment up to the end of its records was acknowledged: a flip there is refused. What is behind is nothing to the
/// log, and a last seal, which holds no record, is as good as absent.
fn segment_parts(content: &[u8], file: &FileName, is_last: bool, parts: &mut Vec<Part>) {
    let sequence = segment_sequence(file).expect("a segment has its number in its name");
    let mut reader = SegmentReader::new(content, SEED, sequence);
    let mut ends = vec![(SEGMENT_HEADER_BYTES as u64, true)];
    let mut last_record = None;
    loop {
        let start = reader.position().offset;
        let Ok(record) = reader.next_record() else { break };
        let end = reader.position().offset;
        last_record = Some((ends.len(), matches!(record, Record::Batch(_))));
        let frame = start + RECORD_FRAME_BYTES;
        if matches!(record, Record::Entry(_)) && frame < end - 8 {
            ends.extend([(frame, true), (end - 8, false)]);
        }
        ends.push((end, true));
    }
    let (seal, is_seal) = last_record.expect("a segment has records");
    let first_harmless = if is_last && is_seal { seal } else { ends.len() };
    ends.push((content.len() as u64, false));
    let verdict = |place| if place < first_harmless { Verdict::Refused } else { Verdict::Recovered };
    add(parts, file, ends.into_iter().enumerate().map(|(place, (end, frame))| (end, frame, verdict(place))));
}

fn add(parts: &mut Vec<Part>, file: &FileName, ends: impl Iterator<Item = (u64, bool, Verdict)>) {
    let mut start = 0;
    for (end, is_frame, verdict) in ends {
        if start < end {
            parts.push(Part { file: file.clone(), start, end, verdict, is_frame });
        }
        start = end;
    }
}
