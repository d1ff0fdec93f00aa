//! ACK: what has arrived, and credit. See proto.md, "ACK".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | largest | 14 | 8 |
//! | arrival_us | 22 | 8 |
//! | delay_us | 30 | 4 |
//! | received_packets | 34 | 8 |
//! | received_bytes | 42 | 8 |
//! | duplicates | 50 | 4 |
//! | drops | 54 | 4 |
//! | ecn_ce | 58 | 4 |
//! | max_number | 62 | 8 |
//! | max_manifest | 70 | 6 |
//! | max_digests | 76 | 6 |
//! | max_body | 82 | 6 |
//! | written | 88 | 8 |
//! | datagram_bytes | 96 | 4 |
//! | limit | 100 | 1 |
//! | reserved | 101 | 3 |
//! | base | 104 | 8 |
//! | bitmap | 112 | 8 n |

use super::super::codec::{Reader, Writer};
use super::super::limits::{ACK_BYTES_MIN, BITMAP_WORDS_MAX, HEADER_BYTES};
use super::super::{DecodeError, PacketNumber};

const FIXED_BYTES: usize = ACK_BYTES_MIN - HEADER_BYTES;
const WORD_BYTES: usize = 8;
const WORD_BITS: usize = 64;

/// What has arrived, and credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Largest packet number that has arrived.
    pub largest: PacketNumber,
    /// When it arrived, by the receiver's clock: microseconds from a start of its own.
    pub arrival_us: u64,
    /// From then to the sending of this ACK.
    pub delay_us: u32,
    /// Distinct packets that arrived with a right check.
    pub received_packets: u64,
    /// Bytes of their datagrams.
    pub received_bytes: u64,
    /// Packets that had arrived before, modulo 2^32.
    pub duplicates: u32,
    /// Datagrams that the receiver's kernel dropped at the socket, modulo 2^32.
    pub drops: u32,
    /// Datagrams marked "congestion experienced", modulo 2^32.
    pub ecn_ce: u32,
    /// Packet numbers above this one must not be sent.
    pub max_number: PacketNumber,
    /// Manifest bytes at this offset and above must not be sent. The encoder cuts this and the
    /// next two to the largest 6-byte number.
    pub max_manifest: u64,
    /// The same for digests.
    pub max_digests: u64,
    /// The same for body.
    pub max_body: u64,
    /// Body bytes that are in files, holes not counted.
    pub written: u64,
    /// `max_number` holds for datagrams up to this size.
    pub datagram_bytes: u32,
    /// What bounds `max_number`.
    pub limit: Limit,
    /// Packet number of the bitmap's bit 0; a multiple of 64.
    pub base: PacketNumber,
    /// The packets from `base` on that arrived and are held. No bit above `largest` is set.
    pub bitmap: Bitmap<'a>,
}

/// What bounds the credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Nothing.
    Nothing,
    /// The receiver's socket buffer.
    Socket,
    /// The receiver's disk.
    Disk,
}

/// A row of bits, kept as on the wire: bit i is bit (i mod 8) of byte (i / 8), counted from the
/// least significant one. So eight bytes are one little-endian word of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bitmap<'a>(&'a [u8]);

impl<'a> Bitmap<'a> {
    /// No bits.
    pub const EMPTY: Self = Self(&[]);

    /// The bits of these bytes, if they are at most [`BITMAP_WORDS_MAX`] whole words.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let words = bytes.len() / WORD_BYTES;
        let whole = bytes.len().is_multiple_of(WORD_BYTES);
        (whole && words <= BITMAP_WORDS_MAX).then_some(Self(bytes))
    }

    /// How many words of 64 bits there are.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.0.len() / WORD_BYTES
    }

    /// Bits 64 i to 64 i + 63, the first one least significant; 0 past the end.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        let start = index.saturating_mul(WORD_BYTES);
        let word = self.0.get(start..).and_then(|tail| tail.first_chunk());
        word.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// `count` bits (at most 64) from `first_bit` on, the first one least significant; bits past
    /// the end are 0.
    #[must_use]
    pub fn bits(&self, first_bit: usize, count: usize) -> u64 {
        let index = first_bit / WORD_BITS;
        let shift = (first_bit % WORD_BITS) as u32;
        let low = self.word(index) >> shift;
        // A shift of 64 has no bits from the next word; the shift operator would not take it.
        let above = self.word(index.saturating_add(1));
        let high = above.checked_shl(u64::BITS.saturating_sub(shift)).unwrap_or(0);
        let unwanted = u64::BITS.saturating_sub(u32::try_from(count).unwrap_or(u64::BITS));
        (low | high) & u64::MAX.checked_shr(unwanted).unwrap_or(0)
    }

    /// Whether a bit above this one is set.
    fn any_above(&self, last_bit: u64) -> bool {
        let Ok(last_bit) = usize::try_from(last_bit) else {
            return false;
        };
        let index = last_bit / WORD_BITS;
        let shift = (last_bit % WORD_BITS) as u32;
        // In two steps, since 64 is no valid shift.
        let own = self.word(index).checked_shr(shift).unwrap_or(0) >> 1;
        let behind = index.saturating_add(1).saturating_mul(WORD_BYTES);
        own != 0 || self.0.get(behind..).is_some_and(|tail| tail.iter().any(|byte| *byte != 0))
    }
}

