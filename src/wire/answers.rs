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

/// What the receiver says about entries and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRecord<'a> {
    /// These blocks are stored and verified; they need not be sent.
    Have {
        /// The file.
        entry: u32,
        /// The first of the blocks.
        first_block: u32,
        /// How many.
        blocks: u32,
    },
    /// These are there already, equal.
    Present {
        /// The first of the entries.
        first_entry: u32,
        /// How many.
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
        /// The epoch in which it shall come.
        epoch: u8,
    },
    /// Written, checked, renamed.
    Committed {
        /// The first of the entries.
        first_entry: u32,
        /// How many.
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
        /// How many.
        entries: u32,
    },
    /// Every entry is settled; the last answer.
    End {
        /// Count of COMMITTED and TAKE.
        committed: u32,
        /// Count of PRESENT.
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
        let Some(raw) = RawRecord::decode(bytes)? else {
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
            AGAIN => Self::Again {
                entry: entry(&mut reader)?,
                block: block(&mut reader)?,
                epoch: epoch(&mut reader)?,
            },
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
            Self::End { committed, present, failed } => {
                append_numbers(END, &[committed, present, failed], out);
            }
        }
    }
}

/// A first number and a count that together stay within `end`.
fn range(reader: &mut Reader<'_>, end: u32) -> Result<(u32, u32), DecodeError> {
    let (first, count) = (reader.u32()?, reader.u32()?);
    match first.checked_add(count) {
        Some(behind) if behind <= end => Ok((first, count)),
        _ => Err(DecodeError::Invalid("a range of an answer ends out of range")),
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
