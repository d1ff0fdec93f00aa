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
        })
    }
}
