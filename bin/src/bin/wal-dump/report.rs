//! What is printed, as JSON has it and text is made from.

use std::path::Path;

use raft::core::{HardState, Membership, SnapshotMeta};
use raft::storage::wal::{HeaderRead, Position, ReaderStop, SegmentReport, segment_name};
use raft::storage::{Identity, IdentityError, Inspection, SnapshotReport};
use serde::Serialize;

/// Everything there is to say about one directory.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) directory: String,
    pub(crate) is_sound: bool,
    /// What is damaged, in sentences.
    pub(crate) damage: Vec<String>,
    /// What a start would cut or pass over, in sentences.
    pub(crate) remarks: Vec<String>,
    pub(crate) identity: Option<IdentityRow>,
    /// What a node would start from; nothing if it would not.
    pub(crate) start: Option<StartRow>,
    pub(crate) segments: Vec<SegmentRow>,
    pub(crate) snapshots: Vec<SnapshotRow>,
    /// Spares, and snapshots that were never finished.
    pub(crate) leftovers: Vec<String>,
    /// What was set aside of a log that was damaged, until the others have repaired it.
    pub(crate) set_aside: Vec<String>,
    /// Files that no node has written.
    pub(crate) foreign: Vec<String>,
    /// Only if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entries: Option<Vec<EntryRow>>,
}

