//! The body at the receiver: which bytes are stored, which blocks are complete, and what each
//! entry still needs.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::proto::range_set::RangeSet;
use crate::wire::{Digest, limits};

/// Where a part of a run's payload belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub entry: u32,
    /// Offset in the file.
    pub file_offset: u64,
    /// Offset in the run's payload.
    pub run_offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Compare the block with this digest.
    Verify {
        /// Of which file.
        entry: u32,
        /// Which block.
        block: u32,
        /// What it must be.
        digest: Digest,
    },
    /// Every block is verified.
    Commit {
        /// Which file.
        entry: u32,
    },
}

/// How far an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Bytes are wanted.
    Open,
    /// Nothing more is wanted; the shell's word is awaited (commit or abandon).
    Closing,
    /// The outcome is decided.
    Settled,
}

#[derive(Debug)]
struct Slot {
    start: u64,
    bytes: u64,
    progress: Progress,
    /// Blocks verified, or in holes completely.
    verified: RangeSet,
    /// Digest records of blocks that are not complete yet.
    digests: BTreeMap<u32, Digest>,
    /// Blocks the shell is comparing.
    comparing: RangeSet,
    /// Epochs above 0.
    epochs: BTreeMap<u32, u8>,
    /// Ranges without data.
    holes: RangeSet,
}

impl Slot {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }

    fn blocks(&self) -> u64 {
        self.bytes.div_ceil(limits::BLOCK_BYTES)
    }

    fn block_range(&self, block: u64) -> Range<u64> {
        let start = self.start + block * limits::BLOCK_BYTES;
        start..(start + limits::BLOCK_BYTES).min(self.end())
    }
}

/// All entries that are not settled, and the stored ranges of the body.
#[derive(Debug, Default)]
pub struct Reassembly {
    slots: VecDeque<Slot>,
    first_entry: u32,
    unsettled: u32,
    body_end: u64,
    stored: RangeSet,
}

impl Reassembly {
    /// Number of entries so far.
    pub fn entries(&self) -> u32 {
        self.first_entry + self.slots.len() as u32
    }

    /// Entries whose outcome is open.
    pub fn unsettled(&self) -> u32 {
        self.unsettled
    }

    /// Length of the body as far as entries are known.
    pub fn body_end(&self) -> u64 {
        self.body_end
    }

    /// Bytes of memory held, roughly.
    pub fn memory_bytes(&self) -> usize {
        let tables: usize = self.slots.iter().map(|slot| slot.digests.len() * 64).sum();
        self.slots.capacity() * size_of::<Slot>() + self.stored.range_count() * 32 + tables
    }

    /// Appends an entry. False if the body would become too long.
    pub fn push_entry(&mut self, bytes: u64) -> bool {
        let end = self.body_end.saturating_add(bytes);
        if end > limits::BODY_BYTES_MAX || self.entries() == u32::MAX {
            return false;
        }
        self.slots.push_back(Slot {
            start: self.body_end,
            bytes,
            progress: Progress::Open,
            verified: RangeSet::new(),
            digests: BTreeMap::new(),
            comparing: RangeSet::new(),
            epochs: BTreeMap::new(),
            holes: RangeSet::new(),
        });
        self.body_end = end;
        self.unsettled += 1;
        true
    }

    fn index(&self, entry: u32) -> Option<usize> {
        let index = entry.checked_sub(self.first_entry)? as usize;
        (index < self.slots.len()).then_some(index)
    }

    fn slot_mut(&mut self, entry: u32) -> Option<&mut Slot> {
        let index = self.index(entry)?;
        self.slots.get_mut(index)
    }

    /// A range of the last entry's file has no data. False if it breaks proto.md's rules.
    pub fn push_hole(&mut self, offset: u64, bytes: u64, steps: &mut Vec<Step>) -> bool {
        let entry = self.entries().wrapping_sub(1);
        let Some(slot) = self.slots.back_mut() else { return false };
        let after = slot.holes.last().map_or(0, |hole| hole.end + 1);
        let ordered = bytes > 0 && (offset >= after || slot.holes.is_empty());
        let Some(end) = offset.checked_add(bytes) else { return false };
        if !ordered || end > slot.bytes {
            return false;
        }
        slot.holes.insert(offset..end);
        // Blocks within the hole need nothing else. The last block may be short.
        let first = offset.div_ceil(limits::BLOCK_BYTES);
        let last = if end == slot.bytes { slot.blocks() } else { end / limits::BLOCK_BYTES };
        slot.verified.insert(first..last.max(first));
        let start = slot.start;
        self.stored.insert(start + offset..start + end);
        // The rest of a block that the hole covers in part may have arrived before.
        if let Some(index) = self.index(entry) {
            let (head, tail) = (offset / limits::BLOCK_BYTES, (end - 1) / limits::BLOCK_BYTES);
            self.check_block(index, head as u32, steps);
            if tail > head {
                self.check_block(index, tail as u32, steps);
            }
        }
        self.check_complete(entry, steps);
        true
    }

