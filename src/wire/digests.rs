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
