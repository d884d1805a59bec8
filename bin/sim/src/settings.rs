//! What each node is set to: how much it may hold and send at once, and when it takes snapshots.
//!
//! A seed draws it far smaller than anybody would configure, so that every bound is reached and every transfer takes
//! more than one piece; and each bound at its shipped value in some of the seeds, since small ones hide each other.

use kvserver::{ChunkSizes, ServerConfig};

use crate::dice::Dice;
use crate::workload::Workload;

/// The settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether the log writer hands the disk a batch before the last one is durable.
    pub pipelined_log: bool,
    /// Bytes of log after which a snapshot is taken.
    pub snapshot_log_bytes: u64,
    /// Entries kept behind a snapshot.
    pub trailing_entries: u64,
    /// Bytes of the entries kept behind a snapshot.
    pub trailing_bytes_max: u64,
    /// Bytes of the log in memory.
    pub log_bytes_max: u64,
    /// Batches between Raft and the apply-loop.
    pub apply_queue_batches: usize,
    /// Bytes of entries proposed and not committed.
    pub uncommitted_bytes_max: usize,
    /// Bytes of entries that a leader's own disk does not have yet.
    pub unpersisted_bytes_max: u64,
    /// Bytes of entries handed to the apply-loop and not applied.
    pub unapplied_bytes_max: u64,
    /// Bytes of entries in one message between nodes.
    pub append_bytes_max: u64,
    /// Messages with entries on their way to one peer.
    pub inflight_messages_max: usize,
    /// Bytes of entries on their way to one peer.
    pub inflight_bytes_max: u64,
    /// How long the report of a snapshot is waited for.
    pub snapshot_patience_ms: u64,
    /// How much of a snapshot is read from the store, and sent to a peer, at once.
    pub chunks: ChunkSizes,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Whether the node keeps the rule of leases, and serves reads by them.
    pub lease_reads: bool,
}

/// Of smaller segments nothing is reserved: what may be on its way is more than a few of them hold.
const SEGMENT_BYTES_TO_RESERVE: u64 = 32 << 10;

/// A segment of so many bytes takes whatever is written at once.
const SEGMENT_BYTES_FOR_ALL: u64 = 256 << 10;

impl Settings {
    /// Whether the log has room of its own.
    pub(crate) fn has_reserve(&self) -> bool {
        self.segment_bytes >= SEGMENT_BYTES_TO_RESERVE
    }

    /// Whether a full disk stops nobody: there is a reserve, and whatever is written at once finds its place in a segment.
    pub(crate) fn outlasts_full_disk(&self) -> bool {
        self.segment_bytes >= SEGMENT_BYTES_FOR_ALL
    }

    /// What ships, but for a log short enough to be shortened within a run.
    pub(crate) fn calm() -> Settings {
        let shipped = ServerConfig::new(0, "", Vec::new(), "", "".into());
        Settings {
            pipelined_log: false,
            snapshot_log_bytes: 50_000,
            trailing_entries: 1_000,
            trailing_bytes_max: shipped.trailing_bytes_max,
            log_bytes_max: shipped.log_bytes_max,
            apply_queue_batches: shipped.apply_queue_batches,
            uncommitted_bytes_max: shipped.uncommitted_bytes_max,
            unpersisted_bytes_max: shipped.unpersisted_bytes_max,
            unapplied_bytes_max: shipped.unapplied_bytes_max,
            append_bytes_max: shipped.append_bytes_max,
            inflight_messages_max: shipped.inflight_messages_max,
            inflight_bytes_max: shipped.inflight_bytes_max,
            snapshot_patience_ms: shipped.snapshot_patience_ms,
            chunks: ChunkSizes::default(),
            segment_bytes: 256 << 10,
            lease_reads: false,
        }
    }

    fn draw(dice: &mut Dice, workload: Workload) -> Settings {
        let scale = workload.scale();
        let is_tiny = workload == Workload::Snapshots;
        let shipped = Settings::calm();
        let snapshot_log_bytes = dice.one(&[1_500, 3_000, 6_000, 15_000, 50_000, 1 << 20]) * scale;
        let trailing_entries = dice.one(&[0, 0, 4, 50, 1_000]);
        // A snapshot is due at the latest when a part of the log has been applied: of long values, not all the time.
        let log_sizes = if workload.is_heavy() { [500_000, 2_000_000] } else { [50_000, 200_000] };
        let log_bytes_max = match dice.place(3) {
            2 => shipped.log_bytes_max,
            place => log_sizes[place] * if scale > 1 { scale / 3 } else { 1 },
        };
        let trailing_bytes_max = dice.one(&[1, 2_000 * scale, 50_000 * scale, shipped.trailing_bytes_max]);
        // In too small pieces a slow disk would never have all of a state of long values.
        let (read, send) = match workload.is_heavy() {
            true => ([20_000, 60_000, 150_000], [60_000, 300_000, 1_000_000]),
            false => ([500, 2_000, 20_000], [1_000, 10_000, 100_000]),
        };
        let chunks = match dice.place(4) {
            3 => shipped.chunks,
            _ => ChunkSizes { read: dice.one(&read), send: dice.one(&send) },
        };
        Settings {
            pipelined_log: dice.permille(300),
            snapshot_log_bytes: snapshot_log_bytes.min(if is_tiny { 20_000 } else { u64::MAX }),
            trailing_entries: trailing_entries.min(if is_tiny { 4 } else { u64::MAX }),
            // What is kept in any case must leave room.
            trailing_bytes_max: trailing_bytes_max.min(log_bytes_max / 2),
            log_bytes_max,
            apply_queue_batches: dice.one(&[1, 2, 8, 64]),
            uncommitted_bytes_max: dice.one(&[2_000, 20_000, 1 << 20]) * scale as usize,
            unpersisted_bytes_max: dice.one(&[2_000 * scale, 20_000 * scale, shipped.unpersisted_bytes_max]),
            unapplied_bytes_max: dice.one(&[5_000, 50_000, shipped.unapplied_bytes_max]),
            append_bytes_max: dice.one(&[200, 2_000, shipped.append_bytes_max]),
            inflight_messages_max: dice.one(&[1, 4, shipped.inflight_messages_max]),
            inflight_bytes_max: dice.one(&[2_000 * scale, 20_000 * scale, shipped.inflight_bytes_max]),
            snapshot_patience_ms: dice.one(&[100, 1_000, 10_000, shipped.snapshot_patience_ms]),
            chunks,
            // A large value is larger than a small segment, and a file for each makes a run slow.
            segment_bytes: dice.one(&[1 << 10, 4 << 10, 32 << 10, 256 << 10]).max(scale * 1_600),
            lease_reads: false,
        }
    }
}

/// Settings for each node: the same for all in half of the seeds, else as they are while an operator changes them.
pub(crate) fn draw_settings(
    dice: &mut Dice,
    nodes: u64,
    workload: Workload,
    has_leases: bool,
) -> Vec<Settings> {
    let first = Settings::draw(dice, workload);
    let differ = dice.permille(500);
    let mut settings = vec![first];
    while settings.len() < nodes as usize {
        settings.push(if differ { Settings::draw(dice, workload) } else { settings[0].clone() });
    }
    // Whoever has no leases yet keeps no such rule, and does not count for those who have.
    let without_permille = if differ { dice.one(&[0, 200]) } else { 0 };
    for settings in &mut settings {
        settings.lease_reads = has_leases && !dice.permille(without_permille);
    }
    settings
}
