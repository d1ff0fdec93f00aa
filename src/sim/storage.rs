//! The files of a simulated receiver: what was written, compared with the source at the end.

use std::sync::Arc;

use super::journal::{Found, Journal};
use super::sending_host::SendingHost;
use super::source::{Decision, SimFile, digest_of};
use crate::proto::{RangeSet, ReceivedEntry, Receiver, ReceiverEvent, Time};
use crate::wire::{Digest, DigestAlgorithm, EntryKind, RefuseCode, limits};

/// A part of a file that reaches the disk.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which file.
    pub entry: u32,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// They; empty if payload is not simulated.
    pub payload: Vec<u8>,
    /// When the sender read them; known only if payload is not simulated. None if they are not
    /// the sender's at all.
    pub read_at: Option<Time>,
}

/// Leaves the first `bytes` of writes, and returns the others.
pub fn split_off(writes: &mut Vec<Write>, mut bytes: u64) -> Vec<Write> {
    let mut rest = Vec::new();
    writes.retain_mut(|write| {
        if bytes >= write.bytes {
            bytes -= write.bytes;
            return true;
        }
        let payload = write.payload.split_off((bytes as usize).min(write.payload.len()));
        let (offset, left) = (write.offset + bytes, write.bytes - bytes);
        rest.push(Write { offset, bytes: left, payload, ..*write });
        write.bytes = std::mem::take(&mut bytes);
        write.bytes > 0
    });
    rest
}

/// How an entry ended at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is where it was announced, equal to the source.
    Committed,
    /// It was there already.
    Present,
    /// It was refused.
    Refused(RefuseCode),
    /// It failed.
    Failed(RefuseCode),
}

/// One file that is being written.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    written: RangeSet,
    /// Bytes that were read after the source had changed.
    foreign: RangeSet,
    /// Comparisons of each block so far, where some are to differ.
    comparisons: Vec<(u32, u32)>,
    /// Blocks that were as announced: what a journal would list.
    verified: RangeSet,
    /// Blocks that were there from the start.
    kept: RangeSet,
}

/// Everything one transfer stores.
#[derive(Debug)]
pub struct Storage {
    files: Arc<[SimFile]>,
    key: u64,
    payload: bool,
    dry_run: bool,
    /// Nothing is stored, and no file looked at: all that arrives is taken.
    pub discard: bool,
    partial: Vec<Option<Partial>>,
    /// By entry: how it ended, if it has.
    pub stored: Vec<Option<Stored>>,
    announced: usize,
    /// Bytes of a pipe that are announced.
    known_bytes: u64,
    /// Writes end below this, if they are handed on in order.
    pub ordered_window_bytes: Option<u64>,
    /// What it is called in the journal.
    transfer: usize,
    /// Body bytes of kept blocks.
    pub kept_bytes: u64,
}

impl Storage {
    /// Nothing is stored of `files` yet.
    pub fn new(
        files: Arc<[SimFile]>,
        transfer: usize,
        key: u64,
        payload: bool,
        dry_run: bool,
    ) -> Storage {
        let count = files.len();
        let partial = (0..count).map(|_| None).collect();
        let stored = vec![None; count];
        let (announced, kept_bytes) = (0, 0);
        let (known_bytes, ordered_window_bytes) = (0, None);
        Storage {
            files,
            key,
            payload,
            dry_run,
            discard: false,
            partial,
            stored,
            announced,
            known_bytes,
            ordered_window_bytes,
            transfer,
            kept_bytes,
        }
    }

    /// Whether blocks of a file survive its transfer.
    fn is_journaled(&self, file: &SimFile, algorithm: DigestAlgorithm) -> bool {
        file.kind == EntryKind::File
            && file.blocks() > 1
            && algorithm != DigestAlgorithm::None
            && self.ordered_window_bytes.is_none()
    }