/// The bitmap of these words (at most [`BITMAP_WORDS_MAX`]; bit 0 of the first word stands for
/// `base`), kept in a buffer of the caller that is overwritten.
pub fn encode_words<'a>(words: &[u64], buffer: &'a mut Vec<u8>) -> Bitmap<'a> {
    debug_assert!(words.len() <= BITMAP_WORDS_MAX, "an ACK has a limit");
    buffer.clear();
    for word in words.iter().take(BITMAP_WORDS_MAX) {
        buffer.extend_from_slice(&word.to_le_bytes());
    }
    Bitmap(buffer)
}

impl<'a> Ack<'a> {
    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let ack = Self {
            largest: PacketNumber(reader.u64()?),
            arrival_us: reader.u64()?,
            delay_us: reader.u32()?,
            received_packets: reader.u64()?,
            received_bytes: reader.u64()?,
            duplicates: reader.u32()?,
            drops: reader.u32()?,
            ecn_ce: reader.u32()?,
            max_number: PacketNumber(reader.u64()?),
            max_manifest: reader.u48()?,
            max_digests: reader.u48()?,
            max_body: reader.u48()?,
            written: reader.u64()?,
            datagram_bytes: reader.u32()?,
            limit: Limit::from_byte(reader.u8()?)?,
            base: {
                if reader.array()? != [0; 3] {
                    return Err(DecodeError::Invalid("a reserved byte of ACK is not zero"));
                }
                PacketNumber(reader.u64()?)
            },
            bitmap: Bitmap::from_bytes(reader.rest())
                .ok_or(DecodeError::Invalid("ACK's bitmap has no valid length"))?,
        };
        ack.check_bitmap()?;
        Ok(ack)
    }

    /// Demands that the bitmap starts at a word and says nothing of what has not been sent yet.
    fn check_bitmap(&self) -> Result<(), DecodeError> {
        if !self.base.0.is_multiple_of(WORD_BITS as u64) {
            return Err(DecodeError::Invalid("ACK's base is no multiple of 64"));
        }
        let above_largest = match self.largest.0.checked_sub(self.base.0) {
            Some(last_bit) => self.bitmap.any_above(last_bit),
            None => self.bitmap.0.iter().any(|byte| *byte != 0),
        };
        if above_largest {
            return Err(DecodeError::Invalid("ACK has a bit above its largest number"));
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; FIXED_BYTES];
        let mut writer = Writer::new(&mut fixed);
        writer.u64(self.largest.0);
        writer.u64(self.arrival_us);
        writer.u32(self.delay_us);
        writer.u64(self.received_packets);
        writer.u64(self.received_bytes);
        writer.u32(self.duplicates);
        writer.u32(self.drops);
        writer.u32(self.ecn_ce);
        writer.u64(self.max_number.0);
        writer.u48(self.max_manifest);
        writer.u48(self.max_digests);
        writer.u48(self.max_body);
        writer.u64(self.written);
        writer.u32(self.datagram_bytes);
        writer.u8(self.limit.to_byte());
        writer.array([0; 3]);
        writer.u64(self.base.0);
        writer.finish();
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.bitmap.0);
    }
}

