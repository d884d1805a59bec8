//! Looking at one directory: who may, what is read, and what counts as damage.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use raft::core::Payload;
use raft::membership_bytes;
use raft::storage::wal::{Record, RecordPlace};
use raft::storage::{DirectoryLock, DiskError, Identity, IdentityError, Inspection, RealDisk, inspect};

use crate::report::{EntryRow, Report};

/// Reads the directory, and of the log's entries those of `indexes`. What cannot be said is a sentence.
pub(crate) fn survey(directory: &Path, indexes: Option<RangeInclusive<u64>>) -> Result<Report, String> {
    let _lock = DirectoryLock::to_look(directory).map_err(|error| refusal(directory, &error))?;
    let identity = Identity::read(directory);
    if let Err(error @ IdentityError::Io { .. }) = &identity {
        return Err(error.to_string());
    }
    let known = identity.as_ref().ok().and_then(Option::as_ref);
    let mut entries = Vec::new();
    let mut note = |place: RecordPlace<'_>, record: &Record| {
        let is_asked_for = |index: u64| indexes.as_ref().is_some_and(|indexes| indexes.contains(&index));
        if let Record::Entry(entry) = record
            && is_asked_for(entry.index.0)
        {
            let (kind, bytes) = match &entry.payload {
                Payload::Noop => ("no-op", 0),
                Payload::Command(command) => ("command", command.len()),
                Payload::Membership(members) => ("members", membership_bytes::encode(members).len()),
            };
            let (index, term, file) = (entry.index.0, entry.term.0, place.file.to_string());
            entries.push(EntryRow { index, term, kind, bytes, file, offset: place.offset });
        }
    };
    let inspection = look(directory, known, &mut note).map_err(|error| error.to_string())?;
    let identity = match identity {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(without_identity(directory, &inspection)?),
        Err(error) => Err(error),
    };
    Ok(Report::of(directory, identity, inspection, indexes.is_some().then_some(entries)))
}

fn look(
    directory: &Path,
    identity: Option<&Identity>,
    note: &mut dyn FnMut(RecordPlace<'_>, &Record),
) -> Result<Inspection, DiskError> {
    let seed = identity.map(|identity| identity.incarnation);
    // Where the identity cannot be read there is no telling, but a log is there or there is nothing to judge.
    let log_must_exist = identity.is_some_and(|identity| identity.admitted);
    inspect(&mut RealDisk::read_only(directory), seed, log_must_exist, note)
}

/// Files of a node without its identity are damage; a directory without either is somebody else's.
fn without_identity(directory: &Path, inspection: &Inspection) -> Result<IdentityError, String> {
    let segment = inspection.segments.first().map(|segment| &segment.file);
    let file = segment.or(inspection.snapshots.first().map(|snapshot| &snapshot.file));
    match file {
        Some(file) => {
            Ok(IdentityError::WithoutIdentity { directory: directory.to_owned(), file: file.to_string() })
        }
        None => Err(no_data(directory)),
    }
}

fn no_data(directory: &Path) -> String {
    let text = format!("{} is no data directory of a node", directory.display());
    let mut nodes: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("identity").is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();
    nodes.sort();
    match nodes.is_empty() {
        true => text,
        false => format!("{text}; name one of {}", nodes.join(", ")),
    }
}

fn refusal(directory: &Path, error: &IdentityError) -> String {
    match error {
        IdentityError::InUse { .. } => format!(
            "data directory {} is in use; stop the node first, or copy the directory and name the copy",
            directory.display()
        ),
        error => error.to_string(),
    }
}
