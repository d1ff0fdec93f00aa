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

#[cfg(test)]
mod tests {
    use super::super::frame::{Close, CloseCode, Hello, Probe};
    use super::super::testing::{TO_RECEIVER, TO_SENDER, open};
    use super::*;

    const PROBE: Frame<'_> =
        Frame::Probe(Probe { srtt_us: 1, window_packets: 2, answers: 3, datagram_bytes: 0 });

    fn sealed(number: u64) -> Vec<u8> {
        let mut datagram = Vec::new();
        TO_RECEIVER.seal(PacketNumber(number), Flags { ack_now: true }, &PROBE, &mut datagram);
        datagram
    }

    /// The packet with other bytes behind its check, and a check that fits them.
    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut datagram = sealed(0);
        change(&mut datagram);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&TO_RECEIVER.seed.to_be_bytes());
        hasher.update(&[0; 4]);
        hasher.update(&datagram[..10]);
        hasher.update(&datagram[14..]);
        let check = hasher.finalize().to_be_bytes();
        datagram[10..14].copy_from_slice(&check);
        datagram
    }

    //= proto.md#check
    //= type=test
    //# A packet whose check is wrong MUST be dropped without any answer.
    #[test]
    fn a_packet_with_any_bit_flipped_is_dropped() {
        let datagram = sealed(5);
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&damaged, TO_RECEIVER, PacketNumber(5)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_packet_with_another_connection_seed_or_upper_number_is_dropped() {
        let datagram = sealed(5);
        let opener = |connection, seed, expected| {
            Opener { connection, seed, expected: PacketNumber(expected) }.open(&datagram)
        };
        let Sealer { connection, seed } = TO_RECEIVER;
        assert!(opener(connection, seed, 5).is_ok());
        assert_eq!(opener(connection + 1, seed, 5), Err(DecodeError::Connection));
        assert_eq!(opener(connection, seed + 1, 5), Err(DecodeError::Check));
        assert_eq!(opener(connection, seed, 1 << 32), Err(DecodeError::Check));
    }

    #[test]
    fn the_full_number_is_found_near_the_expected_one() {
        for number in [0, 0xffff_ffff, 1 << 32, (1 << 32) + 70_000, 1 << 63] {
            let datagram = sealed(number);
            for expected in [number.saturating_sub(1_000), number, number + 1, number + 70_000] {
                let packet = open(&datagram, TO_RECEIVER, PacketNumber(expected)).unwrap();
                assert_eq!(packet.number, PacketNumber(number));
            }
        }
    }

    //= proto.md#header
    //= type=test
    //# All other bits MUST be zero, and SPACE MUST be zero in any other frame than DATA.
    #[test]
    fn an_unknown_flag_or_a_space_of_another_frame_is_dropped() {
        for bit in 2..8 {
            let datagram = resealed(|datagram| datagram[1] |= 1 << bit);
            let opened = open(&datagram, TO_RECEIVER, PacketNumber(0));
            assert!(matches!(opened, Err(DecodeError::Invalid(_))), "bit {bit}: {opened:?}");
        }
    }

    #[test]
    fn padding_has_2_bytes_at_least_and_ends_behind_the_header() {
        for (length, good) in [(0_u16, false), (1, false), (2, true), (4, true), (5, false)] {
            let datagram = resealed(|datagram| {
                datagram[1] |= 0x02;
                datagram.extend([0, 0]);
                datagram.extend(length.to_be_bytes());
            });
            let opened = open(&datagram, TO_RECEIVER, PacketNumber(0));
            assert_eq!(opened.is_ok(), good, "{length}: {opened:?}");
        }
        let longer_than_all = resealed(|datagram| {
            datagram[1] |= 0x02;
            datagram.extend(15_u16.to_be_bytes());
        });
        assert!(open(&longer_than_all, TO_RECEIVER, PacketNumber(0)).is_err());
        let nothing_but_a_header = resealed(|datagram| {
            datagram[1] |= 0x02;
            datagram.truncate(14);
        });
        let opened = open(&nothing_but_a_header, TO_RECEIVER, PacketNumber(0));
        assert_eq!(opened, Err(DecodeError::Short));
    }

    #[test]
    fn an_unknown_type_is_dropped() {
        let datagram = resealed(|datagram| datagram[0] = 0x08);
        let opened = open(&datagram, TO_RECEIVER, PacketNumber(0));
        assert_eq!(opened, Err(DecodeError::FrameType(0x08)));
        assert_eq!(peek(&datagram), None);
    }

    #[test]
    fn only_hello_has_connection_0() {
        let mut datagram = Vec::new();
        let close = Frame::Close(Close { code: CloseCode::Done, text: "" });
        Sealer::hello().seal(PacketNumber(0), Flags::default(), &close, &mut datagram);
        assert_eq!(Opener::hello().open(&datagram), Err(DecodeError::Connection));

        let greeting = super::super::testing::GREETING;
        datagram.clear();
        let hello = Frame::Hello(Hello { greeting });
        TO_SENDER.seal(PacketNumber(0), Flags::default(), &hello, &mut datagram);
        let opened = open(&datagram, TO_SENDER, PacketNumber(0));
        assert_eq!(opened, Err(DecodeError::Connection));
    }

    #[test]
    fn a_peek_tells_type_and_connection_of_anything_with_a_header() {
        let datagram = sealed(0);
        assert_eq!(peek(&datagram[..14]), Some((FrameType::Probe, TO_RECEIVER.connection)));
        assert_eq!(peek(&datagram[..13]), None);
        assert_eq!(peek(&[]), None);
    }

    #[test]
    fn a_packet_is_appended_and_leaves_what_was_there() {
        let mut batch = sealed(0);
        TO_RECEIVER.seal(PacketNumber(1), Flags { ack_now: true }, &PROBE, &mut batch);
        assert_eq!(batch[..28], sealed(0));
        assert_eq!(batch[28..], sealed(1));
    }
}
