//! What can still be read of a log, wherever it is damaged: entries, and which entry each of them follows.
//!
//! What cannot be read costs the rest of its batch: the head of the next one is recognised by itself, and the chain of
//! checksums goes on from there. What is found says nothing of where the log ended, or whether an entry still counted: a
//! later one may have taken its place. But it is a fact about the entry, in whatever log it stands
//! (`super::super::collection`). What was set aside for a repair is read too. Nothing is changed.

use std::collections::BTreeMap;

use raft_core::{Entry, EntryId, Index, SnapshotMeta, Term};

use super::super::disk::{Disk, DiskError, FileEntry, FileName, list_files};
use super::reader::{Walk, check_reach};
use super::record::{Record, RecordFault};
use super::segment::{Position, segment_sequence};
use super::segment_file::SegmentFile;
use super::set_aside;

/// How many bytes of a segment are read at once; a larger record is read whole.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Bytes of a segment that are neither records nor zeros: damaged, or a write that was never finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The segment's file.
    pub file: FileName,
    /// The first of them.
    pub from: u64,
    /// Where records go on; none if they do not.
    pub to: Option<u64>,
}

/// Shows `visit` every entry of every segment that can be read, with the entry it follows in that log if that can be told.
/// `seed` is the directory's own number. Returns what could not be read.
///
/// # Errors
/// When a file cannot be read at all.
pub fn salvage_entries(
    disk: &mut dyn Disk,
    seed: u64,
    visit: &mut dyn FnMut(Entry, Option<EntryId>),
) -> Result<Vec<Unreadable>, DiskError> {
    let mut files: Vec<(bool, u64, FileEntry)> = Vec::new();
    for entry in list_files(disk)? {
        let (is_set_aside, name) = match set_aside::name_before(&entry.file) {
            Some(name) => (true, name),
            None => (false, entry.file.clone()),
        };
        files.extend(segment_sequence(&name).map(|sequence| (is_set_aside, sequence, entry)));
    }
    files.sort();
    let mut unreadable = Vec::new();
    let mut run = Run::default();
    for (_, sequence, entry) in files {
        run.begin_segment(sequence);
        let mut file = SegmentFile::new(disk, &entry, WINDOW_BYTES);
        let mut walk = Walk::new(seed, sequence);
        while let Some(from) = walk_on(&mut file, &mut walk, &mut run, visit)? {
            run = Run::default();
            let head = file.next_batch_head(seed, from)?;
            let to = head.map(|(place, _)| place.offset);
            unreadable.push(Unreadable { file: entry.file.clone(), from: from.offset, to });
            let Some((place, chain)) = head else { break };
            walk.resume_behind_head(place, chain);
        }
    }
    Ok(unreadable)
}

/// Reads records as long as there are some; where there are none, and no end either, that place is returned.
fn walk_on(
    file: &mut SegmentFile<'_>,
    walk: &mut Walk,
    run: &mut Run,
    visit: &mut dyn FnMut(Entry, Option<EntryId>),
) -> Result<Option<Position>, DiskError> {
    loop {
        match file.next_record(walk)? {
            // What no log gets to, opening a log refuses too.
            Ok(Record::Entry(entry))
                if entry.index == Index::ZERO || check_reach(entry.term, entry.index).is_err() => {}
            Ok(Record::Entry(entry)) => {
                let previous = run.follow(&entry);
                visit(entry, previous);
            }
            Ok(Record::Snapshot(meta)) => run.stand_on(&meta),
            Ok(Record::Continued(place)) => run.continued_in = Some(place.segment),
            Ok(Record::Batch(_) | Record::HardState(_)) => {}
            // Of another version; its checksum fits, so the chain goes on behind it, but what it says is not known.
            Err(RecordFault::UnknownKind(_)) => return Ok(Some(walk.position())),
            Err(_) if file.used_bytes()? <= walk.position().offset => return Ok(None),
            Err(_) => return Ok(Some(walk.position())),
        }
    }
}

/// Records that follow each other without a gap: the terms of the entries that they are about. What was replaced may still
/// stand behind the newest; nothing follows that.
#[derive(Debug, Default)]
struct Run {
    terms: BTreeMap<Index, Term>,
    /// The segment that goes on where the one before ended.
    continued_in: Option<u64>,
}

impl Run {
    fn begin_segment(&mut self, sequence: u64) {
        if self.continued_in.take() != Some(sequence) {
            self.terms.clear();
        }
    }

    /// Takes the next entry, and returns the one it follows.
    fn follow(&mut self, entry: &Entry) -> Option<EntryId> {
        self.terms.insert(entry.index, entry.term);
        match entry.index.previous() {
            Index::ZERO => Some(EntryId::ZERO),
            index => self.terms.get(&index).map(|term| EntryId { term: *term, index }),
        }
    }

    /// A snapshot's last entry is in the log, or the log begins behind it.
    fn stand_on(&mut self, meta: &SnapshotMeta) {
        self.terms.insert(meta.last.index, meta.last.term);
    }
}
