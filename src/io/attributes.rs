//! What `--archive` keeps of a file beside its bytes, mode and times: its owner and its extended
//! attributes. Reads them at the sender, sets them at the receiver; `proto` moves them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::confine::{FileError, Root, io_error};
use super::name::{Escaped, RelativePath};
use crate::proto::Attributes;
use crate::wire::limits;

/// Names and values.
pub type Extended = Vec<(Vec<u8>, Vec<u8>)>;

/// Those that users give.
const USER: &[u8] = b"user.";

/// Access control lists. What is not sent of these is removed: a file inherits them from a
/// directory.
const LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// What a program may do beyond its user.
const CAPABILITY: &[u8] = b"security.capability";

/// Whether an attribute is one that is kept. Others belong to the host (labels of its security
/// modules) or to a file system.
fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(USER) && name.len() > USER.len())
        || LISTS.contains(&name)
        || name == CAPABILITY
}

/// The owner that `stat` names.
pub fn owner(stat: &Stat) -> Option<(u32, u32)> {
    // The largest number means nobody.
    (stat.st_uid != u32::MAX && stat.st_gid != u32::MAX).then_some((stat.st_uid, stat.st_gid))
}

/// The extended attributes of an open file or directory that are kept, by name.
///
/// # Errors
/// What the kernel says; that they are too large is `E2BIG`.
pub fn read(file: impl AsFd) -> Result<Extended, Errno> {
    let file = file.as_fd();
    let mut names = vec![0; LIST_BYTES];
    let listed = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(listed) => listed,
        // The file system has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    names.truncate(listed);
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut value = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| is_kept(name)) {
        value.resize(limits::ATTRIBUTE_VALUE_BYTES_MAX + 1, 0);
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // It went meanwhile.
            Err(Errno::NODATA) => continue,
            Err(Errno::RANGE) => return Err(Errno::TOOBIG),
            Err(errno) => return Err(errno),
        }
        bytes += name.len() + value.len();
        found.push((name.to_vec(), value.clone()));
        let is_small = value.len() <= limits::ATTRIBUTE_VALUE_BYTES_MAX
            && bytes <= limits::ATTRIBUTES_BYTES_MAX
            && found.len() <= limits::ATTRIBUTES_MAX;
        if !is_small {
            return Err(Errno::TOOBIG);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The list of a file's attributes is never longer (XATTR_LIST_MAX of Linux).
const LIST_BYTES: usize = 65_536;

/// Sets all of them on an open file or directory: the owner first, as that takes capabilities away.
///
/// # Errors
/// What could not be set; `shown` is the path for messages.
pub fn set(file: impl AsFd, attributes: &Attributes, shown: &str) -> Result<(), FileError> {
    let file = file.as_fd();
    let error = |action, errno| io_error(action, shown.to_owned(), errno);
    if let Some((user, group)) = attributes.owner {
        let stat = rustix::fs::fstat(file).map_err(|errno| error("look at", errno))?;
        if (stat.st_uid, stat.st_gid) != (user, group) {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::fchown(file, Some(user), Some(group))
                .map_err(|errno| error("set the owner of", errno))?;
        }
    }
    for name in LISTS {
        if !attributes.extended.iter().any(|(sent, _)| sent == name) {
            // Mostly there is none, or the file system knows none.
            let _ = rustix::fs::fremovexattr(file, name);
        }
    }
    for (name, value) in &attributes.extended {
        let set = match is_kept(name) {
            true => rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()),
            false => Err(Errno::PERM),
        };
        set.map_err(|errno| {
            let of = format!("{} of {shown}", Escaped(name));
            io_error("set the attribute", of, errno)
        })?;
    }
    Ok(())
}

/// The same for what is at `path`: a directory, or a link, which only has an owner.
///
/// # Errors
/// As there.
pub fn set_at(
    root: &Root,
    path: &RelativePath,
    attributes: &Attributes,
    directory: bool,
) -> Result<(), FileError> {
    if directory {
        return set(open_directory(root, path)?, attributes, &root.shown(path));
    }
    let Some((user, group)) = attributes.owner else { return Ok(()) };
    root.in_parent(path, "set the owner of", |parent, leaf| {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(parent, leaf, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
    })
}

fn open_directory(root: &Root, path: &RelativePath) -> Result<OwnedFd, FileError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    root.in_parent(path, "open", |parent, leaf| {
        rustix::fs::openat(parent, leaf, flags, Mode::empty())
    })
}
