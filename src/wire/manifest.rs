//! Records of the manifest space. See proto.md, "Manifest records".
//!
//! Checks what one record alone can tell. The order of records, the sum of sizes, and whether a
//! hole lies in its file are left to `proto`.

use super::codec::{Reader, Writer};
use super::limits::{
    BODY_BYTES_MAX, COMPONENT_BYTES_MAX, COMPONENTS_MAX, ENTRY_FIXED_BYTES, PATH_BYTES_MAX,
    TARGET_BYTES_MAX,
};
use super::record::{RawRecord, append, entry};
use super::{DecodeError, Digest};

const ENTRY: u8 = 1;
const HOLE: u8 = 2;
const VOID: u8 = 3;
const END: u8 = 4;

/// Permission bits and setuid, setgid, sticky.
const MODE_MAX: u16 = 0o7777;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// A record of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestRecord<'a> {
    /// A file, a directory or a symbolic link.
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
    /// Bytes of a file; 0 unless it is one.
    pub size: u64,
    /// Which source file this is, and which state of it.
    pub identity: Identity,
    /// Relative, components separated by "/"; see [`check_path`].
    pub path: &'a [u8],
    /// The text of a symbolic link; empty unless it is one.
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
        let Some(raw) = RawRecord::decode(bytes)? else {
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
        }
    }
}

fn decode_hole<'a>(reader: &mut Reader<'a>) -> Result<ManifestRecord<'a>, DecodeError> {
    let (offset, bytes) = (reader.u48()?, reader.u48()?);
    if bytes == 0 {
        return Err(DecodeError::Invalid("a hole has no bytes"));
    }
    if offset.saturating_add(bytes) > BODY_BYTES_MAX {
        return Err(DecodeError::Invalid("a hole ends above 2^48"));
    }
    Ok(ManifestRecord::Hole { offset, bytes })
}

impl<'a> Entry<'a> {
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
        if self.kind != EntryKind::File && self.size != 0 {
            return Err(DecodeError::Invalid("an entry that is no file has a size"));
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
    //# it MUST NOT be empty, start or end with "/", hold an empty component, ".", ".." or a NUL byte
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
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            1 => Ok(Self::File),
            2 => Ok(Self::Directory),
            3 => Ok(Self::Symlink),
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
