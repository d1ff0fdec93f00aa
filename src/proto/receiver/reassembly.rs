//! The body at the receiver: which bytes are stored, which blocks are complete, and what each
//! entry still needs.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::proto::entry_window::EntryWindow;
use crate::proto::event::ReceiverEvent;
use crate::proto::range_set::{RangeSet, tree_bytes};
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

/// An entry that is not settled.
#[derive(Debug, Default)]
struct Slot {
    /// More blocks may follow: its size is not known.
    is_pipe: bool,
    /// Nothing more is wanted; the shell's word is awaited (commit or abandon).
    closing: bool,
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
    /// Ranges that an interrupted transfer has left.
    kept: RangeSet,
    /// Bytes of its path and its target.
    name_bytes: usize,
    /// As how many holes its attributes count.
    weight: usize,
}

/// All entries that are not settled, and the stored ranges of the body.
#[derive(Debug, Default)]
pub struct Reassembly {
    slots: EntryWindow<Slot>,
    stored: RangeSet,
    /// Digest records in all slots.
    waiting_digests: usize,
    /// Holes in all slots.
    holes: usize,
    /// Bytes of the names in all slots.
    name_bytes: usize,
    /// Data of the blocks that interrupted transfers have left, of settled entries, too.
    kept_bytes: u64,
}

/// Number of blocks of a file with this body.
fn blocks(body: &Range<u64>) -> u64 {
    (body.end - body.start).div_ceil(limits::BLOCK_BYTES)
}

/// A block of the file with this body.
fn block_range(body: &Range<u64>, block: u64) -> Range<u64> {
    let start = body.start + block * limits::BLOCK_BYTES;
    start..(start + limits::BLOCK_BYTES).min(body.end)
}

impl Reassembly {
    /// Number of entries so far.
    pub fn entries(&self) -> u32 {
        self.slots.entries()
    }

    /// Entries whose outcome is open.
    pub fn unsettled(&self) -> u32 {
        self.slots.open() as u32
    }

    /// Holes of entries whose outcome is open.
    pub fn unsettled_holes(&self) -> usize {
        self.holes
    }

    /// Bytes of paths and targets of entries whose outcome is open.
    pub fn unsettled_name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// Digest records that wait for the bytes of their blocks.
    pub fn waiting_digests(&self) -> usize {
        self.waiting_digests
    }

    /// Length of the body as far as entries are known.
    pub fn body_end(&self) -> u64 {
        self.slots.body_end()
    }

    /// Data of the blocks that interrupted transfers have left.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes of memory held, roughly.
    pub fn memory_bytes(&self) -> usize {
        let of_slot = |slot: &Slot| {
            let sets = [&slot.verified, &slot.comparing, &slot.holes, &slot.kept];
            let sets = sets.map(RangeSet::memory_bytes);
            sets.iter().sum::<usize>() + tree_bytes(&slot.digests) + tree_bytes(&slot.epochs)
        };
        self.slots.memory_bytes()
            + self.slots.values().map(of_slot).sum::<usize>()
            + self.stored.memory_bytes()
    }

    /// Appends an entry. False if the body would become too long.
    pub fn push_entry(&mut self, bytes: u64) -> bool {
        let end = self.body_end().saturating_add(bytes);
        if end > limits::BODY_BYTES_MAX || self.entries() == limits::ENTRIES_MAX {
            return false;
        }
        self.slots.push(bytes, Slot::default());
        true
    }

    /// What belongs to the last entry counts as so many holes.
    pub fn weigh_last(&mut self, weight: usize) {
        if let Some(slot) = self.slots.get_mut(self.slots.entries().wrapping_sub(1)) {
            slot.weight = weight;
            self.holes += weight;
        }
    }

    /// The size of the last entry is not known yet.
    pub fn open_pipe(&mut self) {
        let entry = self.entries().wrapping_sub(1);
        if let Some(slot) = self.slots.get_mut(entry) {
            slot.is_pipe = true;
        }
    }

