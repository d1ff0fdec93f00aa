//! What manifest and answer records have in common: kind, length, content. See proto.md, "Spaces".

use super::DecodeError;
use super::codec::Reader;
use super::limits::{ATTRIBUTE_CONTENT_BYTES_MAX, ENTRIES_MAX, RECORD_CONTENT_BYTES_MAX};

/// One record, taken off the front of a stream; only its length is known to be right.
pub(super) struct RawRecord<'a> {
    pub(super) kind: u8,
    pub(super) content: &'a [u8],
    /// Bytes of the whole record.
    pub(super) bytes: usize,
}

impl<'a> RawRecord<'a> {
    /// The first record of the stream; `None` if more bytes are needed.
    ///
    /// `long` is the kind of record that may be as long as its length can state.
    pub(super) fn decode(stream: &'a [u8], long: Option<u8>) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(stream);
        let (Ok(kind), Ok(length)) = (reader.u8(), reader.u16()) else {
            return Ok(None);
        };
        let length = usize::from(length);
        let most =
            if Some(kind) == long { ATTRIBUTE_CONTENT_BYTES_MAX } else { RECORD_CONTENT_BYTES_MAX };
        if length > most {
            return Err(DecodeError::Invalid("a record is longer than 8,300 bytes"));
        }
        let Ok(content) = reader.bytes(length) else {
            return Ok(None);
        };
        let bytes = stream.len().saturating_sub(reader.rest().len());
        Ok(Some(Self { kind, content, bytes }))
    }
}

/// Appends a record whose content is these parts, end to end.
pub(super) fn append(kind: u8, content: &[&[u8]], out: &mut Vec<u8>) {
    let length = content.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(length <= ATTRIBUTE_CONTENT_BYTES_MAX, "a record of ours keeps the limit");
    out.push(kind);
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    for part in content {
        out.extend_from_slice(part);
    }
}

/// The number of an entry.
pub(super) fn entry(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let entry = reader.u32()?;
    if entry < ENTRIES_MAX {
        Ok(entry)
    } else {
        Err(DecodeError::Invalid("an entry number is out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::super::{AnswerRecord, ManifestRecord};
    use super::*;

    #[test]
    fn a_record_that_is_not_complete_asks_for_more_bytes() {
        let record = hex("04 0010 00000001 000000000002 000000000000");
        for length in 0..record.len() {
            assert_eq!(ManifestRecord::decode(&record[..length]), Ok(None));
            assert_eq!(AnswerRecord::decode(&record[..length]), Ok(None));
        }
        assert!(ManifestRecord::decode(&record).unwrap().is_some());
    }

    #[test]
    fn a_record_that_is_too_long_is_an_error_before_it_has_arrived() {
        assert_eq!(ManifestRecord::decode(&hex("01 206c")), Ok(None));
        assert!(ManifestRecord::decode(&hex("01 206d")).is_err());
        assert!(AnswerRecord::decode(&hex("01 ffff")).is_err());
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        for kind in [0, 8, 255] {
            assert_eq!(ManifestRecord::decode(&[kind, 0, 0]), Err(DecodeError::RecordKind(kind)));
        }
        for kind in [0, 10, 255] {
            assert_eq!(AnswerRecord::decode(&[kind, 0, 0]), Err(DecodeError::RecordKind(kind)));
        }
    }
}
