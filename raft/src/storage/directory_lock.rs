//! A data directory's lock: for one process that runs a node on it, or for any number that look at what lies still.
//!
//! It is on the directory itself and not on a file in it, which could be removed and made anew while the first process
//! still holds its own.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::identity::{IdentityError, io_error};

/// A directory that is locked as long as this lives. The system takes the lock back when the process ends in any way.
#[derive(Debug)]
pub struct DirectoryLock(File);

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing is not enough: until it runs, a process that is just being started has a copy, which keeps the lock. What
        // cannot be unlocked here ends with that.
        let _ = self.0.unlock();
    }
}

impl DirectoryLock {
    /// For whoever runs a node on the directory `path`: nobody else has it meanwhile.
    ///
    /// # Errors
    /// When anybody has it, or it cannot be opened.
    pub(super) fn exclusive(path: &Path) -> Result<DirectoryLock, IdentityError> {
        DirectoryLock::take(path, File::try_lock)
    }

    /// Keeps nodes off the directory `path`, so that it can be looked at while nothing moves. Several may look at once.
    ///
    /// # Errors
    /// When a node uses the directory, or it cannot be opened.
    pub fn to_look(path: &Path) -> Result<DirectoryLock, IdentityError> {
        DirectoryLock::take(path, File::try_lock_shared)
    }

    fn take(
        path: &Path,
        try_lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<DirectoryLock, IdentityError> {
        let directory = File::open(path).map_err(io_error(path, "open it"))?;
        match try_lock(&directory) {
            Ok(()) => Ok(DirectoryLock(directory)),
            Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { directory: path.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(io_error(path, "lock it")(error)),
        }
    }

    /// The open directory.
    pub(super) fn directory(&self) -> &File {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_once_its_lock_is_dropped_though_a_process_just_being_started_has_a_copy_of_it() {
        let path = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::exclusive(path.path()).unwrap();
        let copy = lock.0.try_clone().unwrap();
        drop(lock);
        DirectoryLock::exclusive(path.path()).unwrap();
        drop(copy);
    }
}