    /// Whether all of `range` lies in known entries and may be stored without too many holes.
    pub fn accepts(&self, range: &Range<u64>) -> bool {
        range.end <= self.body_end
            && (self.stored.range_count() < limits::STORED_RANGES_MAX
                || !self.stored.would_split_off(range))
    }

    /// Stores `range` as far as it is not stored yet: appends where its parts belong, and what
    /// follows for blocks. Call only for what [`Reassembly::accepts`].
    pub fn store(&mut self, range: Range<u64>, places: &mut Vec<Place>, steps: &mut Vec<Step>) {
        let gaps: Vec<Range<u64>> = self.stored.gaps(range.clone()).collect();
        for gap in &gaps {
            self.stored.insert(gap.clone());
        }
        for gap in gaps {
            let first = self.slots.partition_point(|slot| slot.end() <= gap.start);
            for index in first..self.slots.len() {
                let Some(slot) = self.slots.get(index) else { break };
                if slot.start >= gap.end {
                    break;
                }
                let part = gap.start.max(slot.start)..gap.end.min(slot.end());
                if part.is_empty() || slot.progress != Progress::Open {
                    continue;
                }
                let entry = self.first_entry + index as u32;
                let slot_start = slot.start;
                places.push(Place {
                    entry,
                    file_offset: part.start - slot_start,
                    run_offset: part.start - range.start,
                    bytes: part.end - part.start,
                });
                let first_block = (part.start - slot_start) / limits::BLOCK_BYTES;
                let last_block = (part.end - 1 - slot_start) / limits::BLOCK_BYTES;
                for block in first_block..=last_block {
                    self.check_block(index, block as u32, steps);
                }
            }
        }
    }

    /// A digest record. Returns None if its entry is not known yet, Some(false) if it breaks a
    /// rule.
    pub fn push_digest(
        &mut self,
        entry: u32,
        block: u32,
        epoch: u8,
        digest: Digest,
        steps: &mut Vec<Step>,
    ) -> Option<bool> {
        if entry >= self.entries() {
            return None;
        }
        let Some(index) = self.index(entry) else { return Some(true) };
        let slot = self.slots.get_mut(index)?;
        if u64::from(block) >= slot.blocks() {
            return Some(false);
        }
        let wanted = slot.epochs.get(&block).copied().unwrap_or(0);
        let one = u64::from(block)..u64::from(block) + 1;
        let useless = slot.progress != Progress::Open
            || slot.verified.contains(&one)
            || slot.comparing.contains(&one);
        if epoch == wanted && !useless {
            slot.digests.entry(block).or_insert(digest);
            self.check_block(index, block, steps);
        }
        Some(true)
    }

    /// Asks for a comparison if the block is complete and its digest known.
    fn check_block(&mut self, index: usize, block: u32, steps: &mut Vec<Step>) {
        let entry = self.first_entry + index as u32;
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !self.stored.contains(&slot.block_range(u64::from(block))) {
            return;
        }
        if let Some(digest) = slot.digests.remove(&block) {
            slot.comparing.insert(u64::from(block)..u64::from(block) + 1);
            steps.push(Step::Verify { entry, block, digest });
        }
    }

    /// A block was compared and is as announced.
    pub fn on_verified(&mut self, entry: u32, block: u32, steps: &mut Vec<Step>) {
        let Some(slot) = self.slot_mut(entry) else { return };
        let one = u64::from(block)..u64::from(block) + 1;
        if slot.comparing.remove(&one) == 1 {
            slot.verified.insert(one);
            self.check_complete(entry, steps);
        }
    }

