//! The limits that are part of the log's meaning.
//!
//! They are constants, not settings: two nodes that disagreed on one would answer the same entry differently and
//! part for ever. Changing one needs a new command format, or a version carried in the log.

/// The longest key, in bytes. A write of a longer one is answered `TooLarge`.
pub const KEY_BYTES_MAX: usize = crate::mvcc::KEY_BYTES_MAX;

/// The longest value, in bytes, also as the result of appends; beyond it `TooLarge`, and nothing is written.
pub const VALUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Log entries back to which superseded versions stay readable.
pub const HISTORY_ENTRIES: u64 = 1024;

/// Bytes of superseded values above the floor. Beyond it the floor rises faster, on every node at the same entry:
/// 1,024 appends to one large value must not keep 1,024 copies of it.
pub const HISTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Sessions at once. The one whose latest write lies furthest back in the log makes room for a new one.
pub const SESSIONS_MAX: usize = 100_000;

/// Writes of one session whose replies are kept: from `acked_below` on, fewer than this many; beyond it `OutOfWindow`.
pub const SESSION_WINDOW: u64 = 256;

/// Streams of all origin clients together; the one longest unused, by the log, makes room for a new one.
pub const LEGACY_STREAMS_MAX: usize = 16_384;

/// Streams of one origin `ClientId`. Many, because all processes of the origin draw the same one.
pub const LEGACY_STREAMS_PER_CLIENT_MAX: usize = 1024;

/// The longest `ClientId` of an origin client, in bytes; theirs are some forty digits. A longer one is `Invalid`.
pub const LEGACY_CLIENT_ID_BYTES_MAX: usize = 256;