    /// The process that knew it is gone; what is on the disk is the journal's.
    pub fn forget(&mut self) {
        self.partial.fill_with(|| None);
        self.stored.fill(None);
        self.announced = 0;
        self.known_bytes = 0;
    }

    /// The blocks of an unfinished file that could be kept for another transfer.
    pub fn verified(&self, entry: usize) -> RangeSet {
        let partial = self.partial.get(entry).and_then(Option::as_ref);
        partial.map_or_else(RangeSet::new, |partial| partial.verified.clone())
    }

    /// A write has reached the disk.
    pub fn write(&mut self, write: &Write, journal: &mut Journal) {
        let file = &self.files[write.entry as usize];
        let range = write.offset..write.offset + write.bytes;
        assert!(range.end <= file.size, "a write beyond the end of entry {}", write.entry);
        let Some(partial) = &mut self.partial[write.entry as usize] else { return };
        if !partial.kept.is_empty() {
            let last = (range.end - 1) / limits::BLOCK_BYTES;
            let blocks = range.start / limits::BLOCK_BYTES..last + 1;
            let again = partial.kept.covered_parts(&blocks).next();
            assert_eq!(again, None, "what is kept of entry {} is written again", write.entry);
        }
        if let Some(window) = self.ordered_window_bytes {
            let most = handed_on(file, partial) + window;
            assert!(range.end <= most, "more than {window} bytes are held of {}", write.entry);
        }
        if self.payload {
            partial.bytes[range.start as usize..range.end as usize].copy_from_slice(&write.payload);
        } else if write.read_at.is_none_or(|at| file.is_changed(at)) {
            partial.foreign.insert(range.clone());
        } else {
            partial.foreign.remove(&range);
        }
        if file.blocks() > 1 && !self.discard {
            journal.on_written(write.entry, range.clone());
        }
        partial.written.insert(range);
    }

    /// A write of this entry failed; it is removed.
    pub fn fail(&mut self, entry: u32, journal: &mut Journal) {
        if self.partial[entry as usize].take().is_some() {
            journal.on_removed(entry);
        }
        self.stored[entry as usize] = Some(Stored::Failed(RefuseCode::Disk));
    }

    /// Does what a machine asks for.
    pub fn act(
        &mut self,
        now: Time,
        event: &ReceiverEvent,
        machine: &mut Receiver,
        journal: &mut Journal,
    ) {
        match event {
            ReceiverEvent::Entry(entry) => self.announce(entry, machine, journal),
            ReceiverEvent::Hole { entry, offset, bytes } => {
                let file = &self.files[*entry as usize];
                assert!(file.holes.contains(&(*offset..offset + bytes)), "an unknown hole");
                self.hand_on(*entry, machine);
            }
            ReceiverEvent::Verify { entry, block, digest } => {
                let algorithm = machine.digest_algorithm();
                let equal = self.compare(*entry, *block, digest, algorithm);
                match equal {
                    Some(true) => {
                        if let Some(partial) = &mut self.partial[*entry as usize] {
                            partial.verified.insert(u64::from(*block)..u64::from(*block) + 1);
                        }
                        self.hand_on(*entry, machine);
                        let file = &self.files[*entry as usize];
                        let is_kept = self.is_journaled(file, algorithm);
                        journal.on_verified(now, *entry, *block, is_kept);
                        machine.block_verified(*entry, *block);
                    }
                    Some(false) => machine.block_differs(*entry, *block),
                    None => {}
                }
            }
            ReceiverEvent::More { entry, bytes } => {
                self.known_bytes += bytes;
                assert!(self.known_bytes <= self.files[*entry as usize].size, "too much announced");
            }
            ReceiverEvent::Commit { entry } => self.commit(*entry, machine, journal),
            ReceiverEvent::Abandon { entry, code, .. } => {
                if self.partial[*entry as usize].take().is_some() {
                    journal.on_removed(*entry);
                }
                // A write of it may have failed meanwhile.
                if self.stored[*entry as usize].is_none() {
                    self.settle(*entry, Stored::Failed(*code));
                }
                machine.entry_failed(*entry, *code, "abandoned");
            }
            ReceiverEvent::Settled | ReceiverEvent::Finished | ReceiverEvent::Closed(_) => {}
        }
    }

