//! Reads what [`snapshot`](super::snapshot) wrote, in whatever pieces it arrives, and refuses everything else.
//!
//! Values are filled as their bytes come; only heads, keys and sessions wait until they are whole, so that memory
//! is bounded by the state itself. Bytes that could not have been written are refused where they stand, a missing
//! end by [`Restore::finish`]. Nothing of it is served before that.

use bytes::Bytes;

use super::StateMachine;
use super::codec::{ReadError, Reader};
use super::legacy_streams::LegacyStreams;
use super::limits::{
    KEY_BYTES_MAX, LEGACY_STREAMS_MAX, LEGACY_STREAMS_PER_CLIENT_MAX, SESSIONS_MAX, VALUE_BYTES_MAX,
};
use super::sessions::{Session, Sessions};
use super::snapshot::{END, FORMAT, KEY, LEGACY_STREAM, MAGIC, REVISION, SESSION};
use crate::mvcc::{Revision, Store, StoreRestore, Version};

/// Why bytes are not a snapshot that this program can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// They do not begin like one.
    #[error("this is not a snapshot of the store")]
    NotASnapshot,
    /// Of a newer release.
    #[error("snapshot format {found} is unknown; this program reads format {FORMAT}")]
    UnknownFormat {
        /// The format they name.
        found: u8,
    },
    /// Not what the writer can have written.
    #[error("the snapshot is damaged: {what} at byte {offset}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Where the record that is wrong begins.
        offset: u64,
    },
    /// The checksum at the end is another.
    #[error("the snapshot is damaged: its checksum is {found:08x}, its bytes have {computed:08x}")]
    Checksum {
        /// What stands at the end.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The end is missing.
    #[error("the snapshot ends too early, after {bytes} bytes")]
    Truncated {
        /// How many there are.
        bytes: u64,
    },
}

/// A state machine being read from a snapshot. After an error it is of no use.
#[derive(Debug)]
pub struct Restore {
    /// Bytes that are not a whole record yet.
    pending: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// Bytes before `pending`.
    consumed: u64,
    stage: Stage,
    index: u64,
    floor: u64,
    sessions: Sessions,
    legacy: LegacyStreams,
    store: StoreRestore,
    last_key: Option<Vec<u8>>,
    /// The last version of the last key; 0 if it has none yet.
    last_version: u64,
}

#[derive(Debug)]
enum Stage {
    Header,
    /// Between records; the number is the tag of the last one, since they come in order.
    Records(u8),
    /// Within a value, so many bytes of which are missing.
    Value {
        version: Version,
        value: Vec<u8>,
        missing: usize,
    },
    Done,
}

/// Why a record cannot be taken: more bytes may help, or nothing will.
enum Refusal {
    Short,
    Error(RestoreError),
    Damaged(&'static str),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        match error {
            ReadError::Short => Refusal::Short,
            ReadError::OutOfRange => Refusal::Damaged("a value out of range"),
        }
    }
}

impl Default for Restore {
    fn default() -> Restore {
        Restore::new()
    }
}

impl Restore {
    /// Waits for the first byte.
    pub fn new() -> Restore {
        Restore {
            pending: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            consumed: 0,
            stage: Stage::Header,
            index: 0,
            floor: 0,
            sessions: Sessions::new(SESSIONS_MAX),
            legacy: LegacyStreams::new(LEGACY_STREAMS_MAX, LEGACY_STREAMS_PER_CLIENT_MAX),
            store: Store::begin_restore(Version(0), Version(0)),
            last_key: None,
            last_version: 0,
        }
    }

