//! The two ends of a record space (manifest, digests, answers): bytes that arrive in order
//! and are kept until acknowledged.
//!
//! The body is no stream: its bytes are read again from the file and placed as they come.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::range_set::{RangeSet, tree_bytes};
use crate::wire::limits;

/// The sending end: appended bytes, what of them is sent, lost and acknowledged.
#[derive(Debug, Default)]
pub struct SendStream {
    /// Bytes from `base` on; those below are acknowledged and forgotten.
    buffer: VecDeque<u8>,
    base: u64,
    /// Bytes at this offset and above have never been sent.
    next: u64,
    /// What was sent and lost, to be sent again.
    lost: RangeSet,
    /// Acknowledged bytes above `base`.
    acknowledged: RangeSet,
    /// Credit: bytes at this offset and above must not be sent.
    limit: u64,
}

impl SendStream {
    /// An empty stream that may send bytes below `limit`.
    pub fn new(limit: u64) -> SendStream {
        SendStream { limit, ..SendStream::default() }
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Number of bytes ever appended: the offset of the next one.
    pub fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// Bytes below this offset are acknowledged.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes at this offset and above have never been sent.
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// Bytes held, that is appended and not yet acknowledged.
    pub fn held_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity() + self.lost.memory_bytes() + self.acknowledged.memory_bytes()
    }

    /// Raises the credit; it never retreats.
    pub fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Whether every byte appended so far is acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether there is a chunk to send now.
    pub fn has_chunk(&self) -> bool {
        !self.lost.is_empty() || self.next < self.end().min(self.limit)
    }

    /// Takes the next chunk of at most `bytes_max`: lost ones first.
    pub fn next_chunk(&mut self, bytes_max: u64) -> Option<Range<u64>> {
        if let Some(chunk) = self.lost.pop_first(bytes_max) {
            return Some(chunk);
        }
        let end = self.end().min(self.limit).min(self.next.saturating_add(bytes_max));
        let chunk = self.next..end;
        if chunk.is_empty() {
            return None;
        }
        self.next = end;
        Some(chunk)
    }

    /// Appends the bytes of `chunk`, which must not be acknowledged yet, to `out`.
    pub fn copy_chunk(&self, chunk: &Range<u64>, out: &mut Vec<u8>) {
        let start = chunk.start.saturating_sub(self.base) as usize;
        let length = chunk.end.saturating_sub(chunk.start) as usize;
        out.extend(self.buffer.iter().skip(start).take(length));
    }

    /// `chunk` was lost: send it again, as far as it is not acknowledged.
    pub fn on_lost(&mut self, chunk: Range<u64>) {
        let start = chunk.start.max(self.base);
        let missing: Vec<_> = self.acknowledged.gaps(start..chunk.end.max(start)).collect();
        for gap in missing {
            self.lost.insert(gap);
        }
    }

    /// `chunk` has arrived; bytes below the first gap are forgotten.
    pub fn on_acknowledged(&mut self, chunk: Range<u64>) {
        self.lost.remove(&chunk);
        self.acknowledged.insert(chunk.start.max(self.base)..chunk.end.max(self.base));
        if let Some(first) = self.acknowledged.first()
            && first.start <= self.base
        {
            let forgotten = (first.end - self.base).min(self.buffer.len() as u64);
            self.buffer.drain(..forgotten as usize);
            self.base += forgotten;
            self.acknowledged.remove(&(0..self.base));
        }
    }

    /// Everything sent and not acknowledged shall be sent again.
    pub fn on_all_lost(&mut self) {
        self.on_lost(self.base..self.next);
    }
}

/// The receiving end: orders chunks and hands out the contiguous bytes.
#[derive(Debug, Default)]
pub struct ReceiveStream {
    /// Contiguous bytes; those from `read` on were not consumed yet, and start at `consumed`.
    ready: Vec<u8>,
    /// Consumed bytes at the front of `ready`: never more than half of it, so that each byte is
    /// moved once on average, however many wait behind a record that cannot be taken yet.
    read: usize,
    consumed: u64,
    /// Chunks behind a gap, by offset; they do not overlap each other.
    ahead: BTreeMap<u64, Vec<u8>>,
    /// How many bytes from `consumed` on are accepted.
    window_bytes: u64,
}

