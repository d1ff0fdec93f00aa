//! Records of the manifest space. See proto.md, "Manifest records".
//!
//! Checks what one record alone can tell. The order of records, the sum of sizes, and whether a
//! hole lies in its file are left to `proto`.

use super::codec::{Reader, Writer};
use super::limits::{
    BLOCK_BYTES, BODY_BYTES_MAX, COMPONENT_BYTES_MAX, COMPONENTS_MAX, ENTRY_FIXED_BYTES,
    PATH_BYTES_MAX, TARGET_BYTES_MAX,
};
use super::record::{RawRecord, append, entry};
use super::{DecodeError, Digest};

const ENTRY: u8 = 1;
const HOLE: u8 = 2;
const VOID: u8 = 3;
const END: u8 = 4;
const MORE: u8 = 5;
const OWNER: u8 = 6;
const ATTRIBUTE: u8 = 7;

/// Permission bits and setuid, setgid, sticky.
const MODE_MAX: u16 = 0o7777;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// A record of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestRecord<'a> {
    /// A file, a directory or a link.
    Entry(Entry<'a>),
    /// This range of the file of the last ENTRY has no data.
    Hole {
        /// Offset of its first byte in the file.
        offset: u64,
        /// Its length, at least 1.
        bytes: u64,
    },
    /// The file cannot be sent as announced.
    Void {
        /// Its number.
        entry: u32,
        /// What happened to it.
        reason: VoidReason,
    },
    /// No ENTRY and no HOLE follows.
    End {
        /// Count of all entries.
        entries: u32,
        /// Sum of all sizes.
        body_bytes: u64,
        /// Length of the digests space so far.
        digests_bytes: u64,
        /// Over the manifest so far and that part of the digests space.
        digest: Digest,
    },
    /// Who owns what the next ENTRY announces.
    Owner {
        /// Number of the user.
        user: u32,
        /// Number of the group.
        group: u32,
    },
    /// An extended attribute of what the next ENTRY announces.
    Attribute {
        /// 1 to 255 bytes without NUL.
        name: &'a [u8],
        /// At most 65,279 bytes, so that every name goes with it.
        value: &'a [u8],
    },
    /// The last entry, a pipe, goes on for another block.
    More {
        /// Bytes of it, 1 to 2^20.
        bytes: u32,
    },
}

/// What is announced of one file, directory or symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits and setuid, setgid, sticky.
    pub mode: u16,
    /// Time of the last change of its content: seconds since 1970, UTC.
    pub mtime_seconds: i64,
    /// And nanoseconds, below 10^9.
    pub mtime_nanos: u32,
    /// Bytes of a file, or of the one that a hard link names; of a pipe those of its first block; 0
    /// for others.
    pub size: u64,
    /// Which source file this is, and which state of it.
    pub identity: Identity,
    /// Relative, components separated by "/"; see [`check_path`].
    pub path: &'a [u8],
    /// The text of a symbolic link, the path of a hard link's file; empty for others.
    pub target: &'a [u8],
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link: a further name of a file.
    HardLink,
    /// A regular file whose size is not known yet.
    Pipe,
}

/// With mtime and size: a file that has all of these is the same file, unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device that holds it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Time of the last change of its inode: seconds since 1970, UTC.
    pub ctime_seconds: i64,
    /// And nanoseconds, below 10^9.
    pub ctime_nanos: u32,
}

/// Why a file cannot be sent as announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoidReason {
    /// It was changed while it was read.
    Changed,
    /// It is no longer there.
    Vanished,
    /// Reading it failed.
    Unreadable,
}

