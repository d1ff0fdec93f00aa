//! Records of the answers space. See proto.md, "Answer records".
//!
//! Checks what one record alone can tell; whether the entries exist is left to `proto`.

use std::fmt;

use super::DecodeError;
use super::codec::{Reader, Writer, shortened, text};
use super::digests::{block, epoch};
use super::limits::{BLOCKS_MAX, ENTRIES_MAX, TEXT_BYTES_MAX};
use super::record::{RawRecord, append, entry};

const HAVE: u8 = 1;
const PRESENT: u8 = 2;
const REFUSED: u8 = 3;
const AGAIN: u8 = 4;
const COMMITTED: u8 = 5;
const FAILED: u8 = 6;
const TAKE: u8 = 7;
const END: u8 = 8;
const KEPT: u8 = 9;

/// What the receiver says about entries and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRecord<'a> {
    /// These blocks are stored and verified; they need not be sent.
    Have {
        /// The file.
        entry: u32,
        /// The first of the blocks.
        first_block: u32,
        /// How many, at least 1.
        blocks: u32,
    },
    /// These are there already, equal.
    Present {
        /// The first of the entries.
        first_entry: u32,
        /// How many, at least 1.
        entries: u32,
    },
    /// Will not be stored; its body is not wanted.
    Refused {
        /// The entry.
        entry: u32,
        /// Why.
        code: RefuseCode,
        /// For people. The encoder cuts it to 255 bytes.
        text: &'a str,
    },
    /// The block differs from its digest; it has to be sent again.
    Again {
        /// The file.
        entry: u32,
        /// The block.
        block: u32,
        /// The epoch in which it shall come: 1 or 2.
        epoch: u8,
    },
    /// Written, checked, renamed.
    Committed {
        /// The first of the entries.
        first_entry: u32,
        /// How many, at least 1.
        entries: u32,
    },
    /// Was taken but could not be committed.
    Failed {
        /// The entry.
        entry: u32,
        /// Why.
        code: RefuseCode,
        /// For people. The encoder cuts it to 255 bytes.
        text: &'a str,
    },
    /// In a dry run: these would be stored.
    Take {
        /// The first of the entries.
        first_entry: u32,
        /// How many, at least 1.
        entries: u32,
    },
    /// Others have these names, and the receiver keeps those.
    Kept {
        /// The first of the entries.
        first_entry: u32,
        /// How many, at least 1.
        entries: u32,
    },
    /// Every entry is settled; the last answer.
    End {
        /// Count of COMMITTED and TAKE.
        committed: u32,
        /// Count of PRESENT and KEPT.
        present: u32,
        /// Count of REFUSED and FAILED.
        failed: u32,
    },
}

/// Why an entry is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseCode {
    /// Something different has that name.
    Exists,
    /// The name breaks a rule or cannot be made there.
    Name,
    /// Another transfer is writing that file.
    Busy,
    /// No room.
    Space,
    /// The file system refused; the text says what.
    Disk,
    /// VOID was received.
    Source,
    /// Still differs after 3 epochs.
    Changed,
    /// A link that leaves the tree.
    Link,
}

