//! Walking the whole log, and the verdict on the place where it ends.
//!
//! The walk goes from segment to segment as long as checksums and headers continue each other. Where that ends, one
//! question decides: does any batch that can still be recognised behind that place say that the place had been durable
//! (`synced_to`)? Or does the segment before say that the log is durable beyond it ("continued")? Then it is damage, and
//! the node must not start. If neither, nobody was ever told that these bytes are safe: they are a torn tail. Nothing
//! here changes the disk.

use log::Level;
use raft_core::{Index, Term};

use super::super::disk::{Disk, FileEntry, FileName};
use super::super::recovery::Remark;
use super::reader::{LogBuilder, Walk, check_reach};
use super::record::{Record, RecordFault};
use super::segment::{HeaderRead, Position, SegmentHeader, WAL_FORMAT_VERSION, segment_name};
use super::segment_file::SegmentFile;
use super::{WalConfig, WalError};

/// The number of a directory's first segment.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// What is wrong with a segment that does not begin as one.
pub(super) const UNREADABLE_HEADER: &str = "the segment's header cannot be read";

/// What the walk found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The segments that the log consists of, oldest first.
    pub(super) walked: Vec<Walked>,
    /// Segment files behind the end of the log, oldest first.
    pub(super) surplus: Vec<FileName>,
    /// What the records amount to.
    pub(super) log: LogBuilder,
    /// The newest `synced_to` among them.
    pub(super) synced_to: Position,
    /// What lies behind the end of the log; nothing if that is zeros.
    pub(super) torn_tail: Option<Remark>,
    /// Why the log does not go on although it did once.
    pub(super) damage: Option<WalError>,
}

/// One segment file as far as it was read.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) sequence: u64,
    pub(super) entry: FileEntry,
    /// Where its records end.
    pub(super) end: u64,
    /// The checksum chain there.
    pub(super) chain: u32,
    /// The highest index any of its entries has.
    pub(super) index_max: Index,
    /// Where it says that the log goes on, and the checksum chain before that.
    pub(super) continued_at: Option<(u64, u32)>,
}

/// A place where the log does not continue.
#[derive(Debug)]
struct Break {
    position: Position,
    /// What is wrong if it turns out to be damage.
    error: WalError,
}

struct Scan<'a> {
    disk: &'a mut dyn Disk,
    config: &'a WalConfig,
    /// The segment files in order of their numbers.
    files: &'a [(u64, FileEntry)],
    may_end_in_damage: bool,
    damage: Option<WalError>,
    walked: Vec<Walked>,
    log: LogBuilder,
    synced_to: Position,
    /// Where a segment that is continued says the log goes on to. Unlike `synced_to` it does not say that the record
    /// itself is durable.
    continued_to: Position,
    /// Whether the last record is a seal.
    is_sealed: bool,
}

/// Walks the segments `files`, which are in order of their numbers. If `may_end_in_damage`, a log that is damaged ends where
/// it is; else that is an error.
pub(super) fn scan(
    disk: &mut dyn Disk,
    config: &WalConfig,
    files: &[(u64, FileEntry)],
    may_end_in_damage: bool,
) -> Result<Scanned, WalError> {
    let mut read = files;
    let mut first_damage = None;
    loop {
        let mut scan = Scan::new(disk, config, read, may_end_in_damage);
        let torn_tail = scan.walk_all()?;
        let Scan { mut walked, log, synced_to, continued_to, damage, .. } = scan;
        let is_damaged = damage.is_some();
        first_damage = first_damage.or(damage);
        if is_damaged && let Some(last) = walked.last_mut() {
            // A segment that is not whole as far as the one before says goes altogether.
            if continued_to.segment == last.sequence && continued_to.offset > last.end {
                let place = read.partition_point(|(sequence, _)| *sequence < last.sequence);
                read = &read[..place];
                continue;
            }
            // It does not go on any more.
            if let Some(before) = last.continued_at {
                (last.end, last.chain) = before;
            }
        }
        let kept = walked.last().map_or(0, |walked| walked.sequence);
        let surplus = files.iter().filter(|(sequence, _)| *sequence > kept);
        let surplus = surplus.map(|(_, entry)| entry.file.clone()).collect();
        return Ok(Scanned { walked, surplus, log, synced_to, torn_tail, damage: first_damage });
    }
}

