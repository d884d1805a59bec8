//! The disk that ships: files in one directory, carried out within `submit`.
//!
//! The log writer is the thread whose right it is to wait for the disk, so `submit` simply does the work and keeps the
//! completion. Measured on the reference machine, a plain `pwrite` followed by `fdatasync` on a zero-filled file is the
//! fastest durable write (112 µs for 288 bytes; `RWF_DSYNC` 134 µs; direct I/O in whole pages 134 µs; with three
//! writers 195, 214 and 221 µs), so that is what a synced write is.
//!
//! It must never retry a failed change: after one every further operation is refused.

use std::collections::VecDeque;
use std::fs::{DirEntry, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, fadvise};
use rustix::io::Errno;

use super::disk::{Completion, Disk, DiskError, DiskOp, FileEntry, FileName, OpId, Outcome};
use super::sync_times::SyncTimes;

/// Files kept open between operations; the one used longest ago is closed beyond this.
const OPEN_FILES_MAX: usize = 8;

/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 256 * 1024;

/// One directory of real files.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// Open files, the one used last at the end. A handful: searched from the end.
    open_files: Vec<(FileName, File)>,
    completions: VecDeque<Completion>,
    next_id: u64,
    poisoned: Option<Arc<str>>,
    sync_times: Arc<SyncTimes>,
    is_read_only: bool,
}

impl RealDisk {
    /// The files of `directory`, which exists.
    pub fn new(directory: &Path) -> RealDisk {
        RealDisk {
            directory: directory.to_path_buf(),
            open_files: Vec::new(),
            completions: VecDeque::new(),
            next_id: 0,
            poisoned: None,
            sync_times: Arc::new(SyncTimes::default()),
            is_read_only: false,
        }
    }

    /// The same to look at only: every operation that would change anything fails, and files are opened for reading.
    pub fn read_only(directory: &Path) -> RealDisk {
        RealDisk { is_read_only: true, ..RealDisk::new(directory) }
    }

    /// How long the syncs of this disk took lately; may be read by any thread at any time.
    pub fn sync_times(&self) -> Arc<SyncTimes> {
        Arc::clone(&self.sync_times)
    }

    fn execute(&mut self, op: DiskOp) -> Result<Outcome, DiskError> {
        if let Some(first) = &self.poisoned {
            return Err(DiskError::Poisoned { first: Arc::clone(first) });
        }
        let (name, file, changes, survives) = (op.name(), op.file().cloned(), op.changes(), op.survives());
        let result = self.attempt(op).map_err(|error| disk_error(name, file, &error));
        if let Err(error) = &result
            && changes
            && !(survives && matches!(error, DiskError::Full { .. }))
        {
            self.poisoned = Some(Arc::from(error.to_string()));
        }
        result
    }

