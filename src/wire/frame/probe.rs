//! PROBE: the sender's state; tests larger datagrams. See proto.md, "PROBE".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | srtt_us | 14 | 4 |
//! | window_packets | 18 | 4 |
//! | answers | 22 | 6 |
//! | zeros | 28 | 0 or more |

use super::super::DecodeError;
use super::super::codec::{Reader, Writer};
use super::super::limits::{HEADER_BYTES, PROBE_BYTES_MIN};

const FIXED_BYTES: usize = PROBE_BYTES_MIN - HEADER_BYTES;

/// The sender's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its smoothed round-trip time in microseconds.
    pub srtt_us: u32,
    /// Packets that it allows itself in flight.
    pub window_packets: u32,
    /// Every byte of the answers space below this offset has arrived.
    pub answers: u64,
    /// Size of the datagram. The encoder makes it this large, if it is larger than a bare PROBE.
    pub datagram_bytes: usize,
}

impl Probe {
    pub(super) fn decode(frame: &[u8], datagram_bytes: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let probe = Self {
            srtt_us: reader.u32()?,
            window_packets: reader.u32()?,
            answers: reader.u48()?,
            datagram_bytes,
        };
        reader.finish_zeros()?;
        Ok(probe)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; FIXED_BYTES];
        let mut writer = Writer::new(&mut fixed);
        writer.u32(self.srtt_us);
        writer.u32(self.window_packets);
        writer.u48(self.answers);
        writer.finish();
        out.extend_from_slice(&fixed);
        let zeros = self.datagram_bytes.saturating_sub(PROBE_BYTES_MIN);
        out.resize(out.len().saturating_add(zeros), 0);
    }
}
