//! HELLO: the wish to send. See proto.md, "HELLO".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | magic | 14 | 4 |
//! | version_max | 18 | 1 |
//! | version_min | 19 | 1 |
//! | mode | 20 | 1 |
//! | digest | 21 | 1 |
//! | options | 22 | 2 |
//! | connection | 24 | 4 |
//! | seed | 28 | 4 |
//! | nonce | 32 | 16 |
//! | key_share | 48 | 32 |
//! | zeros | 80 | 1,120 |

use super::super::codec::{Reader, Writer};
use super::super::limits::{DATAGRAM_BYTES_MIN, GREETING_BYTES, HEADER_BYTES, VERSION};
use super::super::{DecodeError, DigestAlgorithm};

/// "ufx" and a zero byte.
const MAGIC: [u8; 4] = *b"ufx\0";
const DRY_RUN: u16 = 0x0001;
const DISCARD: u16 = 0x0002;
const FRAME_BYTES_MIN: usize = DATAGRAM_BYTES_MIN - HEADER_BYTES;

/// What HELLO and START have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Highest version that the sender speaks.
    pub version_max: u8,
    /// Lowest version that the sender speaks: at least 1, not above `version_max`.
    pub version_min: u8,
    /// Open or keyed.
    pub mode: Mode,
    /// The algorithm of all digests.
    pub digest: DigestAlgorithm,
    /// Only the manifest is sent.
    pub dry_run: bool,
    /// All is sent and nothing stored. Neither with a digest nor in a dry run.
    pub discard: bool,
    /// For packets to the sender; random, not 0.
    pub connection: u32,
    /// Of the checks of packets to the sender; random.
    pub seed: u32,
    /// Random, new for each transfer.
    pub nonce: [u8; 16],
    /// An X25519 public key in keyed mode, zero in open mode.
    pub key_share: [u8; 32],
}

/// Whether packets are authenticated and encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They are not.
    Open,
    /// They are, with a key both sides know.
    Keyed,
}

/// The wish to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// If the sender does not speak version 1, only its versions, connection and seed are read,
    /// which no version moves, so that the receiver can answer CLOSE `version`. All other fields
    /// are zero then.
    pub greeting: Greeting,
}

impl Hello {
    pub(super) fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        //= proto.md#hello
        //# A HELLO shorter than 1,200 bytes MUST be dropped.
        if frame.len() < FRAME_BYTES_MIN {
            return Err(DecodeError::Short);
        }
        let mut reader = Reader::new(frame);
        if let Some(greeting) = decode_other_version(reader)? {
            return Ok(Self { greeting });
        }
        // The zeros behind it are not looked at: a sender that speaks a later version, too, may
        // have its fields there.
        Ok(Self { greeting: Greeting::decode(&mut reader)? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let length = out.len().saturating_add(FRAME_BYTES_MIN);
        out.extend_from_slice(&self.greeting.to_bytes());
        out.resize(length, 0);
    }
}

impl Greeting {
    /// Whether the sender speaks the version of this crate.
    #[must_use]
    pub const fn speaks_our_version(&self) -> bool {
        self.version_min <= VERSION && VERSION <= self.version_max
    }

    /// HELLO's bytes 14 to 80, which START repeats: what proves an address is computed from them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; GREETING_BYTES] {
        let mut bytes = [0; GREETING_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.array(MAGIC);
        writer.u8(self.version_max);
        writer.u8(self.version_min);
        writer.u8(self.mode.to_byte());
        writer.u8(self.digest.to_byte());
        let option = |is_on: bool, bit: u16| if is_on { bit } else { 0 };
        writer.u16(option(self.dry_run, DRY_RUN) | option(self.discard, DISCARD));
        writer.u32(self.connection);
        writer.u32(self.seed);
        writer.array(self.nonce);
        writer.array(self.key_share);
        writer.finish();
        bytes
    }

    /// Reads a greeting of version 1. Every bit of the bytes is checked or kept: the greeting turns
    /// into the same bytes again.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (version_max, version_min) = decode_versions(reader)?;
        let mode = Mode::from_byte(reader.u8()?)?;
        let digest = DigestAlgorithm::from_byte(reader.u8()?)?;
        let options = reader.u16()?;
        match options {
            0 | DRY_RUN => {}
            DISCARD if digest == DigestAlgorithm::None => {}
            DISCARD => return Err(DecodeError::Invalid("what is discarded has a digest")),
            _ => return Err(DecodeError::Invalid("an option is unknown, or not with another")),
        }
        let greeting = Self {
            version_max,
            version_min,
            mode,
            digest,
            dry_run: options == DRY_RUN,
            discard: options == DISCARD,
            connection: decode_connection(reader)?,
            seed: reader.u32()?,
            nonce: reader.array()?,
            key_share: reader.array()?,
        };
        if !greeting.speaks_our_version() {
            return Err(DecodeError::Invalid("the version is unknown"));
        }
        mode.check_secret(&greeting.key_share)?;
        Ok(greeting)
    }
}

