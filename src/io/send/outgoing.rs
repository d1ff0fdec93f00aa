//! The entries of a transfer at the sender: where each one's bytes lie in the body, and which
//! blocks have been digested.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::io::digest::{BlockHasher, FileHasher, ListHasher};
use crate::io::metadata::Identity;
use crate::io::name::RelativePath;
use crate::io::source::{EntryKind, SourceEntry};
use crate::proto::EntryWindow;
use crate::wire::{self, Digest, DigestAlgorithm, limits};

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
    /// More may be announced of it.
    pub may_grow: bool,
}

impl Outgoing {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.source.kind, EntryKind::File { .. } | EntryKind::Pipe)
    }

    /// The size that its blocks are digested for.
    pub fn digested_size(&self) -> u64 {
        match self.source.kind {
            // It counts as a file of several blocks from its first one on.
            EntryKind::Pipe => limits::BODY_BYTES_MAX,
            _ => self.body.end - self.body.start,
        }
    }

    /// Bytes of data in these blocks.
    pub fn data_bytes(&self, first_block: u32, blocks: u32) -> u64 {
        let size = self.body.end - self.body.start;
        let start = u64::from(first_block) * limits::BLOCK_BYTES;
        let end = size.min(start + u64::from(blocks) * limits::BLOCK_BYTES);
        let holes =
            self.holes.iter().map(|hole| hole.end.min(end).saturating_sub(hole.start.max(start)));
        end.saturating_sub(start).saturating_sub(holes.sum())
    }

    /// Whether there is no byte of it to be read: it is empty, or one hole.
    fn is_without_data(&self) -> bool {
        let holes: u64 = self.holes.iter().map(|hole| hole.end - hole.start).sum();
        holes == self.body.end - self.body.start
    }
}

/// Announced entries that the receiver has not settled, by number.
#[derive(Debug, Default)]
pub struct OutgoingList {
    entries: EntryWindow<Outgoing>,
}

impl OutgoingList {
    /// Appends the next entry.
    pub fn push(&mut self, source: SourceEntry, holes: Vec<Range<u64>>) {
        let bytes = source.body_bytes();
        let start = self.entries.body_end();
        let body = start..start.saturating_add(bytes);
        let may_grow = source.kind == EntryKind::Pipe;
        self.entries.push(bytes, Outgoing { source, body, holes, is_void: false, may_grow });
    }

    /// The last entry goes on for so many bytes.
    pub fn extend_last(&mut self, bytes: u64) {
        let last = self.entries.entries().wrapping_sub(1);
        self.entries.extend_last(bytes);
        if let Some(outgoing) = self.entries.get_mut(last) {
            outgoing.body.end += bytes;
        }
    }

    /// An entry that is not settled.
    pub fn get(&self, entry: u32) -> Option<&Outgoing> {
        self.entries.get(entry)
    }

    /// An entry that is not settled.
    pub fn get_mut(&mut self, entry: u32) -> Option<&mut Outgoing> {
        self.entries.get_mut(entry)
    }

    /// The receiver has settled an entry.
    pub fn settle(&mut self, entry: u32) {
        self.entries.remove(entry);
    }

    /// The parts of a body range that lie in entries that are not settled, in order: entry, and
    /// range in its file.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        self.entries.within(&range).map(move |(entry, body, _)| {
            let start = range.start.max(body.start) - body.start;
            let end = range.end.min(body.end) - body.start;
            (entry, start..end)
        })
    }
}

/// Files that have several names, by what tells them apart, and the name each was announced under.
#[derive(Debug, Default)]
pub struct SharedFiles {
    first_names: HashMap<Identity, RelativePath>,
}

impl SharedFiles {
    /// Makes a hard link of a file that was announced under another name.
    pub fn resolve(&mut self, source: &mut SourceEntry, holes: &mut Vec<Range<u64>>) {
        if !source.has_other_names {
            return;
        }
        match self.first_names.entry(source.identity) {
            Entry::Vacant(vacant) => {
                vacant.insert(source.name.clone());
            }
            Entry::Occupied(first) => {
                source.kind = EntryKind::HardLink { first: first.get().clone() };
                holes.clear();
            }
        }
    }
}

