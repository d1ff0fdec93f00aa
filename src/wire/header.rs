//! The first 14 bytes of every packet, and the padding that flags announce. See proto.md, "Header".

use super::checksum::{CHECKED_HEADER_BYTES, check};
use super::codec::Reader;
use super::limits::{HEADER_BYTES, PADDING_BYTES_MIN};
use super::{DecodeError, FrameType, PacketNumber};

const ACK_NOW: u8 = 0x01;
const PADDED: u8 = 0x02;
const SPACE: u8 = 0x0c;

/// What the flags of a packet say, as far as it is not about its layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The receiver must answer with an ACK at once.
    pub ack_now: bool,
}

/// An addressable row of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// The bytes of all files end to end; to the receiver.
    Body,
    /// Records that describe the entries; to the receiver.
    Manifest,
    /// Digest records, one a block; to the receiver.
    Digests,
    /// Records about entries and blocks; to the sender.
    Answers,
}

impl Space {
    const fn to_bits(self) -> u8 {
        match self {
            Self::Body => 0x00,
            Self::Manifest => 0x04,
            Self::Digests => 0x08,
            Self::Answers => 0x0c,
        }
    }

    const fn from_bits(flags: u8) -> Self {
        match flags & SPACE {
            0x00 => Self::Body,
            0x04 => Self::Manifest,
            0x08 => Self::Digests,
            _ => Self::Answers,
        }
    }
}

/// A header as it is on the wire: only its length is known to be right.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) frame_type: u8,
    flags: u8,
    pub(super) connection: u32,
    pub(super) number_low: u32,
    check: u32,
}

impl Header {
    /// The header that a packet of ours gets; its check is not known before the packet is complete.
    pub(super) const fn new(
        frame_type: FrameType,
        flags: Flags,
        space: Space,
        padded: bool,
        connection: u32,
        number: PacketNumber,
    ) -> Self {
        let ack_now = if flags.ack_now { ACK_NOW } else { 0 };
        let padded = if padded { PADDED } else { 0 };
        Self {
            frame_type: frame_type.to_byte(),
            flags: ack_now | padded | space.to_bits(),
            connection,
            number_low: number.low(),
            check: 0,
        }
    }

    /// Reads the header and returns it with what is behind it.
    pub(super) fn decode(datagram: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(datagram);
        let header = Self {
            frame_type: reader.u8()?,
            flags: reader.u8()?,
            connection: reader.u32()?,
            number_low: reader.u32()?,
            check: reader.u32()?,
        };
        Ok((header, reader.rest()))
    }

    fn checked_bytes(self) -> [u8; CHECKED_HEADER_BYTES] {
        let [c0, c1, c2, c3] = self.connection.to_be_bytes();
        let [n0, n1, n2, n3] = self.number_low.to_be_bytes();
        [self.frame_type, self.flags, c0, c1, c2, c3, n0, n1, n2, n3]
    }

    /// Demands that the check is right for this seed and this full packet number.
    pub(super) fn verify(
        self,
        seed: u32,
        number: PacketNumber,
        behind_header: &[u8],
    ) -> Result<(), DecodeError> {
        //= proto.md#check
        //# A packet whose check is wrong MUST be dropped without any answer.
        if check(seed, number, self.checked_bytes(), behind_header) == self.check {
            Ok(())
        } else {
            Err(DecodeError::Check)
        }
    }

    /// Writes header and check in front of a datagram that is complete behind its header.
    pub(super) fn seal(self, seed: u32, number: PacketNumber, datagram: &mut [u8]) {
        let Some((front, behind_header)) = datagram.split_first_chunk_mut::<HEADER_BYTES>() else {
            debug_assert!(false, "a datagram has room for its header");
            return;
        };
        let checked = self.checked_bytes();
        let check = check(seed, number, checked, behind_header).to_be_bytes();
        let [h0, h1, h2, h3, h4, h5, h6, h7, h8, h9] = checked;
        let [k0, k1, k2, k3] = check;
        *front = [h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, k0, k1, k2, k3];
    }

    /// Whether the byte of flags is zero.
    pub(super) const fn has_no_flags(self) -> bool {
        self.flags == 0
    }

    /// What the flags mean: for the peer, for the layout of DATA, and where the frame ends.
    pub(super) fn interpret(
        self,
        frame_type: FrameType,
        behind_header: &[u8],
    ) -> Result<(Flags, Space, &[u8]), DecodeError> {
        //= proto.md#header
        //# All other bits MUST be zero, and SPACE MUST be zero in any other frame than DATA.
        let space_allowed = if matches!(frame_type, FrameType::Data) { SPACE } else { 0 };
        if self.flags & !(ACK_NOW | PADDED | space_allowed) != 0 {
            return Err(DecodeError::Invalid("a flag is set that has to be zero"));
        }
        let flags = Flags { ack_now: self.flags & ACK_NOW != 0 };
        let frame =
            if self.flags & PADDED == 0 { behind_header } else { without_padding(behind_header)? };
        Ok((flags, Space::from_bits(self.flags), frame))
    }
}

/// Cuts off the padding, whose length is in the last two bytes.
fn without_padding(behind_header: &[u8]) -> Result<&[u8], DecodeError> {
    let (_, length) = behind_header.split_last_chunk().ok_or(DecodeError::Short)?;
    let padding_bytes = usize::from(u16::from_be_bytes(*length));
    if padding_bytes < PADDING_BYTES_MIN {
        return Err(DecodeError::Invalid("padding is shorter than its own length"));
    }
    let frame_bytes = behind_header
        .len()
        .checked_sub(padding_bytes)
        .ok_or(DecodeError::Invalid("padding is longer than its packet"))?;
    behind_header.get(..frame_bytes).ok_or(DecodeError::Short)
}
