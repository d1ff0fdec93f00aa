//! Which body bytes wait to be sent: new ones, lost ones, and those nobody wants any more.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::proto::entry_window::EntryWindow;
use crate::proto::range_set::{RangeSet, tree_bytes};
use crate::wire::{PacketNumber, limits};

/// Separate ranges that are known to have arrived though a copy of them is under way. Beyond that
/// some are sent once more.
const ARRIVED_RANGES_MAX: usize = 4_096;

/// An entry that the receiver has not settled.
#[derive(Clone, Debug)]
struct Span {
    /// No byte is to be sent any more: it is void, or nothing is to be stored.
    closed: bool,
    /// Ranges of its file without data.
    holes: u32,
    /// Bytes of its path and its target.
    name_bytes: usize,
}

/// The body as the sender sees it: entries end to end, and what of them is still to be sent.
#[derive(Debug, Default)]
pub struct BodyQueue {
    spans: EntryWindow<Span>,
    /// Holes of all entries in `spans`.
    holes: usize,
    /// Bytes of the names of all entries in `spans`.
    name_bytes: usize,
    unsent: RangeSet,
    lost: RangeSet,
    /// What the tail lost and was sent again: it is sent once more.
    repeats: RangeSet,
    /// What was sent twice in this way.
    repeated: RangeSet,
    /// What of that has arrived, so that the loss of the other copy is none; and what the
    /// receiver had from the start.
    arrived: RangeSet,
    /// Entry and block -> epoch, of the blocks that the receiver asked for again.
    epochs: BTreeMap<(u32, u32), u8>,
    /// Start of such a block's range -> its end, and the first number it was sent under again.
    resent: BTreeMap<u64, (u64, PacketNumber)>,
}

impl BodyQueue {
    /// Number of entries so far.
    pub fn entries(&self) -> u32 {
        self.spans.entries()
    }

    /// Number of entries the receiver has not settled.
    pub fn unsettled(&self) -> usize {
        self.spans.open()
    }

    /// Holes of the entries the receiver has not settled.
    pub fn unsettled_holes(&self) -> usize {
        self.holes
    }

    /// Bytes of paths and targets of the entries the receiver has not settled.
    pub fn unsettled_name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// Length of the body so far.
    pub fn end(&self) -> u64 {
        self.spans.body_end()
    }

