//! Whose data directory this is: the cluster, the node, and a number of its own; a lock for one process, and nobody
//! else's eyes.
//!
//! ```text
//! raft-kv data directory
//! format 1
//! cluster example
//! node 2
//! incarnation 9f3c5a7e01b2d4f6
//! peer 0 1122334455667788        (one line a peer: its incarnation as seen when the cluster began)
//! peer 1 99aabbccddeeff00
//! admitted                       (only once this node takes part)
//! joined                         (only if it was added to a cluster, rather than began one)
//! stays out                      (only if a peer knew this node with other data: it never takes part)
//! checksum 5d2f9a10              (CRC32 of everything above)
//! ```
//!
//! A node that starts on a directory of another node or cluster would break promises it never made; one that starts on
//! an empty directory may have lost promises it did make, which is what the incarnations show its peers. The file is
//! replaced as a whole (written aside, synced, renamed, directory synced) and never changed in place.
//!
//! This works on `std::fs` and not on a `Disk`: it happens once, before there is a node.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use log::warn;
use raft_core::NodeId;
use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;

use super::directory_lock::DirectoryLock;
use super::disk::FileName;
use super::wal::segment_sequence;

/// The version of the identity file that this code reads and writes.
pub const IDENTITY_FORMAT_VERSION: u32 = 1;

/// A cluster's name may be this long, in bytes.
pub const CLUSTER_ID_BYTES_MAX: usize = 255;

const TITLE: &str = "raft-kv data directory";
/// The identity's file in the data directory.
pub(super) const IDENTITY_FILE: &str = "identity";
const IDENTITY_FILE_ASIDE: &str = "identity.tmp";

/// A directory's mode: nobody but its owner may do anything.
const PRIVATE_MODE: u32 = 0o700;

/// Whose a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of the cluster.
    pub cluster_id: String,
    /// The node.
    pub node_id: NodeId,
    /// Drawn by dice when the directory was made; no other directory has it.
    pub incarnation: u64,
    /// The incarnations of the other nodes' directories when the cluster began.
    pub peers: Vec<(NodeId, u64)>,
    /// Whether the node takes part in its cluster.
    pub admitted: bool,
    /// Whether it was added to a cluster that others had begun.
    pub joined: bool,
    /// Whether a peer has shown that the node took part with another directory: with this one it never does.
    pub stays_out: bool,
}

impl Identity {
    /// A directory with which its node has not taken part yet.
    pub fn new(cluster_id: &str, node_id: NodeId, incarnation: u64) -> Identity {
        let (peers, admitted, joined, stays_out) = (Vec::new(), false, false, false);
        Identity {
            cluster_id: cluster_id.to_owned(),
            node_id,
            incarnation,
            peers,
            admitted,
            joined,
            stays_out,
        }
    }

    /// The voters its cluster began with, as far as this node must know them: none if it was added later and learns from
    /// the log. None before it takes part.
    pub fn founders(&self) -> Option<Vec<NodeId>> {
        let all = self.peers.iter().map(|(peer, _)| *peer).chain([self.node_id]);
        self.admitted.then(|| if self.joined { Vec::new() } else { all.collect() })
    }

    /// The same directory once its node takes part in a cluster that begins, with the incarnations of its peers.
    pub fn as_founder(&self, peers: Vec<(NodeId, u64)>) -> Identity {
        Identity { peers, admitted: true, ..self.clone() }
    }

    /// The same directory once its node takes part in a cluster that it was added to.
    pub fn as_joined(&self) -> Identity {
        Identity { admitted: true, joined: true, ..self.clone() }
    }

    /// The same directory once a peer has shown that its node took part with another one.
    pub fn as_outcast(&self) -> Identity {
        Identity { stays_out: true, ..self.clone() }
    }

    /// The identity of the directory `path`, which is not changed; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or of a version this program does not know.
    pub fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
        match std::fs::read(path.join(IDENTITY_FILE)) {
            Ok(text) => parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(path, "read the file identity")(error)),
        }
    }
}