impl<'a> Scan<'a> {
    fn new(
        disk: &'a mut dyn Disk,
        config: &'a WalConfig,
        files: &'a [(u64, FileEntry)],
        may_end_in_damage: bool,
    ) -> Scan<'a> {
        let log = LogBuilder::new(Index::ZERO);
        let (walked, synced_to, continued_to, damage, is_sealed) = Default::default();
        Scan {
            disk,
            config,
            files,
            may_end_in_damage,
            damage,
            walked,
            log,
            synced_to,
            continued_to,
            is_sealed,
        }
    }

    /// Walks all segments up to the end of the log. Says what lies behind it.
    fn walk_all(&mut self) -> Result<Option<Remark>, WalError> {
        let files = self.files;
        for (place, (sequence, entry)) in files.iter().enumerate() {
            if let Some(broken) = self.walk_segment(*sequence, entry)? {
                return match self.judge(broken, place) {
                    Ok(()) => self.describe_cut(entry),
                    Err(error) if self.may_end_in_damage && !matches!(error, WalError::Disk(_)) => {
                        self.damage = Some(error);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                };
            }
        }
        Ok(None)
    }

    /// Walks one segment. A break is where the log ends, torn or damaged; the last segment always ends in one.
    fn walk_segment(&mut self, sequence: u64, entry: &FileEntry) -> Result<Option<Break>, WalError> {
        let mut file = SegmentFile::new(self.disk, entry, self.config.read_window_bytes);
        let header = SegmentHeader::decode(file.header()?);
        let header = match self.check_header(sequence, &entry.file, header)? {
            Ok(header) => header,
            Err(broken) => return Ok(Some(broken)),
        };
        if self.walked.is_empty() {
            check_reach(Term(0), header.last_index_before)
                .map_err(|reason| damaged(&entry.file, 0, reason))?;
            self.log = LogBuilder::new(header.last_index_before);
            self.synced_to = Position { segment: sequence, offset: 0 };
        }
        let mut file = SegmentFile::new(self.disk, entry, self.config.read_window_bytes);
        let mut walk = Walk::new(self.config.seed, sequence);
        let (mut index_max, mut continued_at) = (Index::ZERO, None);
        let fault = loop {
            let (offset, chain) = (walk.position().offset, walk.chain());
            let record = match file.next_record(&mut walk)? {
                Ok(record) => record,
                Err(fault) => break fault,
            };
            self.is_sealed = matches!(&record, Record::Batch(head) if head.is_seal());
            match &record {
                Record::Batch(head) => self.synced_to = self.synced_to.max(head.synced_to),
                Record::Entry(entry) => index_max = index_max.max(entry.index),
                Record::Continued(place) => {
                    self.continued_to = *place;
                    continued_at = Some((offset, chain));
                }
                Record::HardState(_) | Record::Snapshot(_) => {}
            }
            // A record with a sound checksum that makes no sense was written so; that is never a torn write.
            self.log.apply(record).map_err(|reason| damaged(&entry.file, offset, reason))?;
        };
        let (position, chain) = (walk.position(), walk.chain());
        let end = position.offset;
        self.walked.push(Walked { sequence, entry: entry.clone(), end, chain, index_max, continued_at });
        match fault {
            RecordFault::UnknownKind(kind) => {
                let (file, offset) = (entry.file.clone(), position.offset);
                return Err(WalError::UnknownRecord { file, offset, kind });
            }
            RecordFault::Senseless(reason) => {
                return Err(damaged(&entry.file, position.offset, reason.to_owned()));
            }
            RecordFault::Incomplete(_) | RecordFault::NotARecord(_) => {}
        }
        // Whether this is where the segment should end, the next one's header says.
        let is_last = self.files.last().is_some_and(|(last, _)| *last == sequence);
        Ok(is_last.then(|| match self.continued_to.segment {
            next if next > sequence => Break { position, error: missing(next, &entry.file) },
            _ => Break::at(position, &entry.file, fault.reason().to_owned()),
        }))
    }

    /// The segment's header if it continues the segment before; else the break.
    fn check_header(
        &self,
        sequence: u64,
        file: &FileName,
        header: HeaderRead,
    ) -> Result<Result<SegmentHeader, Break>, WalError> {
        let start = Position { segment: sequence, offset: 0 };
        if let Some(previous) = self.walked.last()
            && sequence != previous.sequence + 1
        {
            let error = missing(previous.sequence + 1, file);
            return Ok(Err(Break { position: previous.end_position(), error }));
        }
        let header = match header {
            HeaderRead::UnknownVersion(version) => {
                let file = file.clone();
                return Err(WalError::UnknownVersion { file, version, known: WAL_FORMAT_VERSION });
            }
            HeaderRead::Unreadable => {
                return Ok(Err(Break::at(start, file, UNREADABLE_HEADER.to_owned())));
            }
            HeaderRead::Header(header) => header,
        };
        if header.seed != self.config.seed {
            return Err(WalError::Foreign { file: file.clone() });
        }
        if header.sequence != sequence {
            let reason = format!("the header is of segment {}", header.sequence);
            return Ok(Err(Break::at(start, file, reason)));
        }
        let ends = self.walked.last().map(|previous| (previous, (previous.end, previous.chain)));
        match ends {
            Some((previous, end)) if end != (header.previous_end, header.previous_chain) => {
                let reason = format!("the log should go on up to byte {}", header.previous_end);
                Ok(Err(Break::at(previous.end_position(), &previous.entry.file, reason)))
            }
            _ => Ok(Ok(header)),
        }
    }

    /// Tells a torn tail from damage: damage if anything before or behind the break says that the break had been durable.
    fn judge(&mut self, broken: Break, place: usize) -> Result<(), WalError> {
        if self.continued_to > broken.position {
            return Err(broken.error);
        }
        // The log may end before the break: in the segment before, where a header that cannot be read says nothing.
        let end = self.walked.last().map_or(Position::default(), Walked::end_position);
        let mut furthest = None;
        for (sequence, entry) in &self.files[place.saturating_sub(1)..] {
            let offset = if *sequence == end.segment { end.offset } else { 0 };
            let from = Position { segment: *sequence, offset };
            let mut file = SegmentFile::new(self.disk, entry, self.config.read_window_bytes);
            furthest = furthest.max(file.furthest_synced(self.config.seed, from, broken.position)?);
            if furthest > Some(broken.position) {
                return Err(broken.error);
            }
        }
        if let Some(last) = self.walked.last()
            && furthest > Some(end)
        {
            let reason = "the log should go on behind it".to_owned();
            return Err(damaged(&last.entry.file, last.end, reason));
        }
        // A first segment that cannot be read was never finished only if it is the very first one: any later one
        // became the first when its predecessors were let go, and that happens only after it is durable.
        let first = self.files.first().map(|(sequence, _)| *sequence);
        if self.walked.is_empty() && first != Some(FIRST_SEQUENCE) {
            return Err(broken.error);
        }
        Ok(())
    }

    /// What lies behind the end of the log in the file where it ends: nothing if that is zeros. Behind a seal it is as good
    /// as always the earlier use of the file; else it is the ordinary trace of a node that was killed. Neither
    /// costs anything that was acknowledged.
    fn describe_cut(&mut self, entry: &FileEntry) -> Result<Option<Remark>, WalError> {
        let end = self.walked.last().filter(|walked| walked.entry == *entry).map_or(0, |walked| walked.end);
        let mut file = SegmentFile::new(self.disk, entry, self.config.read_window_bytes);
        let cut_bytes = file.used_bytes()?.saturating_sub(end);
        let level = if self.is_sealed { Level::Debug } else { Level::Info };
        Ok((cut_bytes > 0).then(|| {
            let text = format!(
                "{} holds {cut_bytes} bytes from byte {end} on which are no part of the log: a write that was never \
                 acknowledged, or an earlier use of the file",
                entry.file
            );
            Remark { level, text }
        }))
    }
}

impl Walked {
    /// Where its records end.
    pub(super) fn end_position(&self) -> Position {
        Position { segment: self.sequence, offset: self.end }
    }
}

impl Break {
    fn at(position: Position, file: &FileName, reason: String) -> Break {
        Break { position, error: damaged(file, position.offset, reason) }
    }
}

/// Segment `sequence` is missing, of which `told_by` knows.
fn missing(sequence: u64, told_by: &FileName) -> WalError {
    WalError::MissingSegment { file: segment_name(sequence), told_by: told_by.clone() }
}

pub(super) fn damaged(file: &FileName, offset: u64, reason: String) -> WalError {
    WalError::Damaged { file: file.clone(), offset, reason }
}
