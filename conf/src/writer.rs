//! Writes the nodes of a new cluster into the file, atomically, and keeps what stands there.
//!
//! The new text goes to a draft in the same folder, is synced, renamed over the old one, and the folder is synced:
//! whoever reads the file sees the old text or the whole new one, also after a power cut. Comments and settings stay
//! where they are, byte for byte; the nodes are added below them.
//!
//! Of several programs that find no nodes at the same time one writes its own, and all others take those: the draft has
//! one name and is locked from before the file is read until it is renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crate::address::NodeAddress;
use crate::config::{Config, read_text};
use crate::error::ConfError;

/// How long another program may take to write the file; it needs milliseconds.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
/// How many symbolic links in a row are followed, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Adds the nodes, and the cluster id unless the file has one already, to the file at `path`, which may exist. Returns
/// what the file says then: other nodes than these if it named some already, which is the operator's decision or that of
/// a program that was quicker.
pub fn write_nodes(path: &Path, nodes: &[NodeAddress], cluster_id: &str) -> Result<Config, ConfError> {
    assert!(!nodes.is_empty(), "a cluster has at least one node");
    let write_error = |reason| ConfError::Write { file: path.to_owned(), reason };
    let target = end_of_links(path).map_err(write_error)?;
    let draft = Draft::lock(&target).map_err(write_error)?;
    let old = match read_text(&target, path) {
        Ok(text) => Some(text),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let name = path.display().to_string();
    let config = Config::parse(old.as_deref().unwrap_or_default(), &name)?;
    if !config.nodes.is_empty() {
        return Ok(config);
    }
    let cluster_id = (!config.cluster_id_is_set).then_some(cluster_id);
    let text = compose(old.as_deref(), nodes, cluster_id);
    // What is written must be readable again; a bad address of the caller's shall not reach the disk.
    let config = Config::parse(&text, &name)?;
    draft.replace(&target, text.as_bytes()).map_err(write_error)?;
    Ok(config)
}

/// Gives the cluster of the file at `path`, which exists, another name. Everything else stays as it stands there.
///
/// # Errors
/// When the file cannot be read or written, or the name is none.
pub fn set_cluster_id(path: &Path, cluster_id: &str) -> Result<Config, ConfError> {
    let write_error = |reason| ConfError::Write { file: path.to_owned(), reason };
    let target = end_of_links(path).map_err(write_error)?;
    let draft = Draft::lock(&target).map_err(write_error)?;
    let old = read_text(&target, path)?;
    let is_name = |line: &&str| line.split('=').next().is_some_and(|key| key.trim() == "cluster_id");
    // Some editors put a mark before the first line, which it is then no part of.
    let lines = old.strip_prefix('\u{feff}').unwrap_or(&old).split_inclusive('\n');
    let mut text: String = lines.filter(|line| !is_name(line)).collect();
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(line_end);
    }
    text.push_str(&format!("cluster_id={cluster_id}{line_end}"));
    let config = Config::parse(&text, &path.display().to_string())?;
    draft.replace(&target, text.as_bytes()).map_err(write_error)?;
    Ok(config)
}

fn compose(old: Option<&str>, nodes: &[NodeAddress], cluster_id: Option<&str>) -> String {
    let header =
        "# The nodes of this cluster. conf/sample.conf lists every setting that may be added here.\n";
    let mut text = old.unwrap_or(header).to_owned();
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(line_end);
    }
    let mut add = |line: String| {
        text.push_str(&line);
        text.push_str(line_end);
    };
    if let Some(cluster_id) = cluster_id {
        add(format!("cluster_id={cluster_id}"));
    }
    for node in nodes {
        add(format!("node{}ip={}", node.id, node.host));
        add(format!("node{}port={}", node.id, node.port));
        if let Some(listen) = &node.listen {
            add(format!("node{}listen={listen}", node.id));
        }
    }
    text
}

/// The file that a path means: through symbolic links the file they lead to is written, also one that is not there yet.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            // No link, or nothing at all: the end.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The locked file that becomes the new one. One that is dropped before goes away; one that a crash left is used again.
struct Draft {
    file: File,
    path: PathBuf,
    is_in_place: bool,
}

impl Draft {
    /// Waits for the lock in a thread of its own, since the system knows no such wait with an end.
    fn lock(target: &Path) -> io::Result<Draft> {
        let file_name = target.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
        let path = folder_of(target).join(format!(".{}.tmp", file_name.to_string_lossy()));
        let too_long = format!("another program holds {} for too long", path.display());
        let (sender, receiver) = sync_channel(1);
        // A draft that comes when nobody waits any more is dropped.
        let body = move || drop(sender.send(Draft::lock_at(path)));
        thread::Builder::new().name("draft-lock".to_owned()).spawn(body)?;
        receiver.recv_timeout(LOCK_WITHIN).unwrap_or_else(|_| Err(io::Error::other(too_long)))
    }

    fn lock_at(path: PathBuf) -> io::Result<Draft> {
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            // Who held the lock before has renamed or removed the file that was waited for: then it guards nothing.
            if is_at(&file, &path)? {
                return Ok(Draft { file, path, is_in_place: false });
            }
        }
    }

    /// Makes these bytes the target's, for good.
    fn replace(mut self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        match fs::metadata(target) {
            Ok(old) => self.file.set_permissions(old.permissions())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.file.set_len(0)?;
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.is_in_place = true;
        File::open(folder_of(target))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Locked until the field is dropped, so that it is nobody else's. One that cannot be removed changes nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the open file is the one at this path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::symlink_metadata(path) {
        Ok(there) => Ok(identity(there) == identity(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