/// What the manifest says of an entry.
pub fn wire_entry(source: &SourceEntry) -> wire::Entry<'_> {
    let (kind, size, target) = match &source.kind {
        EntryKind::File { .. } => (wire::EntryKind::File, source.identity.size, &[][..]),
        EntryKind::Pipe => (wire::EntryKind::Pipe, source.identity.size, &[][..]),
        EntryKind::Directory => (wire::EntryKind::Directory, 0, &[][..]),
        EntryKind::Link { target } => (wire::EntryKind::Symlink, 0, target.as_slice()),
        EntryKind::HardLink { first } => {
            (wire::EntryKind::HardLink, source.identity.size, first.as_bytes())
        }
    };
    let identity = &source.identity;
    wire::Entry {
        kind,
        mode: (source.mode & 0o7777) as u16,
        mtime_seconds: identity.modified.seconds(),
        mtime_nanos: identity.modified.nanoseconds(),
        size,
        identity: wire::Identity {
            device: identity.device,
            inode: identity.inode,
            ctime_seconds: identity.changed.seconds(),
            ctime_nanos: identity.changed.nanoseconds(),
        },
        path: source.name.as_bytes(),
        target,
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
    /// The file announced last that has bytes to read.
    last_to_read: Option<u32>,
    /// Digests of files without any byte to read, which are announced before the files in front
    /// of them are read: they wait for their place in the list.
    waiting: VecDeque<Waiting>,
}

/// Files with one digest that are announced without any between them that has bytes to read: most
/// often a million empty ones.
#[derive(Debug)]
struct Waiting {
    first_entry: u32,
    files: u32,
    digest: Digest,
}

#[derive(Debug)]
struct Current {
    entry: u32,
    /// As far as it is known.
    file_bytes: u64,
    /// What its blocks are digested for.
    digested_size: u64,
    /// Everything below is digested.
    next: u64,
    block: BlockHasher,
    file: FileHasher,
    /// Whether the running block has any byte outside holes.
    has_data: bool,
    /// Whether the whole file is digested, and not only blocks with data.
    is_known: bool,
}