/// Why a data directory cannot be used. Each says in one sentence what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Another process holds the lock.
    #[error("data directory {} is in use by another process; stop that one first or choose another --data-dir", .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory is of another cluster.
    #[error(
        "data directory {} belongs to cluster \"{found}\", not to \"{wanted}\"; choose another --data-dir or correct the cluster id",
        .directory.display()
    )]
    OtherCluster {
        /// The directory.
        directory: PathBuf,
        /// Its cluster.
        found: String,
        /// The cluster asked for.
        wanted: String,
    },
    /// The directory is of another node.
    #[error("data directory {} belongs to node {found}, not to node {wanted}; start node {found} on it or choose another --data-dir", .directory.display())]
    OtherNode {
        /// The directory.
        directory: PathBuf,
        /// Its node.
        found: NodeId,
        /// The node asked for.
        wanted: NodeId,
    },
    /// The identity file is of a version this program does not know.
    #[error("data directory {} has format version {found}, this program reads version {IDENTITY_FORMAT_VERSION}; use the program that wrote it", .directory.display())]
    UnknownVersion {
        /// The directory.
        directory: PathBuf,
        /// Its version, as written.
        found: String,
    },
    /// The identity file cannot be understood.
    #[error("the file {IDENTITY_FILE} in data directory {} is damaged ({reason}); put it back as the node left it; an empty directory would be refused by the other nodes", .directory.display())]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a log or a snapshot and no identity.
    #[error("data directory {} holds {file} but no file {IDENTITY_FILE}; put that file back as the node left it, or choose an empty --data-dir", .directory.display())]
    WithoutIdentity {
        /// The directory.
        directory: PathBuf,
        /// A file that shows that the directory was in use.
        file: String,
    },
    /// The cluster's name cannot be written into a line of text.
    #[error(
        "\"{cluster_id}\" cannot name a cluster; use 1 to {CLUSTER_ID_BYTES_MAX} bytes without control characters or spaces at the ends"
    )]
    BadClusterId {
        /// The name.
        cluster_id: String,
    },
    /// The operating system refused.
    #[error("data directory {}: cannot {action}: {error}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
}

/// A data directory that is ours, and locked as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    _lock: DirectoryLock,
}

