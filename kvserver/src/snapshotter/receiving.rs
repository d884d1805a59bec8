//! Receiving a snapshot from the leader, chunk by chunk, into a file; when the file is whole, checked and durable, the
//! core begins its log behind it and the apply-loop takes its state.

use log::{info, warn};
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{ChunkVerdict, EntryId, Index, InstallVerdict, NodeId, SnapshotMeta, Term};
use raft::membership_bytes;
use raft::net::ChunkAnswer;
use raft::storage::disk::DiskError;
use raft::storage::snapshot_file::SnapshotError;

use super::{Broken, Snapshotter};
use crate::state_machine::Restore;

impl Snapshotter {
    pub(super) fn receive(
        &mut self,
        from: NodeId,
        request: InstallSnapshotRequest,
        answer: ChunkAnswer,
    ) -> Result<(), Broken> {
        let numbers =
            [request.term, request.last_snap_shot_include_term, request.last_snap_shot_include_index];
        if let Err(why) = raft::net::check_numbers(&numbers) {
            warn!("a snapshot from node {from} is refused: {why}");
            return Ok(());
        }
        let term = Term(request.term);
        let last = EntryId {
            term: Term(request.last_snap_shot_include_term),
            index: Index(request.last_snap_shot_include_index),
        };
        let Ok(verdict) = self.node.with_core(|core| core.chunk_seen(term, from, last)) else {
            return Ok(());
        };
        let mut response = InstallSnapshotResponse { term: term.0, ..InstallSnapshotResponse::default() };
        match verdict {
            ChunkVerdict::StaleTerm(newer) => response.term = newer.0,
            ChunkVerdict::NotNeeded => (response.accepted, response.installed) = (true, true),
            ChunkVerdict::Wanted => match self.store_chunk(from, last, &request) {
                Ok(missing) if missing < request.file_bytes => {
                    (response.accepted, response.next_offset) = (true, missing);
                }
                Ok(_) => {
                    self.received = Some(Received { from, response, answer });
                    return Ok(());
                }
                Err(SnapshotError::Disk(error)) => response.no_room = no_room(from, error)?,
                Err(refused) => warn!("a snapshot from node {from} is refused: {refused}"),
            },
        }
        answer(response);
        Ok(())
    }

    /// Makes a file that has all its bytes durable, checks it, and has the core begin its log behind it. What the core
    /// has heard since the last chunk came counts: it may not want the snapshot any more.
    pub(super) fn finish_receiving(&mut self) -> Result<(), Broken> {
        let Some(Received { from, mut response, answer }) = self.received.take() else { return Ok(()) };
        let restore = self.restore.take();
        match self.files.finish_receive(&mut *self.disk) {
            Ok(meta) => {
                // What is no state stops the apply-loop, which finds that out by itself and says why.
                if let Some(Ok(machine)) = restore.map(Restore::finish) {
                    self.desk.keep_received(meta.last, machine);
                }
                self.install(meta);
                (response.accepted, response.installed) = (true, true);
            }
            Err(SnapshotError::Disk(error)) => response.no_room = no_room(from, error)?,
            Err(refused) => warn!("a snapshot from node {from} is refused: {refused}"),
        }
        answer(response);
        Ok(())
    }

    fn install(&mut self, meta: SnapshotMeta) {
        self.desk.note_newest_bytes(self.files.newest_bytes());
        // Held until the apply-loop has loaded it, also if newer ones come meanwhile.
        self.restoring.extend(self.files.pin(meta.last));
        let verdict = self.node.with_core(|core| core.install_snapshot(meta));
        if verdict == Ok(InstallVerdict::Installed) {
            self.let_log_go();
        }
    }

    /// Lets go of received snapshots whose state has been loaded, or passed by.
    pub(super) fn unpin_restored(&mut self) {
        let applied = self.state.applied_index();
        if self.files.receiving().is_some_and(|(meta, _)| meta.last.index.0 <= applied) {
            self.restore = None;
        }
        if !self.restoring.is_empty() {
            self.restoring.retain(|snapshot| snapshot.meta().last.index.0 > applied);
            if self.restoring.is_empty() {
                self.desk.forget_received();
            }
        }
    }

    /// Returns where the first missing byte of the file is.
    fn store_chunk(
        &mut self,
        from: NodeId,
        last: EntryId,
        request: &InstallSnapshotRequest,
    ) -> Result<u64, SnapshotError> {
        if crc32fast::hash(&request.data) != request.data_crc32 {
            return Err(SnapshotError::Rejected("a chunk's checksum is wrong"));
        }
        let Ok(membership) = membership_bytes::decode(&request.membership) else {
            return Err(SnapshotError::Rejected("its members cannot be read"));
        };
        let meta = SnapshotMeta { last, membership };
        let missing = self.files.begin_receive(&mut *self.disk, &meta, request.file_bytes)?;
        if missing == 0 {
            self.restore = Some(Restore::new());
        }
        if missing == 0 && request.offset == 0 {
            info!("node {from} sends a snapshot up to index {}, {} bytes", last.index, request.file_bytes);
        }
        let restore = &mut self.restore;
        self.files
            .receive_chunk(&mut *self.disk, request.offset, &request.data, |content| feed(restore, content))
    }
}

/// Gives `restore` what follows, or it up if that is none of a state.
fn feed(restore: &mut Option<Restore>, content: &[u8]) {
    if restore.as_mut().is_some_and(|restore| restore.feed(content).is_err()) {
        *restore = None;
    }
}

/// A disk that is full takes no snapshot, and says so; any other failure ends the node.
fn no_room(from: NodeId, error: DiskError) -> Result<bool, Broken> {
    match error {
        DiskError::Full { .. } => {
            warn!("a snapshot from node {from} is not taken: {error}");
            Ok(true)
        }
        error => Err(error.into()),
    }
}

/// A snapshot whose last chunk is stored; the answer to that chunk says what became of it.
pub(super) struct Received {
    from: NodeId,
    response: InstallSnapshotResponse,
    answer: ChunkAnswer,
}
