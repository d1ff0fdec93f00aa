//! Room on the receiver's file system: how much stays free, and how a file gets its own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, StatFs};
use rustix::io::Errno;

/// ufx leaves at least this many bytes free, so that a transfer never fills a file system to the
/// last byte under everybody else. On file systems of a few MiB it takes nothing at all.
pub const SPACE_KEPT_BYTES: u64 = 64 << 20;

/// ... and at least this part of the whole file system (1 %).
pub const SPACE_KEPT_DIVISOR: u64 = 100;

/// Bytes allocated at once. One `fallocate` of more than there is takes all free space on ext4
/// before it fails (measured with 1 TiB); with steps it can take this much at most.
const STEP_BYTES: u64 = 256 << 20;

/// Up to this size a file is written without being allocated first: it reaches the disk in one
/// piece anyway, and the kernel places it better when it knows the content.
const UNALLOCATED_BYTES_MAX: u64 = 1 << 20;

/// The type numbers of file systems in memory (linux/magic.h). Allocating there means zeroing
/// pages that are then written a second time.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994 /* tmpfs */, 0x8584_58f6 /* ramfs */];

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system in bytes; 0 where it does not tell.
    pub total: u64,
    /// Bytes this user may still write.
    pub available: u64,
    /// Whether it lives in memory.
    in_memory: bool,
}

impl Space {
    /// The room on the file system that `descriptor` lies on.
    ///
    /// # Errors
    /// What `fstatfs` says.
    pub fn of(descriptor: impl AsFd) -> rustix::io::Result<Space> {
        Ok(Space::from_kernel(&rustix::fs::fstatfs(descriptor)?))
    }

    fn from_kernel(answer: &StatFs) -> Space {
        // Blocks are counted in fragments; a few file systems leave that field empty.
        let unit = if answer.f_frsize > 0 { answer.f_frsize } else { answer.f_bsize };
        let unit = u64::try_from(unit).unwrap_or(0);
        Space {
            total: answer.f_blocks.saturating_mul(unit),
            available: answer.f_bavail.saturating_mul(unit),
            in_memory: MEMORY_FILE_SYSTEMS.contains(&(answer.f_type as u64)),
        }
    }

    /// Whether the file system lives in memory.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Bytes that stay free: the larger of 1 % and 64 MiB.
    pub fn kept(&self) -> u64 {
        SPACE_KEPT_BYTES.max(self.total / SPACE_KEPT_DIVISOR)
    }

    /// Whether `wanted` more bytes leave enough free. Nothing always fits, and a file system
    /// that does not tell its size (some of FUSE's) is taken to be large enough.
    pub fn allows(&self, wanted: u64) -> bool {
        wanted == 0
            || self.total == 0
            || self.available.checked_sub(wanted).is_some_and(|left| left >= self.kept())
    }
}

/// Why a file got no room.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Too little is free for the bytes still wanted.
    Full { wanted: u64, space: Space },
    /// A system call failed.
    Kernel(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Kernel(errno)
    }
}

/// Refuses when fewer than `wanted` bytes can be had on the file system of `file`.
pub(super) fn require(file: &OwnedFd, wanted: u64) -> Result<Space, Refusal> {
    let space = Space::of(file)?;
    if space.allows(wanted) { Ok(space) } else { Err(Refusal::Full { wanted, space }) }
}

/// Gives the empty `file` its size, and blocks to write to if that is of use. True if its blocks
/// are its own now; false if every write still takes space.
pub(super) fn reserve(file: &OwnedFd, size: u64, has_holes: bool) -> Result<bool, Refusal> {
    // How much of a file with holes is data is not known here; it is checked while it is written.
    let space = require(file, if has_holes { size.min(1) } else { size })?;
    if has_holes || space.in_memory || size <= UNALLOCATED_BYTES_MAX {
        rustix::fs::ftruncate(file, size)?;
        return Ok(false);
    }
    let mut allocated = 0;
    while allocated < size {
        let step = STEP_BYTES.min(size - allocated);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), allocated, step) {
            Ok(()) => allocated += step,
            Err(Errno::INTR) => {}
            // NFS before 4.2, ZFS, ext3, FAT and many of FUSE's cannot allocate.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                rustix::fs::ftruncate(file, size)?;
                return Ok(false);
            }
            Err(errno) => return Err(errno.into()),
        }
        // Others take space meanwhile, so the rest may not fit any more.
        require(file, size - allocated)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIBIBYTE: u64 = 1 << 30;

    fn space(total: u64, available: u64) -> Space {
        Space { total, available, in_memory: false }
    }

    #[test]
    fn the_larger_of_one_percent_and_64_mib_stays_free() {
        assert_eq!(space(GIBIBYTE, 0).kept(), 64 << 20);
        assert_eq!(space(1_000 * GIBIBYTE, 0).kept(), 10 * GIBIBYTE);
    }

    #[test]
    fn a_file_is_refused_exactly_when_it_would_leave_too_little() {
        let room = space(GIBIBYTE, 65 << 20);
        assert!(room.allows(1 << 20));
        assert!(!room.allows((1 << 20) + 1));
        assert!(!room.allows(u64::MAX));
        let full = space(4 << 20, 0);
        assert!(full.allows(0), "an empty file needs no room");
        assert!(!full.allows(1));
        assert!(space(0, 0).allows(u64::MAX), "unknown size");
    }

    #[test]
    fn a_large_file_gets_blocks_and_one_with_holes_gets_none() {
        let dense = OwnedFd::from(tempfile::tempfile().unwrap());
        let own = reserve(&dense, 3 << 20, false).unwrap();
        let stat = rustix::fs::fstat(&dense).unwrap();
        assert_eq!(stat.st_size, 3 << 20);
        assert_eq!(own, stat.st_blocks * 512 >= 3 << 20);

        let sparse = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(!reserve(&sparse, 1 << 33, true).unwrap());
        let stat = rustix::fs::fstat(&sparse).unwrap();
        assert_eq!((stat.st_size, stat.st_blocks), (1 << 33, 0));
    }

    #[test]
    fn more_than_there_is_takes_nothing() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(matches!(reserve(&file, 1 << 60, false), Err(Refusal::Full { .. })));
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_blocks, 0);
    }

    #[test]
    fn a_file_of_nothing_gets_nothing() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(!reserve(&file, 0, false).unwrap());
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0);
    }
}
