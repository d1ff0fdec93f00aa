//! Takes a temporary name, new or left behind by an earlier run, and holds it against every other
//! receiver. What becomes of the file is the business of `files`.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::metadata::is_regular;

/// How often claiming a temporary name starts over because another process took the name away
/// in between. Each time that process finished a file, so more than a few are no accident.
const CLAIM_TRIES: usize = 16;

/// The mode of an unfinished file.
const ACCESSIBLE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What became of an attempt to get a temporary name.
pub enum Claim {
    /// Created and locked.
    New(OwnedFd),
    /// Found from an earlier run, and locked.
    Leftover(OwnedFd),
    /// Locked by somebody else.
    Busy,
    /// Not a file of the kind we leave behind.
    Occupied,
}

/// Creates or finds the file `name` in `parent` and locks it.
///
/// The lock belongs to the file, not to its name: between opening and locking, its owner may
/// have committed or removed it. So after locking the name must still mean this file.
pub fn claim(parent: &OwnedFd, name: &str) -> rustix::io::Result<Claim> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let create = flags | OFlags::CREATE | OFlags::EXCL;
    for _ in 0..CLAIM_TRIES {
        let (file, is_new) = match rustix::fs::openat(parent, name, create, ACCESSIBLE) {
            Ok(file) => (file, true),
            Err(Errno::EXIST) => match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                Ok(file) => (file, false),
                Err(Errno::NOENT) => continue,
                // Killed after it got its final mode, before it got its final name.
                Err(Errno::ACCESS) if make_accessible(parent, name) => continue,
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS) => {
                    return Ok(Claim::Occupied);
                }
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        };
        let stat = rustix::fs::fstat(&file)?;
        // Emptying a file that has a second name, or committing one that another user owns and
        // can change afterwards, would be a way to make us do harm.
        if !is_new && !is_plainly_ours(&stat) {
            return Ok(Claim::Occupied);
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Claim::Busy),
            // A file system without locks: a file that is new is ours all the same.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) if is_new => {
                return Ok(Claim::New(file));
            }
            Err(errno) => return Err(errno),
        }
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino) => {
                return Ok(if is_new { Claim::New(file) } else { Claim::Leftover(file) });
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(Claim::Busy)
}

/// Whether a found file is one that a receiver of this user may have left behind.
pub fn is_plainly_ours(stat: &Stat) -> bool {
    is_regular(stat) && stat.st_nlink == 1 && stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Gives the owner access to an unfinished file again. Whether there is one now.
fn make_accessible(parent: &OwnedFd, name: &str) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(parent, name, flags, Mode::empty()) else { return false };
    let is_closed_of_ours = rustix::fs::fstat(&file).is_ok_and(|stat| {
        is_plainly_ours(&stat) && Mode::from_raw_mode(stat.st_mode) != ACCESSIBLE
    });
    // A descriptor for walking only cannot be changed itself.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    is_closed_of_ours && rustix::fs::chmodat(CWD, path, ACCESSIBLE, AtFlags::empty()).is_ok()
}