    /// The last entry, a pipe, goes on. False if the body would become too long.
    pub fn extend_pipe(&mut self, bytes: u64) -> bool {
        let start = self.body_end();
        let end = start.saturating_add(bytes);
        if end > limits::BODY_BYTES_MAX {
            return false;
        }
        self.slots.extend_last(bytes);
        let is_wanted = |slot: &Slot| !slot.closing;
        if !self.slots.get(self.entries().wrapping_sub(1)).is_some_and(is_wanted) {
            self.stored.insert(start..end);
        }
        true
    }

    /// Nothing more follows: the last entry, if it is a pipe, is complete with what it has.
    pub fn end_pipe(&mut self, events: &mut VecDeque<ReceiverEvent>) {
        let entry = self.entries().wrapping_sub(1);
        if let Some(slot) = self.slots.get_mut(entry).filter(|slot| slot.is_pipe) {
            slot.is_pipe = false;
            self.check_complete(entry, events);
        }
    }

    /// The last entry's path and target have so many bytes.
    pub fn count_name(&mut self, bytes: usize) {
        if let Some(slot) = self.slots.get_mut(self.entries().wrapping_sub(1)) {
            slot.name_bytes += bytes;
            self.name_bytes += bytes;
        }
    }

    /// A range of the last entry's file has no data. False if it breaks proto.md's rules.
    pub fn push_hole(
        &mut self,
        offset: u64,
        bytes: u64,
        events: &mut VecDeque<ReceiverEvent>,
    ) -> bool {
        let entry = self.entries().wrapping_sub(1);
        // Settled in the meantime: there is nothing left to compare the hole with.
        let Some(body) = self.slots.body(entry) else { return true };
        let Some(slot) = self.slots.get_mut(entry) else { return true };
        let after = slot.holes.last().map_or(0, |hole| hole.end + 1);
        let ordered = bytes > 0 && (offset >= after || slot.holes.is_empty());
        let Some(end) = offset.checked_add(bytes) else { return false };
        let few = slot.holes.range_count() < limits::HOLES_MAX;
        if !ordered || !few || end > body.end - body.start {
            return false;
        }
        slot.holes.insert(offset..end);
        self.holes += 1;
        let kept = slot.kept.covered_parts(&(offset..end));
        self.kept_bytes -= kept.map(|part| part.end - part.start).sum::<u64>();
        // Blocks within the hole need nothing else. The last block may be short.
        let first = offset.div_ceil(limits::BLOCK_BYTES);
        let is_to_end = end == body.end - body.start;
        let last = if is_to_end { blocks(&body) } else { end / limits::BLOCK_BYTES };
        slot.verified.insert(first..last.max(first));
        self.stored.insert(body.start + offset..body.start + end);
        // The rest of a block that the hole covers in part may have arrived before.
        let (head, tail) = (offset / limits::BLOCK_BYTES, (end - 1) / limits::BLOCK_BYTES);
        self.check_block(entry, head as u32, events);
        self.check_block(entry, tail as u32, events);
        self.check_complete(entry, events);
        true
    }

    /// Whether all of `range` lies in known entries and may be stored without too many holes.
    pub fn accepts(&self, range: &Range<u64>) -> bool {
        range.end <= self.body_end()
            && (self.stored.range_count() < limits::STORED_RANGES_MAX
                || !self.stored.would_split_off(range))
    }

