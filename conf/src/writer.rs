//! Writes the nodes of a new cluster into the file, atomically, and keeps what stands there.
//!
//! The new text goes to a temporary file in the same folder, is synced, renamed over the old one, and the folder is
//! synced: whoever reads the file sees the old text or the whole new one, also after a power cut. Comments and
//! settings stay where they are, byte for byte; the nodes are added below them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::address::NodeAddress;
use crate::config::Config;
use crate::error::ConfError;

/// Adds the nodes, and the cluster id unless the file has one already, to the file at `path`, which may exist.
///
/// A file that names nodes already is refused: replacing a cluster's addresses is the operator's decision.
pub fn write_nodes(path: &Path, nodes: &[NodeAddress], cluster_id: &str) -> Result<(), ConfError> {
    assert!(!nodes.is_empty(), "a cluster has at least one node");
    let write_error = |reason| ConfError::Write { file: path.to_owned(), reason };
    let old = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(reason) => return Err(ConfError::Read { file: path.to_owned(), reason }),
    };
    let name = path.display().to_string();
    let config = Config::parse(old.as_deref().unwrap_or_default(), &name)?;
    if !config.nodes.is_empty() {
        let what = format!("it names {} nodes already, which are not replaced", config.nodes.len());
        return Err(ConfError::Whole { file: name, what });
    }
    let cluster_id = (!config.cluster_id_is_set).then_some(cluster_id);
    let text = compose(old.as_deref(), nodes, cluster_id);
    // What is written must be readable again; a bad address of the caller's shall not reach the disk.
    Config::parse(&text, &name)?;
    replace(path, text.as_bytes(), old.is_some()).map_err(write_error)
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

fn replace(path: &Path, bytes: &[u8], exists: bool) -> io::Result<()> {
    // Through a symbolic link the file it points to is replaced, not the link.
    let target = if exists { fs::canonicalize(path)? } else { path.to_owned() };
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let file_name = target.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let temporary = folder.join(format!(".{}.{}.tmp", file_name.to_string_lossy(), std::process::id()));
    let result = write_synced(&temporary, bytes, exists.then_some(&target))
        .and_then(|()| fs::rename(&temporary, &target))
        .and_then(|()| File::open(&folder)?.sync_all());
    if result.is_err() {
        // The failure is what the caller hears; a temporary file that cannot be removed either changes nothing.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_synced(path: &Path, bytes: &[u8], permissions_of: Option<&PathBuf>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    if let Some(old) = permissions_of {
        file.set_permissions(fs::metadata(old)?.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