/// The greeting of a sender that does not speak our version; `None` if it does.
fn decode_other_version(mut reader: Reader<'_>) -> Result<Option<Greeting>, DecodeError> {
    let (version_max, version_min) = decode_versions(&mut reader)?;
    let _mode_digest_options: [u8; 4] = reader.array()?;
    let greeting = Greeting {
        version_max,
        version_min,
        mode: Mode::Open,
        digest: DigestAlgorithm::None,
        dry_run: false,
        discard: false,
        connection: decode_connection(&mut reader)?,
        seed: reader.u32()?,
        nonce: [0; 16],
        key_share: [0; 32],
    };
    Ok((!greeting.speaks_our_version()).then_some(greeting))
}

fn decode_versions(reader: &mut Reader<'_>) -> Result<(u8, u8), DecodeError> {
    if reader.array()? != MAGIC {
        return Err(DecodeError::Invalid("the magic is another one"));
    }
    let (version_max, version_min) = (reader.u8()?, reader.u8()?);
    if version_min == 0 || version_min > version_max {
        return Err(DecodeError::Invalid("the versions are no range from 1 on"));
    }
    Ok((version_max, version_min))
}

/// A connection that a peer chose.
pub(super) fn decode_connection(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.u32()? {
        0 => Err(DecodeError::Invalid("a connection is 0")),
        connection => Ok(connection),
    }
}

impl Mode {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Keyed => 1,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Open),
            1 => Ok(Self::Keyed),
            _ => Err(DecodeError::Invalid("the mode is unknown")),
        }
    }

    /// Demands that a field of the keyed mode is zero in open mode.
    pub(super) fn check_secret(self, field: &[u8]) -> Result<(), DecodeError> {
        if self == Self::Open && field.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Invalid("a field of the keyed mode is not zero in open mode"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{GREETING, assert_packet, hex, open};
    use super::super::super::{Flags, Frame, PacketNumber, Sealer};
    use super::*;

    fn literal() -> Vec<u8> {
        let mut packet =
            hex("01 00 00000000 00000000 1af454ef  75667800 01 01 00 02 0001 0a0b0c0d 01020304
             000102030405060708090a0b0c0d0e0f");
        packet.resize(1_200, 0);
        packet
    }

    /// HELLO with other bytes, and what becomes of it.
    fn open_with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Greeting, DecodeError> {
        let mut packet = literal();
        change(&mut packet);
        Hello::decode(&packet[HEADER_BYTES..]).map(|hello| hello.greeting)
    }

    #[test]
    fn hello_is_these_bytes() {
        let hello = Frame::Hello(Hello { greeting: GREETING });
        assert_packet(&literal(), Sealer::hello(), 0, Flags::default(), hello);
    }

    //= proto.md#hello
    //= type=test
    //# A HELLO shorter than 1,200 bytes MUST be dropped.
    #[test]
    fn a_hello_shorter_than_1_200_bytes_is_dropped() {
        assert_eq!(open_with(|packet| packet.truncate(1_199)), Err(DecodeError::Short));
        assert_eq!(open_with(|packet| packet.push(0)), Ok(GREETING));
        assert_eq!(open_with(|packet| packet[80..].fill(0xee)), Ok(GREETING));
    }

    #[test]
    fn hello_has_number_0_and_no_flags() {
        let hello = Frame::Hello(Hello { greeting: GREETING });
        for (number, ack_now) in [(1, false), (0, true)] {
            let mut datagram = Vec::new();
            Sealer::hello().seal(PacketNumber(number), Flags { ack_now }, &hello, &mut datagram);
            let opened = open(&datagram, Sealer::hello(), PacketNumber(0));
            assert!(matches!(opened, Err(DecodeError::Invalid(_))), "{opened:?}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_dropped() {
        // Magic, versions, mode, digest, options, key share.
        let changes = [(14, 1), (19, 2), (19, 0), (20, 2), (21, 3), (22, 1), (23, 4), (48, 1)];
        for (at, value) in changes {
            let greeting = open_with(|packet| packet[at] = value);
            assert!(matches!(greeting, Err(DecodeError::Invalid(_))), "byte {at}: {greeting:?}");
        }
        let digest = open_with(|packet| packet[23] = 2);
        assert!(matches!(digest, Err(DecodeError::Invalid(_))), "{digest:?}");
        let both = open_with(|packet| packet[21..24].copy_from_slice(&[0, 0, 3]));
        assert!(matches!(both, Err(DecodeError::Invalid(_))), "{both:?}");
        let no_connection = open_with(|packet| packet[24..28].fill(0));
        assert_eq!(no_connection, Err(DecodeError::Invalid("a connection is 0")));
    }

    //= proto.md#hello
    //= type=test
    //# Versions do not change the place of magic, versions, connection and seed.
    #[test]
    fn a_hello_of_another_version_still_tells_where_to_answer() {
        let greeting = open_with(|packet| {
            packet[18..20].copy_from_slice(&[3, 2]);
            packet[20..24].fill(0xff);
            packet[32..].fill(0xff);
        });
        let greeting = greeting.unwrap();
        assert!(!greeting.speaks_our_version());
        assert_eq!((greeting.version_max, greeting.version_min), (3, 2));
        assert_eq!((greeting.connection, greeting.seed), (0x0a0b_0c0d, 0x0102_0304));
    }
}
