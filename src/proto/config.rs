//! What can be tuned, with the defaults and what each costs.

use std::time::Duration;

use crate::wire::{DigestAlgorithm, limits};

use super::sabotage::Sabotage;
use super::sender::congestion::Algorithm;

/// How a [`super::Sender`] behaves.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Digest of blocks. Default XXH3-128: 25 GB/s, so that checking costs almost nothing.
    pub digest: DigestAlgorithm,
    /// Only the manifest is sent, nothing is stored. Default false.
    pub dry_run: bool,
    /// All is sent and nothing stored; needs [`DigestAlgorithm::None`]. Default false.
    pub discard: bool,
    /// Congestion controller. Default [`Algorithm::Auto`].
    pub algorithm: Algorithm,
    /// Upper bound of the sending rate in bytes per second. Default none. With
    /// [`Algorithm::Fixed`] it is the rate.
    pub rate_bytes_max: Option<u64>,
    /// Largest datagram the route takes as its link layer says, in bytes without IP and UDP
    /// headers. Default 1,472. Larger ones than 1,472 are tested before they are used.
    pub route_datagram_bytes: usize,
    /// How long to wait for the first answer. Default 10 s: a receiver that is just starting.
    pub wait: Duration,
    /// Silence after which the receiver is given up. Default 20 s.
    pub timeout: Duration,
    /// First packet number. Default 0; tests start near the edges of 32 and 64 bits.
    pub first_number: u64,
    /// What the receiver's first number is near to. Default 0, as proto.md has it; a test that
    /// lets receivers start elsewhere says so here.
    pub peer_first_number: u64,
    /// What the receiver's 32-bit counters begin with. Default 0, as proto.md has it; a test that
    /// lets them begin elsewhere says so here.
    pub peer_first_count: u32,
    /// A bug that a test breaks in. Default none, and none is known to a release.
    pub sabotage: Sabotage,
}

impl Default for SenderConfig {
    fn default() -> SenderConfig {
        SenderConfig {
            digest: DigestAlgorithm::Xxh3,
            dry_run: false,
            discard: false,
            algorithm: Algorithm::Auto,
            rate_bytes_max: None,
            route_datagram_bytes: limits::BASE_DATAGRAM_BYTES,
            wait: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
            first_number: 0,
            peer_first_number: 0,
            peer_first_count: 0,
            sabotage: Sabotage::default(),
        }
    }
}

/// How a [`super::Receiver`] and its [`super::Admission`] behave.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// What the socket's receive buffer was really granted, in bytes of kernel memory (the
    /// doubled value that SO_RCVBUF reads back). Default 212,992, Linux's default.
    pub socket_bytes: u64,
    /// Largest datagram to accept, in bytes. Default 65,507.
    pub datagram_bytes_max: usize,
    /// Silence after which the sender is given up. Default 20 s.
    pub timeout: Duration,
    /// Body bytes that may come beyond what the shell has handed on, see
    /// [`super::Receiver::set_handed_on`]; none where bytes are written where they belong.
    /// Default none.
    pub ordered_window_bytes: Option<u64>,
    /// How long the end is repeated to a sender that does not confirm it. Default 20 s; a shell
    /// that goes on listening can afford more.
    pub linger: Duration,
    /// First packet number. Default 0, as proto.md has it; tests start near the edges of 32 and
    /// 64 bits.
    pub first_number: u64,
    /// What the sender's first number is near to. Default 0, as proto.md has it; a test that lets
    /// senders start elsewhere says so here.
    pub peer_first_number: u64,
    /// What the clock of ACKs shows at the transfer's start, in microseconds. Default 0.
    pub clock_start_us: u64,
    /// What the 32-bit counters of ACKs begin with. Default 0, as proto.md has it; tests start
    /// near their end.
    pub first_count: u32,
    /// A bug that a test breaks in. Default none, and none is known to a release.
    pub sabotage: Sabotage,
}

impl Default for ReceiverConfig {
    fn default() -> ReceiverConfig {
        ReceiverConfig {
            socket_bytes: 212_992,
            datagram_bytes_max: limits::DATAGRAM_BYTES_MAX,
            timeout: Duration::from_secs(20),
            ordered_window_bytes: None,
            linger: Duration::from_secs(20),
            first_number: 0,
            peer_first_number: 0,
            clock_start_us: 0,
            first_count: 0,
            sabotage: Sabotage::default(),
        }
    }
}

impl ReceiverConfig {
    /// How many datagrams of `datagram_bytes` the socket can queue.
    ///
    /// The kernel charges each datagram with its buffer and bookkeeping: 2,304 bytes for one of
    /// 1,472 (measured on Linux 6.18: 92 of them fill 212,992 bytes). An eighth more than that
    /// is assumed here, for drivers that round buffers up.
    pub fn socket_packets(&self, datagram_bytes: usize) -> u64 {
        let datagram_bytes = datagram_bytes.max(limits::BASE_DATAGRAM_BYTES) as u64;
        let charged = datagram_bytes + datagram_bytes / 8 + 928;
        (self.socket_bytes / charged).max(1)
    }

    /// The payload that the socket can queue, in datagrams of 1,472 bytes.
    pub fn socket_payload_bytes(&self) -> u64 {
        self.socket_packets(limits::BASE_DATAGRAM_BYTES) * limits::BASE_DATAGRAM_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_queues_what_the_kernel_charges_for() {
        // 2,584 and 11,021 bytes for each.
        let config = ReceiverConfig::default();
        assert_eq!([100, 1_472, 8_972].map(|bytes| config.socket_packets(bytes)), [82, 82, 19]);
        assert_eq!(config.socket_payload_bytes(), 82 * 1_472);
        let none = ReceiverConfig { socket_bytes: 0, ..config };
        assert_eq!(none.socket_packets(1_472), 1, "an empty socket takes any datagram");
    }
}
