//! The files of a simulated sender: their content by a seed, and what is wrong with them.
//!
//! Content is either real bytes (small transfers, compared byte for byte) or only its version,
//! so that a transfer of any size costs nothing.

use std::ops::Range;

use twox_hash::XxHash3_128;

use super::impairment::mix;
use crate::proto::{RangeSet, Time};
use crate::wire::{Digest, DigestAlgorithm, EntryKind, RefuseCode, VoidReason, limits};

/// What the receiver's shell decides on an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// It takes it and commits it.
    #[default]
    Take,
    /// It is there already, equal.
    Present,
    /// It will not store it.
    Refuse(RefuseCode),
    /// It takes it, and the commit fails.
    FailCommit(RefuseCode),
}

/// One entry of a simulated source.
#[derive(Clone, Debug)]
pub struct SimFile {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub size: u64,
    /// Ranges without data, ascending and apart from each other.
    pub holes: Vec<Range<u64>>,
    /// From then on reading gives other content, and the file's identity is another.
    pub changes_at: Option<Time>,
    /// When its first block is read, the source finds this.
    pub void: Option<VoidReason>,
    /// What the receiver decides.
    pub decision: Decision,
    /// Blocks that the receiver's memory damages before it compares them, and how often.
    pub damaged_blocks: Vec<(u32, u32)>,
    /// Blocks that an interrupted transfer has left at the receiver.
    pub kept: RangeSet,
    /// How often the source was rewritten before the transfer: another file under the same name.
    pub generation: u64,
}

impl SimFile {
    /// A dense file.
    pub fn new(size: u64) -> SimFile {
        SimFile {
            kind: EntryKind::File,
            size,
            holes: Vec::new(),
            changes_at: None,
            void: None,
            decision: Decision::Take,
            damaged_blocks: Vec::new(),
            kept: RangeSet::new(),
            generation: 0,
        }
    }

    /// A directory.
    pub fn directory() -> SimFile {
        SimFile { kind: EntryKind::Directory, ..SimFile::new(0) }
    }

    /// A file with ranges that hold no data.
    pub fn sparse(size: u64, holes: Vec<Range<u64>>) -> SimFile {
        SimFile { holes, ..SimFile::new(size) }
    }

    /// A file of more than one block whose sender cannot read it again, nor tell its size before
    /// its end.
    pub fn pipe(size: u64) -> SimFile {
        assert!(size > limits::BLOCK_BYTES, "a shorter one is announced as a file");
        SimFile { kind: EntryKind::Pipe, ..SimFile::new(size) }
    }

    /// The size that its ENTRY states.
    pub fn announced_size(&self) -> u64 {
        if self.kind == EntryKind::Pipe { limits::BLOCK_BYTES } else { self.size }
    }

    /// Its path as the entry of this number.
    pub fn path(&self, entry: u32) -> Vec<u8> {
        format!("entry {entry}").into_bytes()
    }

    /// The text of a link; empty for others.
    pub fn target(&self) -> &'static [u8] {
        match self.kind {
            EntryKind::Symlink => b"target",
            EntryKind::HardLink => b"entry 0",
            EntryKind::File | EntryKind::Directory | EntryKind::Pipe => b"",
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(limits::BLOCK_BYTES)
    }

    /// The range of a block in the file.
    pub fn block_range(&self, block: u64) -> Range<u64> {
        let start = block * limits::BLOCK_BYTES;
        start..(start + limits::BLOCK_BYTES).min(self.size)
    }

    /// The parts of `range` that are data.
    pub fn data_ranges(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut start = range.start;
        for hole in self.holes.iter().filter(|hole| hole.end > range.start) {
            if hole.start >= range.end {
                break;
            }
            if hole.start > start {
                parts.push(start..hole.start);
            }
            start = start.max(hole.end);
        }
        if start < range.end {
            parts.push(start..range.end);
        }
        parts
    }

    /// The first block from `block` on that is not a hole as a whole; the number of blocks if there
    /// is none.
    pub fn next_data_block(&self, block: u64) -> u64 {
        let start = block * limits::BLOCK_BYTES;
        let hole = self.holes.iter().find(|hole| hole.contains(&start));
        let end = hole.map_or(start, |hole| hole.end);
        if end >= self.size { self.blocks() } else { end / limits::BLOCK_BYTES }
    }