impl<'a> ManifestRecord<'a> {
    /// The first record of a stream and its bytes; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The record breaks a rule, and with it the transfer.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(raw) = RawRecord::decode(bytes, Some(ATTRIBUTE))? else {
            return Ok(None);
        };
        let mut reader = Reader::new(raw.content);
        let record = match raw.kind {
            ENTRY => Self::Entry(Entry::decode(&mut reader)?),
            HOLE => decode_hole(&mut reader)?,
            VOID => Self::Void {
                entry: entry(&mut reader)?,
                reason: VoidReason::from_byte(reader.u8()?)?,
            },
            END => Self::End {
                entries: reader.u32()?,
                body_bytes: reader.u48()?,
                digests_bytes: reader.u48()?,
                digest: Digest::from_slice(reader.rest())
                    .ok_or(DecodeError::Invalid("END's digest has a length of no algorithm"))?,
            },
            MORE => Self::More {
                bytes: match reader.u32()? {
                    bytes if (1..=BLOCK_BYTES).contains(&u64::from(bytes)) => bytes,
                    _ => return Err(DecodeError::Invalid("MORE is no block")),
                },
            },
            OWNER => match (reader.u32()?, reader.u32()?) {
                (u32::MAX, _) | (_, u32::MAX) => {
                    return Err(DecodeError::Invalid("an owner's number means none"));
                }
                (user, group) => Self::Owner { user, group },
            },
            ATTRIBUTE => decode_attribute(&mut reader)?,
            unknown => return Err(DecodeError::RecordKind(unknown)),
        };
        reader.finish()?;
        Ok(Some((record, raw.bytes)))
    }

    /// Appends the record. An entry must have passed [`Entry::check`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(entry) => entry.encode(out),
            Self::Hole { offset, bytes } => {
                let mut content = [0; 12];
                let mut writer = Writer::new(&mut content);
                writer.u48(*offset);
                writer.u48(*bytes);
                writer.finish();
                append(HOLE, &[&content], out);
            }
            Self::Void { entry, reason } => {
                let mut content = [0; 5];
                let mut writer = Writer::new(&mut content);
                writer.u32(*entry);
                writer.u8(reason.to_byte());
                writer.finish();
                append(VOID, &[&content], out);
            }
            Self::End { entries, body_bytes, digests_bytes, digest } => {
                let mut content = [0; 16];
                let mut writer = Writer::new(&mut content);
                writer.u32(*entries);
                writer.u48(*body_bytes);
                writer.u48(*digests_bytes);
                writer.finish();
                append(END, &[&content, digest.as_slice()], out);
            }
            Self::Owner { user, group } => {
                append(OWNER, &[&user.to_be_bytes(), &group.to_be_bytes()], out);
            }
            Self::Attribute { name, value } => {
                let name_bytes = u8::try_from(name.len()).unwrap_or(u8::MAX);
                append(ATTRIBUTE, &[&[name_bytes], name, value], out);
            }
            Self::More { bytes } => append(MORE, &[&bytes.to_be_bytes()], out),
        }
    }
}

fn decode_attribute<'a>(reader: &mut Reader<'a>) -> Result<ManifestRecord<'a>, DecodeError> {
    let name_bytes = usize::from(reader.u8()?);
    let name = reader.bytes(name_bytes)?;
    if name.is_empty() || name.contains(&0) {
        return Err(DecodeError::Invalid("an attribute's name is empty or holds a NUL byte"));
    }
    Ok(ManifestRecord::Attribute { name, value: reader.rest() })
}

fn decode_hole<'a>(reader: &mut Reader<'a>) -> Result<ManifestRecord<'a>, DecodeError> {
    let (offset, bytes) = (reader.u48()?, reader.u48()?);
    if bytes == 0 {
        return Err(DecodeError::Invalid("a hole has no bytes"));
    }
    if offset.saturating_add(bytes) > BODY_BYTES_MAX {
        return Err(DecodeError::Invalid("a hole ends above 2^48 - 1"));
    }
    Ok(ManifestRecord::Hole { offset, bytes })
}

impl<'a> Entry<'a> {
    /// Bytes that it takes in the body.
    pub fn body_bytes(&self) -> u64 {
        match self.kind {
            EntryKind::File | EntryKind::Pipe => self.size,
            EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => 0,
        }
    }

