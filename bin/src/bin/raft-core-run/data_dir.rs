//! Where the nodes keep their data: one folder of the cluster, one folder per node in it, for the owner only.
//!
//! A launcher locks the cluster's folder, so that of two the second says so instead of taking half of the nodes. A node
//! that is run by hand beside its launcher has the lock of its own folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Held by the launcher for as long as it runs.
const LOCK_FILE: &str = "launcher.lock";

/// The cluster's folder: the flag, else the file's `data_dir`, else beside the file and named after it.
pub(crate) fn base(flag: Option<&Path>, setting: Option<&Path>, file: &Path) -> PathBuf {
    if let Some(flag) = flag {
        return flag.to_owned();
    }
    let beside = file.parent().unwrap_or(Path::new(""));
    match setting {
        Some(setting) => beside.join(setting),
        None => {
            let mut name = file.file_stem().unwrap_or(file.as_os_str()).to_owned();
            name.push("-data");
            beside.join(name)
        }
    }
}

/// The folder of one node, made if it is not there, readable by nobody else.
pub(crate) fn create_for_node(base: &Path, id: u64) -> Result<PathBuf, Failure> {
    let folder = base.join(format!("node{id}"));
    create(&folder)?;
    Ok(folder)
}

/// Whether the node has been started on this data before.
pub(crate) fn has_begun(base: &Path, id: u64) -> bool {
    base.join(format!("node{id}")).join("identity").exists()
}

fn create(folder: &Path) -> Result<(), Failure> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| Failure::Runtime(refusal(folder, &error)))
}

/// Makes the cluster's folder this launcher's, for as long as the file that is returned is open.
pub(crate) fn lock(base: &Path) -> Result<File, Failure> {
    create(base)?;
    let failed = |error: io::Error| {
        Failure::Runtime(format!("the data directory {} cannot be locked: {error}", base.display()))
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(base.join(LOCK_FILE)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Runtime(format!(
            "the data directory {} is in use by another launcher; stop that one first or choose another --data-dir",
            base.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn refusal(folder: &Path, error: &io::Error) -> String {
    format!("the data directory {} cannot be made: {error}", folder.display())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_flag_wins_over_the_setting_and_the_setting_over_the_place_beside_the_file() {
        let file = Path::new("/etc/kv/test.conf");
        let setting = Some(Path::new("data"));
        assert_eq!(base(Some(Path::new("here")), setting, file), Path::new("here"));
        assert_eq!(base(None, setting, file), Path::new("/etc/kv/data"));
        assert_eq!(base(None, Some(Path::new("/var/kv")), file), Path::new("/var/kv"));
        assert_eq!(base(None, None, file), Path::new("/etc/kv/test-data"));
        assert_eq!(base(None, None, Path::new("test.conf")), Path::new("test-data"));
    }

    #[test]
    fn a_nodes_folder_is_its_owners_and_making_it_twice_is_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("a/b");
        let made = create_for_node(&base, 2).unwrap();
        assert_eq!(made, base.join("node2"));
        for path in [&base, &made] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(create_for_node(&base, 2).unwrap(), made);
    }

    #[test]
    fn a_clusters_folder_is_one_launchers_until_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("data");
        let held = lock(&base).unwrap();
        assert_eq!(fs::metadata(&base).unwrap().permissions().mode() & 0o777, 0o700);
        let refusal = lock(&base).unwrap_err().to_string();
        assert!(refusal.contains("in use by another launcher"), "{refusal}");
        drop(held);
        assert!(lock(&base).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = create_for_node(file.path(), 0).unwrap_err();
        assert!(error.to_string().contains("node0 cannot be made"), "{error}");
    }
}