    /// Takes the next bytes, as many as there are.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        if self.pending.is_empty() {
            let left = self.take_records(chunk)?;
            self.pending.extend_from_slice(left);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(chunk);
        let left = self.take_records(&pending)?.len();
        pending.drain(..pending.len() - left);
        self.pending = pending;
        Ok(())
    }

    /// The state machine, if the snapshot was whole.
    pub fn finish(self) -> Result<StateMachine, RestoreError> {
        if !matches!(self.stage, Stage::Done) {
            return Err(RestoreError::Truncated { bytes: self.consumed + self.pending.len() as u64 });
        }
        Ok(StateMachine {
            store: self.store.finish(),
            sessions: self.sessions,
            legacy: self.legacy,
            applied: self.index,
        })
    }

    /// Takes every whole record off the front, and gives what is left.
    fn take_records<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], RestoreError> {
        while !bytes.is_empty() {
            let mut reader = Reader::new(bytes);
            match self.take_record(&mut reader) {
                Ok(()) => {}
                Err(Refusal::Short) => break,
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Damaged(what)) => {
                    return Err(RestoreError::Damaged { what, offset: self.consumed });
                }
            }
            let taken = bytes.len() - reader.left();
            self.checksum.update(&bytes[..taken]);
            self.consumed += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(bytes)
    }

    fn take_record(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        match &mut self.stage {
            Stage::Header => self.take_header(reader),
            Stage::Done => Err(Refusal::Damaged("bytes after the end")),
            Stage::Value { version, value, missing } => {
                let taken = reader.take((*missing).min(reader.left()))?;
                value.extend_from_slice(taken);
                *missing -= taken.len();
                if *missing == 0 {
                    let (version, value) = (*version, Bytes::from(std::mem::take(value)));
                    self.add_revision(Revision { version, value: Some(value) });
                    self.stage = Stage::Records(REVISION);
                }
                Ok(())
            }
            Stage::Records(last) => {
                let (last, tag) = (*last, reader.byte()?);
                let is_in_order = tag >= last || (tag == KEY && last == REVISION);
                if !is_in_order {
                    return Err(Refusal::Damaged("a record out of order"));
                }
                match tag {
                    SESSION => self.take_session(reader)?,
                    LEGACY_STREAM => {
                        let used = self.legacy.restore(reader)?;
                        self.check_index(used)?;
                    }
                    KEY if last == KEY => return Err(Refusal::Damaged("a key without a version")),
                    KEY => self.take_key(reader)?,
                    REVISION if last < KEY => return Err(Refusal::Damaged("a version without a key")),
                    REVISION => return self.take_revision(reader),
                    END if last == KEY => return Err(Refusal::Damaged("a key without a version")),
                    END => return self.take_end(reader),
                    _ => return Err(Refusal::Damaged("an unknown record")),
                }
                self.stage = Stage::Records(tag);
                Ok(())
            }
        }
    }

    fn take_header(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let shown = reader.clone().take(reader.left().min(MAGIC.len()))?;
        if !MAGIC.starts_with(shown) {
            return Err(Refusal::Error(RestoreError::NotASnapshot));
        }
        reader.take(MAGIC.len())?;
        let found = reader.byte()?;
        if found != FORMAT {
            return Err(Refusal::Error(RestoreError::UnknownFormat { found }));
        }
        (self.index, self.floor) = (reader.varint()?, reader.varint()?);
        if self.floor > self.index {
            return Err(Refusal::Damaged("a floor above the index"));
        }
        self.store = Store::begin_restore(Version(self.floor), Version(self.index));
        self.stage = Stage::Records(0);
        Ok(())
    }

    fn take_session(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let (client_id, session) = Session::decode(reader)?;
        self.check_index(session.used())?;
        if client_id == 0 || !self.sessions.restore(client_id, session) {
            return Err(Refusal::Damaged("a session that cannot be"));
        }
        Ok(())
    }

    fn take_key(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let key = reader.bytes(KEY_BYTES_MAX)?;
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(Refusal::Damaged("a key out of order"));
        }
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        self.last_version = 0;
        Ok(())
    }

    fn take_revision(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let (version, length) = (reader.varint()?, reader.varint()?);
        self.check_index(version)?;
        let is_oldest = self.last_version == 0;
        if version <= self.last_version || (!is_oldest && version <= self.floor) {
            return Err(Refusal::Damaged("a version out of order"));
        }
        let Some(length) = length.checked_sub(1) else {
            if version <= self.floor {
                return Err(Refusal::Damaged("a tombstone below the floor"));
            }
            self.add_revision(Revision { version: Version(version), value: None });
            self.stage = Stage::Records(REVISION);
            return Ok(());
        };
        let missing = usize::try_from(length).ok().filter(|length| *length <= VALUE_BYTES_MAX);
        let missing = missing.ok_or(Refusal::Damaged("a value over its limit"))?;
        if missing == 0 {
            self.add_revision(Revision { version: Version(version), value: Some(Bytes::new()) });
            self.stage = Stage::Records(REVISION);
            return Ok(());
        }
        self.stage = Stage::Value { version: Version(version), value: Vec::with_capacity(missing), missing };
        Ok(())
    }

    fn take_end(&mut self, reader: &mut Reader<'_>) -> Result<(), Refusal> {
        let found = reader.take(4)?.try_into().expect("four were asked for");
        let found = u32::from_le_bytes(found);
        let mut checksum = self.checksum.clone();
        checksum.update(&[END]);
        let computed = checksum.finalize();
        if found != computed {
            return Err(Refusal::Error(RestoreError::Checksum { found, computed }));
        }
        self.stage = Stage::Done;
        Ok(())
    }

    fn add_revision(&mut self, revision: Revision) {
        let is_oldest = self.last_version == 0;
        self.last_version = revision.version.0;
        if is_oldest {
            self.store.key(self.last_key.as_deref().expect("a version follows its key"), revision);
        } else {
            self.store.newer(revision);
        }
    }

    /// Nothing in a snapshot is newer than the snapshot, or older than the first entry.
    fn check_index(&self, index: u64) -> Result<(), Refusal> {
        if index == 0 || index > self.index {
            return Err(Refusal::Damaged("an index outside the snapshot"));
        }
        Ok(())
    }
}
