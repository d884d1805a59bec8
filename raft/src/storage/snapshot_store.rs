//! The snapshots of a data directory: written, received, sent, kept, let go.
//!
//! A snapshot grows under a temporary name; when its content is durable it is renamed and the directory synced, and
//! only then does it exist. The two newest are kept, so that there is one to fall back on. One that somebody holds
//! pinned (to send it, to load it) is not removed. What is received is checked as a whole before it gets its name: nothing that
//! a peer sent is believed by its word.
//!
//! Belongs to one thread and its `Disk`; everything here waits for the disk.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{EntryId, Index, SnapshotMeta};

use super::disk::{Disk, DiskError, DiskOp, FileEntry, FileName, Outcome, list_files, read_file};
use super::snapshot_file::{
    SnapshotError, SnapshotReader, SnapshotWriter, Stride, snapshot_id, snapshot_name,
};
use super::snapshot_stream::SnapshotStream;

/// How many snapshots are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

/// The operation that leaves nothing where there is no room.
const CREATE: &str = "create";

/// The snapshots that are there, and the one being received.
#[derive(Debug)]
pub struct SnapshotStore {
    /// Whole ones as far as is known, oldest first.
    stored: Vec<Stored>,
    damaged: Vec<SnapshotError>,
    receiving: Option<Receiving>,
    next_temporary: u64,
}

#[derive(Debug)]
struct Stored {
    meta: SnapshotMeta,
    file: FileName,
    bytes: u64,
    /// Shared with everybody who has the snapshot pinned.
    pin: Arc<()>,
}

#[derive(Debug)]
struct Receiving {
    meta: SnapshotMeta,
    file: FileName,
    total_bytes: u64,
    received_bytes: u64,
    /// What is written next, kept from chunk to chunk: its memory need not be found each time.
    buffer: Vec<u8>,
    stride: Stride,
    /// Checks what has come.
    stream: SnapshotStream,
}

/// A snapshot that stays as long as this is held. Readable by any thread on any `Disk` of the directory.
#[derive(Debug, Clone)]
pub struct PinnedSnapshot {
    meta: SnapshotMeta,
    file: FileName,
    bytes: u64,
    _pin: Arc<()>,
}

impl PinnedSnapshot {
    /// What the snapshot stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The size of the whole file, which is what a receiver is told as the total.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The raw file from `offset` on, at most `bytes_max` bytes; empty at its end. It is read once, to be sent: the kernel is told
    /// to keep nothing of what comes before.
    pub fn read(&self, disk: &mut dyn Disk, offset: u64, bytes_max: usize) -> Result<Bytes, DiskError> {
        let data = read_file(disk, &self.file, offset, bytes_max)?;
        disk.run(DiskOp::Forget { file: self.file.clone(), bytes: offset + data.len() as u64 })?;
        Ok(data)
    }

    /// A reader of its content.
    pub fn reader(&self, disk: &mut dyn Disk) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(disk, self.file.clone())
    }
}

impl SnapshotStore {
    /// Reads and checks every snapshot of the directory, and removes what never got its name. Damaged ones are left
    /// where they are and named by `damaged`.
    pub fn open(disk: &mut dyn Disk) -> Result<SnapshotStore, SnapshotError> {
        for entry in list_files(disk)?.into_iter().filter(|entry| is_temporary(&entry.file)) {
            disk.run(DiskOp::Remove { file: entry.file })?;
        }
        let store = SnapshotStore::look(disk)?;
        // A rename of the process before may not be durable yet; from here on it is relied upon.
        disk.run(DiskOp::SyncDirectory)?;
        Ok(store)
    }

    /// Reads and checks every snapshot of the directory, and changes nothing.
    pub(super) fn look(disk: &mut dyn Disk) -> Result<SnapshotStore, SnapshotError> {
        let mut store =
            SnapshotStore { stored: Vec::new(), damaged: Vec::new(), receiving: None, next_temporary: 0 };
        for entry in list_files(disk)? {
            let Some(last) = snapshot_id(&entry.file) else { continue };
            match verify(disk, &entry.file, last, |_| ()) {
                Ok(meta) => store.add(meta, entry.file, entry.bytes),
                Err(SnapshotError::Disk(error)) => return Err(error.into()),
                Err(SnapshotError::UnknownVersion { file, version }) => {
                    return Err(SnapshotError::UnknownVersion { file, version });
                }
                Err(damage) => store.damaged.push(damage),
            }
        }
        Ok(store)
    }

