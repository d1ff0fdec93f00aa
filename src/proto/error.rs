//! Why a transfer ended before its end, and by whose doing.

use std::time::Duration;

use crate::wire::CloseCode;

/// Why a machine gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody answered HELLO.
    #[error("no answer within {} s", .waited.as_secs_f32())]
    NoAnswer {
        /// How long was waited.
        waited: Duration,
        /// Whether the host reported the port closed.
        refused: bool,
    },
    /// The peer fell silent.
    #[error("nothing was heard for {} s", .silence.as_secs_f32())]
    Silence {
        /// How long nothing was heard.
        silence: Duration,
        /// Whether the host reported the port closed.
        refused: bool,
    },
    /// The receiver was restarted, or gave the transfer up: it would take a new one.
    #[error("the receiver knows nothing of this transfer any more")]
    Forgotten,
    /// The peer closed the transfer.
    #[error(
        "the other side ended the transfer: {code}{}{text}",
        if .text.is_empty() { "" } else { ": " }
    )]
    ClosedByPeer {
        /// Its reason.
        code: CloseCode,
        /// Its words; foreign text, to be escaped before it is shown.
        text: String,
    },
    /// The peer broke a rule of proto.md.
    #[error("the other side broke the protocol: {rule}")]
    Protocol {
        /// Which rule.
        rule: &'static str,
    },
    /// END's digest differs from what arrived.
    #[error("the manifest or the digests arrived damaged")]
    Integrity,
    /// We ended it.
    #[error("ended here: {code}")]
    Cancelled {
        /// The reason given to the peer.
        code: CloseCode,
    },
}
