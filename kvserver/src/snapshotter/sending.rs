//! Sending the newest snapshot to followers: two chunks in flight to each, so that the next is there when one is stored, and
//! another when one is answered.
//!
//! The file is pinned while it is sent. What a follower has of it already it says in its answer, so a transfer that
//! broke off goes on where it stood. A follower whose answer is lost is reported as failed; the core asks again when
//! it hears from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::{info, warn};
use proto::raft_rpc::{InstallSnapshotRequest, InstallSnapshotResponse};
use raft::core::{NodeId, SnapshotOutcome, Term};
use raft::membership_bytes;
use raft::storage::snapshot_store::PinnedSnapshot;

use super::desk::Task;
use super::{Broken, Snapshotter};

/// Chunks on their way to a peer at once, and answers to them.
const CHUNKS_IN_FLIGHT: u32 = 2;

/// Answers without progress before a transfer counts as failed.
const STALLS_MAX: u32 = 3;

/// The transfers under way, one per peer at most.
#[derive(Default)]
pub(super) struct Sendings {
    by_peer: BTreeMap<NodeId, Sending>,
    begun: u64,
}

struct Sending {
    /// Tells this transfer's answers from those of an earlier one to the same peer.
    number: u64,
    term: Term,
    file: PinnedSnapshot,
    /// What comes before it is on its way, or there.
    sent: u64,
    /// What comes before it is there.
    acknowledged: u64,
    in_flight: u32,
    stalls: u32,
}

impl Sending {
    fn may_send(&self) -> bool {
        self.in_flight < CHUNKS_IN_FLIGHT && self.sent < self.file.bytes()
    }
}

impl Snapshotter {
    pub(super) fn begin_sending(&mut self, to: NodeId, term: Term) -> Result<(), Broken> {
        let Some(file) = self.files.pin_newest() else {
            warn!("node {to} needs a snapshot, but there is none");
            self.report(to, term, SnapshotOutcome::Failed);
            return Ok(());
        };
        info!(
            "node {to} is sent the snapshot up to index {}, {} bytes",
            file.meta().last.index,
            file.bytes()
        );
        self.sendings.begun += 1;
        let number = self.sendings.begun;
        let (sent, acknowledged, in_flight, stalls) = Default::default();
        let sending = Sending { number, term, file, sent, acknowledged, in_flight, stalls };
        self.sendings.by_peer.insert(to, sending);
        // One alone: its answer says what the peer has from before.
        self.send_chunk(to)
    }

    pub(super) fn go_on_sending(
        &mut self,
        to: NodeId,
        number: u64,
        answer: Option<InstallSnapshotResponse>,
    ) -> Result<(), Broken> {
        let Some(sending) = self.sendings.by_peer.get_mut(&to).filter(|sending| sending.number == number)
        else {
            return Ok(());
        };
        let is_full = answer.as_ref().is_some_and(|answer| answer.no_room);
        let Some(answer) = answer.filter(|answer| answer.accepted) else {
            let outcome = if is_full { SnapshotOutcome::NoRoom } else { SnapshotOutcome::Failed };
            self.end_sending(to, outcome);
            return Ok(());
        };
        if answer.installed {
            let last = sending.file.meta().last.index;
            info!("node {to} has the snapshot up to index {last}");
            self.end_sending(to, SnapshotOutcome::Installed(last));
            return Ok(());
        }
        if sending.acknowledged == 0 && answer.next_offset > self.sizes.send as u64 {
            info!(
                "node {to} has {} bytes of it from before; the transfer goes on behind them",
                answer.next_offset
            );
        }
        sending.in_flight -= 1;
        sending.stalls = if answer.next_offset > sending.acknowledged { 0 } else { sending.stalls + 1 };
        sending.acknowledged = answer.next_offset;
        if sending.stalls > STALLS_MAX || sending.acknowledged >= sending.file.bytes() {
            self.end_sending(to, SnapshotOutcome::Failed);
            return Ok(());
        }
        if sending.in_flight == 0 {
            // What the peer has not taken is sent again, and what it had is not sent.
            sending.sent = sending.acknowledged;
        }
        while self.sendings.by_peer[&to].may_send() {
            self.send_chunk(to)?;
        }
        Ok(())
    }

    fn send_chunk(&mut self, to: NodeId) -> Result<(), Broken> {
        let Some(sending) = self.sendings.by_peer.get_mut(&to) else { return Ok(()) };
        let offset = sending.sent;
        let data = sending.file.read(&mut *self.disk, offset, self.sizes.send)?;
        sending.sent += data.len() as u64;
        sending.in_flight += 1;
        let meta = sending.file.meta();
        let request = InstallSnapshotRequest {
            term: sending.term.0,
            last_snap_shot_include_index: meta.last.index.0,
            last_snap_shot_include_term: meta.last.term.0,
            offset,
            file_bytes: sending.file.bytes(),
            data_crc32: crc32fast::hash(&data),
            data,
            membership: membership_bytes::encode(&meta.membership).into(),
            ..InstallSnapshotRequest::default()
        };
        let (desk, number) = (Arc::clone(&self.desk), sending.number);
        let done = move |answer| {
            // A full desk loses the answer; the core asks for the snapshot again when it hears from the peer.
            let _ = desk.leave(Task::Answered { to, number, answer });
        };
        self.chunks.send_chunk(to, request, Box::new(done));
        Ok(())
    }

    fn end_sending(&mut self, to: NodeId, outcome: SnapshotOutcome) {
        if let Some(sending) = self.sendings.by_peer.remove(&to) {
            self.report(to, sending.term, outcome);
        }
    }

    fn report(&self, to: NodeId, term: Term, outcome: SnapshotOutcome) {
        // A stopped node has nothing to do with the outcome.
        let _ = self.node.with_core(|core| core.snapshot_report(to, term, outcome));
    }
}