    /// Bytes of data.
    pub fn data_bytes(&self) -> u64 {
        self.data_ranges(0..self.size).iter().map(|range| range.end - range.start).sum()
    }

    /// Bytes of data in the blocks that an interrupted transfer has left.
    pub fn kept_bytes(&self) -> u64 {
        let blocks = self.kept.iter().flatten();
        let parts = blocks.flat_map(|block| self.data_ranges(self.block_range(block)));
        parts.map(|range| range.end - range.start).sum()
    }

    /// Whether its source makes it impossible to store it, or it was rewritten.
    pub fn is_spoiled(&self) -> bool {
        let is_hopeless = |times: u32| times > u32::from(limits::EPOCH_MAX);
        (self.void.is_some() && self.data_bytes() > 0)
            || self.changes_at.is_some()
            || self.generation > 0
            || self.damaged_blocks.iter().any(|damage| is_hopeless(damage.1))
            || (self.kind == EntryKind::Pipe && !self.damaged_blocks.is_empty())
    }

    /// Whether a read at `now` gives the changed content.
    pub fn is_changed(&self, now: Time) -> bool {
        self.changes_at.is_some_and(|at| now >= at)
    }

    fn version_key(&self, key: u64, changed: bool) -> u64 {
        let generation = self.generation + u64::from(changed);
        mix(key ^ generation << 56)
    }

    /// Fills `out` with the file's bytes from `offset` on; `key` tells files apart.
    pub fn read(&self, key: u64, changed: bool, offset: u64, out: &mut [u8]) {
        let key = self.version_key(key, changed);
        for (position, byte) in (offset..).zip(out.iter_mut()) {
            *byte = (mix(key ^ (position / 8)) >> (8 * (position % 8))) as u8;
        }
        for hole in &self.holes {
            let start = hole.start.clamp(offset, offset + out.len() as u64) - offset;
            let end = hole.end.clamp(offset, offset + out.len() as u64) - offset;
            out[start as usize..end as usize].fill(0);
        }
    }

    /// The digest of a block, of real bytes or of the version alone.
    pub fn block_digest(
        &self,
        key: u64,
        changed: bool,
        block: u64,
        algorithm: DigestAlgorithm,
        payload: bool,
    ) -> Digest {
        if payload {
            let range = self.block_range(block);
            let mut bytes = vec![0; (range.end - range.start) as usize];
            self.read(key, changed, range.start, &mut bytes);
            digest_of(&bytes, algorithm)
        } else {
            let tag = mix(self.version_key(key, changed) ^ block);
            digest_of(&tag.to_be_bytes(), algorithm)
        }
    }
}

/// The digest of some bytes. (That of a block in a larger file is another one with BLAKE3, but
/// both ends of a simulation agree on this.)
pub fn digest_of(bytes: &[u8], algorithm: DigestAlgorithm) -> Digest {
    match algorithm {
        DigestAlgorithm::None => Digest::NONE,
        DigestAlgorithm::Xxh3 => Digest::from(XxHash3_128::oneshot(bytes).to_be_bytes()),
        DigestAlgorithm::Blake3 => Digest::from(*blake3::hash(bytes).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_in_pieces_gives_the_same_bytes_and_holes_are_zeros() {
        let file = SimFile::sparse(100, vec![10..20, 90..100]);
        let mut whole = [1; 100];
        file.read(7, false, 0, &mut whole);
        let mut piece = [1; 33];
        file.read(7, false, 5, &mut piece);
        assert_eq!(piece, whole[5..38]);
        assert_eq!(whole[10..20], [0; 10]);
        assert_eq!(whole[90..], [0; 10]);
        assert_eq!(file.data_ranges(0..100), [0..10, 20..90]);
        assert_eq!(file.data_ranges(12..18), []);
        assert_eq!(file.data_bytes(), 80);
        let mut changed = [1; 100];
        file.read(7, true, 0, &mut changed);
        assert_ne!(changed, whole);
    }
}
