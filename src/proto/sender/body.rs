//! Which body bytes wait to be sent: new ones, lost ones, and those nobody wants any more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::proto::range_set::RangeSet;
use crate::wire::{PacketNumber, limits};

/// The body range of one entry.
#[derive(Clone, Debug)]
struct Span {
    start: u64,
    bytes: u64,
    /// No byte is to be sent any more: settled, refused, or void.
    closed: bool,
    /// The receiver has decided on it.
    settled: bool,
}

/// The body as the sender sees it: entries end to end, and what of them is still to be sent.
#[derive(Debug, Default)]
pub struct BodyQueue {
    /// Entries from `first_entry` on; settled ones at the front are forgotten.
    spans: VecDeque<Span>,
    first_entry: u32,
    /// Entries in `spans` that are not settled.
    unsettled: usize,
    /// Length of the body so far.
    end: u64,
    unsent: RangeSet,
    lost: RangeSet,
    /// What the tail lost and was sent again: it is sent once more.
    repeats: RangeSet,
    /// What was sent twice in this way, and what of it has arrived: the loss of the other copy
    /// is none.
    repeated: RangeSet,
    arrived: RangeSet,
    /// Entry and block -> epoch, of the blocks that the receiver asked for again.
    epochs: BTreeMap<(u32, u32), u8>,
    /// Start of such a block's range -> its end, and the first number it was sent under again.
    resent: BTreeMap<u64, (u64, PacketNumber)>,
}

impl BodyQueue {
    /// Number of entries so far.
    pub fn entries(&self) -> u32 {
        self.first_entry + self.spans.len() as u32
    }