    /// Bytes that have never been sent.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent.covered()
    }

    /// Appends an entry; `wanted` is false in a dry run. Returns its number.
    pub fn push_entry(&mut self, bytes: u64, wanted: bool) -> u32 {
        let start = self.end();
        let entry = self.spans.push(bytes, Span { closed: !wanted, holes: 0, name_bytes: 0 });
        if wanted {
            self.unsent.insert(start..self.end());
        }
        entry
    }

    /// What belongs to the last entry counts as so many holes.
    pub fn weigh_last(&mut self, weight: usize) {
        if let Some(span) = self.spans.get_mut(self.entries().wrapping_sub(1)) {
            span.holes += u32::try_from(weight).unwrap_or(u32::MAX);
            self.holes += weight;
        }
    }

    /// The last entry goes on for so many bytes.
    pub fn push_more(&mut self, bytes: u64) {
        let entry = self.entries().wrapping_sub(1);
        let start = self.end();
        self.spans.extend_last(bytes);
        if self.spans.get(entry).is_some_and(|span| !span.closed) {
            self.unsent.insert(start..self.end());
        }
    }

    /// Below this offset nothing waits to be sent.
    pub fn first_waiting(&self) -> u64 {
        let sets = [&self.unsent, &self.lost, &self.repeats];
        let first = sets.into_iter().filter_map(RangeSet::first).map(|range| range.start).min();
        first.unwrap_or(self.end())
    }

    /// The last entry's path and target have so many bytes.
    pub fn count_name(&mut self, bytes: usize) {
        if let Some(span) = self.spans.get_mut(self.entries().wrapping_sub(1)) {
            span.name_bytes += bytes;
            self.name_bytes += bytes;
        }
    }

    /// A range of the last entry's file has no data and is never sent.
    pub fn push_hole(&mut self, offset: u64, bytes: u64) {
        let entry = self.entries().wrapping_sub(1);
        let Some(body) = self.spans.body(entry) else { return };
        if let Some(span) = self.spans.get_mut(entry) {
            span.holes += 1;
            self.holes += 1;
        }
        let start = body.start.saturating_add(offset);
        let end = start.saturating_add(bytes).min(body.end);
        self.unsent.remove(&(start..end));
    }

    /// Where `entry`'s body lies. None if it is unknown or settled.
    pub fn range(&self, entry: u32) -> Option<Range<u64>> {
        self.spans.body(entry)
    }

    /// No byte of `entry` is to be sent any more.
    pub fn close(&mut self, entry: u32) {
        let Some(body) = self.spans.body(entry) else { return };
        if let Some(span) = self.spans.get_mut(entry) {
            span.closed = true;
        }
        self.unsent.remove(&body);
        self.forget_lost(&body);
    }

    fn forget_lost(&mut self, range: &Range<u64>) {
        self.lost.remove(range);
        self.repeats.remove(range);
    }

    /// The receiver has decided on `entry`. False if it is unknown or was settled before.
    pub fn settle(&mut self, entry: u32) -> bool {
        let Some(body) = self.spans.body(entry) else { return false };
        self.close(entry);
        if let Some(span) = self.spans.remove(entry) {
            self.holes -= span.holes as usize;
            self.name_bytes -= span.name_bytes;
        }
        self.epochs.extract_if((entry, 0)..=(entry, u32::MAX), |_, _| true).for_each(drop);
        self.resent.extract_if(body, |_, _| true).for_each(drop);
        true
    }

    /// The range of block `block` of `entry`, if there is such a block.
    pub fn block_range(&self, entry: u32, block: u32) -> Option<Range<u64>> {
        let body = self.spans.body(entry)?;
        let start = body.start.saturating_add(u64::from(block) * limits::BLOCK_BYTES);
        let end = body.end.min(start.saturating_add(limits::BLOCK_BYTES));
        (start < end).then_some(start..end)
    }

    /// The receiver has these blocks already. False if there are no such blocks, or their entry
    /// is settled.
    pub fn have(&mut self, entry: u32, first_block: u32, blocks: u32) -> bool {
        let Some(body) = self.spans.body(entry) else { return false };
        let bytes = body.end - body.start;
        let end = u64::from(first_block) + u64::from(blocks);
        if end > bytes.div_ceil(limits::BLOCK_BYTES) {
            return false;
        }
        let start = body.start + u64::from(first_block) * limits::BLOCK_BYTES;
        let range = start..body.start + (end * limits::BLOCK_BYTES).min(bytes);
        self.unsent.remove(&range);
        self.forget_lost(&range);
        // What of it is under way and gets lost is not sent again.
        self.arrived.insert(range);
        true
    }

    /// The receiver asks for a block again. False if there is no such block, its entry is
    /// settled, or the epoch is not one more than before.
    pub fn ask_again(&mut self, entry: u32, block: u32, epoch: u8) -> bool {
        if self.block_range(entry, block).is_none() {
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
        for (_, body, span) in self.spans.within(&range) {
            if !span.closed {
                let part = body.start.max(range.start)..body.end.min(range.end);
                for missing in self.arrived.gaps(part) {
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
            // What waits no longer is under way again: its loss is none. On a path that a single
            // datagram fills for longer than a timeout, nothing else would ever be sent.
            let waited = self.lost.remove(&part);
            self.repeats.remove(&part);
            let is_under_way = waited < part.end - part.start;
            if is_under_way && self.arrived.range_count() < ARRIVED_RANGES_MAX {
                self.arrived.insert(part);
            }
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
        self.spans.memory_bytes()
            + [&self.unsent, &self.lost, &self.repeats, &self.repeated, &self.arrived]
                .map(RangeSet::memory_bytes)
                .iter()
                .sum::<usize>()
            + tree_bytes(&self.epochs)
            + tree_bytes(&self.resent)
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
    fn what_belongs_to_entries_counts_until_they_are_settled() {
        let mut queue = queue(&[100, 100]);
        let counts = |queue: &BodyQueue| (queue.unsettled_holes(), queue.unsettled_name_bytes());
        queue.push_hole(10, 20);
        queue.push_hole(40, 20);
        queue.weigh_last(5);
        queue.count_name(3);
        assert!(queue.settle(0));
        assert_eq!(counts(&queue), (7, 3), "of the last entry");
        queue.push_entry(100, true);
        queue.push_hole(10, 20);
        queue.count_name(4);
        assert_eq!(counts(&queue), (8, 7));
        assert!(queue.settle(1));
        assert_eq!(counts(&queue), (1, 4));
        assert!(queue.settle(2));
        assert_eq!((counts(&queue), queue.unsettled()), ((0, 0), 0));
    }

    #[test]
    fn a_pipe_goes_on_with_what_is_to_be_sent_until_nobody_wants_it() {
        let mut queue = queue(&[10, 20]);
        queue.push_more(5);
        assert_eq!((queue.range(1), queue.end()), (Some(10..35), 35));
        queue.close(1);
        queue.push_more(5);
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((0..10, true)));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), None);
    }

    #[test]
    fn the_receiver_has_no_more_blocks_than_there_are_wherever_the_file_lies() {
        let mut queue = queue(&[2 * BLOCK, BLOCK + 1]);
        assert!(!queue.have(1, 0, 3) && !queue.have(1, 2, 1));
        assert!(queue.have(1, 1, 1));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((0..3 * BLOCK, true)));
    }

    #[test]
    fn only_what_was_sent_twice_is_waited_for_as_such() {
        let mut queue = queue(&[1_000]);
        queue.next_chunk(u64::MAX, u64::MAX, 1_000);
        assert!(!queue.has_repeated());
        queue.on_lost(0..100);
        queue.next_chunk(u64::MAX, u64::MAX, 99);
        assert!(!queue.has_repeated(), "too much was lost");
        queue.on_lost(0..100);
        queue.next_chunk(u64::MAX, u64::MAX, 100);
        assert!(queue.has_repeated());
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 100), Some((0..100, false)), "twice");
    }

    #[test]
    fn what_arrived_while_a_copy_is_under_way_is_kept_in_mind_within_a_bound() {
        let mut queue = queue(&[1_000_000]);
        queue.next_chunk(u64::MAX, u64::MAX, 0);
        queue.on_lost(0..1_000);
        queue.on_spurious(PacketNumber(0), &(0..1_000));
        assert!(queue.arrived.is_empty() && !queue.has_lost(), "no copy of it is under way");
        for start in (0..20_000).step_by(2) {
            queue.on_spurious(PacketNumber(0), &(start..start + 1));
        }
        assert_eq!(queue.arrived.range_count(), ARRIVED_RANGES_MAX);
    }

    #[test]
    fn what_arrived_late_while_a_copy_was_under_way_is_not_lost_with_the_copy() {
        let mut queue = queue(&[1_000]);
        queue.next_chunk(u64::MAX, u64::MAX, 0);
        queue.on_lost(0..1_000);
        assert_eq!(queue.next_chunk(600, u64::MAX, 0), Some((0..600, false)));
        queue.on_spurious(PacketNumber(1), &(0..600));
        queue.on_lost(0..600);
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((600..1_000, false)));
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

    //= proto.md#resume
    //= type=test
    //# The sender MUST NOT send what HAVE names,
    #[test]
    fn what_the_receiver_has_is_not_sent_again_when_it_is_lost_but_when_it_is_asked_for() {
        let mut queue = queue(&[3 * BLOCK]);
        assert_eq!(queue.next_chunk(BLOCK + 5, u64::MAX, 0), Some((0..BLOCK + 5, true)));
        assert!(queue.have(0, 0, 2));
        queue.on_lost(0..BLOCK + 5);
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((2 * BLOCK..3 * BLOCK, true)));
        assert!(queue.ask_again(0, 1, 1));
        queue.resend_block(0, 1, PacketNumber(9));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), Some((BLOCK..2 * BLOCK, false)));
        assert_eq!(queue.next_chunk(u64::MAX, u64::MAX, 0), None);
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

    #[test]
    fn a_chunk_waits_when_one_can_be_taken_and_only_then() {
        let mut queue = queue(&[1_000]);
        assert!(!queue.has_chunk(0) && queue.has_chunk(1), "credit is of offsets below it");
        queue.next_chunk(400, u64::MAX, 0);
        assert!(!queue.has_chunk(400) && queue.has_chunk(401));
        queue.on_lost(0..100);
        assert!(queue.has_chunk(0), "what is lost needs no credit");
        queue.next_chunk(400, 0, 0);
        assert!(!queue.has_chunk(400));
        queue.next_chunk(600, u64::MAX, 0);
        assert!(!queue.has_chunk(u64::MAX));
        queue.on_lost(0..100);
        assert_eq!(queue.next_chunk(400, 0, 500), Some((0..100, false)));
        assert!(queue.has_chunk(0), "the second copy");
        assert_eq!(queue.next_chunk(400, 0, 500), Some((0..100, false)));
        assert!(!queue.has_chunk(u64::MAX));
    }

    #[test]
    fn of_what_waits_the_first_is_told_wherever_it_waits() {
        let mut queue = queue(&[1_000]);
        assert_eq!(queue.first_waiting(), 0);
        queue.next_chunk(600, u64::MAX, 0);
        assert_eq!(queue.first_waiting(), 600);
        queue.on_lost(300..400);
        assert_eq!(queue.first_waiting(), 300);
        queue.next_chunk(100, u64::MAX, 0);
        queue.next_chunk(400, u64::MAX, 0);
        assert_eq!(queue.first_waiting(), 1_000, "nothing: the body's end");
    }
}
