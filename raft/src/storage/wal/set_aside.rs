//! What cannot be used of a damaged log, and is not thrown away before it is repaired.
//!
//! Behind a damaged place there may be sound records, which nobody needs if others have them, and everybody if not. The
//! damaged segment is copied, and those behind it are renamed, before the log is cut; all of it goes when the log has
//! everything again. Only the first finding counts: what is set aside already is not replaced by what a repair left. A log that
//! stands on damaged snapshots is set aside as a whole, and they with it.

use super::super::disk::{Disk, DiskError, DiskOp, FileName, list_files, read_file};
use super::WalConfig;
use super::scan::Scanned;

const PREFIX: &str = "damaged-";

/// Whether this is a file that was set aside.
pub(in super::super) fn is_set_aside(file: &FileName) -> bool {
    file.as_str().starts_with(PREFIX)
}

/// The name of a file before it was set aside, if it was.
pub(super) fn name_before(file: &FileName) -> Option<FileName> {
    file.as_str().strip_prefix(PREFIX).map(FileName::new)
}

/// The files that were set aside.
pub(super) fn files(disk: &mut dyn Disk) -> Result<Vec<FileName>, DiskError> {
    Ok(list_files(disk)?.into_iter().map(|entry| entry.file).filter(is_set_aside).collect())
}

/// Lets go of what was set aside before a repair that is on record: where the power failed right behind it, the files are back.
/// They would pass for what a later damage leaves.
pub(super) fn let_go(disk: &mut dyn Disk) -> Result<(), DiskError> {
    let files = files(disk)?;
    if files.is_empty() {
        return Ok(());
    }
    for file in files {
        disk.run(DiskOp::Remove { file })?;
    }
    disk.run(DiskOp::SyncDirectory).map(drop)
}

/// Sets aside what the scan found behind and around the damage.
pub(super) fn set_aside(
    disk: &mut dyn Disk,
    config: &WalConfig,
    scanned: &mut Scanned,
) -> Result<(), DiskError> {
    let there = files(disk)?;
    if let Some(last) = scanned.walked.last() {
        let (file, aside) = (&last.entry.file, aside(&last.entry.file));
        if !there.contains(&aside) {
            copy(disk, config, file, last.entry.bytes, aside)?;
        }
    }
    // The newest goes first, so that a crash in between leaves no hole.
    for file in std::mem::take(&mut scanned.surplus).into_iter().rev() {
        let aside = aside(&file);
        match there.contains(&aside) {
            true => disk.run(DiskOp::Remove { file })?,
            false => disk.run(DiskOp::Rename { from: file, to: aside })?,
        };
        disk.run(DiskOp::SyncDirectory)?;
    }
    Ok(())
}

fn aside(file: &FileName) -> FileName {
    FileName::new(&format!("{PREFIX}{file}"))
}

/// Copies a file under a name that it gets when the copy is whole.
fn copy(
    disk: &mut dyn Disk,
    config: &WalConfig,
    from: &FileName,
    bytes: u64,
    to: FileName,
) -> Result<(), DiskError> {
    let part = FileName::new(&format!("{to}.tmp"));
    if list_files(disk)?.iter().any(|entry| entry.file == part) {
        disk.run(DiskOp::Remove { file: part.clone() })?;
    }
    disk.run(DiskOp::Create { file: part.clone(), zero_filled_bytes: 0 })?;
    let mut offset = 0;
    while offset < bytes {
        let window = Vec::from(read_file(disk, from, offset, config.read_window_bytes)?);
        let length = window.len() as u64;
        if length == 0 {
            break;
        }
        disk.run(DiskOp::Write { file: part.clone(), offset, bytes: window, sync: false })?;
        offset += length;
    }
    disk.run(DiskOp::Sync { file: part.clone() })?;
    disk.run(DiskOp::Rename { from: part, to })?;
    disk.run(DiskOp::SyncDirectory)?;
    Ok(())
}
