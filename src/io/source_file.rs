//! One open source file: reading it as long as it is the one that was announced, with and without
//! waiting, and where it has data. `source` opens it.

use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;
use rustix::io::{Errno, ReadWriteFlags};

use super::attributes::{self, Extended};
use super::metadata::{Identity, is_regular, may_have_holes};
use super::name::{RelativePath, escape_path};
use super::pipe::Pipe;
use super::source::SourceError;
use super::space::Space;
use super::whole::{read_full, read_some};

/// What came of reading without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadNow {
    /// All was in memory.
    Read,
    /// Something has to be waited for.
    NotNow,
    /// The file system cannot say.
    Never,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Content {
    /// In a file.
    File(OwnedFd),
    /// They came through a pipe and are held.
    Pipe(Arc<Pipe>),
}

/// An open source file in the state that was announced.
#[derive(Debug)]
pub struct SourceFile {
    pub(super) content: Content,
    pub(super) identity: Identity,
    /// The local path: the directory of the PATH, and the name below it.
    pub(super) directory: Arc<Path>,
    pub(super) name: RelativePath,
    /// Whether it was found to be what was announced since it was opened.
    pub(super) is_checked: AtomicBool,
}

impl SourceFile {
    /// Fills `buffers` one after the other from byte `offset` on.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if the file ends before the buffers do; what was read is then
    /// of no use.
    pub fn read_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> Result<(), SourceError> {
        let file = match &self.content {
            Content::File(file) => file,
            Content::Pipe(pipe) => {
                return pipe
                    .read_at(buffers, offset)
                    .map_err(|errno| self.error("read a second time", errno));
            }
        };
        match read_full(file, buffers, offset) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.changed()),
            Err(errno) => Err(self.error("read", errno)),
        }
    }

    /// The same if it needs no waiting for a disk or a server; what is in `buffers` otherwise is of
    /// no use.
    pub fn read_now(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> ReadNow {
        let file = match &self.content {
            Content::File(file) => file,
            Content::Pipe(pipe) => {
                // What is held no more shows where it is read.
                return match pipe.read_at(buffers, offset) {
                    Ok(()) => ReadNow::Read,
                    Err(_) => ReadNow::NotNow,
                };
            }
        };
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        match rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == wanted => ReadNow::Read,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => ReadNow::Never,
            // Errors, too, show when it is read.
            Ok(_) | Err(_) => ReadNow::NotNow,
        }
    }

    /// Fills `buffer` as far as the file goes: for whoever only wants the kernel to have it.
    pub fn read_ahead(&self, buffer: &mut [u8], offset: u64) {
        // An error shows when the bytes are read where they are wanted.
        if let Content::File(file) = &self.content {
            let _ = read_some(file, buffer, offset);
        }
    }

    /// Whether the file lies in memory only, so that reading never waits.
    pub fn is_in_memory(&self) -> bool {
        match &self.content {
            Content::File(file) => Space::of(file).is_ok_and(|space| space.is_in_memory()),
            Content::Pipe(_) => true,
        }
    }

    /// The device of the file.
    pub fn device(&self) -> u64 {
        self.identity.device
    }

    /// Its announced size.
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// It was not read because the run was to end.
    pub fn interrupted(&self) -> SourceError {
        self.error("read", Errno::INTR)
    }

    /// Looks whether the file is still as announced; to be asked after the last byte was read.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if it is not. A file system notes the time of a change by its
    /// tick (up to 10 ms), so a change within one tick of the announcement that keeps the size
    /// stays unseen.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        // What is held of a pipe does not change.
        let Content::File(file) = &self.content else { return Ok(()) };
        let stat = rustix::fs::fstat(file).map_err(|errno| self.error("look at", errno))?;
        if !is_regular(&stat) || Identity::of(&stat) != self.identity {
            return Err(self.changed());
        }
        self.is_checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The same, unless it was found so before. What is read before that may be of anything.
    ///
    /// # Errors
    /// As there.
    pub fn check_once(&self) -> Result<(), SourceError> {
        if self.is_checked.load(Ordering::Relaxed) { Ok(()) } else { self.check_unchanged() }
    }

    /// Its extended attributes, as far as they are kept.
    ///
    /// # Errors
    /// The kernel's, also if they are too large.
    pub fn attributes(&self) -> Result<Extended, SourceError> {
        let Content::File(file) = &self.content else { return Ok(Vec::new()) };
        attributes::read(file).map_err(|errno| self.error("read the attributes of", errno))
    }

    /// The ranges that hold data, in ascending order; what lies between them reads as zeros.
    pub fn data_ranges(&self) -> DataRanges<'_> {
        // A file that occupies its whole size has no holes; the search would cost two system
        // calls for every small file. If the question itself fails, all of it is data.
        let file = match &self.content {
            Content::File(file) => Some(file),
            Content::Pipe(_) => None,
        };
        let is_sparse =
            |file: &&OwnedFd| rustix::fs::fstat(file).is_ok_and(|stat| may_have_holes(&stat));
        DataRanges { source: self, position: 0, sparse: file.filter(is_sparse) }
    }

    fn changed(&self) -> SourceError {
        SourceError::Changed { path: self.shown() }
    }

    pub(super) fn error(&self, action: &'static str, errno: Errno) -> SourceError {
        SourceError::Io { action, path: self.shown(), source: errno.into() }
    }

    /// The local path, escaped.
    fn shown(&self) -> String {
        match &self.content {
            Content::File(_) => {
                escape_path(&self.directory.join(OsStr::from_bytes(self.name.as_bytes())))
            }
            Content::Pipe(pipe) => pipe.shown(),
        }
    }
}

/// A range of bytes in a file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRange {
    /// First byte.
    pub start: u64,
    /// Number of bytes, at least 1.
    pub bytes: u64,
}

/// The iterator of [`SourceFile::data_ranges`].
#[derive(Debug)]
pub struct DataRanges<'a> {
    source: &'a SourceFile,
    position: u64,
    /// The file, if it may have holes.
    sparse: Option<&'a OwnedFd>,
}

impl DataRanges<'_> {
    fn find_data(&self, file: &OwnedFd) -> rustix::io::Result<Option<DataRange>> {
        let end = self.source.identity.size;
        let start = match rustix::fs::seek(file, SeekFrom::Data(self.position)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stop = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(end);
        Ok((start < stop).then(|| DataRange { start, bytes: stop - start }))
    }
}

impl Iterator for DataRanges<'_> {
    type Item = Result<DataRange, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.source.identity.size;
        if self.position >= end {
            return None;
        }
        let rest = DataRange { start: self.position, bytes: end - self.position };
        let found = match self.sparse.map(|file| self.find_data(file)) {
            // A file system that cannot tell holes: everything is data.
            None | Some(Err(Errno::INVAL | Errno::OPNOTSUPP)) => Ok(Some(rest)),
            Some(found) => found,
        };
        match found {
            Ok(Some(range)) => {
                self.position = range.start + range.bytes;
                Some(Ok(range))
            }
            Ok(None) => {
                self.position = end;
                None
            }
            Err(errno) => {
                self.position = end;
                Some(Err(self.source.error("find the data in", errno)))
            }
        }
    }
}