    /// Hands on in order what can be, where that is what becomes of the body.
    fn hand_on(&self, entry: u32, machine: &mut Receiver) {
        let Some(partial) = &self.partial[entry as usize] else { return };
        if self.ordered_window_bytes.is_some() {
            let before = self.files.iter().take(entry as usize).map(|file| file.size).sum::<u64>();
            machine.set_handed_on(before + handed_on(&self.files[entry as usize], partial));
        }
    }

    fn settle(&mut self, entry: u32, stored: Stored) {
        let before = self.stored[entry as usize].replace(stored);
        assert_eq!(before, None, "entry {entry} is settled twice");
    }

    fn announce(&mut self, entry: &ReceivedEntry, machine: &mut Receiver, journal: &mut Journal) {
        let number = entry.entry;
        assert_eq!(number as usize, self.announced, "entries come in order");
        self.announced += 1;
        let file = &self.files[number as usize];
        let as_announced = entry.path == file.path(number)
            && entry.size == file.announced_size()
            && entry.kind == file.kind
            && entry.target == file.target();
        assert!(as_announced, "entry {number} came as {entry:?}");
        if self.discard {
            if matches!(file.kind, EntryKind::File | EntryKind::Pipe) {
                return self.begin(number, RangeSet::new(), machine);
            }
            self.settle(number, Stored::Committed);
            return machine.entry_committed(number);
        }
        let refusal = match file.decision {
            Decision::Present => {
                self.settle(number, Stored::Present);
                return machine.entry_present(number);
            }
            Decision::Refuse(code) => Some(code),
            Decision::Take | Decision::FailCommit(_) => None,
        };
        if let Some(code) = refusal {
            return self.refuse(number, code, machine);
        }
        if self.dry_run {
            self.settle(number, Stored::Committed);
            return machine.entry_committed(number);
        }
        match journal.take(number, file, self.transfer) {
            Found::Committed => {
                self.settle(number, Stored::Present);
                machine.entry_present(number);
            }
            Found::Other => self.refuse(number, RefuseCode::Exists, machine),
            Found::Busy => self.refuse(number, RefuseCode::Busy, machine),
            Found::Unfinished(_) if !matches!(file.kind, EntryKind::File | EntryKind::Pipe) => {
                self.settle(number, Stored::Committed);
                journal.on_committed(number);
                machine.entry_committed(number);
            }
            Found::Unfinished(mut kept) => {
                file.kept.iter().for_each(|blocks| _ = kept.insert(blocks));
                self.begin(number, kept, machine);
            }
        }
    }

    fn refuse(&mut self, entry: u32, code: RefuseCode, machine: &mut Receiver) {
        self.settle(entry, Stored::Refused(code));
        machine.entry_refused(entry, code, "refused");
    }

    /// A file is taken, of which these blocks are there.
    fn begin(&mut self, entry: u32, kept: RangeSet, machine: &mut Receiver) {
        let file = &self.files[entry as usize];
        let bytes = if self.payload { vec![0; file.size as usize] } else { Vec::new() };
        let mut partial = Partial { bytes, verified: kept.clone(), ..Partial::default() };
        let key = SendingHost::content_key(self.key, entry);
        for blocks in kept.iter() {
            let range = file.block_range(blocks.start).start..file.block_range(blocks.end - 1).end;
            for data in file.data_ranges(range.clone()) {
                self.kept_bytes += data.end - data.start;
            }
            if self.payload {
                let kept = &mut partial.bytes[range.start as usize..range.end as usize];
                file.read(key, false, range.start, kept);
            }
            partial.written.insert(range);
            let count = (blocks.end - blocks.start) as u32;
            machine.blocks_kept(entry, blocks.start as u32, count);
        }
        partial.kept = kept;
        self.partial[entry as usize] = Some(partial);
    }

