//! Checks a snapshot file on its way in: its bytes come in parts of any length, from memory.
//!
//! What a peer sends is not believed by its word. Its content is handed on at once, and counts only when the last byte has
//! come and all of it has fitted; nothing is held but what is left of a header.

use raft_core::SnapshotMeta;

use super::disk::FileName;
use super::snapshot_file::SnapshotError;
use super::snapshot_format::{
    FOOTER_BYTES, Flaw, HEADER_FIXED_BYTES, OpenPiece, PIECE_HEADER_BYTES, Tally, decode_header, header_bytes,
};

/// The checker of one file.
#[derive(Debug)]
pub(super) struct SnapshotStream {
    file: FileName,
    stage: Stage,
    /// Of what is taken as a whole, the bytes that have come.
    gathered: Vec<u8>,
    /// How many it has.
    needed: usize,
    /// Of the whole file, the bytes that have come.
    offset: u64,
    header: Option<(SnapshotMeta, Tally)>,
}

#[derive(Debug)]
enum Stage {
    /// The first bytes of the header, which say how long it is.
    HeaderStart,
    Header,
    PieceHeader,
    Content(OpenPiece),
    Footer,
    End,
}

impl SnapshotStream {
    /// Waits for the first byte of `file`.
    pub(super) fn new(file: FileName) -> SnapshotStream {
        let (gathered, stage) = (Vec::new(), Stage::HeaderStart);
        SnapshotStream { file, stage, gathered, needed: HEADER_FIXED_BYTES, offset: 0, header: None }
    }

    /// Takes the next bytes, and shows `visit` what of them is content.
    ///
    /// # Errors
    /// When they cannot be of such a file. It is of no use then.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let missing = match &self.stage {
                Stage::Content(piece) => piece.missing(),
                Stage::End => return Err(Flaw::Damage("bytes follow its end").of(&self.file, self.offset)),
                _ => self.needed - self.gathered.len(),
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            let is_whole = now.len() == missing;
            match &mut self.stage {
                Stage::Content(piece) => {
                    piece.take(now);
                    visit(now);
                }
                _ => self.gathered.extend_from_slice(now),
            }
            self.offset += now.len() as u64;
            if is_whole {
                self.go_on().map_err(|flaw| flaw.of(&self.file, self.offset))?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// What the file stands for, if it was whole.
    pub(super) fn finish(self) -> Result<SnapshotMeta, SnapshotError> {
        match (self.stage, self.header) {
            (Stage::End, Some((meta, _))) => Ok(meta),
            _ => Err(Flaw::Damage("it is cut off").of(&self.file, self.offset)),
        }
    }

    /// What the stage waited for has come.
    fn go_on(&mut self) -> Result<(), Flaw> {
        let stage = std::mem::replace(&mut self.stage, Stage::End);
        let Some((_, tally)) = &mut self.header else {
            if let Stage::HeaderStart = stage {
                self.needed = header_bytes(&self.gathered)?;
                self.stage = Stage::Header;
            } else {
                self.header = Some(decode_header(&self.gathered)?);
                self.await_piece();
            }
            return Ok(());
        };
        match stage {
            Stage::Content(piece) => {
                tally.close(piece)?;
                self.await_piece();
            }
            Stage::PieceHeader => match tally.open_piece(&self.gathered)? {
                Some(piece) => self.stage = Stage::Content(piece),
                // What has come is the beginning of the footer.
                None => (self.stage, self.needed) = (Stage::Footer, FOOTER_BYTES),
            },
            _ => tally.check_footer(&self.gathered)?,
        }
        Ok(())
    }

    fn await_piece(&mut self) {
        self.gathered.clear();
        (self.stage, self.needed) = (Stage::PieceHeader, PIECE_HEADER_BYTES);
    }
}
