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