impl Limit {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Socket => 1,
            Self::Disk => 2,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Nothing),
            1 => Ok(Self::Socket),
            2 => Ok(Self::Disk),
            _ => Err(DecodeError::Invalid("ACK's limit is unknown")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TO_SENDER, assert_packet, hex};
    use super::super::super::{Flags, Frame};
    use super::*;

    /// The example of proto.md, "ACK": of packets 0 to 199 were 3, 130 and 198 lost.
    const EXAMPLE_BITMAP: &str = "ffffffffffffffff fbffffffffffffff bf00000000000000";

    fn literal() -> Vec<u8> {
        hex("05 00 0a0b0c0d 00000001 8896b954
             00000000000000c7 00000000000f4240 00000032 00000000000000c5 0000000000046cc0
             00000001 00000002 00000003 0000000000000fff
             000000100000 000000200000 ffffffffffff 00000000000445c0 000005c0 01 000000
             0000000000000040 ffffffffffffffff fbffffffffffffff bf00000000000000")
    }

    fn example(bitmap: Bitmap<'_>) -> Ack<'_> {
        Ack {
            largest: PacketNumber(199),
            arrival_us: 1_000_000,
            delay_us: 50,
            received_packets: 197,
            received_bytes: 289_984,
            duplicates: 1,
            drops: 2,
            ecn_ce: 3,
            max_number: PacketNumber(4_095),
            max_manifest: 1 << 20,
            max_digests: 2 << 20,
            max_body: (1 << 48) - 1,
            written: 280_000,
            datagram_bytes: 1_472,
            limit: Limit::Socket,
            base: PacketNumber(64),
            bitmap,
        }
    }

    #[test]
    fn ack_is_these_bytes() {
        let bitmap = hex(EXAMPLE_BITMAP);
        let ack = example(Bitmap::from_bytes(&bitmap).unwrap());
        assert_packet(&literal(), TO_SENDER, 1, Flags::default(), Frame::Ack(ack));
    }

    #[test]
    fn words_make_the_bitmap_of_the_example() {
        let mut words = [0_u64; 3];
        for number in (64..200).filter(|number| ![130, 198].contains(number)) {
            words[(number - 64) / 64] |= 1 << (number % 64);
        }
        let mut buffer = vec![0xee; 100];
        let bitmap = encode_words(&words, &mut buffer);
        assert_eq!(bitmap, Bitmap(&hex(EXAMPLE_BITMAP)));
        assert_eq!(bitmap.words(), 3);
        assert_eq!([0, 1, 2].map(|index| bitmap.word(index)), words);
        assert_eq!([3, usize::MAX].map(|index| bitmap.word(index)), [0, 0]);
    }

    #[test]
    fn bits_are_read_across_words_and_past_the_end() {
        let mut buffer = Vec::new();
        let words = [0x8000_0000_0000_0001, 0x0123_4567_89ab_cdef, u64::MAX];
        let bitmap = encode_words(&words, &mut buffer);
        let bit =
            |index: usize| words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0);
        for first_bit in 0..260 {
            for count in 0..=64 {
                let expected = (0..count)
                    .filter(|index| bit(first_bit + index))
                    .fold(0, |bits, index| bits | 1_u64 << index);
                assert_eq!(bitmap.bits(first_bit, count), expected, "{count} from {first_bit}");
            }
        }
        assert_eq!(bitmap.bits(usize::MAX, 64), 0);
    }

    #[test]
    fn the_largest_ack_is_a_datagram_of_1_200_bytes() {
        let words = [u64::MAX; BITMAP_WORDS_MAX];
        let mut buffer = Vec::new();
        let mut frame = Vec::new();
        let bitmap = encode_words(&words, &mut buffer);
        let ack = Ack { largest: PacketNumber(u64::MAX), ..example(bitmap) };
        ack.encode(&mut frame);
        assert_eq!(HEADER_BYTES + frame.len(), 1_200);
        assert_eq!(Ack::decode(&frame), Ok(ack));
        frame.extend([0; 8]);
        assert!(Ack::decode(&frame).is_err());
    }

    #[test]
    fn a_bit_above_the_largest_number_is_never_believed() {
        let mut buffer = Vec::new();
        for (largest, allowed) in [(199, true), (198, false), (63, false), (0, false)] {
            let mut frame = Vec::new();
            let bitmap = encode_words(&[0, 0, 1 << 7], &mut buffer);
            let ack = Ack { largest: PacketNumber(largest), ..example(bitmap) };
            ack.encode(&mut frame);
            assert_eq!(Ack::decode(&frame).is_ok(), allowed, "largest {largest}");
        }
    }

    #[test]
    fn every_bit_is_found_above_those_before_it_and_not_above_itself() {
        let mut buffer = Vec::new();
        for set in 0..192 {
            let mut words = [0; 3];
            words[set / 64] = 1 << (set % 64);
            let bitmap = encode_words(&words, &mut buffer);
            for last_bit in 0..256 {
                assert_eq!(bitmap.any_above(last_bit), set as u64 > last_bit, "{set}, {last_bit}");
            }
            assert!(!bitmap.any_above(u64::MAX));
        }
    }

    #[test]
    fn an_ack_may_tell_of_a_number_below_its_bitmap_if_that_is_empty() {
        let mut buffer = Vec::new();
        for (words, allowed) in [([0, 0], true), ([1, 0], false), ([0, 1 << 63], false)] {
            let mut frame = Vec::new();
            let bitmap = encode_words(&words, &mut buffer);
            Ack { largest: PacketNumber(63), ..example(bitmap) }.encode(&mut frame);
            assert_eq!(Ack::decode(&frame).is_ok(), allowed, "{words:?}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_dropped() {
        // Limit, reserved bytes, base.
        for (at, value) in [(100, 3), (101, 1), (103, 1), (111, 0x20)] {
            let mut packet = literal();
            packet[at] = value;
            let ack = Ack::decode(&packet[HEADER_BYTES..]);
            assert!(matches!(ack, Err(DecodeError::Invalid(_))), "byte {at}: {ack:?}");
        }
    }

    #[test]
    fn a_bitmap_has_whole_words() {
        let packet = literal();
        for length in ACK_BYTES_MIN..packet.len() {
            let whole = (length - ACK_BYTES_MIN).is_multiple_of(8);
            assert_eq!(Ack::decode(&packet[HEADER_BYTES..length]).is_ok(), whole);
        }
        assert_eq!(Ack::decode(&packet[HEADER_BYTES..111]), Err(DecodeError::Short));
    }
}