impl<'a> AnswerRecord<'a> {
    /// The first record of a stream and its bytes; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The record breaks a rule, and with it the transfer.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(raw) = RawRecord::decode(bytes, None)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(raw.content);
        let record = match raw.kind {
            HAVE => {
                let entry = entry(&mut reader)?;
                let (first_block, blocks) = range(&mut reader, BLOCKS_MAX)?;
                Self::Have { entry, first_block, blocks }
            }
            PRESENT => {
                let (first_entry, entries) = range(&mut reader, ENTRIES_MAX)?;
                Self::Present { first_entry, entries }
            }
            REFUSED => {
                let (entry, code, text) = outcome(&mut reader)?;
                Self::Refused { entry, code, text }
            }
            AGAIN => {
                let (entry, block) = (entry(&mut reader)?, block(&mut reader)?);
                match epoch(&mut reader)? {
                    0 => return Err(DecodeError::Invalid("AGAIN asks for the first epoch")),
                    epoch => Self::Again { entry, block, epoch },
                }
            }
            COMMITTED => {
                let (first_entry, entries) = range(&mut reader, ENTRIES_MAX)?;
                Self::Committed { first_entry, entries }
            }
            FAILED => {
                let (entry, code, text) = outcome(&mut reader)?;
                Self::Failed { entry, code, text }
            }
            TAKE => {
                let (first_entry, entries) = range(&mut reader, ENTRIES_MAX)?;
                Self::Take { first_entry, entries }
            }
            KEPT => {
                let (first_entry, entries) = range(&mut reader, ENTRIES_MAX)?;
                Self::Kept { first_entry, entries }
            }
            END => Self::End {
                committed: reader.u32()?,
                present: reader.u32()?,
                failed: reader.u32()?,
            },
            unknown => return Err(DecodeError::RecordKind(unknown)),
        };
        reader.finish()?;
        Ok(Some((record, raw.bytes)))
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Have { entry, first_block, blocks } => {
                append_numbers(HAVE, &[entry, first_block, blocks], out);
            }
            Self::Present { first_entry, entries } => {
                append_numbers(PRESENT, &[first_entry, entries], out);
            }
            Self::Refused { entry, code, text } => append_outcome(REFUSED, entry, code, text, out),
            Self::Again { entry, block, epoch } => {
                let mut content = [0; 9];
                let mut writer = Writer::new(&mut content);
                writer.u32(entry);
                writer.u32(block);
                writer.u8(epoch);
                writer.finish();
                append(AGAIN, &[&content], out);
            }
            Self::Committed { first_entry, entries } => {
                append_numbers(COMMITTED, &[first_entry, entries], out);
            }
            Self::Failed { entry, code, text } => append_outcome(FAILED, entry, code, text, out),
            Self::Take { first_entry, entries } => {
                append_numbers(TAKE, &[first_entry, entries], out);
            }
            Self::Kept { first_entry, entries } => {
                append_numbers(KEPT, &[first_entry, entries], out);
            }
            Self::End { committed, present, failed } => {
                append_numbers(END, &[committed, present, failed], out);
            }
        }
    }
}

/// A first number and a count, at least 1, that together stay within `end`.
fn range(reader: &mut Reader<'_>, end: u32) -> Result<(u32, u32), DecodeError> {
    let (first, count) = (reader.u32()?, reader.u32()?);
    match first.checked_add(count) {
        Some(behind) if count > 0 && behind <= end => Ok((first, count)),
        _ => Err(DecodeError::Invalid("a range of an answer is empty or out of range")),
    }
}

fn outcome<'a>(reader: &mut Reader<'a>) -> Result<(u32, RefuseCode, &'a str), DecodeError> {
    let entry = entry(reader)?;
    let code = RefuseCode::from_byte(reader.u8()?)?;
    Ok((entry, code, text(reader.rest(), TEXT_BYTES_MAX)?))
}

fn append_numbers<const N: usize>(kind: u8, numbers: &[u32; N], out: &mut Vec<u8>) {
    let content = numbers.map(u32::to_be_bytes);
    append(kind, &[content.as_flattened()], out);
}

fn append_outcome(kind: u8, entry: u32, code: RefuseCode, text: &str, out: &mut Vec<u8>) {
    let text = shortened(text, TEXT_BYTES_MAX);
    append(kind, &[&entry.to_be_bytes(), &[code.to_byte()], text.as_bytes()], out);
}

impl RefuseCode {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Exists => 1,
            Self::Name => 2,
            Self::Busy => 3,
            Self::Space => 4,
            Self::Disk => 5,
            Self::Source => 6,
            Self::Changed => 7,
            Self::Link => 8,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            1 => Ok(Self::Exists),
            2 => Ok(Self::Name),
            3 => Ok(Self::Busy),
            4 => Ok(Self::Space),
            5 => Ok(Self::Disk),
            6 => Ok(Self::Source),
            7 => Ok(Self::Changed),
            8 => Ok(Self::Link),
            _ => Err(DecodeError::Invalid("the code of an answer is unknown")),
        }
    }
}

