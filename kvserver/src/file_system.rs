//! Which file system a directory lies on: what a log's speed is mostly about, so the status tells it.

use std::path::Path;

/// The system's table of mounts.
const MOUNTS: &str = "/proc/self/mounts";

/// The type of the file system of `path`, e.g. "ext4"; "unknown" where the system does not say.
pub(crate) fn file_system(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = std::fs::read_to_string(MOUNTS).unwrap_or_default();
    type_of(&mounts, &absolute).unwrap_or("unknown").to_owned()
}

/// The type in the line with the longest mount point above `path`; of equal ones the last, which hides the others.
fn type_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, mount_point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // The table writes a space in a name as \040.
        let mount_point = mount_point.replace("\\040", " ");
        path.starts_with(&mount_point).then_some((mount_point.len(), kind))
    });
    lines.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_above_a_path_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /run/my\\040disk xfs rw 0 0\n";
        assert_eq!(type_of(mounts, Path::new("/home/x")), Some("ext4"));
        assert_eq!(type_of(mounts, Path::new("/run/x")), Some("tmpfs"));
        assert_eq!(type_of(mounts, Path::new("/run/my disk/x")), Some("xfs"));
        assert_eq!(type_of(mounts, Path::new("/running")), Some("ext4"));
    }
}