#[derive(Debug, Serialize)]
pub(crate) struct IdentityRow {
    pub(crate) cluster_id: String,
    pub(crate) node: u64,
    /// In hexadecimal digits, as in the file.
    pub(crate) incarnation: String,
    pub(crate) admitted: bool,
    /// Whether it was added to a running cluster.
    pub(crate) joined: bool,
    /// Whether a peer knew the node with other data.
    pub(crate) stays_out: bool,
    pub(crate) peers: Vec<PeerRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PeerRow {
    pub(crate) node: u64,
    pub(crate) incarnation: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct StartRow {
    pub(crate) hard_state: HardStateRow,
    pub(crate) snapshot: Option<MetaRow>,
    /// First and last entry of the log, those that the snapshot covers included.
    pub(crate) first_index: Option<u64>,
    pub(crate) last_index: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HardStateRow {
    pub(crate) term: u64,
    pub(crate) vote: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MetaRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) voters: Vec<u64>,
    pub(crate) outgoing: Vec<u64>,
    pub(crate) learners: Vec<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlaceRow {
    pub(crate) file: String,
    pub(crate) offset: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SegmentRow {
    pub(crate) file: String,
    pub(crate) file_bytes: u64,
    /// Why the header cannot be used, if it cannot.
    pub(crate) header_fault: Option<String>,
    pub(crate) records: u64,
    pub(crate) batches: u64,
    pub(crate) seals: u64,
    pub(crate) entries: u64,
    pub(crate) first_index: Option<u64>,
    pub(crate) last_index: Option<u64>,
    pub(crate) hard_state: Option<HardStateRow>,
    pub(crate) snapshot: Option<MetaRow>,
    pub(crate) synced_to: Option<PlaceRow>,
    pub(crate) continued_to: Option<PlaceRow>,
    pub(crate) is_sealed: bool,
    /// Where its records end, in bytes from the file's beginning.
    pub(crate) end: u64,
    /// Why there is no record there; nothing if only zeros follow.
    pub(crate) stop: Option<String>,
    /// From there to the last byte that is not zero.
    pub(crate) bytes_behind: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SnapshotRow {
    pub(crate) file: String,
    pub(crate) file_bytes: u64,
    pub(crate) pieces: u64,
    pub(crate) content_bytes: u64,
    pub(crate) meta: Option<MetaRow>,
    pub(crate) damage: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct EntryRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: &'static str,
    /// Of the command.
    pub(crate) bytes: usize,
    pub(crate) file: String,
    pub(crate) offset: u64,
}

impl Report {
    pub(crate) fn of(
        directory: &Path,
        identity: Result<Identity, IdentityError>,
        inspection: Inspection,
        entries: Option<Vec<EntryRow>>,
    ) -> Report {
        let Inspection { segments, snapshots, leftovers, set_aside, foreign, verdict } = inspection;
        let mut damage = Vec::new();
        damage.extend(identity.as_ref().err().map(ToString::to_string));
        damage.extend(verdict.as_ref().err().map(ToString::to_string));
        let snapshots: Vec<SnapshotRow> = snapshots.into_iter().map(SnapshotRow::of).collect();
        damage.extend(snapshots.iter().filter_map(|snapshot| snapshot.damage.clone()));
        let (start, remarks) = match verdict {
            Ok(examined) => {
                let remarks = examined.remarks.into_iter().map(|remark| remark.text);
                let (first, last) = (examined.restored.entries.first(), examined.restored.entries.last());
                let start = StartRow {
                    hard_state: HardStateRow::of(&examined.restored.hard_state),
                    snapshot: examined.restored.snapshot.as_ref().map(MetaRow::of),
                    first_index: first.map(|entry| entry.index.0),
                    last_index: last.map(|entry| entry.index.0),
                };
                (Some(start), remarks.filter(|text| !damage.contains(text)).collect())
            }
            Err(_) => (None, Vec::new()),
        };
        Report {
            directory: directory.display().to_string(),
            is_sound: damage.is_empty(),
            damage,
            remarks,
            identity: identity.ok().map(IdentityRow::of),
            start,
            segments: segments.into_iter().map(SegmentRow::of).collect(),
            snapshots,
            set_aside: set_aside.into_iter().map(|entry| entry.file.to_string()).collect(),
            leftovers: leftovers.into_iter().map(|entry| entry.file.to_string()).collect(),
            foreign: foreign.into_iter().map(|entry| entry.file.to_string()).collect(),
            entries,
        }
    }
}

impl IdentityRow {
    fn of(identity: Identity) -> IdentityRow {
        let peer = |(node, incarnation): &(raft::core::NodeId, u64)| PeerRow {
            node: node.0,
            incarnation: format!("{incarnation:016x}"),
        };
        IdentityRow {
            node: identity.node_id.0,
            incarnation: format!("{:016x}", identity.incarnation),
            admitted: identity.admitted,
            joined: identity.joined,
            stays_out: identity.stays_out,
            peers: identity.peers.iter().map(peer).collect(),
            cluster_id: identity.cluster_id,
        }
    }
}

impl HardStateRow {
    fn of(hard_state: &HardState) -> HardStateRow {
        HardStateRow { term: hard_state.term.0, vote: hard_state.vote.map(|node| node.0) }
    }
}

impl MetaRow {
    fn of(meta: &SnapshotMeta) -> MetaRow {
        let Membership { voters, outgoing, learners, .. } = &meta.membership;
        let [voters, outgoing, learners] =
            [voters, outgoing, learners].map(|nodes| nodes.iter().map(|node| node.0).collect());
        MetaRow { index: meta.last.index.0, term: meta.last.term.0, voters, outgoing, learners }
    }
}

impl PlaceRow {
    fn of(place: Position) -> PlaceRow {
        PlaceRow { file: segment_name(place.segment).to_string(), offset: place.offset }
    }
}

impl SegmentRow {
    fn of(segment: SegmentReport) -> SegmentRow {
        SegmentRow {
            header_fault: match segment.header {
                HeaderRead::Header(_) => None,
                HeaderRead::UnknownVersion(version) => Some(format!("it is of format version {version}")),
                HeaderRead::Unreadable => Some("it cannot be read".to_owned()),
            },
            stop: match segment.stop {
                ReaderStop::End => None,
                ReaderStop::Broken(reason) => Some(reason.to_owned()),
                ReaderStop::UnknownKind(kind) => Some(format!("the record is of unknown kind {kind}")),
            },
            file: segment.file.to_string(),
            file_bytes: segment.file_bytes,
            records: segment.records,
            batches: segment.batches,
            seals: segment.seals,
            entries: segment.entries,
            first_index: segment.indexes.as_ref().map(|indexes| indexes.start().0),
            last_index: segment.indexes.as_ref().map(|indexes| indexes.end().0),
            hard_state: segment.hard_state.as_ref().map(HardStateRow::of),
            snapshot: segment.snapshot.as_ref().map(MetaRow::of),
            synced_to: segment.synced_to.map(PlaceRow::of),
            continued_to: segment.continued_to.map(PlaceRow::of),
            is_sealed: segment.is_sealed,
            end: segment.end,
            bytes_behind: segment.bytes_behind,
        }
    }
}

impl SnapshotRow {
    fn of(snapshot: SnapshotReport) -> SnapshotRow {
        SnapshotRow {
            file: snapshot.file.to_string(),
            file_bytes: snapshot.file_bytes,
            pieces: snapshot.pieces,
            content_bytes: snapshot.content_bytes,
            meta: snapshot.meta.as_ref().ok().map(MetaRow::of),
            damage: snapshot.meta.err().map(|error| error.to_string()),
        }
    }
}