    /// Demands all that proto.md demands of an entry alone.
    ///
    /// # Errors
    ///
    /// Says which rule it breaks.
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.mode > MODE_MAX {
            return Err(DecodeError::Invalid("an entry's mode is above 0o7777"));
        }
        if self.mtime_nanos >= NANOS_PER_SECOND || self.identity.ctime_nanos >= NANOS_PER_SECOND {
            return Err(DecodeError::Invalid("an entry's nanoseconds make a second"));
        }
        match self.kind {
            EntryKind::File | EntryKind::HardLink => {}
            EntryKind::Pipe if self.size == BLOCK_BYTES => {}
            EntryKind::Pipe => {
                return Err(DecodeError::Invalid("a pipe has another size than a block"));
            }
            EntryKind::Directory | EntryKind::Symlink if self.size == 0 => {}
            EntryKind::Directory | EntryKind::Symlink => {
                return Err(DecodeError::Invalid("an entry that is no file has a size"));
            }
        }
        check_path(self.path)?;
        check_target(self.kind, self.target)
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = EntryKind::from_byte(reader.u8()?)?;
        let mode = reader.u16()?;
        let mtime_seconds = reader.i64()?;
        let mtime_nanos = reader.u32()?;
        let size = reader.u48()?;
        let identity = Identity {
            device: reader.u64()?,
            inode: reader.u64()?,
            ctime_seconds: reader.i64()?,
            ctime_nanos: reader.u32()?,
        };
        let path_bytes = reader.u16()?;
        let path = reader.bytes(usize::from(path_bytes))?;
        let target = reader.rest();
        let entry = Self { kind, mode, mtime_seconds, mtime_nanos, size, identity, path, target };
        entry.check()?;
        Ok(entry)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; ENTRY_FIXED_BYTES];
        let mut writer = Writer::new(&mut fixed);
        writer.u8(self.kind.to_byte());
        writer.u16(self.mode);
        writer.i64(self.mtime_seconds);
        writer.u32(self.mtime_nanos);
        writer.u48(self.size);
        writer.u64(self.identity.device);
        writer.u64(self.identity.inode);
        writer.i64(self.identity.ctime_seconds);
        writer.u32(self.identity.ctime_nanos);
        writer.u16(u16::try_from(self.path.len()).unwrap_or(u16::MAX));
        writer.finish();
        append(ENTRY, &[&fixed, self.path, self.target], out);
    }
}

/// Demands all that proto.md demands of a path.
///
/// # Errors
///
/// Says which rule it breaks.
pub fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    //= proto.md#manifest-records
    //# it MUST NOT be empty, start or end with "/", hold an empty component,
    if path.is_empty() {
        return Err(DecodeError::Invalid("a path is empty"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(DecodeError::Invalid("a path is longer than 4,096 bytes"));
    }
    if path.contains(&0) {
        return Err(DecodeError::Invalid("a path holds a NUL byte"));
    }
    // A "/" at the start, at the end or twice in a row is an empty component, too.
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" => return Err(DecodeError::Invalid("a path holds an empty component")),
            b"." | b".." => return Err(DecodeError::Invalid("a path holds \".\" or \"..\"")),
            _ if component.len() > COMPONENT_BYTES_MAX => {
                return Err(DecodeError::Invalid("a path's component is longer than 255 bytes"));
            }
            _ => {}
        }
    }
    if path.split(|byte| *byte == b'/').count() > COMPONENTS_MAX {
        return Err(DecodeError::Invalid("a path has more than 256 components"));
    }
    Ok(())
}

fn check_target(kind: EntryKind, target: &[u8]) -> Result<(), DecodeError> {
    if kind == EntryKind::HardLink {
        return check_path(target);
    }
    if target.is_empty() != (kind != EntryKind::Symlink) {
        return Err(DecodeError::Invalid("an entry has a target exactly if it is a symbolic link"));
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(DecodeError::Invalid("a link's target is longer than 4,095 bytes"));
    }
    // No file system can hold one, and what follows it would be cut off in silence.
    if target.contains(&0) {
        return Err(DecodeError::Invalid("a link's target holds a NUL byte"));
    }
    Ok(())
}

impl EntryKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Symlink => 3,
            Self::HardLink => 4,
            Self::Pipe => 5,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            1 => Ok(Self::File),
            2 => Ok(Self::Directory),
            3 => Ok(Self::Symlink),
            4 => Ok(Self::HardLink),
            5 => Ok(Self::Pipe),
            _ => Err(DecodeError::Invalid("an entry's type is unknown")),
        }
    }
}

impl VoidReason {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Changed => 1,
            Self::Vanished => 2,
            Self::Unreadable => 3,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            1 => Ok(Self::Changed),
            2 => Ok(Self::Vanished),
            3 => Ok(Self::Unreadable),
            _ => Err(DecodeError::Invalid("a VOID's reason is unknown")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    const LINK: Entry<'_> = Entry {
        kind: EntryKind::Symlink,
        mode: 0o777,
        mtime_seconds: -2,
        mtime_nanos: 999_999_999,
        size: 0,
        identity: Identity { device: 1, inode: 2, ctime_seconds: 3, ctime_nanos: 4 },
        path: b"a/b",
        target: b"../c",
    };

    fn assert_record(literal: &str, record: ManifestRecord<'_>) {
        let mut bytes = hex(literal);
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        assert_eq!(encoded, bytes);
        // The next record starts behind it.
        bytes.push(0xee);
        assert_eq!(ManifestRecord::decode(&bytes), Ok(Some((record, encoded.len()))));
    }