    /// Stores `range` as far as it is not stored yet: appends where its parts belong, and what
    /// follows for blocks. Call only for what [`Reassembly::accepts`].
    ///
    /// Returns how many of its bytes had come before.
    pub fn store(
        &mut self,
        range: Range<u64>,
        places: &mut Vec<Place>,
        events: &mut VecDeque<ReceiverEvent>,
    ) -> u64 {
        let gaps: Vec<Range<u64>> = self.stored.gaps(range.clone()).collect();
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        let again = match missing == range.end - range.start {
            true => 0,
            false => self.came_before(&range),
        };
        let placed_before = places.len();
        for gap in gaps {
            self.stored.insert(gap.clone());
            for (entry, body, slot) in self.slots.within(&gap) {
                let part = gap.start.max(body.start)..gap.end.min(body.end);
                if !slot.closing {
                    places.push(Place {
                        entry,
                        file_offset: part.start - body.start,
                        run_offset: part.start - range.start,
                        bytes: part.end - part.start,
                    });
                }
            }
        }
        for place in places.iter().skip(placed_before) {
            let first_block = place.file_offset / limits::BLOCK_BYTES;
            let last_block = (place.file_offset + place.bytes - 1) / limits::BLOCK_BYTES;
            for block in first_block..=last_block {
                self.check_block(place.entry, block as u32, events);
            }
        }
        again
    }

    /// Bytes of `range` that came before: stored, and neither left by an interrupted transfer nor
    /// of an entry that nothing is wanted of.
    fn came_before(&self, range: &Range<u64>) -> u64 {
        let length = |part: Range<u64>| part.end - part.start;
        let mut bytes = 0;
        for (_, body, slot) in self.slots.within(range).filter(|(_, _, slot)| !slot.closing) {
            let part = range.start.max(body.start)..range.end.min(body.end);
            let stored: u64 = self.stored.covered_parts(&part).map(length).sum();
            let in_file = part.start - body.start..part.end - body.start;
            let kept: u64 = slot.kept.covered_parts(&in_file).map(length).sum();
            // A block may have been asked for again before it turned out to be kept.
            bytes += stored.saturating_sub(kept);
        }
        bytes
    }

    /// A digest record. Returns None if its entry, or its block of a pipe, is not known yet,
    /// Some(false) if it breaks a rule.
    pub fn push_digest(
        &mut self,
        entry: u32,
        block: u32,
        epoch: u8,
        digest: Digest,
        events: &mut VecDeque<ReceiverEvent>,
    ) -> Option<bool> {
        if entry >= self.entries() {
            return None;
        }
        let Some(body) = self.slots.body(entry) else { return Some(true) };
        let Some(slot) = self.slots.get_mut(entry) else { return Some(true) };
        if u64::from(block) >= blocks(&body) {
            return if slot.is_pipe { None } else { Some(false) };
        }
        let wanted = slot.epochs.get(&block).copied().unwrap_or(0);
        let one = u64::from(block)..u64::from(block) + 1;
        let useless = slot.closing || slot.verified.contains(&one) || slot.comparing.contains(&one);
        if epoch == wanted && !useless {
            if self.stored.contains(&block_range(&body, u64::from(block))) {
                slot.comparing.insert(one);
                events.push_back(ReceiverEvent::Verify { entry, block, digest });
            } else {
                let before = slot.digests.len();
                slot.digests.entry(block).or_insert(digest);
                self.waiting_digests += slot.digests.len() - before;
            }
        }
        Some(true)
    }

    /// Asks for a comparison if the block is complete and its digest known.
    fn check_block(&mut self, entry: u32, block: u32, events: &mut VecDeque<ReceiverEvent>) {
        let Some(body) = self.slots.body(entry) else { return };
        if !self.stored.contains(&block_range(&body, u64::from(block))) {
            return;
        }
        let Some(slot) = self.slots.get_mut(entry) else { return };
        if let Some(digest) = slot.digests.remove(&block) {
            self.waiting_digests -= 1;
            slot.comparing.insert(u64::from(block)..u64::from(block) + 1);
            events.push_back(ReceiverEvent::Verify { entry, block, digest });
        }
    }

