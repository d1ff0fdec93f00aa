//! Packets with a right check whatever they hold. The check is computed here from proto.md, not
//! by the code under test.

/// Bytes before the frame.
pub const HEADER_BYTES: usize = 14;

/// Writes connection and check into `datagram`, so that an opener with these values sees a packet
/// of its own. Shorter ones than a header are left alone.
pub fn sign(datagram: &mut [u8], connection: u32, seed: u32, number: u64) {
    if datagram.len() < HEADER_BYTES {
        return;
    }
    datagram[2..6].copy_from_slice(&connection.to_be_bytes());
    datagram[6..10].copy_from_slice(&(number as u32).to_be_bytes());
    let mut check = crc32fast::Hasher::new();
    check.update(&seed.to_be_bytes());
    check.update(&((number >> 32) as u32).to_be_bytes());
    check.update(&datagram[..10]);
    check.update(&datagram[HEADER_BYTES..]);
    datagram[10..14].copy_from_slice(&check.finalize().to_be_bytes());
}

/// A packet of any type with any bytes as its frame.
pub fn packet(
    frame_type: u8,
    flags: u8,
    frame: &[u8],
    connection: u32,
    seed: u32,
    number: u64,
) -> Vec<u8> {
    let mut datagram = vec![frame_type, flags];
    datagram.resize(HEADER_BYTES, 0);
    datagram.extend_from_slice(frame);
    sign(&mut datagram, connection, seed, number);
    datagram
}
