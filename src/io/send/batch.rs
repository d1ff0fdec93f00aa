//! Fills datagrams for one system call: payloads are read straight into their slots, headers
//! and checks written in front of them.

use std::io::IoSliceMut;

use crate::io::batch::SendOutcome;
use crate::io::socket::Socket;
use crate::io::wait::{Interest, wait};
use crate::wire::limits;
use std::os::fd::AsFd;
use std::time::Duration;

/// Bytes handed to the kernel at once: above this the datagrams arrive unmerged (measured).
const BATCH_BYTES: usize = 65_493;

/// How long to wait for room in the socket's queue at once ...
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// ... and how often: what finds none for so long is lost like any packet.
const ROOM_WAITS_MAX: u32 = 10;

/// Datagrams of one size, end to end; the last may be shorter.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    filled: usize,
    /// Size of every datagram but the last.
    datagram_bytes: usize,
    /// A shorter datagram was added: nothing may follow it.
    closed: bool,
}

/// What became of a flushed batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The peer's port is closed, says its host.
    pub refused: bool,
    /// Datagrams of this size are too long for the path.
    pub too_big: Option<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch {
            bytes: vec![0; BATCH_BYTES + limits::DATAGRAM_BYTES_MAX],
            filled: 0,
            datagram_bytes: 0,
            closed: false,
        }
    }

    /// A batch without memory, to stand in for one that is borrowed.
    pub fn empty() -> Batch {
        Batch { bytes: Vec::new(), filled: 0, datagram_bytes: 0, closed: false }
    }

    /// Whether `packets` datagrams of `datagram_bytes` fit behind what is there.
    pub fn has_room(&self, packets: usize, datagram_bytes: usize) -> bool {
        self.filled == 0
            || (!self.closed
                && datagram_bytes == self.datagram_bytes
                && self.filled + packets * datagram_bytes <= BATCH_BYTES)
    }

    /// Room for datagrams of `datagram_bytes` that are `total_bytes` long together; flush before if
    /// there is none. The caller fills all of it.
    pub fn append(&mut self, total_bytes: usize, datagram_bytes: usize) -> &mut [u8] {
        let start = self.filled;
        if start == 0 {
            self.datagram_bytes = datagram_bytes;
        }
        self.closed = !total_bytes.is_multiple_of(datagram_bytes);
        self.filled += total_bytes;
        if self.bytes.len() < self.filled {
            self.bytes.resize(self.filled, 0);
        }
        &mut self.bytes[start..self.filled]
    }

    /// Drops what was appended last, `total_bytes` long.
    pub fn take_back(&mut self, total_bytes: usize) {
        self.filled = self.filled.saturating_sub(total_bytes);
        self.closed = false;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Sends everything. Where the kernel has no room the same datagrams are tried again.
    pub fn flush(&mut self, socket: &mut Socket) -> Flushed {
        let mut flushed = Flushed::default();
        let mut waits = 0;
        let mut rest = self.bytes.get(..self.filled).unwrap_or_default();
        while !rest.is_empty() {
            match socket.send_segments(rest, self.datagram_bytes) {
                SendOutcome::Sent | SendOutcome::Lost { .. } => break,
                SendOutcome::Refused => {
                    flushed.refused = true;
                    break;
                }
                SendOutcome::TooBig => {
                    flushed.too_big = Some(self.datagram_bytes);
                    break;
                }
                SendOutcome::WouldBlock { .. } if waits == ROOM_WAITS_MAX => break,
                SendOutcome::WouldBlock { sent } => {
                    waits += 1;
                    rest = rest.get(sent * self.datagram_bytes..).unwrap_or_default();
                    let mut ready = Vec::new();
                    let interest = [Interest::Write(socket.as_fd())];
                    if wait(&interest, Some(ROOM_WAIT), &mut ready).is_err() {
                        break;
                    }
                }
            }
        }
        self.filled = 0;
        self.closed = false;
        flushed
    }
}

/// The payload slots of `datagrams` (each `datagram_bytes` long but the last), limited to the
/// payload range `[from, to)` counted over all payloads.
pub fn payload_slots(
    datagrams: &mut [u8],
    datagram_bytes: usize,
    from: usize,
    to: usize,
) -> Vec<IoSliceMut<'_>> {
    let payload_bytes = datagram_bytes - limits::DATA_HEADER_BYTES;
    let first = from / payload_bytes;
    let mut slots = Vec::with_capacity((to - from) / payload_bytes + 2);
    for (index, datagram) in datagrams.chunks_mut(datagram_bytes).enumerate().skip(first) {
        let start = index * payload_bytes;
        if start >= to {
            break;
        }
        let Some(payload) = datagram.get_mut(limits::DATA_HEADER_BYTES..) else { break };
        let end = (start + payload.len()).min(to);
        let skipped = from.saturating_sub(start);
        if let Some(slot) = payload.get_mut(skipped..end - start) {
            slots.push(IoSliceMut::new(slot));
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_slots_skip_headers_and_cut_at_both_ends() {
        // Three datagrams: two of 20 + 10 bytes, one of 20 + 4.
        let mut datagrams = vec![0; 30 + 30 + 24];
        for slot in payload_slots(&mut datagrams, 30, 7, 22).iter_mut() {
            slot.fill(1);
        }
        let marked: Vec<usize> =
            (0..datagrams.len()).filter(|&index| datagrams[index] == 1).collect();
        let expected: Vec<usize> = (27..30).chain(50..60).chain(80..82).collect();
        assert_eq!(marked, expected);
    }

    #[test]
    fn only_equal_datagrams_share_a_batch_and_a_short_one_ends_it() {
        let mut batch = Batch::new();
        assert!(batch.has_room(40, 1_472));
        batch.append(2 * 1_472, 1_472);
        assert!(batch.has_room(1, 1_472));
        assert!(!batch.has_room(1, 1_000));
        assert!(!batch.has_room(43, 1_472), "more than the kernel merges again");
        batch.append(100, 1_472);
        assert!(!batch.has_room(1, 1_472));
    }
}