    /// An interrupted transfer has left these blocks. False if there are no such blocks, or
    /// nothing of the entry is wanted any more.
    pub fn keep(
        &mut self,
        entry: u32,
        kept: Range<u64>,
        events: &mut VecDeque<ReceiverEvent>,
    ) -> bool {
        let Some(body) = self.slots.body(entry) else { return false };
        let Some(slot) = self.slots.get_mut(entry) else { return false };
        if slot.closing || kept.is_empty() || kept.end > blocks(&body) {
            return false;
        }
        let bytes = block_range(&body, kept.start).start..block_range(&body, kept.end - 1).end;
        let in_file = bytes.start - body.start..bytes.end - body.start;
        for part in slot.kept.gaps(in_file.clone()) {
            let in_holes = slot.holes.covered_parts(&part).map(|hole| hole.end - hole.start);
            self.kept_bytes += part.end - part.start - in_holes.sum::<u64>();
        }
        slot.kept.insert(in_file);
        // Those that the shell compares already are verified by that.
        for part in slot.comparing.gaps(kept.clone()) {
            slot.verified.insert(part);
        }
        let before = slot.digests.len();
        slot.digests.retain(|block, _| !kept.contains(&u64::from(*block)));
        self.waiting_digests -= before - slot.digests.len();
        self.stored.insert(bytes);
        self.check_complete(entry, events);
        true
    }

    /// A block was compared and is as announced.
    pub fn on_verified(&mut self, entry: u32, block: u32, events: &mut VecDeque<ReceiverEvent>) {
        let Some(slot) = self.slots.get_mut(entry) else { return };
        let one = u64::from(block)..u64::from(block) + 1;
        if slot.comparing.remove(&one) == 1 {
            slot.verified.insert(one);
            self.check_complete(entry, events);
        }
    }

    /// A block was compared and differs: its bytes are wanted again. Returns the new epoch, or
    /// None if there were too many, or the file is not wanted any more.
    pub fn on_differs(&mut self, entry: u32, block: u32) -> Option<u8> {
        let body = self.slots.body(entry)?;
        let slot = self.slots.get_mut(entry)?;
        let one = u64::from(block)..u64::from(block) + 1;
        if slot.comparing.remove(&one) == 0 || slot.closing {
            return None;
        }
        let epoch = slot.epochs.entry(block).or_insert(0);
        *epoch += 1;
        let epoch = *epoch;
        if epoch > limits::EPOCH_MAX {
            return None;
        }
        let range = block_range(&body, u64::from(block));
        let start = body.start;
        self.stored.remove(&range);
        for hole in slot.holes.covered_parts(&(range.start - start..range.end - start)) {
            self.stored.insert(start + hole.start..start + hole.end);
        }
        Some(epoch)
    }

    fn check_complete(&mut self, entry: u32, events: &mut VecDeque<ReceiverEvent>) {
        let Some(body) = self.slots.body(entry) else { return };
        let Some(slot) = self.slots.get_mut(entry) else { return };
        let is_complete = !slot.is_pipe && slot.verified.covered() == blocks(&body);
        if !slot.closing && is_complete {
            slot.closing = true;
            events.push_back(ReceiverEvent::Commit { entry });
        }
    }

    /// Commits an entry without blocks: an empty file.
    pub fn commit_empty(&mut self, entry: u32, events: &mut VecDeque<ReceiverEvent>) {
        self.check_complete(entry, events);
    }

    /// No byte of an entry is wanted any more. Returns false if that was so before.
    ///
    /// Its range counts as stored: what was never sent of it shall not keep the stored ranges
    /// around it apart, for their number is bounded.
    pub fn close(&mut self, entry: u32) -> bool {
        let Some(body) = self.slots.body(entry) else { return false };
        match self.slots.get_mut(entry) {
            Some(slot) if !slot.closing => {
                slot.closing = true;
                self.waiting_digests -= slot.digests.len();
                slot.digests.clear();
                self.stored.insert(body);
                true
            }
            _ => false,
        }
    }