    /// Number of entries the receiver has not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Length of the body so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that have never been sent.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent.covered()
    }

    /// Appends an entry; `wanted` is false in a dry run. Returns its number.
    pub fn push_entry(&mut self, bytes: u64, wanted: bool) -> u32 {
        let entry = self.entries();
        let start = self.end;
        self.end += bytes;
        self.spans.push_back(Span { start, bytes, closed: !wanted, settled: false });
        self.unsettled += 1;
        if wanted {
            self.unsent.insert(start..self.end);
        }
        entry
    }

    /// A range of the last entry's file has no data and is never sent.
    pub fn push_hole(&mut self, offset: u64, bytes: u64) {
        if let Some(span) = self.spans.back() {
            let start = span.start.saturating_add(offset);
            let end = start.saturating_add(bytes).min(span.start + span.bytes);
            self.unsent.remove(&(start..end));
        }
    }

    fn span(&self, entry: u32) -> Option<&Span> {
        self.spans.get(entry.checked_sub(self.first_entry)? as usize)
    }

    /// Where `entry`'s body starts, and its length. None if unknown or settled long ago.
    pub fn range(&self, entry: u32) -> Option<Range<u64>> {
        self.span(entry).map(|span| span.start..span.start + span.bytes)
    }

    /// No byte of `entry` is to be sent any more.
    pub fn close(&mut self, entry: u32) {
        let Some(index) = entry.checked_sub(self.first_entry) else { return };
        let Some(span) = self.spans.get_mut(index as usize) else { return };
        span.closed = true;
        let range = span.start..span.start + span.bytes;
        self.unsent.remove(&range);
        self.forget_lost(&range);
    }

    fn forget_lost(&mut self, range: &Range<u64>) {
        self.lost.remove(range);
        self.repeats.remove(range);
    }

    /// The receiver has decided on `entry`. False if it is unknown or was settled before.
    pub fn settle(&mut self, entry: u32) -> bool {
        let Some(index) = entry.checked_sub(self.first_entry) else { return false };
        match self.spans.get_mut(index as usize) {
            Some(span) if !span.settled => span.settled = true,
            _ => return false,
        }
        self.unsettled -= 1;
        self.close(entry);
        while self.spans.front().is_some_and(|span| span.settled) {
            self.spans.pop_front();
            self.first_entry += 1;
        }
        if !self.epochs.is_empty() {
            self.epochs = self.epochs.split_off(&(self.first_entry, 0));
            let start = self.spans.front().map_or(self.end, |span| span.start);
            self.resent = self.resent.split_off(&start);
        }
        true
    }

    /// The range of block `block` of `entry`, if there is such a block.
    pub fn block_range(&self, entry: u32, block: u32) -> Option<Range<u64>> {
        let span = self.span(entry)?;
        let offset = u64::from(block) * limits::BLOCK_BYTES;
        let bytes = span.bytes.checked_sub(offset)?.min(limits::BLOCK_BYTES);
        (bytes > 0).then_some(span.start + offset..span.start + offset + bytes)
    }

    /// The receiver has these blocks already. False if there are no such blocks, or their entry
    /// is settled.
    pub fn have(&mut self, entry: u32, first_block: u32, blocks: u32) -> bool {
        let Some(span) = self.span(entry) else { return false };
        let end = u64::from(first_block) + u64::from(blocks);
        if span.settled || end > span.bytes.div_ceil(limits::BLOCK_BYTES) {
            return false;
        }
        let start = span.start + u64::from(first_block) * limits::BLOCK_BYTES;
        let range = start..span.start + (end * limits::BLOCK_BYTES).min(span.bytes);
        self.unsent.remove(&range);
        self.forget_lost(&range);
        true
    }

    /// The receiver asks for a block again. False if there is no such block, its entry is
    /// settled, or the epoch is not one more than before.
    pub fn ask_again(&mut self, entry: u32, block: u32, epoch: u8) -> bool {
        let open = self.span(entry).is_some_and(|span| !span.settled);
        if !open || self.block_range(entry, block).is_none() {
            return false;
        }
        let last = self.epochs.entry((entry, block)).or_insert(0);
        let is_next = epoch <= limits::EPOCH_MAX && last.checked_add(1) == Some(epoch);
        if is_next {
            *last = epoch;
        }
        is_next
    }

    /// `range` is to be sent again, as far as it is still wanted.
    pub fn on_lost(&mut self, range: Range<u64>) {
        let after = self.spans.partition_point(|span| span.start + span.bytes <= range.start);
        for span in self.spans.iter().skip(after) {
            if span.start >= range.end {
                break;
            }
            if !span.closed {
                let end = (span.start + span.bytes).min(range.end);
                for missing in self.arrived.gaps(span.start.max(range.start)..end) {
                    self.lost.insert(missing);
                }
            }
        }
    }

    /// Whether any chunk was sent twice: then [`BodyQueue::on_reported`] wants to be told.
    pub fn has_repeated(&self) -> bool {
        !self.repeated.is_empty()
    }

    /// Block `block` of `entry` is to be sent again, in packets from `next` on: what left before
    /// was thrown away by the receiver.
    pub fn resend_block(&mut self, entry: u32, block: u32, next: PacketNumber) {
        if let Some(range) = self.block_range(entry, block) {
            self.repeated.remove(&range);
            self.arrived.remove(&range);
            self.on_lost(range.clone());
            self.resent.insert(range.start, (range.end, next));
        }
    }

    /// `range` has arrived after all, in packets from `number` on.
    pub fn on_spurious(&mut self, number: PacketNumber, range: &Range<u64>) {
        for part in self.parts_that_count(number, range) {
            self.forget_lost(&part);
        }
    }

    /// `range` has arrived in packets from `number` on: no other copy of it is sent.
    pub fn on_reported(&mut self, number: PacketNumber, range: &Range<u64>) {
        for mut part in self.parts_that_count(number, range) {
            while let Some(known) = self.repeated.first_from(part.start) {
                let both = known.start.max(part.start)..known.end.min(part.end);
                if both.is_empty() {
                    break;
                }
                part.start = both.end;
                self.forget_lost(&both);
                self.arrived.insert(both);
            }
        }
    }

    /// `range` without the blocks that were asked for again after `number` had left.
    fn parts_that_count(&self, number: PacketNumber, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut start = range.start;
        for (&block_start, &(block_end, next)) in self.resent.range(..range.end) {
            if block_end > start && number < next {
                parts.push(start..block_start.max(start));
                start = block_end.max(start);
            }
        }
        parts.push(start..range.end.max(start));
        parts
    }

    /// Whether there is anything to send below `max_body`.
    pub fn has_chunk(&self, max_body: u64) -> bool {
        self.has_lost()
            || !self.repeats.is_empty()
            || self.unsent.first().is_some_and(|range| range.start < max_body)
    }

    /// Whether anything waits to be sent again.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Takes the next chunk of at most `bytes_max` below `max_body`: lost ones first, in
    /// ascending offset. The flag says whether it is sent for the first time.
    ///
    /// When nothing new is left and what is lost fits into `repeat_bytes_max`, lost chunks are
    /// sent twice: one more packet costs less than the round trip its loss would.
    pub fn next_chunk(
        &mut self,
        bytes_max: u64,
        max_body: u64,
        repeat_bytes_max: u64,
    ) -> Option<(Range<u64>, bool)> {
        let repeats = self.unsent.is_empty() && self.lost.covered() <= repeat_bytes_max;
        if let Some(chunk) = self.lost.pop_first(bytes_max) {
            if repeats {
                self.repeats.insert(chunk.clone());
                self.repeated.insert(chunk.clone());
            }
            return Some((chunk, false));
        }
        if let Some(chunk) = self.repeats.pop_first(bytes_max) {
            return Some((chunk, false));
        }
        let start = self.unsent.first()?.start;
        let room = max_body.saturating_sub(start).min(bytes_max);
        Some((self.unsent.pop_first(room)?, true))
    }

    /// Bytes of memory held, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
            + [&self.unsent, &self.lost, &self.repeats, &self.repeated, &self.arrived]
                .map(|ranges| ranges.range_count() * 32)
                .iter()
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = limits::BLOCK_BYTES;

    fn queue(sizes: &[u64]) -> BodyQueue {
        let mut queue = BodyQueue::default();
        for &size in sizes {
            queue.push_entry(size, true);
        }
        queue
    }

    #[test]
    fn small_files_share_a_chunk() {
        let mut queue = queue(&[100, 0, 200, 300]);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 0), Some((0..600, true)));
    }

    #[test]
    fn a_late_report_of_what_left_before_a_block_was_asked_again_counts_for_nothing() {
        let mut queue = queue(&[100, BLOCK, 100]);
        queue.next_chunk(u64::MAX, u64::MAX, 0);
        queue.on_lost(0..BLOCK + 200);
        assert!(queue.ask_again(1, 0, 1));
        queue.resend_block(1, 0, PacketNumber(50));
        queue.on_spurious(PacketNumber(10), &(0..BLOCK + 200));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((100..BLOCK + 100, false)));
        queue.on_lost(200..300);
        queue.on_spurious(PacketNumber(50), &(200..300));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), None);
    }

    #[test]
    fn lost_bytes_of_a_settled_file_are_not_sent_again() {
        let mut queue = queue(&[100, 200, 300]);
        queue.next_chunk(1_000, u64::MAX, 0);
        assert!(queue.settle(1));
        assert!(!queue.settle(1), "settled once");
        queue.on_lost(50..400);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 0), Some((50..100, false)));
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 0), Some((300..400, false)));
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 0), None);
    }

    #[test]
    fn holes_and_blocks_the_receiver_has_are_skipped() {
        let mut queue = queue(&[3 * BLOCK + 7]);
        queue.push_hole(10, 20);
        assert!(queue.have(0, 1, 1));
        assert!(!queue.have(0, 3, 2), "there are 4 blocks");
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((0..10, true)));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((30..BLOCK, true)));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((2 * BLOCK..3 * BLOCK + 7, true)));
        assert_eq!(queue.block_range(0, 3), Some(3 * BLOCK..3 * BLOCK + 7));
        assert_eq!(queue.block_range(0, 4), None);
    }

    //= proto.md#answer-records
    //= type=test
    //# one more than before
    #[test]
    fn a_block_is_asked_for_again_in_rising_epochs_and_only_while_its_entry_is_open() {
        let mut queue = queue(&[10, 2 * BLOCK]);
        assert!(!queue.ask_again(1, 2, 1), "no such block");
        assert!(!queue.ask_again(1, 1, 2), "epoch 1 comes first");
        for epoch in 1..=3 {
            assert!(queue.ask_again(1, 1, epoch));
            assert!(!queue.ask_again(1, 1, epoch), "told before");
        }
        assert!(!queue.ask_again(1, 1, 4));
        assert!(queue.settle(1));
        assert!(!queue.ask_again(1, 0, 1) && !queue.have(1, 0, 1));
    }

    #[test]
    fn what_the_tail_lost_is_sent_twice() {
        let mut queue = queue(&[1_000]);
        queue.next_chunk(1_000, u64::MAX, 500);
        queue.on_lost(0..100);
        queue.on_lost(300..400);
        let mut sent = Vec::new();
        while let Some((chunk, _)) = queue.next_chunk(1_000, u64::MAX, 500) {
            sent.push(chunk);
        }
        assert_eq!(sent, [0..100, 300..400, 0..100, 300..400]);
        queue.on_lost(0..600);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 500), Some((0..600, false)));
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 500), None, "too much to send twice");
    }

    #[test]
    fn the_loss_of_one_of_two_copies_is_none() {
        let mut queue = queue(&[1_000]);
        queue.next_chunk(1_000, u64::MAX, 500);
        queue.on_lost(100..300);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 500), Some((100..300, false)));
        queue.on_reported(PacketNumber(7), &(50..200));
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 500), Some((200..300, false)), "the copy");
        queue.on_lost(100..300);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 500), Some((200..300, false)));
        assert!(queue.ask_again(0, 0, 1));
        queue.resend_block(0, 0, PacketNumber(9));
        queue.on_reported(PacketNumber(8), &(0..1_000));
        queue.on_lost(0..1_000);
        assert_eq!(queue.next_chunk(1_000, u64::MAX, 0), Some((0..1_000, false)));
    }

    #[test]
    fn body_credit_bounds_new_bytes_only() {
        let mut queue = queue(&[1_000]);
        assert_eq!(queue.next_chunk(600, 500, 0), Some((0..500, true)));
        assert_eq!(queue.next_chunk(600, 500, 0), None);
        queue.on_lost(0..100);
        assert_eq!(queue.next_chunk(600, 500, 0), Some((0..100, false)));
    }
}
