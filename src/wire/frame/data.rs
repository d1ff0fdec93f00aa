//! DATA: a chunk of a space. See proto.md, "DATA". The space itself is in the header's flags.
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | offset | 14 | 6 |
//! | payload | 20 | 1 or more |

use super::super::codec::{Reader, u48_bytes};
use super::super::limits::BODY_BYTES_MAX;
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
        if offset.saturating_add(payload.len() as u64) > BODY_BYTES_MAX {
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