    /// The outcome of an entry is decided. False if it was before.
    pub fn settle(&mut self, entry: u32) -> bool {
        self.close(entry);
        let Some(slot) = self.slots.remove(entry) else { return false };
        self.waiting_digests -= slot.digests.len();
        self.holes -= slot.holes.range_count() + slot.weight;
        self.name_bytes -= slot.name_bytes;
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

    #[test]
    fn what_an_interrupted_transfer_has_left_did_not_come_before() {
        let mut body = Reassembly::default();
        let (mut places, mut events) = (Vec::new(), VecDeque::new());
        assert!(body.push_entry(4 * BLOCK));
        assert!(body.keep(0, 0..2, &mut events));
        assert_eq!(body.store(0..BLOCK, &mut places, &mut events), 0, "it is kept");
        assert_eq!(body.store(BLOCK..3 * BLOCK, &mut places, &mut events), 0, "half of it is");
        assert_eq!(body.store(0..4 * BLOCK, &mut places, &mut events), BLOCK);
        body.close(0);
        assert_eq!(body.store(0..4 * BLOCK, &mut places, &mut events), 0, "none of it is wanted");
    }

    #[test]
    fn what_is_kept_of_one_file_hides_nothing_that_came_before_of_another() {
        let mut body = Reassembly::default();
        let (mut places, mut events) = (Vec::new(), VecDeque::new());
        assert!(body.push_entry(100) && body.push_entry(2 * BLOCK));
        assert_eq!(body.store(0..100 + BLOCK, &mut places, &mut events), 0);
        assert_eq!(body.push_digest(1, 0, 0, digest(), &mut events), Some(true));
        // It turns out to be kept while it is compared, and is asked for again.
        assert!(body.keep(1, 0..1, &mut events));
        assert_eq!(body.on_differs(1, 0), Some(1));
        assert_eq!(body.store(0..100 + BLOCK, &mut places, &mut events), 100);
    }

    #[test]
    fn what_is_kept_needs_no_digest_and_a_hole_lies_in_its_own_file() {
        let mut body = Reassembly::default();
        let mut events = VecDeque::new();
        assert!(body.push_entry(3 * BLOCK) && body.push_entry(100));
        (0..3).for_each(|block| _ = body.push_digest(0, block, 0, digest(), &mut events));
        assert!(body.keep(0, 1..2, &mut events));
        assert_eq!((body.waiting_digests(), body.kept_bytes()), (2, BLOCK));
        let (_, events) = store(&mut body, 0..3 * BLOCK);
        let verify = |block| ReceiverEvent::Verify { entry: 0, block, digest: digest() };
        assert_eq!(events, [verify(0), verify(2)]);
        let mut events = VecDeque::new();
        assert!(!body.push_hole(50, 51, &mut events), "the body goes on, the file does not");
        assert!(body.push_hole(50, 50, &mut events));
    }

    fn store(body: &mut Reassembly, range: Range<u64>) -> (Vec<Place>, VecDeque<ReceiverEvent>) {
        let (mut places, mut events) = (Vec::new(), VecDeque::new());
        body.store(range, &mut places, &mut events);
        (places, events)
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
        let mut events = VecDeque::new();
        body.push_digest(0, 1, 0, digest(), &mut events);
        assert_eq!(events, []);
        let (_, events) = store(&mut body, 0..BLOCK + 10);
        assert_eq!(events, [ReceiverEvent::Verify { entry: 0, block: 1, digest: digest() }]);
        let mut events = VecDeque::new();
        body.push_digest(0, 0, 0, digest(), &mut events);
        assert_eq!(events, [ReceiverEvent::Verify { entry: 0, block: 0, digest: digest() }]);
        let mut events = VecDeque::new();
        body.on_verified(0, 0, &mut events);
        assert_eq!(events, []);
        body.on_verified(0, 1, &mut events);
        assert_eq!(events, [ReceiverEvent::Commit { entry: 0 }]);
        assert!(body.settle(0));
        assert!(!body.settle(0));
        assert_eq!(body.unsettled(), 0);
    }

    #[test]
    fn blocks_that_were_kept_are_not_wanted_and_complete_the_file() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        body.push_entry(4 * BLOCK + 5);
        let mut events = VecDeque::new();
        // A block arrived, and is compared, before the shell knew that it had it.
        store(&mut body, 10..10 + BLOCK);
        body.push_digest(1, 0, 0, digest(), &mut events);
        assert_eq!(events.len(), 1);
        assert!(body.keep(1, 0..2, &mut events) && body.keep(1, 3..5, &mut events));
        assert!(!body.keep(1, 4..6, &mut events), "there are 5 blocks");
        assert!(!body.keep(2, 0..1, &mut events), "there are 2 entries");
        assert_eq!(body.kept_bytes(), 3 * BLOCK + 5);
        assert!(body.push_hole(BLOCK + 5, BLOCK, &mut events));
        assert_eq!(body.kept_bytes(), 2 * BLOCK + 10);
        let (places, _) = store(&mut body, 10..10 + 4 * BLOCK + 5);
        let ranges = places.iter().map(|place| (place.file_offset, place.bytes));
        assert_eq!(ranges.collect::<Vec<_>>(), [(2 * BLOCK + 5, BLOCK - 5)]);
        events.clear();
        body.push_digest(1, 1, 0, digest(), &mut events);
        assert_eq!(events, [], "a digest of what is there is not needed");
        body.push_digest(1, 2, 0, digest(), &mut events);
        assert_eq!(events, [ReceiverEvent::Verify { entry: 1, block: 2, digest: digest() }]);
        events.clear();
        body.on_verified(1, 2, &mut events);
        assert_eq!(events, []);
        body.on_verified(1, 0, &mut events);
        assert_eq!(events, [ReceiverEvent::Commit { entry: 1 }]);
        assert!(!body.keep(1, 0..1, &mut events), "it is complete");
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
        assert_eq!(store(&mut body, 0..1_000), (Vec::new(), VecDeque::new()));
    }

