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
        // What follows is there for its size alone.
        Ok(Self {
            srtt_us: reader.u32()?,
            window_packets: reader.u32()?,
            answers: reader.u48()?,
            datagram_bytes,
        })
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

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TO_RECEIVER, assert_packet, hex, open};
    use super::super::super::{Flags, Frame, PacketNumber};
    use super::*;

    const PROBE: Probe =
        Probe { srtt_us: 250, window_packets: 64, answers: 300, datagram_bytes: 28 };

    #[test]
    fn probe_is_these_bytes() {
        let literal = hex("06 01 11223344 00000009 c5738f8c  000000fa 00000040 00000000012c");
        assert_packet(&literal, TO_RECEIVER, 9, Flags { ack_now: true }, Frame::Probe(PROBE));
    }

    #[test]
    fn a_probe_fills_the_datagram_that_it_tests() {
        for (asked, made) in [(0, 28), (28, 28), (29, 29), (8_972, 8_972), (65_507, 65_507)] {
            let probe = Frame::Probe(Probe { datagram_bytes: asked, ..PROBE });
            let (number, mut datagram) = (PacketNumber(9), Vec::new());
            TO_RECEIVER.seal(number, Flags { ack_now: true }, &probe, &mut datagram);
            assert_eq!(datagram.len(), made);
            let packet = open(&datagram, TO_RECEIVER, number).unwrap();
            assert_eq!(packet.frame, Frame::Probe(Probe { datagram_bytes: made, ..PROBE }));
        }
    }
}
