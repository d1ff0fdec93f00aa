//! The entries of a transfer at the sender: where each one's bytes lie in the body, and which
//! blocks have been digested.

use std::collections::VecDeque;
use std::ops::Range;

use crate::io::digest::{BlockHasher, FileHasher, ListHasher};
use crate::io::source::{EntryKind, SourceEntry};
use crate::wire::{Digest, DigestAlgorithm, limits};

/// One announced entry.
#[derive(Debug)]
pub struct Outgoing {
    /// What was announced.
    pub source: SourceEntry,
    /// Its bytes in the body.
    pub body: Range<u64>,
    /// Ranges of the file without data, ascending.
    pub holes: Vec<Range<u64>>,
    /// No byte of it is sent any more.
    pub is_void: bool,
    settled: bool,
}

impl Outgoing {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.source.kind, EntryKind::File { .. })
    }
}

/// Announced entries that the receiver has not settled, by number.
#[derive(Debug, Default)]
pub struct OutgoingList {
    entries: VecDeque<Outgoing>,
    first: u32,
    body_end: u64,
}

impl OutgoingList {
    /// Appends the next entry.
    pub fn push(&mut self, source: SourceEntry, holes: Vec<Range<u64>>) {
        let bytes = match source.kind {
            EntryKind::File { .. } => source.identity.size,
            EntryKind::Directory | EntryKind::Link { .. } => 0,
        };
        let body = self.body_end..self.body_end + bytes;
        self.body_end = body.end;
        self.entries.push_back(Outgoing { source, body, holes, is_void: false, settled: false });
    }

    /// An entry that is not settled.
    pub fn get(&self, entry: u32) -> Option<&Outgoing> {
        self.entries.get(entry.checked_sub(self.first)? as usize)
    }

    /// An entry that is not settled.
    pub fn get_mut(&mut self, entry: u32) -> Option<&mut Outgoing> {
        self.entries.get_mut(entry.checked_sub(self.first)? as usize)
    }

    /// The receiver has settled an entry.
    pub fn settle(&mut self, entry: u32) {
        if let Some(outgoing) = self.get_mut(entry) {
            outgoing.settled = true;
        }
        while self.entries.front().is_some_and(|front| front.settled) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The parts of a body range, in order: entry, and range in its file.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        let after = self.entries.partition_point(|outgoing| outgoing.body.end <= range.start);
        let first = self.first;
        self.entries
            .iter()
            .enumerate()
            .skip(after)
            .take_while(move |(_, outgoing)| outgoing.body.start < range.end)
            .filter(|(_, outgoing)| !outgoing.body.is_empty())
            .map(move |(index, outgoing)| {
                let body = &outgoing.body;
                let start = range.start.max(body.start) - body.start;
                let end = range.end.min(body.end) - body.start;
                (first + index as u32, start..end)
            })
    }
}

/// Digests blocks as their bytes are read for the first time, in ascending order.
#[derive(Debug)]
pub struct Digester {
    algorithm: DigestAlgorithm,
    /// The file being digested, how far, and its running block.
    current: Option<Current>,
    list: ListHasher,
    /// False once a file was not read from its beginning to its end: the list has no digest.
    complete: bool,
    next_entry: u32,
}

#[derive(Debug)]
struct Current {
    entry: u32,
    file_bytes: u64,
    /// Everything below is digested.
    next: u64,
    block: BlockHasher,
    file: FileHasher,
    /// Whether the running block has any byte outside holes.
    has_data: bool,
    /// Whether the whole file is digested, and not only blocks with data.
    is_known: bool,
}

/// Holes up to this are digested as zeros for the file's digest: half a second at most.
const HOLE_DIGESTED_MAX: u64 = 4 << 30;

/// A block whose digest is known.
pub type BlockDigest = (u32, u32, Digest);

impl Digester {
    /// Nothing read yet.
    pub fn new(algorithm: DigestAlgorithm) -> Digester {
        Digester {
            algorithm,
            current: None,
            list: ListHasher::new(algorithm),
            complete: true,
            next_entry: 0,
        }
    }

