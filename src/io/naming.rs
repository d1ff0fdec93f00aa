//! Gives finished files their names, and makes names durable.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Renames within `directory`; EEXIST if `to` is taken, whatever by.
pub fn rename_without_replacing(
    directory: &OwnedFd,
    from: &str,
    to: &[u8],
) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => link_then_unlink(directory, from, to),
        outcome => outcome,
    }
}

/// The same where the file system (NFS, many of FUSE's) or the kernel lacks that rename: a hard
/// link never replaces anything either. For a moment the file has both names.
fn link_then_unlink(directory: &OwnedFd, from: &str, to: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
    rustix::fs::unlinkat(directory, from, AtFlags::empty())
}

/// Gives a nameless file its name; EEXIST if that is taken, whatever by. By way of /proc where the
/// kernel, before 6.10, wants a capability (and says ENOENT) for naming a descriptor directly.
pub fn link_nameless(file: &OwnedFd, directory: &OwnedFd, to: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::linkat(file, c"", directory, to, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, path, directory, to, AtFlags::SYMLINK_FOLLOW)
        }
        outcome => outcome,
    }
}

/// Gives a nameless file a name that may be taken. A link replaces nothing, so the file has the
/// name `temporary` for a moment, and is locked before: for others it is as one that is being
/// received, and what a kill leaves of it is found by the next run. EBUSY if somebody has that
/// name.
pub fn replace_by_nameless(
    file: &OwnedFd,
    directory: &OwnedFd,
    temporary: &str,
    to: &[u8],
) -> rustix::io::Result<()> {
    // Where there are no locks, nobody else waits for one either.
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    match link_nameless(file, directory, temporary.as_bytes()) {
        Err(Errno::EXIST) => return Err(Errno::BUSY),
        linked => linked?,
    }
    let renamed = rustix::fs::renameat(directory, temporary, directory, to);
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(directory, temporary, AtFlags::empty());
    }
    renamed
}

/// Makes the names in `directory` durable. The held descriptor is for walking only (O_PATH), so
/// it is opened once more.
pub fn sync_directory(directory: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    sync(&rustix::fs::openat(directory, c".", flags, Mode::empty())?)
}

/// Makes an open directory durable: its names, its mode and its time.
pub fn sync(directory: &OwnedFd) -> rustix::io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some file systems cannot sync a directory, and need not.
        Err(Errno::INVAL) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn without_that_rename_a_hard_link_replaces_nothing_either() {
        let directory = tempfile::tempdir().unwrap();
        let parent = OwnedFd::from(fs::File::open(directory.path()).unwrap());
        fs::write(directory.path().join("from"), "new").unwrap();
        fs::write(directory.path().join("taken"), "old").unwrap();
        assert_eq!(link_then_unlink(&parent, "from", b"taken"), Err(Errno::EXIST));
        link_then_unlink(&parent, "from", b"to").unwrap();
        assert!(!directory.path().join("from").exists());
        assert_eq!(fs::read(directory.path().join("to")).unwrap(), b"new");
        assert_eq!(fs::read(directory.path().join("taken")).unwrap(), b"old");
    }
}