    /// A block was compared and differs: its bytes are wanted again. Returns the new epoch, or
    /// None if there were too many, or the file is not wanted any more.
    pub fn on_differs(&mut self, entry: u32, block: u32) -> Option<u8> {
        let index = self.index(entry)?;
        let slot = self.slots.get_mut(index)?;
        let one = u64::from(block)..u64::from(block) + 1;
        if slot.comparing.remove(&one) == 0 || slot.progress != Progress::Open {
            return None;
        }
        let epoch = slot.epochs.entry(block).or_insert(0);
        *epoch += 1;
        let epoch = *epoch;
        if epoch > limits::EPOCH_MAX {
            return None;
        }
        let range = slot.block_range(u64::from(block));
        let start = slot.start;
        self.stored.remove(&range);
        for hole in slot.holes.covered_parts(&(range.start - start..range.end - start)) {
            self.stored.insert(start + hole.start..start + hole.end);
        }
        Some(epoch)
    }

    fn check_complete(&mut self, entry: u32, steps: &mut Vec<Step>) {
        let Some(slot) = self.slot_mut(entry) else { return };
        if slot.progress == Progress::Open && slot.verified.covered() == slot.blocks() {
            slot.progress = Progress::Closing;
            steps.push(Step::Commit { entry });
        }
    }

    /// Commits an entry without blocks: an empty file.
    pub fn commit_empty(&mut self, entry: u32, steps: &mut Vec<Step>) {
        self.check_complete(entry, steps);
    }

    /// No byte of an entry is wanted any more. Returns false if that was so before.
    ///
    /// Its range counts as stored: what was never sent of it shall not keep the stored ranges
    /// around it apart, for their number is bounded.
    pub fn close(&mut self, entry: u32) -> bool {
        match self.slot_mut(entry) {
            Some(slot) if slot.progress == Progress::Open => {
                slot.progress = Progress::Closing;
                let range = slot.start..slot.end();
                self.stored.insert(range);
                true
            }
            _ => false,
        }
    }