impl DataDirectory {
    /// Opens the directory of this node, making it and its identity if there is none. Whoever else could look into the
    /// directory cannot any more (0700).
    ///
    /// # Errors
    /// When it is in use, of another node, cluster or version, damaged, or cannot be written.
    pub fn open(path: &Path, cluster_id: &str, node_id: NodeId) -> Result<DataDirectory, IdentityError> {
        let is_line = !cluster_id.chars().any(char::is_control) && cluster_id.trim() == cluster_id;
        if cluster_id.is_empty() || cluster_id.len() > CLUSTER_ID_BYTES_MAX || !is_line {
            return Err(IdentityError::BadClusterId { cluster_id: cluster_id.to_owned() });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_MODE)
            .create(path)
            .map_err(io_error(path, "create it"))?;
        let lock = DirectoryLock::exclusive(path)?;
        let found = Identity::read(path)?;
        match &found {
            Some(identity) => check(path, identity, cluster_id, node_id)?,
            None => refuse_files_of_ours(path)?,
        }
        // Somebody else's directory is left as it is, and nothing is written into one that others can look into.
        make_private(path, lock.directory())?;
        let identity = match found {
            Some(identity) => identity,
            None => begin(path, cluster_id, node_id)?,
        };
        Ok(DataDirectory { path: path.to_path_buf(), identity, _lock: lock })
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the node has never taken part with this directory.
    pub fn is_fresh(&self) -> bool {
        !self.identity.admitted
    }

    /// Records, durably, that the node takes part in a cluster that begins, and the incarnations of its peers.
    ///
    /// # Errors
    /// When the file cannot be written; then nothing has changed.
    pub fn admit(&mut self, peers: &[(NodeId, u64)]) -> Result<(), IdentityError> {
        self.record(self.identity.as_founder(peers.to_vec()))
    }

    /// Records, durably, what has become of the node.
    ///
    /// # Errors
    /// When the file cannot be written; then nothing has changed.
    pub fn record(&mut self, identity: Identity) -> Result<(), IdentityError> {
        store(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }
}

/// Makes a new directory this node's.
fn begin(path: &Path, cluster_id: &str, node_id: NodeId) -> Result<Identity, IdentityError> {
    sync_names(path).map_err(io_error(path, "make its name durable"))?;
    let incarnation = SysRng
        .try_next_u64()
        .map_err(|error| io_error(path, "draw an incarnation")(io::Error::other(error)))?;
    let identity = Identity::new(cluster_id, node_id, incarnation);
    store(path, &identity)?;
    Ok(identity)
}

/// Makes every name on the way to the directory durable, up to the root of its file system: whoever has made it may have
/// made some of its parents too, and with one of them all that is ever promised here would be lost.
fn sync_names(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    let device = path.metadata()?.dev();
    for parent in path.ancestors().skip(1) {
        let parent = match File::open(parent) {
            // What one cannot even read has been there before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            opened => opened?,
        };
        if parent.metadata()?.dev() != device {
            return Ok(());
        }
        parent.sync_all()?;
    }
    Ok(())
}

/// Takes from everybody but the owner what an earlier hand gave them.
fn make_private(path: &Path, directory: &File) -> Result<(), IdentityError> {
    let metadata = directory.metadata().map_err(io_error(path, "read its mode"))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & !PRIVATE_MODE != 0 {
        let private = Permissions::from_mode(PRIVATE_MODE);
        directory
            .set_permissions(private)
            .map_err(io_error(path, "make it its owner's alone (mode 0700)"))?;
        warn!(
            "data directory {} was open to others (mode {mode:04o}); it is 0700 from here on",
            path.display()
        );
    }
    Ok(())
}

fn refuse_files_of_ours(path: &Path) -> Result<(), IdentityError> {
    let entries = std::fs::read_dir(path).map_err(io_error(path, "list files"))?;
    for entry in entries {
        let entry = entry.map_err(io_error(path, "list files"))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let is_snapshot = file.starts_with("snapshot-") && file.ends_with(".snap");
        if is_snapshot || segment_sequence(&FileName::new(&file)).is_some() {
            return Err(IdentityError::WithoutIdentity { directory: path.to_path_buf(), file });
        }
    }
    Ok(())
}

fn check(path: &Path, identity: &Identity, cluster_id: &str, node_id: NodeId) -> Result<(), IdentityError> {
    let directory = path.to_path_buf();
    if identity.cluster_id != cluster_id {
        let (found, wanted) = (identity.cluster_id.clone(), cluster_id.to_owned());
        return Err(IdentityError::OtherCluster { directory, found, wanted });
    }
    if identity.node_id != node_id {
        return Err(IdentityError::OtherNode { directory, found: identity.node_id, wanted: node_id });
    }
    Ok(())
}

fn store(path: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let aside = path.join(IDENTITY_FILE_ASIDE);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(render(identity).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path.join(IDENTITY_FILE))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| {
        // A file in part is of no use; whatever comes of its removal, the failure counts.
        let _ = std::fs::remove_file(&aside);
        io_error(path, "write the file identity")(error)
    })
}

fn render(identity: &Identity) -> String {
    let Identity { cluster_id, node_id, incarnation, peers, admitted, joined, stays_out } = identity;
    let mut text = format!(
        "{TITLE}\nformat {IDENTITY_FORMAT_VERSION}\ncluster {cluster_id}\nnode {node_id}\n\
         incarnation {incarnation:016x}\n"
    );
    for (peer, incarnation) in peers {
        text.push_str(&format!("peer {peer} {incarnation:016x}\n"));
    }
    if *admitted {
        text.push_str("admitted\n");
    }
    if *joined {
        text.push_str("joined\n");
    }
    if *stays_out {
        text.push_str("stays out\n");
    }
    text.push_str(&format!("checksum {:08x}\n", crc32fast::hash(text.as_bytes())));
    text
}

fn parse(path: &Path, text: &[u8]) -> Result<Identity, IdentityError> {
    let damaged =
        |reason: &str| IdentityError::Damaged { directory: path.to_path_buf(), reason: reason.to_owned() };
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged("its first line is not ours"));
    }
    match lines.next().and_then(|line| line.strip_prefix("format ")) {
        Some(version) if version == IDENTITY_FORMAT_VERSION.to_string() => {}
        Some(version) => {
            let (directory, found) = (path.to_path_buf(), version.to_owned());
            return Err(IdentityError::UnknownVersion { directory, found });
        }
        None => return Err(damaged("it names no format")),
    }
    let identity = parse_lines(lines).ok_or_else(|| damaged("a line cannot be understood"))?;
    // What we would write for this must be what is there: that covers the checksum, the order and every byte.
    if render(&identity) != text {
        return Err(damaged("its checksum does not fit"));
    }
    Ok(identity)
}

fn parse_lines<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Identity> {
    let cluster_id = lines.next()?.strip_prefix("cluster ")?;
    let node_id = NodeId(lines.next()?.strip_prefix("node ")?.parse().ok()?);
    let incarnation = u64::from_str_radix(lines.next()?.strip_prefix("incarnation ")?, 16).ok()?;
    let mut identity = Identity::new(cluster_id, node_id, incarnation);
    for line in lines {
        if let Some(peer) = line.strip_prefix("peer ") {
            let (id, incarnation) = peer.split_once(' ')?;
            identity.peers.push((NodeId(id.parse().ok()?), u64::from_str_radix(incarnation, 16).ok()?));
        } else if line == "admitted" {
            identity.admitted = true;
        } else if line == "joined" {
            identity.joined = true;
        } else if line == "stays out" {
            identity.stays_out = true;
        } else if line.starts_with("checksum ") {
            return Some(identity);
        } else {
            return None;
        }
    }
    None
}

pub(super) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> IdentityError {
    let directory = path.to_path_buf();
    move |error| IdentityError::Io { directory, action, error }
}
