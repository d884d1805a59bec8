//! Where the nodes keep their data: one folder of the cluster, one folder per node in it, for the owner only.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

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
    match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Ok(()) => Ok(folder),
        Err(error) => Err(Failure::Runtime(refusal(&folder, &error))),
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
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = create_for_node(file.path(), 0).unwrap_err();
        assert!(error.to_string().contains("node0 cannot be made"), "{error}");
    }
}