    fn attempt(&mut self, op: DiskOp) -> io::Result<Outcome> {
        if self.is_read_only && op.changes() {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "this directory is only looked at",
            ));
        }
        match op {
            DiskOp::Create { file, zero_filled_bytes } => {
                self.create(file, |handle| fill_with_zeros(handle, zero_filled_bytes))?;
            }
            DiskOp::Reserve { file, bytes } => self.create(file, |handle| reserve(handle, bytes))?,
            DiskOp::Write { file, offset, bytes, sync } => {
                let sync_times = Arc::clone(&self.sync_times);
                sync_times.under_way(|| {
                    self.open(&file)?.write_all_at(&bytes, offset)?;
                    if sync { self.sync(&file) } else { Ok(()) }
                })?;
                return Ok(Outcome::Written(bytes));
            }
            DiskOp::Read { file, offset, bytes } => return self.read(&file, offset, bytes),
            DiskOp::Sync { file } => self.sync(&file)?,
            DiskOp::Forget { file, bytes } => {
                // Advice: a file system that does not take it keeps what it likes.
                let _ = fadvise(self.open(&file)?, 0, NonZeroU64::new(bytes), Advice::DontNeed);
            }
            DiskOp::Truncate { file, bytes } => self.open(&file)?.set_len(bytes)?,
            DiskOp::Rename { from, to } => {
                std::fs::rename(self.path(&from), self.path(&to))?;
                self.open_files.retain(|(name, _)| *name != to);
                if let Some((name, _)) = self.open_files.iter_mut().find(|(name, _)| *name == from) {
                    *name = to;
                }
            }
            DiskOp::Remove { file } => {
                std::fs::remove_file(self.path(&file))?;
                self.open_files.retain(|(name, _)| *name != file);
            }
            DiskOp::List => return self.list(),
            DiskOp::SyncDirectory => File::open(&self.directory)?.sync_all()?,
        }
        Ok(Outcome::Done)
    }

    fn create(&mut self, file: FileName, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let path = self.path(&file);
        let handle = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = fill(&handle) {
            // A file in part is of no use, and takes the room of a disk that is full. Whatever comes of its removal,
            // the failure counts.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.keep_open(file, handle);
        Ok(())
    }

    fn read(&mut self, file: &FileName, offset: u64, bytes: usize) -> io::Result<Outcome> {
        let handle = self.open(file)?;
        // The file's size bounds the memory taken, whatever was asked for.
        let there = usize::try_from(handle.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; bytes.min(there)];
        let mut filled = 0;
        while filled < buffer.len() {
            match handle.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(Outcome::Read(Bytes::from(buffer)))
    }

    fn list(&self) -> io::Result<Outcome> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            files.extend(listed(&entry?)?);
        }
        files.sort();
        Ok(Outcome::Files(files))
    }

    fn sync(&mut self, file: &FileName) -> io::Result<()> {
        let sync_times = Arc::clone(&self.sync_times);
        let handle = self.open(file)?;
        // What was written counts as written, so a disk that finds itself full only now is a broken one.
        sync_times.measure(|| handle.sync_data()).map_err(|error| io::Error::other(error.to_string()))
    }

    fn path(&self, file: &FileName) -> PathBuf {
        self.directory.join(file.as_str())
    }

    /// The open handle of `file`, opened if it was not.
    fn open(&mut self, file: &FileName) -> io::Result<&File> {
        if let Some(place) = self.open_files.iter().rposition(|(name, _)| name == file) {
            let last = self.open_files.len() - 1;
            if place != last {
                self.open_files[place..].rotate_left(1);
            }
        } else {
            let handle = OpenOptions::new().read(true).write(!self.is_read_only).open(self.path(file))?;
            self.keep_open(file.clone(), handle);
        }
        let (_, handle) = self.open_files.last().expect("it was just put there");
        Ok(handle)
    }

    /// NB: a file may be closed here with unsynced writes. Opening it again and syncing covers them: the kernel keeps
    /// dirty pages and their errors by file, not by descriptor, and an error nobody has seen is reported to the next.
    fn keep_open(&mut self, file: FileName, handle: File) {
        if self.open_files.len() >= OPEN_FILES_MAX {
            self.open_files.remove(0);
        }
        self.open_files.push((file, handle));
    }
}

impl Disk for RealDisk {
    fn submit(&mut self, op: DiskOp) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        let result = self.execute(op);
        self.completions.push_back(Completion { id, result });
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}

/// A line of a listing, if it is one of a file. Another thread may have renamed or removed it since the directory was read.
fn listed(entry: &DirEntry) -> io::Result<Option<FileEntry>> {
    let metadata = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let name = entry.file_name();
    let name = name.to_str().filter(|_| metadata.is_file());
    Ok(name.map(|name| FileEntry { file: FileName::new(name), bytes: metadata.len() }))
}

/// Gives the file its room. Where the file system cannot do that, zeros are written, which does it on all that do not copy
/// on write.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill_with_zeros(file, bytes),
        done => Ok(done?),
    }
}

fn fill_with_zeros(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        file.write_all_at(&zeros[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}

fn disk_error(operation: &'static str, file: Option<FileName>, error: &io::Error) -> DiskError {
    match (error.kind(), file) {
        (io::ErrorKind::NotFound, Some(file)) => DiskError::NotFound { operation, file },
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Some(file)) => {
            DiskError::Full { operation, file }
        }
        (_, file) => {
            let file = file.map_or_else(|| "the data directory".to_owned(), |file| file.to_string());
            DiskError::Io { operation, file, text: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_goes_while_the_directory_is_listed_is_not_in_the_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wal");
        std::fs::write(&path, "abc").unwrap();
        let entry = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(listed(&entry).unwrap(), Some(FileEntry { file: FileName::new("wal"), bytes: 3 }));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(listed(&entry).unwrap(), None);
    }
}
