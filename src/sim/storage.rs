//! The files of a simulated receiver: what was written, compared with the source at the end.

use std::sync::Arc;

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
    /// When the sender read them; known only if payload is not simulated.
    pub read_at: Time,
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
}

/// Everything one transfer stores.
#[derive(Debug)]
pub struct Storage {
    files: Arc<[SimFile]>,
    key: u64,
    payload: bool,
    dry_run: bool,
    partial: Vec<Option<Partial>>,
    /// By entry: how it ended, if it has.
    pub stored: Vec<Option<Stored>>,
    announced: usize,
    /// Bytes of a pipe that are announced.
    known_bytes: u64,
    /// Writes end below this, if they are handed on in order.
    pub ordered_window_bytes: Option<u64>,
}

impl Storage {
    /// Nothing is stored of `files` yet.
    pub fn new(files: Arc<[SimFile]>, key: u64, payload: bool, dry_run: bool) -> Storage {
        let count = files.len();
        let partial = (0..count).map(|_| None).collect();
        Storage {
            files,
            key,
            payload,
            dry_run,
            partial,
            stored: vec![None; count],
            announced: 0,
            known_bytes: 0,
            ordered_window_bytes: None,
        }
    }

    /// The blocks of an unfinished file that could be kept for another transfer.
    pub fn verified(&self, entry: usize) -> RangeSet {
        let partial = self.partial.get(entry).and_then(Option::as_ref);
        partial.map_or_else(RangeSet::new, |partial| partial.verified.clone())
    }

    /// A write has reached the disk.
    pub fn write(&mut self, write: &Write) {
        let file = &self.files[write.entry as usize];
        let range = write.offset..write.offset + write.bytes;
        assert!(range.end <= file.size, "a write beyond the end of entry {}", write.entry);
        let Some(partial) = &mut self.partial[write.entry as usize] else { return };
        for block in file.kept.iter().flatten() {
            let kept = file.block_range(block);
            let apart = range.end <= kept.start || kept.end <= range.start;
            assert!(apart, "what is kept of entry {} is written again", write.entry);
        }
        if let Some(window) = self.ordered_window_bytes {
            let verified = partial.verified.range_of(0).map_or(0, |blocks| blocks.end);
            let most = verified * limits::BLOCK_BYTES + window;
            assert!(range.end <= most, "more than {window} bytes are held of {}", write.entry);
        }
        if self.payload {
            partial.bytes[range.start as usize..range.end as usize].copy_from_slice(&write.payload);
        } else if file.is_changed(write.read_at) {
            partial.foreign.insert(range.clone());
        } else {
            partial.foreign.remove(&range);
        }
        partial.written.insert(range);
    }

    /// A write of this entry failed; it is removed.
    pub fn fail(&mut self, entry: u32) {
        self.partial[entry as usize] = None;
        self.stored[entry as usize] = Some(Stored::Failed(RefuseCode::Disk));
    }

    /// Does what a machine asks for.
    pub fn act(&mut self, event: &ReceiverEvent, machine: &mut Receiver) {
        match event {
            ReceiverEvent::Entry(entry) => self.announce(entry, machine),
            ReceiverEvent::Hole { entry, offset, bytes } => {
                let file = &self.files[*entry as usize];
                assert!(file.holes.contains(&(*offset..offset + bytes)), "an unknown hole");
            }
            ReceiverEvent::Verify { entry, block, digest } => {
                let equal = self.compare(*entry, *block, digest, machine.digest_algorithm());
                match equal {
                    Some(true) => {
                        if let Some(partial) = &mut self.partial[*entry as usize] {
                            partial.verified.insert(u64::from(*block)..u64::from(*block) + 1);
                        }
                        machine.set_handed_on(self.handed_on(*entry));
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
            ReceiverEvent::Commit { entry } => self.commit(*entry, machine),
            ReceiverEvent::Abandon { entry, code, .. } => {
                self.partial[*entry as usize] = None;
                self.settle(*entry, Stored::Failed(*code));
                machine.entry_failed(*entry, *code, "abandoned");
            }
            ReceiverEvent::Settled | ReceiverEvent::Finished | ReceiverEvent::Closed(_) => {}
        }
    }

    /// How far the body could be handed on in order.
    fn handed_on(&self, entry: u32) -> u64 {
        let before = self.files.iter().take(entry as usize).map(|file| file.size).sum::<u64>();
        let partial = self.partial[entry as usize].as_ref();
        let blocks =
            partial.and_then(|partial| partial.verified.range_of(0)).map_or(0, |it| it.end);
        before + (blocks * limits::BLOCK_BYTES).min(self.files[entry as usize].size)
    }

    fn settle(&mut self, entry: u32, stored: Stored) {
        let before = self.stored[entry as usize].replace(stored);
        assert_eq!(before, None, "entry {entry} is settled twice");
    }

    fn announce(&mut self, entry: &ReceivedEntry, machine: &mut Receiver) {
        let number = entry.entry;
        assert_eq!(number as usize, self.announced, "entries come in order");
        self.announced += 1;
        let file = &self.files[number as usize];
        let as_announced = entry.path == file.path(number)
            && entry.size == file.announced_size()
            && entry.kind == file.kind
            && entry.target == file.target();
        assert!(as_announced, "entry {number} came as {entry:?}");
        match file.decision {
            Decision::Present => {
                self.settle(number, Stored::Present);
                machine.entry_present(number);
            }
            Decision::Refuse(code) => {
                self.settle(number, Stored::Refused(code));
                machine.entry_refused(number, code, "refused");
            }
            Decision::Take | Decision::FailCommit(_) => {
                if self.dry_run || !matches!(file.kind, EntryKind::File | EntryKind::Pipe) {
                    self.settle(number, Stored::Committed);
                    return machine.entry_committed(number);
                }
                let bytes = if self.payload { vec![0; file.size as usize] } else { Vec::new() };
                let verified = file.kept.clone();
                let mut partial = Partial { bytes, verified, ..Partial::default() };
                let key = SendingHost::content_key(self.key, number);
                for blocks in file.kept.iter() {
                    let range =
                        file.block_range(blocks.start).start..file.block_range(blocks.end - 1).end;
                    if self.payload {
                        let kept = &mut partial.bytes[range.start as usize..range.end as usize];
                        file.read(key, false, range.start, kept);
                    }
                    partial.written.insert(range);
                    let count = (blocks.end - blocks.start) as u32;
                    machine.blocks_kept(number, blocks.start as u32, count);
                }
                self.partial[number as usize] = Some(partial);
            }
        }
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

    fn commit(&mut self, entry: u32, machine: &mut Receiver) {
        let Some(partial) = self.partial[entry as usize].take() else { return };
        let file = &self.files[entry as usize];
        if let Decision::FailCommit(code) = file.decision {
            self.settle(entry, Stored::Failed(code));
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
        machine.entry_committed(entry);
    }
}
