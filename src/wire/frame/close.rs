//! CLOSE: the end, with a reason. See proto.md, "CLOSE" and "Close codes".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | code | 14 | 1 |
//! | text | 15 | 0 to 255 |

use std::fmt;

use super::super::DecodeError;
use super::super::codec::{Reader, shortened, text};
use super::super::limits::TEXT_BYTES_MAX;

/// The end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Why.
    pub code: CloseCode,
    /// For people; has to be escaped before it reaches a terminal. The encoder cuts it to 255
    /// bytes.
    pub text: &'a str,
}

/// Why a transfer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// All is settled.
    Done,
    /// The peer broke a rule; the text says which.
    Protocol,
    /// No common version.
    Version,
    /// This sender may not send there.
    Forbidden,
    /// Too many transfers.
    Busy,
    /// A person ended it.
    Cancelled,
    /// The receiver cannot store anything.
    Disk,
    /// The digest in END differs.
    Integrity,
    /// Nothing was heard for too long.
    Timeout,
    /// A fault of the program.
    Internal,
    /// Open or keyed mode is required.
    Mode,
    /// The receiver does not know the digest algorithm.
    Digest,
}

impl<'a> Close<'a> {
    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let code = CloseCode::from_byte(reader.u8()?)?;
        Ok(Self { code, text: text(reader.rest(), TEXT_BYTES_MAX)? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code.to_byte());
        out.extend_from_slice(shortened(self.text, TEXT_BYTES_MAX).as_bytes());
    }
}

impl CloseCode {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Protocol => 1,
            Self::Version => 2,
            Self::Forbidden => 3,
            Self::Busy => 4,
            Self::Cancelled => 5,
            Self::Disk => 6,
            Self::Integrity => 7,
            Self::Timeout => 8,
            Self::Internal => 9,
            Self::Mode => 10,
            Self::Digest => 11,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Done),
            1 => Ok(Self::Protocol),
            2 => Ok(Self::Version),
            3 => Ok(Self::Forbidden),
            4 => Ok(Self::Busy),
            5 => Ok(Self::Cancelled),
            6 => Ok(Self::Disk),
            7 => Ok(Self::Integrity),
            8 => Ok(Self::Timeout),
            9 => Ok(Self::Internal),
            10 => Ok(Self::Mode),
            11 => Ok(Self::Digest),
            _ => Err(DecodeError::Invalid("CLOSE's code is unknown")),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Done => "done",
            Self::Protocol => "protocol",
            Self::Version => "version",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Disk => "disk",
            Self::Integrity => "integrity",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Mode => "mode",
            Self::Digest => "digest",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TO_RECEIVER, assert_packet, hex};
    use super::super::super::{Flags, Frame};
    use super::*;

    #[test]
    fn close_is_these_bytes() {
        let literal = hex("07 00 11223344 0000000a 34c4953e  05 73746f70706564");
        let close = Close { code: CloseCode::Cancelled, text: "stopped" };
        assert_packet(&literal, TO_RECEIVER, 10, Flags::default(), Frame::Close(close));
    }

    #[test]
    fn the_codes_are_the_numbers_0_to_11() {
        for byte in 0..=255 {
            let code = CloseCode::from_byte(byte);
            assert_eq!(code.is_ok(), byte <= 11);
            assert!(code.is_err() || code.is_ok_and(|code| code.to_byte() == byte));
        }
        assert_eq!(CloseCode::Integrity.to_string(), "integrity");
    }

    #[test]
    fn a_text_that_is_too_long_or_not_utf_8_is_dropped() {
        let mut frame = vec![b'x'; 256];
        frame[0] = 9;
        assert_eq!(Close::decode(&frame).unwrap().text.len(), 255);
        frame.push(b'x');
        assert_eq!(Close::decode(&frame), Err(DecodeError::Long));
        assert_eq!(Close::decode(&[9, 0xff]), Err(DecodeError::Invalid("a text is not UTF-8")));
    }

    #[test]
    fn the_encoder_cuts_a_text_that_is_too_long() {
        let text = "ä".repeat(200);
        let mut frame = Vec::new();
        Close { code: CloseCode::Internal, text: &text }.encode(&mut frame);
        assert_eq!(Close::decode(&frame).unwrap().text, "ä".repeat(127));
    }
}
