//! What must hold for any bytes whatever that a log or a message between nodes may be: the checks that the fuzz targets and
//! the bounded run of the tests share.
//!
//! A log that is read is the same log whatever is read of it at once, and opens if and only if looking says so; what is put
//! together of one that is damaged has no gap. A message that is let in means on the wire what it meant.

use prost::Message as _;
use proto::raft_rpc::{
    AppendEntriesArgs, AppendEntriesReply, Envelope, ReadIndexArgs, ReadIndexReply, RequestVoteArgs,
    RequestVoteReply, TimeoutNowArgs,
};
use raft::core::{EntryId, Index, Message, NodeId, ReplyToken};
use raft::membership_bytes;
use raft::net::convert::{
    append_from_wire, append_reply_from_wire, append_reply_to_wire, append_to_wire, read_index_from_wire,
    read_index_reply_from_wire, read_index_reply_to_wire, read_index_to_wire, timeout_now_from_wire,
    timeout_now_to_wire, vote_from_wire, vote_reply_from_wire, vote_reply_to_wire, vote_to_wire,
};
use raft::net::{AddressBook, Border};
use raft::storage::disk::{Disk, DiskOp};
use raft::storage::wal::{SEGMENT_HEADER_BYTES, SegmentHeader, Wal, WalConfig, segment_name};
use raft::storage::{Collection, MemoryDisk, MemoryFiles};

/// The number of the directory.
const SEED: u64 = 3;

/// Size of a segment's file.
const SEGMENT_BYTES: usize = 2_048;

/// Opens the body of every batch head; see `storage/wal/record.rs`, as for everything here about records.
const BATCH_MARK: u64 = 0x9C5A_E1B2_7D03_F648;

/// The bytes that say how a log is made. After their end there are zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number, most often small, now and then near the last one.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=239 => u64::from(byte),
            240 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            byte => u64::MAX - u64::from(255 - byte),
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// A log that grows record by record, over up to two segments. Its checksums fit, whatever it says.
struct Log {
    segments: Vec<Vec<u8>>,
    chain: u32,
}

impl Log {
    fn new() -> Log {
        let mut log = Log { segments: Vec::new(), chain: 0 };
        log.begin_segment(0, 0);
        log
    }

    fn begin_segment(&mut self, previous_end: u64, last_index: u64) {
        let sequence = self.segments.len() as u64 + 1;
        let last_index_before = Index(last_index);
        let previous_chain = self.chain;
        let header = SegmentHeader { seed: SEED, sequence, previous_end, previous_chain, last_index_before };
        self.segments.push(header.encode().to_vec());
        let numbers: Vec<u8> = [SEED, sequence].into_iter().flat_map(u64::to_le_bytes).collect();
        self.chain = crc32fast::hash(&numbers);
    }

    /// The segment that grows, and its bytes so far.
    fn end(&self) -> (u64, u64) {
        (self.segments.len() as u64, self.segments.last().map_or(0, Vec::len) as u64)
    }

    fn put(&mut self, kind: u8, body: &[u8]) {
        let Some(segment) = self.segments.last_mut() else { return };
        let start = segment.len();
        segment.extend((body.len() as u32).to_le_bytes());
        segment.extend([0, 0, 0, 0, kind]);
        segment.extend(body);
        segment.resize(segment.len().next_multiple_of(8), 0);
        let mut checksum = crc32fast::Hasher::new_with_initial(self.chain);
        checksum.update(&segment[start..start + 4]);
        checksum.update(&segment[start + 8..]);
        self.chain = checksum.finalize();
        segment[start + 4..start + 8].copy_from_slice(&self.chain.to_le_bytes());
    }

    /// A batch's head, of which the script says what was durable before it.
    fn put_batch_head(&mut self, script: &mut Script<'_>) {
        let (segment, offset) = self.end();
        let synced = match script.byte() % 4 {
            0 => (segment, offset),
            1 => (segment, offset.saturating_sub(u64::from(script.byte()))),
            2 => (segment, offset + u64::from(script.byte())),
            _ => (script.number(), script.number()),
        };
        let words = [BATCH_MARK, segment, offset, synced.0, synced.1, script.number()];
        let mix = |hash: u64, word: u64| {
            let product = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            product ^ (product >> 29)
        };
        let own = (mix(words.into_iter().fold(SEED, mix), 0) >> 32) as u32;
        let mut body: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        body.extend(own.to_le_bytes());
        self.put(1, &body);
    }

    /// A record of any kind that begins with two numbers, or of bytes alone.
    fn put_record(&mut self, script: &mut Script<'_>) {
        let kind = script.byte() % 10;
        match kind {
            1 => self.put_batch_head(script),
            6 if self.segments.len() == 1 => {
                let (place, last_index) = (script.number(), script.number());
                let body = [2, place.saturating_add(SEGMENT_HEADER_BYTES as u64)];
                self.put(6, &body.map(u64::to_le_bytes).concat());
                self.begin_segment(self.end().1, last_index);
            }
            2..=7 => {
                let mut body = [script.number(), script.number()].map(u64::to_le_bytes).concat();
                let more = usize::from(script.byte() % 24);
                body.extend(if kind == 2 { script.bytes(1) } else { script.bytes(more) });
                body.truncate(if kind == 4 { 16 } else { usize::MAX });
                self.put(kind, &body);
            }
            _ => {
                let length = usize::from(script.byte() % 24);
                let body = script.bytes(length);
                self.put(kind, &body);
            }
        }
    }
}

