//! WELCOME: connection, seed and first credit. See proto.md, "WELCOME".
//!
//! | field | offset | bytes |
//! |---|---|---|
//! | version | 14 | 1 |
//! | mode | 15 | 1 |
//! | digest | 16 | 1 |
//! | reserved | 17 | 1 |
//! | nonce | 18 | 16 |
//! | connection | 34 | 4 |
//! | seed | 38 | 4 |
//! | socket_bytes | 42 | 4 |
//! | datagram_bytes_max | 46 | 4 |
//! | credit | 50 | 4 |
//! | key_share | 54 | 32 |
//! | proof | 86 | 16 |

use super::super::codec::{Reader, Writer};
use super::super::limits::{
    CREDIT_MIN, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, HEADER_BYTES, WELCOME_BYTES,
};
use super::super::{DecodeError, DigestAlgorithm};
use super::hello::{Mode, decode_connection};

const FRAME_BYTES: usize = WELCOME_BYTES - HEADER_BYTES;

/// The answer to HELLO. Whether it fits the HELLO is left to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version chosen.
    pub version: u8,
    /// HELLO's.
    pub mode: Mode,
    /// HELLO's.
    pub digest: DigestAlgorithm,
    /// HELLO's.
    pub nonce: [u8; 16],
    /// For packets to the receiver; not 0.
    pub connection: u32,
    /// Of the checks of packets to the receiver.
    pub seed: u32,
    /// Payload that the receiver's socket can queue, in datagrams of 1,472 bytes.
    pub socket_bytes: u32,
    /// Largest datagram that the receiver takes.
    pub datagram_bytes_max: u32,
    /// So many packets may be sent before the first ACK; 2 at least.
    pub credit: u32,
    /// An X25519 public key in keyed mode, zero in open mode.
    pub key_share: [u8; 32],
    /// In keyed mode: that the receiver knows the key; zero in open mode.
    pub proof: [u8; 16],
}

impl Welcome {
    pub(super) fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let version = reader.u8()?;
        let mode = Mode::from_byte(reader.u8()?)?;
        let digest = DigestAlgorithm::from_byte(reader.u8()?)?;
        if reader.u8()? != 0 {
            return Err(DecodeError::Invalid("a reserved byte of WELCOME is not zero"));
        }
        let welcome = Self {
            version,
            mode,
            digest,
            nonce: reader.array()?,
            connection: decode_connection(&mut reader)?,
            seed: reader.u32()?,
            socket_bytes: reader.u32()?,
            datagram_bytes_max: reader.u32()?,
            credit: reader.u32()?,
            key_share: reader.array()?,
            proof: reader.array()?,
        };
        reader.finish()?;
        let sizes = DATAGRAM_BYTES_MIN as u32..=DATAGRAM_BYTES_MAX as u32;
        if !sizes.contains(&welcome.datagram_bytes_max) {
            return Err(DecodeError::Invalid("WELCOME's largest datagram is out of range"));
        }
        if welcome.credit < CREDIT_MIN {
            return Err(DecodeError::Invalid("WELCOME's credit is below 2"));
        }
        mode.check_secret(&welcome.key_share)?;
        mode.check_secret(&welcome.proof)?;
        Ok(welcome)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = [0; FRAME_BYTES];
        let mut writer = Writer::new(&mut frame);
        writer.u8(self.version);
        writer.u8(self.mode.to_byte());
        writer.u8(self.digest.to_byte());
        writer.u8(0);
        writer.array(self.nonce);
        writer.u32(self.connection);
        writer.u32(self.seed);
        writer.u32(self.socket_bytes);
        writer.u32(self.datagram_bytes_max);
        writer.u32(self.credit);
        writer.array(self.key_share);
        writer.array(self.proof);
        writer.finish();
        out.extend_from_slice(&frame);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TO_SENDER, assert_packet, hex};
    use super::super::super::{Flags, Frame};
    use super::*;

    fn literal() -> Vec<u8> {
        let mut packet =
            hex("02 00 0a0b0c0d 00000000 a2f31db0  01 00 02 00 000102030405060708090a0b0c0d0e0f
             11223344 55667788 00400000 0000ffe3 00000800");
        packet.resize(WELCOME_BYTES, 0);
        packet
    }

    #[test]
    fn welcome_is_these_bytes() {
        let welcome = Welcome {
            version: 1,
            mode: Mode::Open,
            digest: DigestAlgorithm::Blake3,
            nonce: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            connection: 0x1122_3344,
            seed: 0x5566_7788,
            socket_bytes: 4 << 20,
            datagram_bytes_max: 65_507,
            credit: 2_048,
            key_share: [0; 32],
            proof: [0; 16],
        };
        assert_packet(&literal(), TO_SENDER, 0, Flags::default(), Frame::Welcome(welcome));
    }

    #[test]
    fn a_value_out_of_range_is_dropped() {
        // Mode, digest, reserved, largest datagram (too large, too small), key share, proof.
        let changes = [(15, 2), (16, 3), (17, 1), (49, 0xe4), (48, 0x03), (54, 1), (101, 1)];
        for (at, value) in changes {
            let mut packet = literal();
            packet[at] = value;
            let welcome = Welcome::decode(&packet[HEADER_BYTES..]);
            assert!(matches!(welcome, Err(DecodeError::Invalid(_))), "byte {at}: {welcome:?}");
        }
    }

    //= proto.md#welcome
    //= type=test
    //# 2 at least
    #[test]
    fn a_welcome_that_allows_a_single_packet_is_dropped() {
        for (credit, is_ok) in [(0, false), (1, false), (2, true)] {
            let mut packet = literal();
            packet[50..54].copy_from_slice(&[0, 0, 0, credit]);
            assert_eq!(Welcome::decode(&packet[HEADER_BYTES..]).is_ok(), is_ok, "{credit}");
        }
    }

    #[test]
    fn a_welcome_of_another_length_is_dropped() {
        let mut packet = literal();
        assert_eq!(Welcome::decode(&packet[HEADER_BYTES..101]), Err(DecodeError::Short));
        packet.push(0);
        assert_eq!(Welcome::decode(&packet[HEADER_BYTES..]), Err(DecodeError::Long));
    }
}