    #[test]
    fn the_records_are_these_bytes() {
        assert_record(
            "01 003a 03 01ff fffffffffffffffe 3b9ac9ff 000000000000 0000000000000001
             0000000000000002 0000000000000003 00000004 0003 612f62 2e2e2f63",
            ManifestRecord::Entry(LINK),
        );
        let further = Entry { kind: EntryKind::HardLink, size: 5, target: b"c", ..LINK };
        assert_record(
            "01 0037 04 01ff fffffffffffffffe 3b9ac9ff 000000000005 0000000000000001
             0000000000000002 0000000000000003 00000004 0003 612f62 63",
            ManifestRecord::Entry(further),
        );
        assert_record(
            "02 000c 000000001000 000000002000",
            ManifestRecord::Hole { offset: 4_096, bytes: 8_192 },
        );
        assert_record(
            "03 0005 00000007 02",
            ManifestRecord::Void { entry: 7, reason: VoidReason::Vanished },
        );
        assert_record(
            "04 0020 00000008 010203040506 0000000000ff 000102030405060708090a0b0c0d0e0f",
            ManifestRecord::End {
                entries: 8,
                body_bytes: 0x0102_0304_0506,
                digests_bytes: 255,
                digest: Digest::from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            },
        );
    }

    //= proto.md#manifest-records
    //= type=test
    //# it MUST NOT be empty, start or end with "/", hold an empty component,
    #[test]
    fn a_path_that_could_leave_its_directory_or_name_nothing_is_an_error() {
        for path in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "./a", "a/./b", "a\0b", "\0"]
        {
            assert!(check_path(path.as_bytes()).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "...", "..a", ".a", "a b", "-", "\\", "a\nb", "C:"] {
            assert_eq!(check_path(path.as_bytes()), Ok(()), "{path:?}");
        }
        assert_eq!(check_path(b"\xff\xfe/\x80"), Ok(()));
    }

    #[test]
    fn a_path_keeps_the_limits_of_linux() {
        let component = "x".repeat(255);
        assert_eq!(check_path(component.as_bytes()), Ok(()));
        assert!(check_path("x".repeat(256).as_bytes()).is_err());
        assert_eq!(check_path(["x"; 256].join("/").as_bytes()), Ok(()));
        assert!(check_path(["x"; 257].join("/").as_bytes()).is_err());
        // 16 components of 255 bytes with their 15 separators make 4,095 bytes.
        let long = vec![component; 16].join("/");
        assert_eq!(check_path(long.as_bytes()), Ok(()));
        assert!(check_path(format!("{long}/x").as_bytes()).is_err());
    }

    #[test]
    fn an_entry_that_breaks_a_rule_is_an_error() {
        let mut changed = vec![LINK; 8];
        changed[0].mode = 0o10000;
        changed[1].mtime_nanos = 1_000_000_000;
        changed[2].identity.ctime_nanos = u32::MAX;
        changed[3].size = 1;
        changed[4].target = b"";
        changed[5].target = b"a\0b";
        changed[6].kind = EntryKind::File;
        changed[7].path = b"..";
        changed.push(Entry { kind: EntryKind::HardLink, ..LINK });
        let long_target = [b'x'; 4_096];
        changed.push(Entry { target: &long_target, ..LINK });
        assert_eq!(LINK.check(), Ok(()));
        for entry in changed {
            let mut encoded = Vec::new();
            ManifestRecord::Entry(entry).encode(&mut encoded);
            let decoded = ManifestRecord::decode(&encoded);
            assert_eq!(decoded, Err(entry.check().unwrap_err()), "{entry:?}");
        }
    }

    #[test]
    fn a_path_longer_than_its_record_is_an_error() {
        let mut encoded = Vec::new();
        ManifestRecord::Entry(LINK).encode(&mut encoded);
        encoded[3 + 50] = 8;
        assert_eq!(ManifestRecord::decode(&encoded), Err(DecodeError::Short));
    }

    #[test]
    fn other_records_that_break_a_rule_are_errors() {
        for literal in [
            "02 000c 000000000000 000000000000",
            "02 000c ffffffffffff 000000000002",
            "02 000d 000000000000 000000000001 00",
            "02 000b 000000000000 0000000000",
            "03 0005 00000001 00",
            "03 0005 00000001 04",
            "03 0005 ffffffff 01",
            "03 0006 00000001 01 00",
            "04 0011 00000000 000000000000 000000000000 00",
            "04 000f 00000000 000000000000 0000000000",
        ] {
            assert!(ManifestRecord::decode(&hex(literal)).is_err(), "{literal}");
        }
    }
}