/// Files with these segments.
fn files_of(segments: &[Vec<u8>]) -> MemoryFiles {
    let files = MemoryFiles::new();
    let mut disk = MemoryDisk::new(&files);
    for (segment, sequence) in segments.iter().zip(1..) {
        let file = segment_name(sequence);
        let (zero_filled_bytes, bytes) = (SEGMENT_BYTES.max(segment.len()) as u64, segment.clone());
        let write = DiskOp::Write { file: file.clone(), offset: 0, bytes, sync: true };
        for operation in [DiskOp::Create { file, zero_filled_bytes }, write, DiskOp::SyncDirectory] {
            assert!(disk.run(operation).is_ok(), "memory does not fail");
        }
    }
    files
}

/// What is put together of a log follows each other without a gap, whatever the log says.
fn collect(files: &MemoryFiles) {
    let mut collection = Collection::new();
    if collection.add_directory(&mut MemoryDisk::new(files), SEED).is_ok() {
        let found = collection.log_behind(EntryId::ZERO);
        assert!(found.iter().zip(1..).all(|(entry, index)| entry.index == Index(index)), "{found:?}");
    }
}

/// Bytes as the script of a log, whose checksums fit; the first one says how many places are changed afterwards.
pub fn segments(data: &[u8]) {
    let mut script = Script(data);
    let changes = script.byte().saturating_sub(250);
    let mut log = Log::new();
    let places: Vec<_> = (0..changes).map(|_| [script.byte(), script.byte(), script.byte()]).collect();
    while !script.0.is_empty() && log.end().1 < SEGMENT_BYTES as u64 - 300 {
        log.put_record(&mut script);
    }
    for [low, high, mask] in places {
        let place = usize::from(high) << 8 | usize::from(low);
        let segment = place % log.segments.len();
        let length = log.segments[segment].len();
        log.segments[segment][place / 2 % length] ^= mask;
    }
    let files = files_of(&log.segments);
    collect(&files);
    let read = |window| {
        let config = WalConfig { read_window_bytes: window, segment_bytes: 1_024, ..WalConfig::new(SEED) };
        let looked = Wal::read(&mut MemoryDisk::new(&files), &config);
        (looked, config)
    };
    let (whole, config) = read(1 << 20);
    assert_eq!(read(100).0, whole, "what is read of it at once");
    let opened = Wal::open(&mut MemoryDisk::new(&files), config).map(|(_, recovered)| recovered);
    assert_eq!(opened, whole, "looking and opening");
    if let Ok(first) = whole {
        let again = read(1 << 20).0;
        let of = |it: &raft::storage::wal::Recovered| {
            (it.hard_state, it.snapshot.clone(), it.entries.clone(), it.before_first)
        };
        assert_eq!(again.as_ref().map(of), Ok(of(&first)), "the second time");
    }
}

/// Node 1 of a cluster of three, of which node 0 is a peer.
fn border(node: u64) -> Border {
    let members = (0..3).map(|id| (NodeId(id), format!("host{id}:1")));
    Border::new("c", NodeId(node), AddressBook::new(members))
}

/// What the message says, stripped of the token, which does not travel.
fn said(message: Result<Message, String>) -> Option<Message> {
    message.ok().map(|message| Message { token: ReplyToken(0), ..message })
}

/// Bytes as a message between nodes, or its answer; the first one says which, and whether its envelope is made good.
pub fn messages(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let (here, there, peer, token) = (border(1), border(0), NodeId(0), ReplyToken(7));
    let good = |envelope: &mut Option<Envelope>| {
        if what & 0x80 == 0 {
            *envelope = Some(there.envelope(NodeId(1)));
        }
    };
    macro_rules! decoded {
        ($message:ty) => {{
            let Ok(mut message) = <$message>::decode(bytes) else { return };
            good(&mut message.envelope);
            message
        }};
    }
    // What was let in is sent once more, from the same peer, and is to be the same again.
    macro_rules! request {
        ($args:ty, $from_wire:expr, $to_wire:expr) => {{
            let args = decoded!($args);
            let Some(message) = said($from_wire(&args)) else { return };
            assert!(message.is_well_formed() && message.from == peer);
            let again = $to_wire(message.clone());
            assert_eq!(said($from_wire(&again)), Some(message));
        }};
    }
    macro_rules! answer {
        ($reply:ty, $from_wire:expr, $to_wire:expr) => {{
            let reply = decoded!($reply);
            let Some(message) = said($from_wire(&here, peer, reply)) else { return };
            let mut again = $to_wire(&there, &message);
            again.envelope = Some(there.envelope(NodeId(1)));
            assert_eq!(said($from_wire(&here, peer, again)), Some(message));
        }};
    }
    match what % 8 {
        0 => {
            request!(
                AppendEntriesArgs,
                |args| append_from_wire(&here, args, token),
                |message| append_to_wire(&there, message)
            )
        }
        1 => answer!(AppendEntriesReply, append_reply_from_wire, append_reply_to_wire),
        2 => request!(RequestVoteArgs, |args| vote_from_wire(&here, args, token), |message| vote_to_wire(
            &there, &message
        )),
        3 => answer!(RequestVoteReply, vote_reply_from_wire, vote_reply_to_wire),
        4 => {
            request!(
                TimeoutNowArgs,
                |args| timeout_now_from_wire(&here, args),
                |message| timeout_now_to_wire(&there, &message)
            )
        }
        5 => request!(ReadIndexArgs, |args| read_index_from_wire(&here, args, token), |message| {
            read_index_to_wire(&there, &message)
        }),
        6 => answer!(ReadIndexReply, read_index_reply_from_wire, read_index_reply_to_wire),
        _ => {
            if let Ok(members) = membership_bytes::decode(bytes) {
                assert_eq!(membership_bytes::decode(&membership_bytes::encode(&members)), Ok(members));
            }
        }
    }
}