    /// What the snapshots there are stand for, oldest first.
    pub fn list(&self) -> impl Iterator<Item = &SnapshotMeta> {
        self.stored.iter().map(|stored| &stored.meta)
    }

    /// The newest one.
    pub fn newest(&self) -> Option<&SnapshotMeta> {
        self.stored.last().map(|stored| &stored.meta)
    }

    /// The file size of the newest one; 0 when there is none.
    pub fn newest_bytes(&self) -> u64 {
        self.stored.last().map_or(0, |stored| stored.bytes)
    }

    /// The files that did not read back when the store was opened.
    pub fn damaged(&self) -> &[SnapshotError] {
        &self.damaged
    }

    /// How far the log may be let go (`Wal::compact`): to the oldest snapshot kept, so that the log still leads on
    /// from it should the newest turn out to be damaged. `None` as long as there is only one.
    pub fn log_needed_after(&self) -> Option<Index> {
        (self.stored.len() >= SNAPSHOTS_KEPT).then(|| self.stored[0].meta.last.index)
    }

    /// Holds the snapshot of this last entry, to send or load it. `None` when there is none.
    pub fn pin(&self, last: EntryId) -> Option<PinnedSnapshot> {
        self.stored.iter().find(|stored| stored.meta.last == last).map(Stored::pinned)
    }

    /// Holds the newest snapshot.
    pub fn pin_newest(&self) -> Option<PinnedSnapshot> {
        self.stored.last().map(Stored::pinned)
    }

    /// Begins a snapshot of this node's own state.
    pub fn begin_write(
        &mut self,
        disk: &mut dyn Disk,
        meta: SnapshotMeta,
    ) -> Result<SnapshotWriter, DiskError> {
        let file = self.temporary_name();
        SnapshotWriter::begin(disk, file.clone(), meta).or_else(|error| leave_nothing(disk, file, error))
    }

    /// Makes a written snapshot durable under its name, and lets go of surplus ones. On a disk that is full nothing is left.
    pub fn finish_write(
        &mut self,
        disk: &mut dyn Disk,
        writer: SnapshotWriter,
    ) -> Result<SnapshotMeta, DiskError> {
        let (file, meta) = (writer.file().clone(), writer.meta().clone());
        let finished = writer.finish(disk);
        let published = finished.and_then(|(file, meta, bytes)| self.publish(disk, meta, file, bytes));
        published.or_else(|error| leave_nothing(disk, file, error))?;
        Ok(meta)
    }

    /// Gives a snapshot up that was begun.
    pub fn abort_write(&mut self, disk: &mut dyn Disk, writer: SnapshotWriter) -> Result<(), DiskError> {
        disk.run(DiskOp::Remove { file: writer.file().clone() }).map(drop)
    }

    /// Prepares for a snapshot from a peer whose file has `total_bytes`. Returns the offset of the first byte that is
    /// missing: not 0 when an earlier transfer of the same snapshot broke off. Another one being received is given up.
    pub fn begin_receive(
        &mut self,
        disk: &mut dyn Disk,
        meta: &SnapshotMeta,
        total_bytes: u64,
    ) -> Result<u64, DiskError> {
        if let Some(receiving) = &mut self.receiving {
            if raft_core::planted::is("resumed-chunk-of-another-snapshot") {
                (receiving.meta, receiving.total_bytes) = (meta.clone(), total_bytes);
            }
            if receiving.meta == *meta && receiving.total_bytes == total_bytes {
                return Ok(receiving.received_bytes);
            }
            self.abort_receive(disk)?;
        }
        let file = self.temporary_name();
        disk.run(DiskOp::Create { file: file.clone(), zero_filled_bytes: 0 })?;
        let meta = meta.clone();
        let stream = SnapshotStream::new(file.clone());
        let (received_bytes, buffer, stride) = Default::default();
        self.receiving = Some(Receiving { meta, file, total_bytes, received_bytes, buffer, stride, stream });
        Ok(0)
    }

