//! Packets and records of any content, made from proto.md alone: the library's encoders refuse
//! what a hostile peer sends.

use ufx::wire::limits;

// The fuzzers' packets have the same check, from proto.md too.
#[path = "../../fuzz/src/forge.rs"]
mod sealed;

pub use self::sealed::packet;

/// A 6-byte number.
pub fn u48(value: u64) -> [u8; 6] {
    let [_, _, bytes @ ..] = value.to_be_bytes();
    bytes
}

/// A record of the manifest or the answers.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
    bytes
}

/// What an ENTRY says.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// 1 file, 2 directory, 3 symbolic link, 4 hard link.
    pub kind: u8,
    /// Permissions.
    pub mode: u16,
    /// Bytes of the file.
    pub size: u64,
    /// Any bytes.
    pub path: &'a [u8],
    /// Of links.
    pub target: &'a [u8],
}

impl Named<'_> {
    /// The record, whatever rule it breaks.
    pub fn record(&self) -> Vec<u8> {
        let mut content = vec![self.kind];
        content.extend(self.mode.to_be_bytes());
        content.extend(1_000_000_000_i64.to_be_bytes());
        content.extend(0_u32.to_be_bytes());
        content.extend(u48(self.size));
        content.extend(77_u64.to_be_bytes());
        content.extend(78_u64.to_be_bytes());
        content.extend(1_000_000_000_i64.to_be_bytes());
        content.extend(0_u32.to_be_bytes());
        content.extend((self.path.len() as u16).to_be_bytes());
        content.extend(self.path);
        content.extend(self.target);
        record(1, &content)
    }
}

/// A regular file.
pub fn file(path: &[u8], size: u64) -> Vec<u8> {
    Named { kind: 1, mode: 0o644, size, path, target: b"" }.record()
}

/// A directory.
pub fn directory(path: &[u8]) -> Vec<u8> {
    Named { kind: 2, mode: 0o755, size: 0, path, target: b"" }.record()
}

/// A symbolic link.
pub fn link(path: &[u8], target: &[u8]) -> Vec<u8> {
    Named { kind: 3, mode: 0o777, size: 0, path, target }.record()
}

/// A range of the last file without data.
pub fn hole(offset: u64, bytes: u64) -> Vec<u8> {
    record(2, &[u48(offset), u48(bytes)].concat())
}

/// A file that cannot be sent.
pub fn void(entry: u32) -> Vec<u8> {
    record(3, &[&entry.to_be_bytes()[..], &[1]].concat())
}

/// The end of the manifest.
pub fn end(entries: u32, body_bytes: u64, digests_bytes: u64, digest: &[u8]) -> Vec<u8> {
    let counts = [&entries.to_be_bytes()[..], &u48(body_bytes), &u48(digests_bytes), digest];
    record(4, &counts.concat())
}

/// The digest of a block.
pub fn digest(entry: u32, block: u32, epoch: u8, digest: &[u8]) -> Vec<u8> {
    [&entry.to_be_bytes()[..], &block.to_be_bytes(), &[epoch], digest].concat()
}

/// XXH3-128 in canonical form.
pub fn xxh3(bytes: &[u8]) -> [u8; 16] {
    twox_hash::XxHash3_128::oneshot(bytes).to_be_bytes()
}

/// The payload of one DATA packet at an MTU of 1,500.
pub const PAYLOAD_BYTES: usize = limits::BASE_DATAGRAM_BYTES - limits::DATA_HEADER_BYTES;