    /// The outcome of an entry is decided. False if it was before.
    pub fn settle(&mut self, entry: u32) -> bool {
        self.close(entry);
        match self.slot_mut(entry) {
            Some(slot) if slot.progress != Progress::Settled => {
                slot.progress = Progress::Settled;
                slot.digests.clear();
            }
            _ => return false,
        }
        self.unsettled -= 1;
        while self.slots.front().is_some_and(|slot| slot.progress == Progress::Settled) {
            self.slots.pop_front();
            self.first_entry += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = limits::BLOCK_BYTES;

    fn digest() -> Digest {
        Digest::from_slice(&[7; 16]).unwrap()
    }

    fn store(body: &mut Reassembly, range: Range<u64>) -> (Vec<Place>, Vec<Step>) {
        let (mut places, mut steps) = (Vec::new(), Vec::new());
        body.store(range, &mut places, &mut steps);
        (places, steps)
    }

    #[test]
    fn a_run_is_split_at_the_borders_of_files() {
        let mut body = Reassembly::default();
        assert!(body.push_entry(100) && body.push_entry(0) && body.push_entry(50));
        assert!(!body.accepts(&(140..151)), "the entry behind is not known");
        let (places, _) = store(&mut body, 90..110);
        let place =
            |entry, file_offset, run_offset, bytes| Place { entry, file_offset, run_offset, bytes };
        assert_eq!(places, [place(0, 90, 0, 10), place(2, 0, 10, 10)]);
        let (places, _) = store(&mut body, 80..120);
        assert_eq!(places, [place(0, 80, 0, 10), place(2, 10, 30, 10)], "the first bytes win");
    }

    #[test]
    fn a_file_is_committed_when_every_block_is_verified() {
        let mut body = Reassembly::default();
        body.push_entry(BLOCK + 10);
        let mut steps = Vec::new();
        body.push_digest(0, 1, 0, digest(), &mut steps);
        assert_eq!(steps, []);
        let (_, steps) = store(&mut body, 0..BLOCK + 10);
        assert_eq!(steps, [Step::Verify { entry: 0, block: 1, digest: digest() }]);
        let mut steps = Vec::new();
        body.push_digest(0, 0, 0, digest(), &mut steps);
        assert_eq!(steps, [Step::Verify { entry: 0, block: 0, digest: digest() }]);
        let mut steps = Vec::new();
        body.on_verified(0, 0, &mut steps);
        assert_eq!(steps, []);
        body.on_verified(0, 1, &mut steps);
        assert_eq!(steps, [Step::Commit { entry: 0 }]);
        assert!(body.settle(0));
        assert!(!body.settle(0));
        assert_eq!(body.unsettled(), 0);
    }

    #[test]
    fn files_that_are_not_wanted_do_not_keep_the_stored_ranges_apart() {
        let mut body = Reassembly::default();
        for entry in 0..100 {
            body.push_entry(10);
            if entry % 2 == 1 {
                assert!(body.settle(entry));
            }
        }
        for entry in (0..100).step_by(2) {
            store(&mut body, 10 * entry..10 * entry + 10);
        }
        assert_eq!(body.stored.range_count(), 1);
        assert_eq!(store(&mut body, 0..1_000), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_block_that_differs_is_wanted_again_three_times() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let mut steps = Vec::new();
        for epoch in 0..=3 {
            let (places, _) = store(&mut body, 0..10);
            assert_eq!(places.len(), 1, "epoch {epoch}");
            steps.clear();
            body.push_digest(0, 0, epoch, digest(), &mut steps);
            assert_eq!(steps.len(), 1, "epoch {epoch}");
            assert_eq!(body.on_differs(0, 0), (epoch < 3).then_some(epoch + 1));
        }
    }

    #[test]
    fn a_file_of_holes_needs_nothing() {
        let mut body = Reassembly::default();
        body.push_entry(5 * BLOCK + 1);
        let mut steps = Vec::new();
        assert!(body.push_hole(0, 2 * BLOCK + 5, &mut steps));
        assert!(!body.push_hole(2 * BLOCK + 5, 10, &mut steps), "touching holes are one");
        assert!(!body.push_hole(3 * BLOCK, 9 * BLOCK, &mut steps), "beyond the end");
        assert!(body.push_hole(2 * BLOCK + 6, 3 * BLOCK - 5, &mut steps));
        assert_eq!(steps, []);
        body.push_digest(0, 2, 0, digest(), &mut steps);
        let (_, steps) = store(&mut body, 2 * BLOCK + 5..2 * BLOCK + 6);
        assert_eq!(steps, [Step::Verify { entry: 0, block: 2, digest: digest() }]);
        let mut steps = Vec::new();
        body.on_verified(0, 2, &mut steps);
        assert_eq!(steps, [Step::Commit { entry: 0 }]);
    }

    #[test]
    fn of_a_block_that_differs_all_but_its_holes_is_wanted_again() {
        let mut body = Reassembly::default();
        body.push_entry(7);
        body.push_entry(3 * BLOCK);
        let mut steps = Vec::new();
        // In block 0 alone, from block 0 into 1, in 1 alone, from 1 into 2, in 2 alone.
        for start in [5, BLOCK - 5, BLOCK + 50, 2 * BLOCK - 5, 2 * BLOCK + 50] {
            assert!(body.push_hole(start, 10, &mut steps));
        }
        store(&mut body, 0..7 + 3 * BLOCK);
        body.push_digest(1, 1, 0, digest(), &mut steps);
        assert_eq!(body.on_differs(1, 1), Some(1));
        let (places, _) = store(&mut body, 0..7 + 3 * BLOCK);
        let ranges = places.iter().map(|place| (place.file_offset, place.bytes));
        let wanted = [(BLOCK + 5, 45), (BLOCK + 60, BLOCK - 65)];
        assert_eq!(ranges.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_block_that_arrived_before_its_hole_was_announced_is_complete_with_the_hole() {
        let mut body = Reassembly::default();
        body.push_entry(3 * BLOCK);
        let mut steps = Vec::new();
        for block in [0, 2] {
            body.push_digest(0, block, 0, digest(), &mut steps);
        }
        store(&mut body, 0..5);
        store(&mut body, 3 * BLOCK - 5..3 * BLOCK);
        assert_eq!(steps, []);
        assert!(body.push_hole(5, 3 * BLOCK - 10, &mut steps));
        let verify = |block| Step::Verify { entry: 0, block, digest: digest() };
        assert_eq!(steps, [verify(0), verify(2)]);
    }

    //= proto.md#digest-records
    //= type=test
    //# a second record of the same block and epoch is ignored
    #[test]
    fn a_second_digest_record_of_an_epoch_is_ignored() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let (_, mut steps) = store(&mut body, 0..10);
        body.push_digest(0, 0, 0, digest(), &mut steps);
        body.push_digest(0, 0, 0, digest(), &mut steps);
        assert_eq!(steps.len(), 1, "while the first is compared");
        assert_eq!(body.on_differs(0, 0), Some(1));
        steps.clear();
        body.push_digest(0, 0, 0, digest(), &mut steps);
        assert_eq!(steps, [], "of the epoch before");
    }

    #[test]
    fn a_void_file_is_not_asked_for_again() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let (_, mut steps) = store(&mut body, 0..10);
        body.push_digest(0, 0, 0, digest(), &mut steps);
        assert!(body.close(0));
        assert_eq!(body.on_differs(0, 0), None);
    }
}
