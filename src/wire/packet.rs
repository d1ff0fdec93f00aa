//! Opening and sealing of whole packets: connection, packet number, check, then the frame.
//!
//! Which frames may go in which direction, and duplicates, are left to `proto`.

use super::codec::u48_bytes;
use super::frame::{Frame, FrameType, Start};
use super::header::{Flags, Header, Space};
use super::limits::{DATA_HEADER_BYTES, HEADER_BYTES, PADDING_BYTES_MIN};
use super::{DecodeError, PacketNumber};

/// A packet whose connection, check and frame are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The connection it is for; 0 in HELLO.
    pub connection: u32,
    /// Its full number.
    pub number: PacketNumber,
    /// What it asks for.
    pub flags: Flags,
    /// What it carries.
    pub frame: Frame<'a>,
    /// Bytes of the datagram, header and padding included.
    pub datagram_bytes: usize,
}

/// The type and the connection of a datagram, before any check: to find out whose it is.
#[must_use]
pub fn peek(datagram: &[u8]) -> Option<(FrameType, u32)> {
    let (header, _) = Header::decode(datagram).ok()?;
    Some((FrameType::from_byte(header.frame_type).ok()?, header.connection))
}

/// Reads a START without looking at its check: the seed of the check has to be computed from the
/// START itself. Returns its connection, too. Nothing of it may be believed before [`Opener::open`]
/// with that seed (and `expected` 0) has succeeded.
///
/// # Errors
///
/// The datagram is not a START, or breaks its layout.
pub fn parse_start_unchecked(datagram: &[u8]) -> Result<(Start, u32), DecodeError> {
    let (header, behind_header) = Header::decode(datagram)?;
    let frame_type = FrameType::from_byte(header.frame_type)?;
    let (_, _, frame) = header.interpret(frame_type, behind_header)?;
    match frame_type {
        FrameType::Start => Ok((Start::decode(frame)?, header.connection)),
        _ => Err(DecodeError::FrameType(header.frame_type)),
    }
}

/// Opens the packets of one direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The connection that packets must have.
    pub connection: u32,
    /// The seed of their checks.
    pub seed: u32,
    /// One more than the largest number accepted; 0 before the first.
    pub expected: PacketNumber,
}

impl Opener {
    /// Opens HELLOs, and nothing else.
    #[must_use]
    pub const fn hello() -> Self {
        Self { connection: 0, seed: 0, expected: PacketNumber(0) }
    }

    /// Reads a datagram: first the connection, then the check, then the frame.
    ///
    /// # Errors
    ///
    /// The datagram is not a packet of this connection, or breaks a rule: it has to be dropped.
    pub fn open<'a>(&self, datagram: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        let (header, behind_header) = Header::decode(datagram)?;
        if header.connection != self.connection {
            return Err(DecodeError::Connection);
        }
        let number = PacketNumber::expand(header.number_low, self.expected);
        header.verify(self.seed, number, behind_header)?;

        let frame_type = FrameType::from_byte(header.frame_type)?;
        // HELLO has connection 0, and nothing else has.
        if (frame_type == FrameType::Hello) != (header.connection == 0) {
            return Err(DecodeError::Connection);
        }
        if matches!(frame_type, FrameType::Hello | FrameType::Welcome) && number.0 != 0 {
            return Err(DecodeError::Invalid(
                "the first packet of a peer has another number than 0",
            ));
        }
        let (flags, space, frame) = header.interpret(frame_type, behind_header)?;
        if frame_type == FrameType::Hello && !header.has_no_flags() {
            return Err(DecodeError::Invalid("HELLO has a flag"));
        }
        let frame = Frame::decode(frame_type, space, frame, datagram.len())?;
        Ok(Packet {
            connection: header.connection,
            number,
            flags,
            frame,
            datagram_bytes: datagram.len(),
        })
    }
}

/// Makes the packets of one direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealer {
    /// The connection that the peer chose.
    pub connection: u32,
    /// The seed that the peer chose.
    pub seed: u32,
}

impl Sealer {
    /// Seals HELLOs, with packet number 0 and no flags.
    #[must_use]
    pub const fn hello() -> Self {
        Self { connection: 0, seed: 0 }
    }

    /// Appends one datagram to `out`. HELLO and PROBE get the zeros that their size asks for.
    pub fn seal(&self, number: PacketNumber, flags: Flags, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        frame.encode(out);
        let space = match frame {
            Frame::Data(data) => data.space,
            _ => Space::Body,
        };
        if let Some(datagram) = out.get_mut(start..) {
            self.finish(number, flags, frame.frame_type(), space, false, datagram);
        }
    }

    /// Makes a DATA packet of a datagram whose payload is in place, from byte
    /// [`DATA_HEADER_BYTES`] to its end: writes the bytes before it, check included.
    pub fn seal_data(
        &self,
        number: PacketNumber,
        flags: Flags,
        space: Space,
        offset: u64,
        datagram: &mut [u8],
    ) {
        put_offset(offset, datagram);
        self.finish(number, flags, FrameType::Data, space, false, datagram);
    }

    /// As [`Sealer::seal_data`], where the last `padding_bytes` (2 at least) of the datagram are
    /// not payload: they are overwritten with padding, so that a short packet has the size that
    /// its batch has.
    pub fn seal_data_padded(
        &self,
        number: PacketNumber,
        flags: Flags,
        space: Space,
        offset: u64,
        datagram: &mut [u8],
        padding_bytes: u16,
    ) {
        put_offset(offset, datagram);
        put_padding(padding_bytes, datagram);
        self.finish(number, flags, FrameType::Data, space, true, datagram);
    }

    fn finish(
        &self,
        number: PacketNumber,
        flags: Flags,
        frame_type: FrameType,
        space: Space,
        padded: bool,
        datagram: &mut [u8],
    ) {
        Header::new(frame_type, flags, space, padded, self.connection, number)
            .seal(self.seed, number, datagram);
    }
}

fn put_offset(offset: u64, datagram: &mut [u8]) {
    debug_assert!(datagram.len() > DATA_HEADER_BYTES, "DATA has a payload");
    if let Some(field) = datagram.get_mut(HEADER_BYTES..DATA_HEADER_BYTES) {
        field.copy_from_slice(&u48_bytes(offset));
    }
}

fn put_padding(padding_bytes: u16, datagram: &mut [u8]) {
    debug_assert!(usize::from(padding_bytes) >= PADDING_BYTES_MIN);
    let frame_bytes = datagram.len().saturating_sub(usize::from(padding_bytes));
    debug_assert!(frame_bytes > DATA_HEADER_BYTES, "DATA has a payload before its padding");
    if let Some(padding) = datagram.get_mut(frame_bytes..) {
        padding.fill(0);
    }
    if let Some(length) = datagram.last_chunk_mut() {
        *length = padding_bytes.to_be_bytes();
    }
}
