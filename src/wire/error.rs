//! Why bytes are not a packet or a record of ours. What follows from it is decided by the caller:
//! a datagram is dropped and counted, a stream of records ends the transfer.

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("too short")]
    Short,
    /// Bytes follow the end of the value.
    #[error("too long")]
    Long,
    /// The packet is for another connection.
    #[error("another connection")]
    Connection,
    /// The check differs: damaged, forged, or sealed with another seed or packet number.
    #[error("wrong check")]
    Check,
    /// A type of frame that version 1 does not have.
    #[error("unknown frame type {0:#04x}")]
    FrameType(u8),
    /// A kind of record that version 1 does not have.
    #[error("unknown record kind {0}")]
    RecordKind(u8),
    /// A value breaks a rule of proto.md; the text says which, fit for CLOSE `protocol`.
    #[error("{0}")]
    Invalid(&'static str),
}
