//! DATA: a chunk of a space. See proto.md, "DATA". The space itself is in the header's flags.
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | offset | 14 | 6 |
//! | payload | 20 | 1 or more |

use super::super::codec::{Reader, u48_bytes};
use super::super::limits::SPACE_BYTES_MAX;
use super::super::{DecodeError, Space};

/// A chunk of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The space.
    pub space: Space,
    /// Of the first payload byte in the space; with the payload's length at most 2^48.
    pub offset: u64,
    /// The bytes, one at least.
    pub payload: &'a [u8],
}

impl<'a> Data<'a> {
    pub(super) fn decode(space: Space, frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let offset = reader.u48()?;
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::Short);
        }
        //= proto.md#data
        //# offset + length MUST NOT exceed 2^48.
        if offset.saturating_add(payload.len() as u64) > SPACE_BYTES_MAX {
            return Err(DecodeError::Invalid("a chunk ends above 2^48"));
        }
        Ok(Self { space, offset, payload })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(!self.payload.is_empty(), "DATA has a payload");
        out.extend_from_slice(&u48_bytes(self.offset));
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TO_RECEIVER, assert_packet, hex, open};
    use super::super::super::{Flags, Frame, PacketNumber};
    use super::*;

    const NUMBER: u64 = 0x1_0000_0002;

    fn literal() -> Vec<u8> {
        hex("04 08 11223344 00000002 b9d8851b  000000100000 756678")
    }

    const DATA: Data<'_> = Data { space: Space::Digests, offset: 1 << 20, payload: b"ufx" };

    #[test]
    fn data_is_these_bytes() {
        assert_packet(&literal(), TO_RECEIVER, NUMBER, Flags::default(), Frame::Data(DATA));
    }

    #[test]
    fn a_payload_sealed_in_place_makes_the_same_packet() {
        let mut datagram = [0xee; 23];
        datagram[20..].copy_from_slice(b"ufx");
        let (number, flags) = (PacketNumber(NUMBER), Flags::default());
        TO_RECEIVER.seal_data(number, flags, Space::Digests, 1 << 20, &mut datagram);
        assert_eq!(datagram.as_slice(), literal());
    }

    #[test]
    fn a_packet_padded_in_place_has_its_payload_alone() {
        for padding_bytes in [2, 3, 100] {
            let mut datagram = vec![0xee; 23 + usize::from(padding_bytes)];
            datagram[20..23].copy_from_slice(b"ufx");
            let (number, flags) = (PacketNumber(NUMBER), Flags { ack_now: true });
            TO_RECEIVER.seal_data_padded(
                number,
                flags,
                Space::Digests,
                1 << 20,
                &mut datagram,
                padding_bytes,
            );
            let packet = open(&datagram, TO_RECEIVER, number).unwrap();
            assert_eq!(packet.frame, Frame::Data(DATA));
            assert!(packet.flags.ack_now);
            assert_eq!(packet.datagram_bytes, datagram.len());
        }
    }

    #[test]
    fn the_value_of_padding_is_not_looked_at() {
        let padded = hex("04 03 11223344 00000007 29ac7694  000000000009 756678 000005 0005");
        let packet = open(&padded, TO_RECEIVER, PacketNumber(7)).unwrap();
        let data = Data { space: Space::Body, offset: 9, payload: b"ufx" };
        assert_eq!(packet.frame, Frame::Data(data));
    }

    //= proto.md#data
    //= type=test
    //# offset + length MUST NOT exceed 2^48.
    #[test]
    fn a_chunk_may_end_at_2_48_and_not_above() {
        assert!(Data::decode(Space::Body, &hex("fffffffffffd 010203")).is_ok());
        let above = hex("fffffffffffd 01020304");
        let error = DecodeError::Invalid("a chunk ends above 2^48");
        assert_eq!(Data::decode(Space::Body, &above), Err(error));
    }

    #[test]
    fn a_chunk_without_bytes_is_dropped() {
        assert_eq!(Data::decode(Space::Body, &hex("000000000000")), Err(DecodeError::Short));
    }
}
