//! What the tests of this folder share: literal packets and the peers that exchange them.

use super::{
    DecodeError, DigestAlgorithm, Flags, Frame, Greeting, Mode, Opener, Packet, PacketNumber,
    Sealer,
};

/// Packets to the receiver in the tests have this connection and seed.
pub(super) const TO_RECEIVER: Sealer = Sealer { connection: 0x1122_3344, seed: 0x5566_7788 };
/// Packets to the sender in the tests have this connection and seed.
pub(super) const TO_SENDER: Sealer = Sealer { connection: 0x0a0b_0c0d, seed: 0x0102_0304 };

/// What the sender of the tests says first.
pub(super) const GREETING: Greeting = Greeting {
    version_max: 1,
    version_min: 1,
    mode: Mode::Open,
    digest: DigestAlgorithm::Blake3,
    dry_run: true,
    discard: false,
    connection: TO_SENDER.connection,
    seed: TO_SENDER.seed,
    nonce: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    key_share: [0; 32],
};

/// The bytes of hexadecimal digits; blanks are for the reader.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Asserts that the literal packet means this, and that this makes the literal packet.
pub(super) fn assert_packet(
    literal: &[u8],
    sealer: Sealer,
    number: u64,
    flags: Flags,
    frame: Frame<'_>,
) {
    let number = PacketNumber(number);
    let expected = Packet {
        connection: sealer.connection,
        number,
        flags,
        frame,
        datagram_bytes: literal.len(),
    };
    assert_eq!(open(literal, sealer, number), Ok(expected));
    let mut sealed = Vec::new();
    sealer.seal(number, flags, &frame, &mut sealed);
    assert_eq!(sealed, literal);
}

/// Opens what such a sealer has sealed.
pub(super) fn open(
    datagram: &[u8],
    sealer: Sealer,
    expected: PacketNumber,
) -> Result<Packet<'_>, DecodeError> {
    Opener { connection: sealer.connection, seed: sealer.seed, expected }.open(datagram)
}