    #[test]
    fn a_block_that_differs_is_wanted_again_three_times() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let mut events = VecDeque::new();
        for epoch in 0..=3 {
            let (places, _) = store(&mut body, 0..10);
            assert_eq!(places.len(), 1, "epoch {epoch}");
            events.clear();
            body.push_digest(0, 0, epoch, digest(), &mut events);
            assert_eq!(events.len(), 1, "epoch {epoch}");
            assert_eq!(body.on_differs(0, 0), (epoch < 3).then_some(epoch + 1));
        }
    }

    #[test]
    fn a_file_of_holes_needs_nothing() {
        let mut body = Reassembly::default();
        body.push_entry(5 * BLOCK + 1);
        let mut events = VecDeque::new();
        assert!(body.push_hole(0, 2 * BLOCK + 5, &mut events));
        assert!(!body.push_hole(2 * BLOCK + 5, 10, &mut events), "touching holes are one");
        assert!(!body.push_hole(3 * BLOCK, 9 * BLOCK, &mut events), "beyond the end");
        assert!(body.push_hole(2 * BLOCK + 6, 3 * BLOCK - 5, &mut events));
        assert_eq!(events, []);
        body.push_digest(0, 2, 0, digest(), &mut events);
        let (_, events) = store(&mut body, 2 * BLOCK + 5..2 * BLOCK + 6);
        assert_eq!(events, [ReceiverEvent::Verify { entry: 0, block: 2, digest: digest() }]);
        let mut events = VecDeque::new();
        body.on_verified(0, 2, &mut events);
        assert_eq!(events, [ReceiverEvent::Commit { entry: 0 }]);
    }

    #[test]
    fn of_a_block_that_differs_all_but_its_holes_is_wanted_again() {
        let mut body = Reassembly::default();
        body.push_entry(7);
        body.push_entry(3 * BLOCK);
        let mut events = VecDeque::new();
        // In block 0 alone, from block 0 into 1, in 1 alone, from 1 into 2, in 2 alone.
        for start in [5, BLOCK - 5, BLOCK + 50, 2 * BLOCK - 5, 2 * BLOCK + 50] {
            assert!(body.push_hole(start, 10, &mut events));
        }
        store(&mut body, 0..7 + 3 * BLOCK);
        body.push_digest(1, 1, 0, digest(), &mut events);
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
        let mut events = VecDeque::new();
        for block in [0, 2] {
            body.push_digest(0, block, 0, digest(), &mut events);
        }
        store(&mut body, 0..5);
        store(&mut body, 3 * BLOCK - 5..3 * BLOCK);
        assert_eq!(events, []);
        assert!(body.push_hole(5, 3 * BLOCK - 10, &mut events));
        let verify = |block| ReceiverEvent::Verify { entry: 0, block, digest: digest() };
        assert_eq!(events, [verify(0), verify(2)]);
    }

    //= proto.md#digest-records
    //= type=test
    //# a second record of the same block and epoch is ignored
    #[test]
    fn a_second_digest_record_of_an_epoch_is_ignored() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let (_, mut events) = store(&mut body, 0..10);
        body.push_digest(0, 0, 0, digest(), &mut events);
        body.push_digest(0, 0, 0, digest(), &mut events);
        assert_eq!(events.len(), 1, "while the first is compared");
        assert_eq!(body.on_differs(0, 0), Some(1));
        events.clear();
        body.push_digest(0, 0, 0, digest(), &mut events);
        assert_eq!(events, [], "of the epoch before");
    }

    #[test]
    fn a_void_file_is_not_asked_for_again() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        let (_, mut events) = store(&mut body, 0..10);
        body.push_digest(0, 0, 0, digest(), &mut events);
        assert!(body.close(0));
        assert_eq!(body.on_differs(0, 0), None);
    }

    //= proto.md#manifest-records
    //= type=test
    //# Holes of a settled file are ignored.
    #[test]
    fn holes_of_a_file_that_was_settled_meanwhile_are_no_fault() {
        let mut body = Reassembly::default();
        body.push_entry(100);
        let mut events = VecDeque::new();
        assert!(body.push_hole(0, 10, &mut events));
        assert!(body.settle(0));
        assert!(body.push_hole(20, 10, &mut events));
        assert_eq!((body.unsettled_holes(), events), (0, VecDeque::new()));
    }

    //= proto.md#limits
    //= type=test
    //# | holes of a file | 16,384 |
    #[test]
    fn one_hole_too_many_is_a_fault() {
        let mut body = Reassembly::default();
        body.push_entry(3 * BLOCK);
        let mut events = VecDeque::new();
        for hole in 0..limits::HOLES_MAX as u64 {
            assert!(body.push_hole(2 * hole, 1, &mut events));
        }
        assert!(!body.push_hole(2 * BLOCK, 1, &mut events));
        assert_eq!(body.unsettled_holes(), limits::HOLES_MAX);
        assert!(body.settle(0));
        assert_eq!(body.unsettled_holes(), 0);
    }

    #[test]
    fn digests_are_counted_while_they_wait_for_the_bytes_of_their_blocks() {
        let mut body = Reassembly::default();
        body.push_entry(10 * BLOCK);
        body.push_entry(10 * BLOCK);
        let mut events = VecDeque::new();
        for block in [0, 1, 1, 2] {
            body.push_digest(0, block, 0, digest(), &mut events);
            body.push_digest(1, block, 0, digest(), &mut events);
        }
        assert_eq!(body.waiting_digests(), 6);
        store(&mut body, 0..2 * BLOCK);
        assert_eq!(body.waiting_digests(), 4);
        assert!(body.close(0));
        assert_eq!(body.waiting_digests(), 3);
        assert!(body.settle(0) && body.settle(1));
        assert_eq!(body.waiting_digests(), 0);
    }

    #[test]
    fn what_holds_of_a_file_holds_wherever_its_bytes_lie() {
        for lead in [0, 3 * BLOCK + 7] {
            let mut body = Reassembly::default();
            let mut events = VecDeque::new();
            assert!(body.push_entry(lead) && body.push_entry(5 * BLOCK + 10));
            assert!(body.push_hole(3 * BLOCK + 5, 2 * BLOCK + 5, &mut events), "to its end");
            assert!(body.keep(1, 0..1, &mut events));
            assert_eq!(body.kept_bytes(), BLOCK);
            let (places, _) = store(&mut body, lead..lead + 4 * BLOCK);
            let wanted = [(BLOCK, 2 * BLOCK + 5)];
            let placed = places.iter().map(|place| (place.file_offset, place.bytes));
            assert_eq!(placed.collect::<Vec<_>>(), wanted, "not what is kept, nor the hole");
            let (mut places, mut events) = (Vec::new(), VecDeque::new());
            let again = body.store(lead..lead + 2 * BLOCK, &mut places, &mut events);
            assert_eq!((again, places.len()), (BLOCK, 0), "one of them was kept");
            for block in 1..4 {
                assert_eq!(body.push_digest(1, block, 0, digest(), &mut events), Some(true));
            }
            assert_eq!(events.len(), 3, "they are complete");
            assert_eq!(body.on_differs(1, 3), Some(1));
            let (places, _) = store(&mut body, lead + 3 * BLOCK..lead + 4 * BLOCK);
            let place = Place { entry: 1, file_offset: 3 * BLOCK, run_offset: 0, bytes: 5 };
            assert_eq!(places, [place], "its hole is not wanted again");
            events.clear();
            body.push_digest(1, 3, 1, digest(), &mut events);
            (1..4).for_each(|block| body.on_verified(1, block, &mut events));
            assert_eq!(events.back(), Some(&ReceiverEvent::Commit { entry: 1 }));
        }
    }

    #[test]
    fn a_body_is_as_long_as_it_may_be_and_no_longer() {
        let mut body = Reassembly::default();
        assert!(body.push_entry(limits::BODY_BYTES_MAX - 10));
        assert!(!body.push_entry(11));
        assert!(body.push_entry(1));
        body.open_pipe();
        assert!(!body.extend_pipe(10));
        assert!(body.extend_pipe(9));
        assert_eq!((body.entries(), body.body_end()), (2, limits::BODY_BYTES_MAX));
    }

    #[test]
    fn what_a_pipe_goes_on_with_is_wanted_until_it_is_given_up() {
        let mut body = Reassembly::default();
        body.push_entry(10);
        body.open_pipe();
        assert!(body.extend_pipe(10));
        assert_eq!(store(&mut body, 10..20).0.len(), 1);
        assert!(body.close(0));
        assert!(!body.close(0), "once");
        assert!(body.extend_pipe(10));
        assert_eq!(body.stored.covered(), 30, "what nobody wants counts as stored");
    }

    #[test]
    fn what_waits_for_an_entry_is_forgotten_with_it() {
        let mut body = Reassembly::default();
        let mut events = VecDeque::new();
        body.push_entry(3 * BLOCK);
        body.weigh_last(7);
        body.count_name(5);
        (0..3).for_each(|block| _ = body.push_digest(0, block, 0, digest(), &mut events));
        assert!(!body.push_hole(0, 0, &mut events), "a hole has bytes");
        assert!(body.push_hole(0, 3 * BLOCK, &mut events));
        assert_eq!(events.back(), Some(&ReceiverEvent::Commit { entry: 0 }));
        assert_eq!((body.unsettled_holes(), body.unsettled_name_bytes()), (8, 5));
        assert_eq!(body.waiting_digests(), 1, "of the block that lies within the hole");
        assert!(body.settle(0));
        let left = (body.unsettled_holes(), body.unsettled_name_bytes(), body.waiting_digests());
        assert_eq!(left, (0, 0, 0));
    }

    #[test]
    fn with_too_many_ranges_only_what_joins_one_of_them_is_taken() {
        let mut body = Reassembly::default();
        let ranges = limits::STORED_RANGES_MAX as u64;
        body.push_entry(2 * ranges + 10);
        for index in 0..ranges {
            let range = 2 * index..2 * index + 1;
            assert!(body.accepts(&range), "range {index}");
            store(&mut body, range);
        }
        let behind = 2 * ranges + 1..2 * ranges + 2;
        assert!(!body.accepts(&behind));
        assert!(body.accepts(&(2 * ranges - 1..2 * ranges)), "it joins the last");
    }
}
