//! START: HELLO's fields again, from a proven address. See proto.md, "START".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | HELLO's bytes 14 to 80 | 14 | 66 |
//! | srtt_us | 80 | 4 |

use super::super::DecodeError;
use super::super::codec::Reader;
use super::hello::Greeting;

/// Makes the transfer that HELLO wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// HELLO's bytes 14 to 80 exactly as they were; in version 1 always.
    pub greeting: Greeting,
    /// Time from HELLO to WELCOME in microseconds.
    pub srtt_us: u32,
}

impl Start {
    pub(in super::super) fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let start = Self { greeting: Greeting::decode(&mut reader)?, srtt_us: reader.u32()? };
        reader.finish()?;
        Ok(start)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.greeting.to_bytes());
        out.extend_from_slice(&self.srtt_us.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{GREETING, TO_RECEIVER, assert_packet, hex};
    use super::super::super::{Flags, Frame, parse_start_unchecked};
    use super::*;

    fn literal() -> Vec<u8> {
        hex("03 01 11223344 00000000 a251803f  75667800 01 01 00 02 0001 0a0b0c0d 01020304
             000102030405060708090a0b0c0d0e0f
             0000000000000000000000000000000000000000000000000000000000000000 000000fa")
    }

    const START: Start = Start { greeting: GREETING, srtt_us: 250 };

    #[test]
    fn start_is_these_bytes() {
        assert_packet(&literal(), TO_RECEIVER, 0, Flags { ack_now: true }, Frame::Start(START));
    }

    #[test]
    fn a_start_can_be_read_before_its_seed_is_known() {
        assert_eq!(parse_start_unchecked(&literal()), Ok((START, TO_RECEIVER.connection)));
        let mut close = literal();
        close[0] = 0x07;
        assert_eq!(parse_start_unchecked(&close), Err(DecodeError::FrameType(0x07)));
    }

    #[test]
    fn a_start_of_another_version_is_dropped() {
        let mut packet = literal();
        packet[18..20].copy_from_slice(&[3, 2]);
        assert!(parse_start_unchecked(&packet).is_err());
    }
}
