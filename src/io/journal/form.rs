//! The bytes of a journal: header and records (ARCHITECTURE.md, "The journal").

use super::Subject;
use crate::wire::{DigestAlgorithm, limits};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 80;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 48;

/// A record about a verified block.
pub const BLOCK: u8 = 1;

/// A record about the boot and the mount in which the records behind it were written.
pub const SESSION: u8 = 2;

/// A record about how many blocks were synced.
pub const SYNCED: u8 = 3;

const MAGIC: [u8; 8] = *b"ufxjrnl\0";
const VERSION: u8 = 1;

/// The header of a journal about the unfinished file with this inode number.
pub fn encode_header(subject: &Subject, inode: u64) -> [u8; HEADER_BYTES] {
    let Subject { source, digest } = subject;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    let digest = match digest {
        DigestAlgorithm::None => 0,
        DigestAlgorithm::Xxh3 => 1,
        DigestAlgorithm::Blake3 => 2,
    };
    bytes.extend_from_slice(&[VERSION, digest, 0, 0]);
    bytes.extend_from_slice(&(limits::BLOCK_BYTES as u32).to_be_bytes());
    for number in [source.device, source.inode, source.size] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&source.modified.seconds().to_be_bytes());
    bytes.extend_from_slice(&source.changed.seconds().to_be_bytes());
    bytes.extend_from_slice(&source.modified.nanoseconds().to_be_bytes());
    bytes.extend_from_slice(&source.changed.nanoseconds().to_be_bytes());
    bytes.extend_from_slice(&inode.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut header = [0; HEADER_BYTES];
    let (content, check) = header.split_at_mut(HEADER_BYTES - 4);
    content.copy_from_slice(&bytes);
    check.copy_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    header
}

/// The header's own check, which goes into every record's.
pub fn checksum_of(header: &[u8; HEADER_BYTES]) -> u32 {
    u32::from_be_bytes(*header.last_chunk().unwrap_or(&[0; 4]))
}

/// Whether it is a header of this version, undamaged.
pub fn is_valid_header(header: &[u8; HEADER_BYTES]) -> bool {
    let (content, _) = header.split_at(HEADER_BYTES - 4);
    content.starts_with(&MAGIC)
        && content.get(8) == Some(&VERSION)
        && crc32fast::hash(content) == checksum_of(header)
}

/// Whether device, inode, size and times of the source are equal.
pub fn is_same_source(one: &[u8; HEADER_BYTES], other: &[u8; HEADER_BYTES]) -> bool {
    one.get(16..64) == other.get(16..64)
}

/// The record at this index.
pub fn encode_record(
    checksum: u32,
    index: u64,
    kind: u8,
    number: u32,
    payload: &[u8],
) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let (content, check) = record.split_at_mut(RECORD_BYTES - 4);
    let fields = [&[kind, 0, 0, 0], number.to_be_bytes().as_slice(), payload].concat();
    content.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    check.copy_from_slice(&record_check(checksum, index, content).to_be_bytes());
    record
}

/// Kind, number and payload of a record; none if it is no record of this journal at this index.
pub fn decode_record(
    checksum: u32,
    index: u64,
    record: &[u8; RECORD_BYTES],
) -> Option<(u8, u32, &[u8; 32])> {
    let (content, check) = record.split_at(RECORD_BYTES - 4);
    if record_check(checksum, index, content).to_be_bytes() != check {
        return None;
    }
    let number = u32::from_be_bytes(*content.get(4..)?.first_chunk()?);
    Some((*content.first()?, number, content.get(8..)?.first_chunk()?))
}

/// Over the header's check, the index and the record: a record of another journal, or in another
/// place, is none.
fn record_check(checksum: u32, index: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&checksum.to_be_bytes());
    hasher.update(&index.to_be_bytes());
    hasher.update(content);
    hasher.finalize()
}
