//! Records of the digests space. See proto.md, "Digest records".
//!
//! ```text
//! 0           4           8       9
//! +-----------+-----------+-------+----------------------
//! | entry     | block     | epoch | digest (0, 16 or 32)
//! +-----------+-----------+-------+----------------------
//! ```

use super::codec::{Reader, Writer};
use super::limits::{BLOCKS_MAX, DIGEST_RECORD_FIXED_BYTES, EPOCH_MAX};
use super::record::entry;
use super::{DecodeError, Digest, DigestAlgorithm};

/// The digest of one block, and the promise that it was read from an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestRecord {
    /// The file.
    pub entry: u32,
    /// The block, counted from the file's start.
    pub block: u32,
    /// How often the block had been asked for again when it was read.
    pub epoch: u8,
    /// Of the block's bytes, holes as zeros.
    pub digest: Digest,
}

impl DigestRecord {
    /// Bytes of a record with this algorithm.
    #[must_use]
    pub const fn encoded_bytes(algorithm: DigestAlgorithm) -> usize {
        DIGEST_RECORD_FIXED_BYTES.saturating_add(algorithm.digest_bytes())
    }

    /// The first record of a stream and its bytes; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The record breaks a rule, and with it the transfer.
    pub fn decode(
        bytes: &[u8],
        algorithm: DigestAlgorithm,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        let length = Self::encoded_bytes(algorithm);
        let Some(record) = bytes.get(..length) else {
            return Ok(None);
        };
        let mut reader = Reader::new(record);
        let record = Self {
            entry: entry(&mut reader)?,
            block: block(&mut reader)?,
            epoch: epoch(&mut reader)?,
            digest: Digest::from_slice(reader.rest()).ok_or(DecodeError::Short)?,
        };
        Ok(Some((record, length)))
    }

    /// Appends the record. The digest must be of the transfer's algorithm.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; DIGEST_RECORD_FIXED_BYTES];
        let mut writer = Writer::new(&mut fixed);
        writer.u32(self.entry);
        writer.u32(self.block);
        writer.u8(self.epoch);
        writer.finish();
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.digest.as_slice());
    }
}

/// The number of a block.
pub(super) fn block(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let block = reader.u32()?;
    if block < BLOCKS_MAX {
        Ok(block)
    } else {
        Err(DecodeError::Invalid("a block number is out of range"))
    }
}

/// The epoch of a block.
pub(super) fn epoch(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let epoch = reader.u8()?;
    if epoch <= EPOCH_MAX {
        Ok(epoch)
    } else {
        Err(DecodeError::Invalid("a block's epoch is above 3"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    #[test]
    fn a_digest_record_is_these_bytes() {
        let literal = hex("00000005 00000002 01 000102030405060708090a0b0c0d0e0f");
        let record = DigestRecord {
            entry: 5,
            block: 2,
            epoch: 1,
            digest: Digest::from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        };
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        assert_eq!(encoded, literal);
        encoded.push(0xee);
        assert_eq!(DigestRecord::decode(&encoded, DigestAlgorithm::Xxh3), Ok(Some((record, 25))));
    }

    #[test]
    fn a_record_is_as_long_as_the_algorithm_says() {
        let bytes = [0; 50];
        for (algorithm, length) in
            [(DigestAlgorithm::None, 9), (DigestAlgorithm::Xxh3, 25), (DigestAlgorithm::Blake3, 41)]
        {
            assert_eq!(DigestRecord::encoded_bytes(algorithm), length);
            assert_eq!(DigestRecord::decode(&bytes[..length - 1], algorithm), Ok(None));
            let decoded = DigestRecord::decode(&bytes, algorithm).unwrap().unwrap();
            assert_eq!((decoded.0.digest.as_slice().len(), decoded.1), (length - 9, length));
        }
    }

    #[test]
    fn a_number_out_of_range_is_an_error() {
        for literal in ["ffffffff 00000000 00", "00000000 10000000 00", "00000000 00000000 04"] {
            let decoded = DigestRecord::decode(&hex(literal), DigestAlgorithm::None);
            assert!(matches!(decoded, Err(DecodeError::Invalid(_))), "{literal}: {decoded:?}");
        }
    }
}