impl fmt::Display for RefuseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Exists => "exists",
            Self::Name => "name",
            Self::Busy => "busy",
            Self::Space => "space",
            Self::Disk => "disk",
            Self::Source => "source",
            Self::Changed => "changed",
            Self::Link => "link",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    fn assert_record(literal: &str, record: AnswerRecord<'_>) {
        let mut bytes = hex(literal);
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        assert_eq!(encoded, bytes);
        // The next record starts behind it.
        bytes.push(0xee);
        assert_eq!(AnswerRecord::decode(&bytes), Ok(Some((record, encoded.len()))));
    }

    #[test]
    fn the_records_of_entries_are_these_bytes() {
        let (first_entry, entries) = (3, 4);
        let (entry, code, text) = (1, RefuseCode::Disk, "read-only");
        assert_record("02 0008 00000003 00000004", AnswerRecord::Present { first_entry, entries });
        assert_record(
            "03 000e 00000001 05 726561642d6f6e6c79",
            AnswerRecord::Refused { entry, code, text },
        );
        assert_record(
            "05 0008 00000003 00000004",
            AnswerRecord::Committed { first_entry, entries },
        );
        assert_record(
            "06 000e 00000001 05 726561642d6f6e6c79",
            AnswerRecord::Failed { entry, code, text },
        );
        assert_record("07 0008 00000003 00000004", AnswerRecord::Take { first_entry, entries });
        assert_record("09 0008 00000003 00000004", AnswerRecord::Kept { first_entry, entries });
        assert_record(
            "08 000c 00000001 00000002 00000003",
            AnswerRecord::End { committed: 1, present: 2, failed: 3 },
        );
    }

    #[test]
    fn the_records_of_blocks_are_these_bytes() {
        assert_record(
            "01 000c 00000001 00000002 0ffffffe",
            AnswerRecord::Have { entry: 1, first_block: 2, blocks: 0x0fff_fffe },
        );
        assert_record(
            "04 0009 00000001 00000002 03",
            AnswerRecord::Again { entry: 1, block: 2, epoch: 3 },
        );
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_an_error() {
        for literal in [
            "01 000c 00000001 00000002 0fffffff",
            "01 000c ffffffff 00000000 00000001",
            "01 000d 00000001 00000002 00000003 00",
            "02 0008 ffffffff 00000001",
            "02 0007 00000000 000000",
            "02 0008 00000000 00000000",
            "03 0005 00000001 00",
            "03 0005 00000001 09",
            "03 0006 00000001 05 ff",
            "04 0009 00000001 10000000 01",
            "04 0009 00000001 00000000 04",
            "04 0009 00000001 00000000 00",
            "05 0008 00000001 ffffffff",
            "08 000d 00000001 00000002 00000003 00",
        ] {
            assert!(AnswerRecord::decode(&hex(literal)).is_err(), "{literal}");
        }
    }

    #[test]
    fn a_text_has_255_bytes_at_most() {
        let text = "x".repeat(300);
        let mut encoded = Vec::new();
        AnswerRecord::Failed { entry: 1, code: RefuseCode::Name, text: &text }.encode(&mut encoded);
        assert_eq!(encoded.len(), 3 + 5 + 255);
        assert!(AnswerRecord::decode(&encoded).is_ok());
        encoded.push(b'x');
        encoded[1..3].copy_from_slice(&261_u16.to_be_bytes());
        assert_eq!(AnswerRecord::decode(&encoded), Err(DecodeError::Long));
    }

    #[test]
    fn the_codes_are_the_numbers_1_to_8() {
        for byte in 0..=255 {
            let code = RefuseCode::from_byte(byte);
            assert_eq!(code.is_ok(), (1..=8).contains(&byte));
            assert!(code.map_or(true, |code| code.to_byte() == byte));
        }
        assert_eq!(RefuseCode::Exists.to_string(), "exists");
    }
}