    /// Whether a block is as announced; none if its file is gone.
    fn compare(
        &mut self,
        entry: u32,
        block: u32,
        digest: &Digest,
        algorithm: DigestAlgorithm,
    ) -> Option<bool> {
        let file = &self.files[entry as usize];
        let partial = self.partial[entry as usize].as_mut()?;
        let range = file.block_range(u64::from(block));
        for data in file.data_ranges(range.clone()) {
            assert!(partial.written.contains(&data), "block {block} of {entry} is not whole");
        }
        let damages = file.damaged_blocks.iter().find(|damaged| damaged.0 == block);
        let count = match partial.comparisons.iter_mut().find(|known| known.0 == block) {
            Some(known) => {
                known.1 += 1;
                known.1
            }
            None => {
                partial.comparisons.push((block, 1));
                1
            }
        };
        let damage = damages.is_some_and(|&(_, times)| count <= times);
        let key = SendingHost::content_key(self.key, entry);
        if self.payload {
            let bytes = &mut partial.bytes[range.start as usize..range.end as usize];
            bytes[0] ^= u8::from(damage);
            // Without digests a damage behind the check is not seen; nor is it drawn then.
            let seen = algorithm != DigestAlgorithm::None;
            return Some(!seen || digest_of(bytes, algorithm) == *digest);
        }
        if damage {
            return Some(false);
        }
        let foreign: u64 = partial
            .foreign
            .iter()
            .map(|part| part.end.min(range.end).saturating_sub(part.start.max(range.start)))
            .sum();
        let data: u64 = file.data_ranges(range).iter().map(|part| part.end - part.start).sum();
        if foreign > 0 && foreign < data {
            return Some(algorithm == DigestAlgorithm::None);
        }
        let changed = foreign > 0;
        Some(file.block_digest(key, changed, u64::from(block), algorithm, false) == *digest)
    }

    fn commit(&mut self, entry: u32, machine: &mut Receiver, journal: &mut Journal) {
        let Some(partial) = self.partial[entry as usize].take() else { return };
        let file = &self.files[entry as usize];
        if let Decision::FailCommit(code) = file.decision
            && !self.discard
        {
            self.settle(entry, Stored::Failed(code));
            journal.on_removed(entry);
            return machine.entry_failed(entry, code, "cannot be renamed");
        }
        let known =
            file.kind != EntryKind::Pipe || file.announced_size() + self.known_bytes == file.size;
        assert!(known, "entry {entry} is committed before its end is known");
        for data in file.data_ranges(0..file.size) {
            assert!(partial.written.contains(&data), "entry {entry} is committed with a gap");
        }
        assert!(partial.foreign.is_empty(), "entry {entry} is committed with other content");
        if self.payload {
            let mut source = vec![0; file.size as usize];
            file.read(SendingHost::content_key(self.key, entry), false, 0, &mut source);
            assert!(partial.bytes == source, "entry {entry} is committed with other bytes");
        }
        debug_assert!(file.size <= limits::BODY_BYTES_MAX, "a file fits a body");
        self.settle(entry, Stored::Committed);
        if !self.discard {
            journal.on_committed(entry);
        }
        machine.entry_committed(entry);
    }
}

/// How much of a file could be handed on in order: its first blocks that are verified, or holes.
fn handed_on(file: &SimFile, partial: &Partial) -> u64 {
    let mut blocks = 0;
    loop {
        let verified = partial.verified.range_of(blocks).map_or(blocks, |it| it.end);
        let next = file.next_data_block(verified);
        if next == blocks {
            return (blocks * limits::BLOCK_BYTES).min(file.size);
        }
        blocks = next;
    }
}
