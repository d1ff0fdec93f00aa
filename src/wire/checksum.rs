//! The check of a packet. See proto.md, "Check".

use super::number::PacketNumber;

/// Bytes of a header that the check covers: all but the check itself.
pub(super) const CHECKED_HEADER_BYTES: usize = 10;

/// The CRC-32 over the seed, the upper half of the packet number, the header's first bytes and all
/// that follows the header, padding included.
pub(super) fn check(
    seed: u32,
    number: PacketNumber,
    header: [u8; CHECKED_HEADER_BYTES],
    behind_header: &[u8],
) -> u32 {
    let [s0, s1, s2, s3] = seed.to_be_bytes();
    let [n0, n1, n2, n3] = number.high().to_be_bytes();
    let [h0, h1, h2, h3, h4, h5, h6, h7, h8, h9] = header;
    let prefix = [s0, s1, s2, s3, n0, n1, n2, n3, h0, h1, h2, h3, h4, h5, h6, h7, h8, h9];
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&prefix);
    hasher.update(behind_header);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_is_the_crc_32_of_proto_md() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_check_covers_seed_upper_number_header_and_the_rest_in_this_order() {
        let bytes: Vec<u8> = (1..=30).collect();
        let header = *bytes[8..].first_chunk().unwrap();
        let number = PacketNumber(0x0506_0708 << 32 | 99);
        assert_eq!(check(0x0102_0304, number, header, &bytes[18..]), crc32fast::hash(&bytes));
    }
}