/// Holes up to this are digested as zeros for the file's digest: 0.1 s of BLAKE3.
const HOLE_DIGESTED_MAX: u64 = 1 << 30;

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
            last_to_read: None,
            waiting: VecDeque::new(),
        }
    }

    /// A file was announced. One without any byte to read (empty, or one hole) is digested here.
    pub fn announced(&mut self, entry: u32, outgoing: &Outgoing) {
        if !outgoing.is_without_data() {
            self.last_to_read = Some(entry);
            return;
        }
        if !self.complete {
            return;
        }
        // Blocks in holes need no digest of their own, only the file's.
        let mut current = Current::new(self.algorithm, entry, outgoing);
        current.skip_holes(self.algorithm, &outgoing.holes, &mut Vec::new());
        self.complete &= current.is_known;
        let digest = current.file.finish();
        let is_next = self.current.is_none()
            && self.last_to_read.is_none_or(|last_to_read| last_to_read < self.next_entry);
        match self.waiting.back_mut() {
            _ if is_next => self.list.push(&digest),
            Some(waiting)
                if waiting.digest == digest
                    && self.last_to_read.is_none_or(|last| last < waiting.first_entry) =>
            {
                waiting.files += 1;
            }
            _ => self.waiting.push_back(Waiting { first_entry: entry, files: 1, digest }),
        }
    }

    /// Lists the waiting files in front of `entry`.
    fn list_waiting(&mut self, entry: u32) {
        while let Some(waiting) = self.waiting.pop_front_if(|it| it.first_entry < entry) {
            for _ in 0..waiting.files {
                self.list.push(&waiting.digest);
            }
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
        let Some(current) = &mut self.current else { return };
        current.file_bytes = outgoing.body.end - outgoing.body.start;
        if current.next != offset {
            // Blocks between are at the receiver already: this file's digest is not known here.
            self.complete = false;
            current.skip_to(self.algorithm, offset, &outgoing.holes, done);
            if current.next != offset {
                self.current = None;
                return;
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let begun = current.next % limits::BLOCK_BYTES;
            let room = limits::BLOCK_BYTES - begun;
            let (now, later) = rest.split_at(rest.len().min(room as usize));
            let reaches_end = current.next + now.len() as u64 == current.file_bytes;
            match begun == 0 && reaches_end && !outgoing.may_grow {
                true => current.block.update_whole(now),
                false => current.block.update(now),
            }
            current.has_data = true;
            current.advance(self.algorithm, now.len() as u64, done);
            rest = later;
        }
        current.skip_holes(self.algorithm, &outgoing.holes, done);
        if !outgoing.may_grow {
            self.end_if_complete();
        }
    }

    /// The pipe that is digested has come to its end, with so many bytes.
    pub fn end_pipe(&mut self, bytes: u64) {
        if let Some(current) = &mut self.current {
            // Blocks announced after the last read are still to be digested.
            current.file_bytes = bytes;
        }
        self.end_if_complete();
    }

    /// Ends the file that is digested if all of it is.
    fn end_if_complete(&mut self) {
        if self.current.as_ref().is_some_and(|current| current.next == current.file_bytes) {
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
        self.list_waiting(entry);
        let mut current = Current::new(self.algorithm, entry, outgoing);
        current.skip_holes(self.algorithm, &outgoing.holes, done);
        self.current = Some(current);
    }

    /// Whether the last byte of `entry` was digested.
    pub fn has_ended(&self, entry: u32) -> bool {
        self.current.is_none() && self.next_entry == entry.saturating_add(1)
    }

    /// Some blocks of a file will not be read: the list has no digest then.
    pub fn skips(&mut self) {
        self.complete = false;
        self.waiting.clear();
    }

    /// A file will not be read (to its end): the list has no digest then.
    pub fn forget(&mut self, entry: u32) {
        self.skips();
        if self.current.as_ref().is_some_and(|current| current.entry == entry) {
            self.current = None;
        }
    }

    /// The digest of all files, if every one was read completely.
    pub fn finish(&mut self) -> Option<Digest> {
        self.list_waiting(u32::MAX);
        if self.complete && self.current.is_none() { self.list.finish() } else { None }
    }
}

impl Current {
    fn new(algorithm: DigestAlgorithm, entry: u32, outgoing: &Outgoing) -> Current {
        let file_bytes = outgoing.body.end - outgoing.body.start;
        let digested_size = outgoing.digested_size();
        Current {
            entry,
            file_bytes,
            digested_size,
            next: 0,
            block: BlockHasher::new(algorithm, 0, digested_size),
            file: FileHasher::new(algorithm),
            has_data: false,
            is_known: true,
        }
    }

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
        self.block = BlockHasher::new(algorithm, block + 1, self.digested_size);
    }

    /// Passes over blocks that are not read, to the block of `offset`, and to `offset` if that
    /// block begins with a hole.
    fn skip_to(
        &mut self,
        algorithm: DigestAlgorithm,
        offset: u64,
        holes: &[Range<u64>],
        done: &mut Vec<BlockDigest>,
    ) {
        let block = offset / limits::BLOCK_BYTES;
        self.next = block * limits::BLOCK_BYTES;
        self.block = BlockHasher::new(algorithm, block, self.digested_size);
        self.has_data = false;
        self.is_known = false;
        if self.next != offset {
            self.skip_holes(algorithm, holes, done);
        }
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
                BlockHasher::new(algorithm, self.next / limits::BLOCK_BYTES, self.digested_size);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::io::source::Sources;
    use crate::io::walk::{Walk, WalkItem};

    /// Entries of a directory with files of these sizes, laid out in the body.
    fn list_of(sizes: &[u64]) -> OutgoingList {
        let room = tempfile::tempdir().unwrap();
        for (index, bytes) in sizes.iter().enumerate() {
            let file = std::fs::File::create(room.path().join(index.to_string())).unwrap();
            file.set_len(*bytes).unwrap();
            assert_eq!(file.metadata().unwrap().size(), *bytes);
        }
        let sources = Sources::new(&[room.path().to_owned()]).unwrap();
        let mut list = OutgoingList::default();
        for item in Walk::new(&sources) {
            let WalkItem::Entry(entry) = item else { panic!("{item:?}") };
            list.push(entry, Vec::new());
        }
        list
    }

    #[test]
    fn an_empty_file_announced_meanwhile_does_not_disturb_the_file_that_is_read() {
        let algorithm = DigestAlgorithm::Xxh3;
        let list = list_of(&[0, 2_000, 0, 1_000, 0]);
        let mut ahead = Digester::new(algorithm);
        let mut done = Vec::new();
        // Entry 0 is the directory.
        let announce = |digester: &mut Digester, entry: u32| {
            digester.announced(entry, list.get(entry).unwrap());
        };
        announce(&mut ahead, 1);
        announce(&mut ahead, 2);
        ahead.update(2, list.get(2).unwrap(), 0, &[7; 1_500], &mut done);
        (3..=5).for_each(|entry| announce(&mut ahead, entry));
        ahead.update(2, list.get(2).unwrap(), 1_500, &[7; 500], &mut done);
        ahead.update(4, list.get(4).unwrap(), 0, &[8; 1_000], &mut done);
        let blocks: Vec<(u32, u32)> =
            done.iter().map(|(entry, block, _)| (*entry, *block)).collect();
        assert_eq!(blocks, [(2, 0), (4, 0)]);

        // The list's digest does not depend on what was announced when.
        let mut in_step = Digester::new(algorithm);
        announce(&mut in_step, 1);
        announce(&mut in_step, 2);
        in_step.update(2, list.get(2).unwrap(), 0, &[7; 2_000], &mut done);
        announce(&mut in_step, 3);
        announce(&mut in_step, 4);
        in_step.update(4, list.get(4).unwrap(), 0, &[8; 1_000], &mut done);
        announce(&mut in_step, 5);
        assert!(ahead.finish().is_some());
        assert_eq!(ahead.finish(), in_step.finish());
    }

    #[test]
    fn the_last_blocks_of_a_pipe_whose_end_is_known_are_digested_when_they_are_read() {
        let algorithm = DigestAlgorithm::Xxh3;
        let block = limits::BLOCK_BYTES as usize;
        let content: Vec<u8> = (0..2 * block + 100).map(|index| (index / 3) as u8).collect();
        // How much was read before the end was known, and before the last blocks were announced.
        for read_before in [0, 10, block, block + 10, 2 * block, 2 * block + 100] {
            let mut list = list_of(&[block as u64]);
            let pipe = list.get_mut(1).unwrap();
            (pipe.source.kind, pipe.may_grow) = (EntryKind::Pipe, true);
            let mut digester = Digester::new(algorithm);
            let mut done = Vec::new();
            digester.announced(1, list.get(1).unwrap());
            let early = read_before.min(block);
            digester.update(1, list.get(1).unwrap(), 0, &content[..early], &mut done);
            list.extend_last(block as u64);
            list.extend_last(100);
            let later = &content[early..read_before];
            digester.update(1, list.get(1).unwrap(), early as u64, later, &mut done);
            list.get_mut(1).unwrap().may_grow = false;
            digester.end_pipe(content.len() as u64);
            let rest = &content[read_before..];
            if !rest.is_empty() {
                digester.update(1, list.get(1).unwrap(), read_before as u64, rest, &mut done);
            }
            let blocks: Vec<u32> = done.iter().map(|(_, block, _)| *block).collect();
            assert_eq!(blocks, [0, 1, 2], "{read_before} bytes were read before");
            let mut file = FileHasher::new(algorithm);
            for (part, (_, number, digest)) in content.chunks(block).zip(&done) {
                let size = limits::BODY_BYTES_MAX;
                let mut hasher = BlockHasher::new(algorithm, u64::from(*number), size);
                hasher.update(part);
                assert_eq!(hasher.finish(), *digest);
                file.push(digest);
            }
            assert_eq!(digester.finish(), Some(file.finish()), "{read_before} bytes before");
        }
    }

    #[test]
    fn empty_files_that_wait_for_their_place_in_the_list_wait_as_one() {
        let algorithm = DigestAlgorithm::Xxh3;
        let list = list_of(&[2_000, 0, 0, 0, 1_000, 0, 0]);
        let mut digester = Digester::new(algorithm);
        for entry in 1..=7 {
            digester.announced(entry, list.get(entry).unwrap());
        }
        let waiting = digester.waiting.iter().map(|it| (it.first_entry, it.files));
        assert_eq!(waiting.collect::<Vec<_>>(), [(2, 3), (6, 2)]);
        let mut done = Vec::new();
        digester.update(1, list.get(1).unwrap(), 0, &[7; 2_000], &mut done);
        digester.update(5, list.get(5).unwrap(), 0, &[7; 1_000], &mut done);
        let mut in_step = ListHasher::new(algorithm);
        let empty = FileHasher::new(algorithm).finish();
        let mut next = done.iter().map(|(_, _, digest)| *digest);
        for bytes in [2_000, 0, 0, 0, 1_000, 0, 0] {
            in_step.push(&if bytes > 0 { next.next().unwrap() } else { empty });
        }
        assert_eq!(digester.finish(), in_step.finish());
    }
}
