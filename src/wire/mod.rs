//! Bytes to values and back: every packet and every record of proto.md. No state, no time, no peer.
//!
//! Responsible for layouts, ranges of single values, and the check of each packet. What values mean
//! together (order of records, direction of frames, credit) is left to `proto`.
//!
//! Decoding borrows from the datagram, never allocates and cannot panic: the lints below forbid
//! every construct that could. Where to start: [`Opener`] and [`Sealer`] in `packet.rs`, then one
//! file in `frame/` for each frame, and `manifest.rs`, `answers.rs`, `digests.rs` for the records.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod answers;
#[cfg(test)]
mod arbitrary;
mod checksum;
mod codec;
mod digest;
mod digests;
mod error;
mod frame;
mod header;
pub mod limits;
mod manifest;
mod number;
mod packet;
#[cfg(test)]
mod properties;
mod record;
#[cfg(test)]
mod testing;

pub use answers::{AnswerRecord, RefuseCode};
pub use digest::{Digest, DigestAlgorithm};
pub use digests::DigestRecord;
pub use error::DecodeError;
pub use frame::{
    Ack, Bitmap, Close, CloseCode, Data, Frame, FrameType, Greeting, Hello, Limit, Mode, Probe,
    Start, Welcome, encode_words,
};
pub use header::{Flags, Space};
pub use limits::*;
pub use manifest::{Entry, EntryKind, Identity, ManifestRecord, VoidReason, check_path};
pub use number::PacketNumber;
pub use packet::{Opener, Packet, Sealer, parse_start_unchecked, peek};