impl ReceiveStream {
    /// A stream that holds at most `window_bytes` that are not consumed.
    pub fn new(window_bytes: u64) -> ReceiveStream {
        ReceiveStream { window_bytes, ..ReceiveStream::default() }
    }

    /// Credit for the peer: bytes at this offset and above are not accepted.
    pub fn limit(&self) -> u64 {
        self.consumed + self.window_bytes
    }

    /// Offset of the first byte that has not arrived.
    pub fn frontier(&self) -> u64 {
        self.consumed + self.ready().len() as u64
    }

    /// Takes a chunk in; returns whether all of it is held now. The first bytes that came for
    /// an offset are kept. Behind a gap only so many pieces are: a peer that sends single bytes
    /// shall not cost an allocation for each. What continues the ready bytes always is taken.
    pub fn insert(&mut self, offset: u64, payload: &[u8]) -> bool {
        let end = offset + payload.len() as u64;
        if end > self.limit() {
            return false;
        }
        let is_ahead = offset > self.frontier();
        let mut next = offset.max(self.frontier());
        while next < end {
            let (gap_end, resume) = self.gap_at(next, end);
            if gap_end > next {
                if is_ahead && self.ahead.len() >= limits::PIECES_AHEAD_MAX {
                    return false;
                }
                let bytes = payload.get((next - offset) as usize..(gap_end - offset) as usize);
                self.ahead.insert(next, bytes.unwrap_or_default().to_vec());
            }
            next = resume;
        }
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() != self.consumed + (self.ready.len() - self.read) as u64 {
                break;
            }
            self.ready.append(&mut entry.remove());
        }
        true
    }

    /// From `next` on: where the missing bytes end (at most `end`), and where the first held
    /// chunk behind them ends.
    fn gap_at(&self, next: u64, end: u64) -> (u64, u64) {
        if let Some((&start, held)) = self.ahead.range(..=next).next_back() {
            let held_end = start + held.len() as u64;
            if held_end > next {
                return (next, held_end);
            }
        }
        match self.ahead.range(next..end).next() {
            Some((&start, held)) => (start, start + held.len() as u64),
            None => (end, end),
        }
    }

    /// The contiguous bytes that wait to be consumed.
    pub fn ready(&self) -> &[u8] {
        self.ready.get(self.read..).unwrap_or_default()
    }

    /// Forgets the first `bytes` of [`ReceiveStream::ready`].
    pub fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.ready().len());
        self.read += bytes;
        self.consumed += bytes as u64;
        if self.read > self.ready.len() / 2 {
            self.ready.drain(..self.read);
            self.read = 0;
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.ready.capacity()
            + tree_bytes(&self.ahead)
            + self.ahead.values().map(Vec::capacity).sum::<usize>()
    }

    /// Number of bytes consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lost_chunk_comes_before_new_ones() {
        let mut stream = SendStream::new(u64::MAX);
        stream.push(&[0; 30]);
        assert_eq!(stream.next_chunk(10), Some(0..10));
        assert_eq!(stream.next_chunk(10), Some(10..20));
        stream.on_lost(0..10);
        assert_eq!(stream.next_chunk(100), Some(0..10));
        assert_eq!(stream.next_chunk(100), Some(20..30));
        assert_eq!(stream.next_chunk(100), None);
    }

    #[test]
    fn credit_bounds_new_bytes_and_never_retreats() {
        let mut stream = SendStream::new(5);
        stream.push(&[0; 30]);
        assert_eq!(stream.next_chunk(10), Some(0..5));
        assert!(!stream.has_chunk());
        stream.raise_limit(3);
        stream.raise_limit(7);
        assert_eq!(stream.next_chunk(10), Some(5..7));
    }

    #[test]
    fn what_arrived_in_the_middle_is_not_sent_again() {
        let mut stream = SendStream::new(u64::MAX);
        stream.push(&(0u8..30).collect::<Vec<_>>());
        stream.next_chunk(30);
        stream.on_acknowledged(10..20);
        stream.on_all_lost();
        assert_eq!(stream.next_chunk(100), Some(0..10));
        assert_eq!(stream.next_chunk(100), Some(20..30));
        let mut out = Vec::new();
        stream.copy_chunk(&(20..23), &mut out);
        assert_eq!(out, [20, 21, 22]);
        stream.on_acknowledged(0..10);
        assert_eq!(stream.held_bytes(), 10);
        stream.on_acknowledged(20..30);
        assert!(stream.is_acknowledged());
    }

    #[test]
    fn what_was_consumed_is_dropped_once_it_is_more_than_half() {
        let mut stream = ReceiveStream::new(10_000);
        assert!(stream.insert(0, &[7; 1_000]));
        stream.consume(500);
        assert_eq!((stream.ready().len(), stream.ready.len()), (500, 1_000));
        stream.consume(1);
        assert_eq!((stream.ready().len(), stream.ready.len()), (499, 499));
        stream.consume(9_999);
        assert_eq!((stream.consumed(), stream.frontier()), (1_000, 1_000));
    }

    proptest! {
        #[test]
        fn chunks_in_any_order_and_overlap_give_the_bytes_in_order(
            chunks in proptest::collection::vec((0u64..200, 1usize..40), 1..80)
        ) {
            let source: Vec<u8> = (0..=255).collect();
            let mut stream = ReceiveStream::new(256);
            let mut model = [false; 256];
            let mut read = Vec::new();
            for (index, (offset, length)) in chunks.into_iter().enumerate() {
                let range = offset as usize..offset as usize + length;
                prop_assert!(stream.insert(offset, &source[range.clone()]));
                model[range].fill(true);
                let frontier = model.iter().position(|held| !held).unwrap_or(256);
                prop_assert_eq!(stream.frontier(), frontier as u64);
                if index % 3 == 0 {
                    let take = stream.ready().len() / 2;
                    read.extend_from_slice(&stream.ready()[..take]);
                    stream.consume(take);
                }
            }
            read.extend_from_slice(stream.ready());
            prop_assert_eq!(&read[..], &source[..read.len()]);
        }
    }

    //= proto.md#limits
    //= type=test
    //# 4,096; a chunk that would make more is not held
    #[test]
    fn behind_a_gap_so_many_pieces_are_held_and_what_closes_it_always_is() {
        let pieces = limits::PIECES_AHEAD_MAX as u64;
        let mut stream = ReceiveStream::new(limits::STREAM_WINDOW_BYTES);
        for piece in 1..pieces {
            assert!(stream.insert(2 * piece, &[1]));
        }
        assert!(!stream.insert(3, &[2; 6]), "it would make three");
        assert_eq!(stream.ahead.len() as u64, pieces);
        assert!(!stream.insert(2 * pieces, &[1]));
        assert!(stream.insert(2, &[3; 3]), "it is held already");
        assert!(stream.insert(0, &[4; 100]));
        assert_eq!(stream.frontier(), 101);
        assert_eq!(stream.ready().get(..7), Some(&[4, 4, 1, 2, 1, 4, 1][..]));
        assert!(stream.insert(2 * pieces, &[1]), "there is room again");
    }

    #[test]
    fn bytes_beyond_the_window_are_refused() {
        let mut stream = ReceiveStream::new(10);
        assert!(!stream.insert(5, &[0; 6]));
        assert!(stream.insert(0, &[1; 10]));
        assert!(!stream.insert(10, &[2; 1]));
        stream.consume(4);
        assert!(stream.insert(10, &[2; 4]));
        assert_eq!(stream.limit(), 14);
    }

    #[test]
    fn what_waits_behind_consumed_records_is_moved_once_on_average() {
        let mut stream = ReceiveStream::new(limits::STREAM_WINDOW_BYTES);
        let bytes = limits::STREAM_WINDOW_BYTES as usize;
        assert!(stream.insert(0, &vec![7; bytes]));
        let mut moved = 0;
        for _ in 0..bytes / 16 {
            let length = stream.ready.len();
            stream.consume(16);
            if stream.ready.len() < length {
                moved += stream.ready.len();
            }
        }
        assert!(moved <= bytes, "{moved}");
        assert_eq!((stream.ready(), stream.limit()), (&[][..], 2 * bytes as u64));
    }
}