    /// The snapshot that is being received, and how much of it is there.
    pub fn receiving(&self) -> Option<(&SnapshotMeta, u64)> {
        self.receiving.as_ref().map(|receiving| (&receiving.meta, receiving.received_bytes))
    }

    /// Takes raw bytes of the file being received. Returns the offset of the first byte that is missing: bytes that
    /// are there already or would leave a gap are not taken, and the sender goes on from the offset returned.
    ///
    /// They are checked on the way, and `visit` is shown what of them is content. It counts only when
    /// [`SnapshotStore::finish_receive`] has succeeded.
    ///
    /// # Errors
    /// `Rejected` or `Damaged` when it is not what was announced; nothing of it is kept then, and it may be sent again.
    pub fn receive_chunk(
        &mut self,
        disk: &mut dyn Disk,
        offset: u64,
        bytes: &[u8],
        visit: impl FnMut(&[u8]),
    ) -> Result<u64, SnapshotError> {
        let Some(receiving) = &mut self.receiving else {
            return Err(SnapshotError::Rejected("no snapshot is being received"));
        };
        if offset != receiving.received_bytes {
            return Ok(receiving.received_bytes);
        }
        let end = offset + bytes.len() as u64;
        if end > receiving.total_bytes {
            self.abort_receive(disk)?;
            return Err(SnapshotError::Rejected("it is longer than it was announced to be"));
        }
        if !raft_core::planted::is("resumed-chunk-of-another-snapshot")
            && let Err(refused) = receiving.stream.feed(bytes, visit)
        {
            self.abort_receive(disk)?;
            return Err(refused);
        }
        match receiving.write(disk, bytes) {
            Ok(()) => Ok(end),
            Err(full @ DiskError::Full { .. }) => {
                self.abort_receive(disk)?;
                Err(full.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a received file durable under its name if all of it has come, and lets go of surplus ones.
    ///
    /// # Errors
    /// `Rejected` or `Damaged` when it is not what was announced; nothing of it is kept then, and it may be sent again.
    pub fn finish_receive(&mut self, disk: &mut dyn Disk) -> Result<SnapshotMeta, SnapshotError> {
        let Some(receiving) = self.receiving.take() else {
            return Err(SnapshotError::Rejected("no snapshot is being received"));
        };
        let Receiving { meta, file, total_bytes, received_bytes, stream, .. } = receiving;
        let verdict = if received_bytes < total_bytes {
            Err(SnapshotError::Rejected("it is shorter than it was announced to be"))
        } else if raft_core::planted::is("resumed-chunk-of-another-snapshot") {
            Ok(meta.clone())
        } else {
            stream.finish()
        };
        let refused = match verdict {
            Ok(found) if found == meta => {
                if !raft_core::planted::is("received-snapshot-not-synced") {
                    disk.run(DiskOp::Sync { file: file.clone() })?;
                }
                let published = self.publish(disk, meta.clone(), file.clone(), total_bytes);
                published.or_else(|error| leave_nothing(disk, file, error))?;
                return Ok(meta);
            }
            Ok(_) => SnapshotError::Rejected("it stands for something else than was announced"),
            Err(SnapshotError::Disk(error)) => return Err(error.into()),
            Err(refused) => refused,
        };
        disk.run(DiskOp::Remove { file })?;
        Err(refused)
    }

    /// Gives up what is being received, if anything is.
    pub fn abort_receive(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        match self.receiving.take() {
            Some(receiving) => disk.run(DiskOp::Remove { file: receiving.file }).map(drop),
            None => Ok(()),
        }
    }

    /// Lets go of all but the newest two and those that are pinned. Also called after each new snapshot.
    pub fn remove_surplus(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let mut surplus = self.stored.len().saturating_sub(SNAPSHOTS_KEPT);
        let mut place = 0;
        while surplus > 0 {
            surplus -= 1;
            if Arc::strong_count(&self.stored[place].pin) > 1 {
                place += 1;
            } else {
                let file = self.stored.remove(place).file;
                disk.run(DiskOp::Remove { file })?;
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        disk: &mut dyn Disk,
        meta: SnapshotMeta,
        file: FileName,
        bytes: u64,
    ) -> Result<(), DiskError> {
        let name = snapshot_name(meta.last);
        disk.run(DiskOp::Rename { from: file, to: name.clone() })?;
        if !raft_core::planted::is("snapshot-name-not-synced") {
            disk.run(DiskOp::SyncDirectory)?;
        }
        self.add(meta, name, bytes);
        self.remove_damaged(disk)?;
        self.remove_surplus(disk)
    }

    /// Lets go of files with a snapshot's name that could not be read: the newest one is whole.
    fn remove_damaged(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        if mem::take(&mut self.damaged).is_empty() {
            return Ok(());
        }
        let is_known = |file: &FileName| self.stored.iter().any(|stored| stored.file == *file);
        for FileEntry { file, .. } in list_files(disk)? {
            if snapshot_id(&file).is_some() && !is_known(&file) {
                disk.run(DiskOp::Remove { file })?;
            }
        }
        Ok(())
    }

    /// Files one that is whole; one of the same entry is replaced, and whoever has that pinned reads the new one on.
    fn add(&mut self, meta: SnapshotMeta, file: FileName, bytes: u64) {
        let place = self.stored.partition_point(|stored| stored.meta.last.index < meta.last.index);
        match self.stored.get_mut(place).filter(|stored| stored.meta.last == meta.last) {
            Some(same) => (same.meta, same.bytes) = (meta, bytes),
            None => self.stored.insert(place, Stored { meta, file, bytes, pin: Arc::new(()) }),
        }
    }

    fn temporary_name(&mut self) -> FileName {
        self.next_temporary += 1;
        FileName::new(&format!("snapshot-{}.tmp", self.next_temporary))
    }
}

impl Receiving {
    /// Writes what follows.
    fn write(&mut self, disk: &mut dyn Disk, bytes: &[u8]) -> Result<(), DiskError> {
        let (file, offset) = (self.file.clone(), self.received_bytes);
        self.received_bytes += bytes.len() as u64;
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        let bytes = mem::take(&mut self.buffer);
        if let Outcome::Written(buffer) = disk.run(DiskOp::Write { file, offset, bytes, sync: false })? {
            self.buffer = buffer;
        }
        self.stride.go_on(disk, &self.file, self.received_bytes)
    }
}

impl Stored {
    fn pinned(&self) -> PinnedSnapshot {
        let Stored { meta, file, bytes, pin } = self;
        PinnedSnapshot { meta: meta.clone(), file: file.clone(), bytes: *bytes, _pin: Arc::clone(pin) }
    }
}

/// A file in part is removed where the disk is full: it takes the room of what could help. Any other failure is final.
fn leave_nothing<T>(disk: &mut dyn Disk, file: FileName, error: DiskError) -> Result<T, DiskError> {
    if let DiskError::Full { operation, .. } = error
        && operation != CREATE
    {
        disk.run(DiskOp::Remove { file })?;
    }
    Err(error)
}

/// Whether this is a snapshot that never got its name.
pub(super) fn is_temporary(file: &FileName) -> bool {
    file.as_str().starts_with("snapshot-") && file.as_str().ends_with(".tmp")
}

/// Reads the snapshot `file`, which by its name ends at `last`, and shows `visit` each piece: whether it is whole.
pub(super) fn verify(
    disk: &mut dyn Disk,
    file: &FileName,
    last: EntryId,
    visit: impl FnMut(&Bytes),
) -> Result<SnapshotMeta, SnapshotError> {
    let meta = SnapshotReader::open(disk, file.clone())?.read_on(disk, visit)?;
    if meta.last != last {
        let reason = "its name and its header name different entries";
        return Err(SnapshotError::Damaged { file: file.clone(), offset: 0, reason });
    }
    Ok(meta)
}
