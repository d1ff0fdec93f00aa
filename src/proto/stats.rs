//! What a machine counts: for the summary, the progress and the tests.

use std::time::Duration;

use crate::wire::Limit;

/// What kept a sender from sending, by the time it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing did: packets were made as fast as they were asked for.
    Nothing,
    /// Nothing to send: the source (walk, file, digest) had nothing ready.
    Source,
    /// The pacing rate or the window: the network, as the controller sees it.
    Network,
    /// The user's rate cap.
    RateCap,
    /// The receiver's socket buffer.
    ReceiverSocket,
    /// The receiver's disk.
    ReceiverDisk,
    /// All is sent; the receiver settles the rest.
    Settling,
}

/// Time spent in each of [`Held`]'s states.
#[derive(Clone, Debug, Default)]
pub struct HeldTimes {
    /// In the order of [`Held`].
    spans: [Duration; 7],
}

impl HeldTimes {
    /// Adds `span` to a state.
    pub fn add(&mut self, held: Held, span: Duration) {
        if let Some(total) = self.spans.get_mut(held as usize) {
            *total += span;
        }
    }

    /// The time spent in a state.
    pub fn get(&self, held: Held) -> Duration {
        self.spans.get(held as usize).copied().unwrap_or_default()
    }
}

/// A sender's counters.
#[derive(Clone, Debug, Default)]
pub struct SenderStats {
    /// Packets sent, of every kind.
    pub packets_sent: u64,
    /// Bytes of their datagrams.
    pub datagram_bytes_sent: u64,
    /// Of these, zeros that only make a PROBE as long as it is to be.
    pub filling_bytes_sent: u64,
    /// Packets that carried body or records again.
    pub packets_resent: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Of these, packets that arrived all the same.
    pub packets_spurious: u64,
    /// Payload bytes of body sent, repetitions included.
    pub body_bytes_sent: u64,
    /// Payload bytes of body sent for the first time.
    pub body_bytes_new: u64,
    /// ACKs taken in.
    pub acks: u64,
    /// Packets of the receiver.
    pub packets_received: u64,
    /// Bytes of their datagrams.
    pub datagram_bytes_received: u64,
    /// Probe timeouts.
    pub probe_timeouts: u64,
    /// Datagrams that the receiver's kernel dropped.
    pub receiver_drops: u64,
    /// Body bytes the receiver has written.
    pub written: u64,
    /// Smoothed RTT.
    pub smoothed_rtt: Duration,
    /// Least RTT.
    pub min_rtt: Duration,
    /// Bytes of a full datagram.
    pub datagram_bytes: usize,
    /// Datagrams from the receiver that were no valid packets.
    pub invalid: u64,
    /// Where the time went.
    pub held: HeldTimes,
    /// What bounds the receiver's credit just now.
    pub limit: Option<Limit>,
}

/// A receiver's counters.
#[derive(Clone, Debug, Default)]
pub struct ReceiverStats {
    /// Packets that the sender has numbered, as far as is known: one more than the largest.
    pub packets_numbered: u64,
    /// Distinct packets that arrived.
    pub packets_received: u64,
    /// Bytes of their datagrams.
    pub datagram_bytes_received: u64,
    /// Of these, zeros that only make a PROBE as long as it is to be.
    pub filling_bytes_received: u64,
    /// Of these, body, whatever was there already included.
    pub body_bytes_received: u64,
    /// Of these, body that had come before; not what an interrupted transfer has left.
    pub body_bytes_again: u64,
    /// Time in which credit bounded the sender because of the socket's buffer.
    pub held_by_socket: Duration,
    /// Time in which credit bounded the sender because of the disk.
    pub held_by_disk: Duration,
    /// Packets that had arrived before.
    pub duplicates: u64,
    /// Packets whose content could not be kept.
    pub unplaced: u64,
    /// Datagrams that were no valid packets of this transfer.
    pub invalid: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Of these, ACKs.
    pub acks: u64,
    /// Bytes of all datagrams sent.
    pub datagram_bytes_sent: u64,
    /// Body bytes that are in files.
    pub written: u64,
    /// Length of the body as far as the manifest is known.
    pub body_bytes: u64,
    /// Data of the blocks that interrupted transfers have left.
    pub body_bytes_kept: u64,
    /// Entries in the manifest so far.
    pub entries: u32,
    /// Datagrams dropped at the socket.
    pub drops: u32,
    /// Entries committed.
    pub committed: u32,
    /// Entries that were there already, or whose place others keep.
    pub present: u32,
    /// Entries refused or failed.
    pub failed: u32,
    /// Largest datagram that arrived.
    pub datagram_bytes_max: usize,
}
