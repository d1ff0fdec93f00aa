//! The typed content of a packet: one file a frame, in the order of proto.md, "Frames".

mod ack;
mod close;
mod data;
mod hello;
mod probe;
mod start;
mod welcome;

pub use ack::{Ack, Bitmap, Limit, encode_words};
pub use close::{Close, CloseCode};
pub use data::Data;
pub use hello::{Greeting, Hello, Mode};
pub use probe::Probe;
pub use start::Start;
pub use welcome::Welcome;

use super::{DecodeError, Space};

/// The content of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The wish to send.
    Hello(Hello),
    /// Connection, seed and first credit.
    Welcome(Welcome),
    /// HELLO's fields again, from a proven address.
    Start(Start),
    /// A chunk of a space.
    Data(Data<'a>),
    /// What has arrived, and credit.
    Ack(Ack<'a>),
    /// The sender's state; tests larger datagrams.
    Probe(Probe),
    /// The end, with a reason.
    Close(Close<'a>),
}

/// The type of a frame, as the header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// 0x01, to the receiver.
    Hello,
    /// 0x02, to the sender.
    Welcome,
    /// 0x03, to the receiver.
    Start,
    /// 0x04, both ways.
    Data,
    /// 0x05, to the sender.
    Ack,
    /// 0x06, to the receiver.
    Probe,
    /// 0x07, both ways.
    Close,
}

impl FrameType {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Welcome => 0x02,
            Self::Start => 0x03,
            Self::Data => 0x04,
            Self::Ack => 0x05,
            Self::Probe => 0x06,
            Self::Close => 0x07,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0x01 => Ok(Self::Hello),
            0x02 => Ok(Self::Welcome),
            0x03 => Ok(Self::Start),
            0x04 => Ok(Self::Data),
            0x05 => Ok(Self::Ack),
            0x06 => Ok(Self::Probe),
            0x07 => Ok(Self::Close),
            _ => Err(DecodeError::FrameType(byte)),
        }
    }
}

impl<'a> Frame<'a> {
    /// Its type.
    #[must_use]
    pub const fn frame_type(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Start(_) => FrameType::Start,
            Self::Data(_) => FrameType::Data,
            Self::Ack(_) => FrameType::Ack,
            Self::Probe(_) => FrameType::Probe,
            Self::Close(_) => FrameType::Close,
        }
    }

    /// Whether a receiver may get it; a sender gets the others, answers, and CLOSE.
    #[must_use]
    pub const fn may_go_to_receiver(&self) -> bool {
        match self {
            Self::Hello(_) | Self::Start(_) | Self::Probe(_) | Self::Close(_) => true,
            Self::Data(data) => !matches!(data.space, Space::Answers),
            Self::Welcome(_) | Self::Ack(_) => false,
        }
    }

    /// Reads the frame between header and padding. The header tells the space of DATA; PROBE wants
    /// to know the size of the datagram that came through.
    pub(super) fn decode(
        frame_type: FrameType,
        space: Space,
        frame: &'a [u8],
        datagram_bytes: usize,
    ) -> Result<Self, DecodeError> {
        Ok(match frame_type {
            FrameType::Hello => Self::Hello(Hello::decode(frame)?),
            FrameType::Welcome => Self::Welcome(Welcome::decode(frame)?),
            FrameType::Start => Self::Start(Start::decode(frame)?),
            FrameType::Data => Self::Data(Data::decode(space, frame)?),
            FrameType::Ack => Self::Ack(Ack::decode(frame)?),
            FrameType::Probe => Self::Probe(Probe::decode(frame, datagram_bytes)?),
            FrameType::Close => Self::Close(Close::decode(frame)?),
        })
    }

    /// Appends what stands behind the header.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Welcome(welcome) => welcome.encode(out),
            Self::Start(start) => start.encode(out),
            Self::Data(data) => data.encode(out),
            Self::Ack(ack) => ack.encode(out),
            Self::Probe(probe) => probe.encode(out),
            Self::Close(close) => close.encode(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::*;

    #[test]
    fn answers_do_not_go_to_a_receiver_and_other_data_does() {
        for space in [Space::Body, Space::Manifest, Space::Digests, Space::Answers] {
            let data = Frame::Data(Data { space, offset: 0, payload: &[1] });
            assert_eq!(data.may_go_to_receiver(), space != Space::Answers, "{space:?}");
        }
    }

    proptest! {
        #[test]
        fn a_receiver_gets_what_senders_say_and_nothing_else(frame in arbitrary::frame()) {
            let mut bitmap = Vec::new();
            let frame = frame.borrow(&mut bitmap);
            // HELLO, START, PROBE and CLOSE.
            let always = [1, 3, 6, 7].contains(&frame.frame_type().to_byte());
            let is_theirs = matches!(frame, Frame::Data(data) if data.space != Space::Answers);
            prop_assert_eq!(frame.may_go_to_receiver(), always || is_theirs);
        }
    }

    #[test]
    fn the_types_are_the_numbers_1_to_7() {
        for byte in 0..=255 {
            let frame_type = FrameType::from_byte(byte);
            assert_eq!(frame_type.is_ok(), (1..=7).contains(&byte));
            assert!(frame_type.map_or(true, |frame_type| frame_type.to_byte() == byte));
        }
    }
}
