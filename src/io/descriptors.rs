//! How many files this process may have open, and where the bytes of small files go that get
//! none of their own.
//!
//! A receiver has one open file, and the directory it lies in, for each file that is not complete:
//! of a tree of small files on a long path some thousands. Where the limit allows no more, small
//! files share one, and get their own when they are complete.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::name::temporary_name;

/// Larger files always have a file of their own: those of a window are few.
pub const SPOOLED_BYTES_MAX: u64 = 1 << 20;

/// Incomplete files get a quarter of all descriptors, and take two each. The other half is left to
/// sockets, to kept directories, and to the files that are being completed.
const SHARE: u64 = 4;

/// Raises the soft limit to the hard one; returns what it is then.
fn raise_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If it is not granted, what there is has to do.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The descriptors of a receiver: shared by all its transfers.
#[derive(Debug)]
pub struct Descriptors {
    files_max: usize,
    files: AtomicUsize,
    /// None where the file system has no place for it.
    spool: Option<Arc<Spool>>,
}

impl Descriptors {
    /// What the limit of this process allows, raised as far as may be; files that get no
    /// descriptor of their own are kept in `directory`.
    pub fn of_process(directory: impl AsFd) -> Descriptors {
        let files_max = usize::try_from(raise_limit() / SHARE).unwrap_or(usize::MAX);
        Descriptors::with_files_max(files_max, directory)
    }

    /// The same for so many incomplete files with descriptors of their own.
    pub(super) fn with_files_max(files_max: usize, directory: impl AsFd) -> Descriptors {
        let spool = Spool::open(directory).ok().map(Arc::new);
        Descriptors { files_max, files: AtomicUsize::new(0), spool }
    }

    /// The right to hold one more file open, if there is one left.
    pub fn ticket(self: &Arc<Self>) -> Option<Ticket> {
        let more = |files| (files < self.files_max).then_some(files + 1);
        self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Ticket(Arc::clone(self)))
    }

    /// Room for a file of `bytes` that gets no descriptor of its own.
    pub fn spool(&self, bytes: u64) -> Option<Spooled> {
        let spool = Arc::clone(self.spool.as_ref()?);
        let start = spool.take(bytes);
        Some(Spooled { spool, start, bytes })
    }
}

/// The right to hold a file open; given back on drop.
#[derive(Debug)]
pub struct Ticket(Arc<Descriptors>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.files.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One nameless file for the bytes of many.
#[derive(Debug)]
struct Spool {
    file: OwnedFd,
    room: Mutex<Room>,
}

/// How the spool is used: places are given out from its end, which goes back to the beginning
/// when none is in use.
#[derive(Debug, Default)]
struct Room {
    end: u64,
    places: usize,
}

impl Spool {
    fn open(directory: impl AsFd) -> rustix::io::Result<Spool> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let nameless = rustix::fs::openat(&directory, c".", flags | OFlags::TMPFILE, mode);
        let file = nameless.or_else(|_| {
            let name = temporary_name(u64::from(std::process::id()));
            let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&directory, name.as_str(), new, mode)?;
            rustix::fs::unlinkat(&directory, name.as_str(), AtFlags::empty())?;
            Ok::<_, Errno>(file)
        })?;
        Ok(Spool { file, room: Mutex::default() })
    }

    fn take(&self, bytes: u64) -> u64 {
        // Nothing between locking and unlocking can panic half way.
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let start = room.end;
        room.end += bytes;
        room.places += 1;
        start
    }

    fn give_back(&self, start: u64, bytes: u64) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.places -= 1;
        // Where the file system cannot give blocks back, it does when the last place is free.
        if room.places == 0 {
            room.end = 0;
            let _ = rustix::fs::ftruncate(&self.file, 0);
        } else if bytes > 0 {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(&self.file, flags, start, bytes);
        }
    }
}

/// The place of one file in the spool; given back on drop. What was never written reads as zeros.
#[derive(Debug)]
pub struct Spooled {
    spool: Arc<Spool>,
    start: u64,
    bytes: u64,
}

impl Spooled {
    /// Writes all of `buffers`, one after the other, from byte `offset` of the file on.
    ///
    /// # Errors
    /// What the kernel says, or that it is beyond the file's end.
    pub fn write_at(&self, mut buffers: &mut [IoSlice<'_>], offset: u64) -> rustix::io::Result<()> {
        let mut at = self.at(offset, buffers.iter().map(|buffer| buffer.len() as u64).sum())?;
        // Empty slices in front would make a write of 0 bytes look like an error.
        IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            match rustix::io::pwritev(&self.spool.file, buffers, at) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    IoSlice::advance_slices(&mut buffers, written);
                    at += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from byte `offset` of the file on.
    ///
    /// # Errors
    /// What the kernel says, or that it is beyond the file's end.
    pub fn read_at(&self, mut buffer: &mut [u8], offset: u64) -> rustix::io::Result<()> {
        let mut at = self.at(offset, buffer.len() as u64)?;
        while !buffer.is_empty() {
            match rustix::io::pread(&self.spool.file, &mut *buffer, at) {
                Ok(0) => {
                    // Nothing was written from here on: that reads as zeros.
                    buffer.fill(0);
                    return Ok(());
                }
                Ok(read) => {
                    buffer = buffer.split_at_mut(read).1;
                    at += read as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn at(&self, offset: u64, bytes: u64) -> rustix::io::Result<u64> {
        let end = offset.checked_add(bytes).filter(|&end| end <= self.bytes);
        end.map(|_| self.start + offset).ok_or(Errno::INVAL)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.spool.give_back(self.start, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_files_are_held_open_and_no_more() {
        let room = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(room.path()).unwrap();
        let descriptors = Arc::new(Descriptors::with_files_max(2, &directory));
        let first = descriptors.ticket().unwrap();
        let _second = descriptors.ticket().unwrap();
        assert!(descriptors.ticket().is_none());
        drop(first);
        assert!(descriptors.ticket().is_some());
        assert!(raise_limit() > 0);
    }

    #[test]
    fn files_in_the_spool_do_not_touch_each_other_and_leave_nothing() {
        let room = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(room.path()).unwrap();
        let descriptors = Descriptors::with_files_max(0, &directory);
        let mut files: Vec<Spooled> =
            [10, 0, 5].map(|bytes| descriptors.spool(bytes).unwrap()).into();
        for (number, file) in files.iter().enumerate() {
            let byte = [b'a' + number as u8; 2];
            let slices = &mut [IoSlice::new(&byte), IoSlice::new(&byte)];
            assert_eq!(file.write_at(slices, 1).is_ok(), file.bytes > 0);
            assert_eq!(file.write_at(&mut [IoSlice::new(&[1])], file.bytes), Err(Errno::INVAL));
        }
        let content = |file: &Spooled| {
            let mut bytes = vec![b'?'; file.bytes as usize];
            file.read_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert_eq!(content(&files[0]), b"\0aaaa\0\0\0\0\0");
        assert_eq!(content(&files[2]), b"\0cccc");
        // A place that was used before reads as zeros again.
        let spool = Arc::clone(&files[0].spool);
        files.clear();
        assert_eq!(rustix::fs::fstat(&spool.file).unwrap().st_size, 0);
        assert_eq!(content(&descriptors.spool(8).unwrap()), [0; 8]);
        assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
    }
}