    /// Bytes of `entry` from `offset` on were read. Appends the blocks that are complete now.
    pub fn update(
        &mut self,
        entry: u32,
        outgoing: &Outgoing,
        offset: u64,
        bytes: &[u8],
        done: &mut Vec<BlockDigest>,
    ) {
        let begun = self.current.as_ref().is_some_and(|current| current.entry == entry);
        if !begun {
            self.begin(entry, outgoing, done);
        }
        let block_start = offset.is_multiple_of(limits::BLOCK_BYTES);
        let Some(current) = &mut self.current else { return };
        if current.next != offset {
            // Blocks between are at the receiver already: this file's digest is not known here.
            self.complete = false;
            if !block_start {
                self.current = None;
                return;
            }
            current.next = offset;
            current.block =
                BlockHasher::new(self.algorithm, offset / limits::BLOCK_BYTES, current.file_bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = limits::BLOCK_BYTES - current.next % limits::BLOCK_BYTES;
            let (now, later) = rest.split_at(rest.len().min(room as usize));
            current.block.update(now);
            current.has_data = true;
            current.advance(self.algorithm, now.len() as u64, done);
            rest = later;
        }
        current.skip_holes(self.algorithm, &outgoing.holes, done);
        if current.next == current.file_bytes {
            self.end_file();
        }
    }

    fn end_file(&mut self) {
        if let Some(current) = self.current.take() {
            self.complete &= current.is_known;
            self.list.push(&current.file.finish());
        }
    }

    fn begin(&mut self, entry: u32, outgoing: &Outgoing, done: &mut Vec<BlockDigest>) {
        // A file that was left before its end, or entries passed over, leave a gap in the list.
        self.complete &= self.current.is_none() && entry >= self.next_entry;
        self.next_entry = entry.saturating_add(1);
        let file_bytes = outgoing.body.end - outgoing.body.start;
        let mut current = Current {
            entry,
            file_bytes,
            next: 0,
            block: BlockHasher::new(self.algorithm, 0, file_bytes),
            file: FileHasher::new(self.algorithm),
            has_data: false,
            is_known: true,
        };
        current.skip_holes(self.algorithm, &outgoing.holes, done);
        self.current = Some(current);
    }

    /// A file without any byte to read: empty, or one hole.
    pub fn empty_file(&mut self, entry: u32, outgoing: &Outgoing, done: &mut Vec<BlockDigest>) {
        self.begin(entry, outgoing, done);
        self.end_file();
    }

    /// Whether the last byte of `entry` was digested.
    pub fn has_ended(&self, entry: u32) -> bool {
        self.current.is_none() && self.next_entry == entry.saturating_add(1)
    }

    /// A file will not be read (to its end): the list has no digest then.
    pub fn forget(&mut self, entry: u32) {
        self.complete = false;
        if self.current.as_ref().is_some_and(|current| current.entry == entry) {
            self.current = None;
        }
    }

    /// The digest of all files, if every one was read completely.
    pub fn finish(&self) -> Option<Digest> {
        if self.complete && self.current.is_none() { self.list.finish() } else { None }
    }
}

impl Current {
    /// `bytes` more of the running block are digested.
    fn advance(&mut self, algorithm: DigestAlgorithm, bytes: u64, done: &mut Vec<BlockDigest>) {
        self.next += bytes;
        let at_border =
            self.next.is_multiple_of(limits::BLOCK_BYTES) || self.next == self.file_bytes;
        if !at_border || bytes == 0 {
            return;
        }
        let block = (self.next - 1) / limits::BLOCK_BYTES;
        let digest = self.block.finish();
        self.file.push(&digest);
        if self.has_data {
            done.push((self.entry, block as u32, digest));
        }
        self.has_data = false;
        self.block = BlockHasher::new(algorithm, block + 1, self.file_bytes);
    }

    /// Passes over holes that begin where the next byte is.
    fn skip_holes(
        &mut self,
        algorithm: DigestAlgorithm,
        holes: &[Range<u64>],
        done: &mut Vec<BlockDigest>,
    ) {
        let index = holes.partition_point(|hole| hole.end <= self.next);
        let Some(hole) = holes.get(index) else { return };
        if hole.start > self.next {
            return;
        }
        let to_border =
            (limits::BLOCK_BYTES - self.next % limits::BLOCK_BYTES).min(hole.end - self.next);
        if !self.next.is_multiple_of(limits::BLOCK_BYTES) {
            self.block.update_zeros(to_border);
            self.advance(algorithm, to_border, done);
        }
        if hole.end - self.next > HOLE_DIGESTED_MAX {
            // Blocks in it need no digest of their own; the file's would take too long.
            self.is_known = false;
            self.next = hole.end / limits::BLOCK_BYTES * limits::BLOCK_BYTES;
            self.block =
                BlockHasher::new(algorithm, self.next / limits::BLOCK_BYTES, self.file_bytes);
            self.has_data = false;
        }
        while self.next < hole.end {
            let room = limits::BLOCK_BYTES - self.next % limits::BLOCK_BYTES;
            let part = room.min(hole.end - self.next);
            self.block.update_zeros(part);
            self.advance(algorithm, part, done);
        }
    }
}
