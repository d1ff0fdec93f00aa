//! What a receiver does to directories and symbolic links. Files are the business of `files`.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::confine::{FileError, Root};
use super::existing::Landing;
use super::metadata::{ModePolicy, SPECIAL_BITS, Timestamp};
use super::name::{RelativePath, temporary_name};
use super::naming::{sync, sync_directory};

/// What became of a directory that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is new.
    Created,
    /// A directory was there.
    AlreadyThere,
}

/// Makes the symbolic link `path` with the text `target`, which is never followed. Returns its
/// name, if it is another one than was asked for.
///
/// # Errors
/// [`FileError::Exists`] if something has the name and `landing` does not allow for that, or what
/// the kernel says.
pub fn make_link(
    root: &Root,
    path: &RelativePath,
    target: &[u8],
    modified: Timestamp,
    landing: Landing,
) -> Result<Option<Vec<u8>>, FileError> {
    let made = root.in_parent(path, "make the link", |parent, leaf| {
        let made = landing.land(leaf, |leaf, replace| match replace {
            false => rustix::fs::symlinkat(target, parent, leaf),
            true => replace_by_link(target, parent, leaf),
        });
        let name = match made {
            Ok(name) => name,
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let times = modified.as_modification();
        let leaf = name.as_deref().unwrap_or(leaf);
        match rustix::fs::utimensat(parent, leaf, &times, AtFlags::SYMLINK_NOFOLLOW) {
            // Some file systems keep no time for a link.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(name)),
            Err(errno) => Err(errno),
        }
    })?;
    made.ok_or_else(|| FileError::Exists { path: root.shown(path) })
}

/// Makes a link under a temporary name and renames it over what has the final one. The temporary
/// name comes from name and target, so that a leftover of it is the same link and serves as well.
fn replace_by_link(target: &[u8], parent: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<()> {
    let hash = XxHash3_64::oneshot(&[leaf, b"\0", target].concat());
    let temporary = temporary_name(hash);
    match rustix::fs::symlinkat(target, parent, temporary.as_str()) {
        Err(Errno::EXIST) => {
            let found = rustix::fs::readlinkat(parent, temporary.as_str(), Vec::new())?;
            if found.as_bytes() != target {
                return Err(Errno::EXIST);
            }
        }
        made => made?,
    }
    let renamed = rustix::fs::renameat(parent, temporary.as_str(), parent, leaf);
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(parent, temporary.as_str(), AtFlags::empty());
    }
    renamed
}

/// Gives the file `first` the further name `path`. Returns the name, if it is another one than was
/// asked for.
///
/// # Errors
/// As [`make_link`], and where the file system has no hard links.
pub fn make_hard_link(
    root: &Root,
    first: &RelativePath,
    path: &RelativePath,
    landing: Landing,
) -> Result<Option<Vec<u8>>, FileError> {
    let directory = root.in_parent(first, "look at", |parent, _| Ok(Arc::clone(parent)))?;
    let (_, first) = first.split();
    let made = root.in_parent(path, "make the hard link", |parent, leaf| {
        let link =
            |name: &[u8]| rustix::fs::linkat(&directory, first, parent, name, AtFlags::empty());
        let made = landing.land(leaf, |leaf, replace| {
            if !replace {
                return link(leaf);
            }
            let hash = XxHash3_64::oneshot(&[leaf, b"\0", first, b"\0hard"].concat());
            let temporary = temporary_name(hash);
            link(temporary.as_bytes())?;
            let renamed = rustix::fs::renameat(parent, temporary.as_str(), parent, leaf);
            // It is still there if it could not be renamed, or has the same file behind it.
            let _ = rustix::fs::unlinkat(parent, temporary.as_str(), AtFlags::empty());
            renamed
        });
        match made {
            Err(Errno::EXIST) => Ok(None),
            made => made.map(Some),
        }
    })?;
    made.ok_or_else(|| FileError::Exists { path: root.shown(path) })
}

/// Makes the name `path` survive a power cut.
///
/// # Errors
/// The directory of `path` cannot be reached or synced.
pub fn sync_name(root: &Root, path: &RelativePath) -> Result<(), FileError> {
    root.in_parent(path, "sync the directory of", |parent, _| sync_directory(parent))
}

/// Whether both paths are names of one file.
pub fn is_one_file(
    root: &Root,
    one: &RelativePath,
    other: &RelativePath,
) -> Result<bool, FileError> {
    let inode = |stat: Stat| (stat.st_dev, stat.st_ino);
    let (one, other) = (root.stat(one)?.map(inode), root.stat(other)?.map(inode));
    Ok(one.is_some() && one == other)
}

/// Whether `path` is a symbolic link with the text `target`.
///
/// # Errors
/// The directory of `path` cannot be reached, or the kernel refuses.
pub fn is_link_to(root: &Root, path: &RelativePath, target: &[u8]) -> Result<bool, FileError> {
    root.in_parent(path, "read the link", |parent, leaf| {
        match rustix::fs::readlinkat(parent, leaf, Vec::new()) {
            Ok(found) => Ok(found.as_bytes() == target),
            // Nothing is there, or something that is no link.
            Err(Errno::NOENT | Errno::INVAL) => Ok(false),
            Err(errno) => Err(errno),
        }
    })
}

/// The directories of one transfer: made at once, given their final modes and times at the end,
/// because receiving into a directory needs its write permission and changes its time.
#[derive(Debug, Default)]
pub struct Directories {
    pending: Vec<Pending>,
    /// Hashes of the paths of those that were not there before.
    made: HashSet<u64>,
}

#[derive(Debug)]
struct Pending {
    path: RelativePath,
    /// The final permissions; `None` for a directory that was there and keeps its own.
    mode: Option<u32>,
    modified: Timestamp,
}

impl Directories {
    /// Makes the directory `path`, or takes the one that is there. Its parent must be there.
    ///
    /// `mode` is the sender's. A directory that was there keeps its mode: opening it up may not
    /// be what its owner wants.
    ///
    /// # Errors
    /// [`FileError::Exists`] if something is there that is no directory, or what the kernel says.
    pub fn make(
        &mut self,
        root: &Root,
        path: &RelativePath,
        mode: u32,
        modified: Timestamp,
        policy: &ModePolicy,
    ) -> Result<Made, FileError> {
        let mode = policy.apply(mode);
        // Nearly the final mode, so that an interrupted transfer leaves usable directories.
        let open = Mode::from_raw_mode((mode & 0o777) | 0o700);
        let is_new = root.in_parent(path, "make the directory", |parent, leaf| {
            match rustix::fs::mkdirat(parent, leaf, open) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(errno) => Err(errno),
            }
        })?;
        // An earlier transfer may have known another directory of this name.
        root.forget(path);
        if !is_new && !root.stat(path)?.is_some_and(|stat| is_directory(&stat)) {
            return Err(FileError::Exists { path: root.shown(path) });
        }
        if is_new {
            self.made.insert(XxHash3_64::oneshot(path.as_bytes()));
        }
        self.pending.push(Pending { path: path.clone(), mode: is_new.then_some(mode), modified });
        Ok(if is_new { Made::Created } else { Made::AlreadyThere })
    }

    /// Whether `path` is to lie in a directory that was made here, so that hardly anything can be
    /// there. A wrong answer does no harm: no commit replaces what it was not told to.
    pub fn is_fresh(&self, path: &RelativePath) -> bool {
        self.made.contains(&XxHash3_64::oneshot(path.split().0))
    }

    /// Gives all directories their final modes and times, the deepest ones first: a parent may
    /// lose the permission to be searched. Returns what went wrong with which, and does the rest.
    /// With `fsync` so that they survive a power cut.
    pub fn finish(mut self, root: &Root, fsync: bool) -> Vec<(Vec<u8>, FileError)> {
        self.pending.sort_by_key(|pending| Reverse(pending.path.depth()));
        let result = |pending: &Pending| {
            let error = pending.finish(root, fsync).err()?;
            Some((pending.path.as_bytes().to_vec(), error))
        };
        self.pending.iter().filter_map(result).collect()
    }
}

impl Pending {
    fn finish(&self, root: &Root, fsync: bool) -> Result<(), FileError> {
        root.in_parent(&self.path, "set mode and time of", |parent, leaf| {
            // Opened first: the final mode may not allow it.
            let to_sync = if fsync { self.open(parent, leaf)? } else { None };
            let mode_set = self.mode.map_or(Ok(()), |mode| set_mode(parent, leaf, mode));
            let times = self.modified.as_modification();
            match rustix::fs::utimensat(parent, leaf, &times, AtFlags::SYMLINK_NOFOLLOW) {
                // A directory of somebody else that was there: its time is theirs.
                Err(Errno::PERM | Errno::ACCESS) if self.mode.is_none() => {}
                outcome => outcome?,
            }
            to_sync.map_or(Ok(()), |directory| sync(&directory))?;
            // Said last: a file system without modes has times.
            mode_set
        })
    }

    /// The directory itself; none if it was there and is closed to us.
    fn open(&self, parent: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
        match open_directory(parent, leaf) {
            Err(Errno::ACCESS) if self.mode.is_none() => Ok(None),
            opened => opened.map(Some),
        }
    }
}

fn open_directory(parent: &OwnedFd, leaf: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, leaf, flags, Mode::empty())
}

/// Sets the permissions of a directory that we made, and that is therefore open to us.
fn set_mode(parent: &OwnedFd, leaf: &[u8], mode: u32) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW)?;
    // A directory in a setgid directory is setgid itself; that is the receiver's own order.
    let mode = mode | (stat.st_mode & SPECIAL_BITS);
    if stat.st_mode & 0o7777 == mode {
        return Ok(());
    }
    rustix::fs::fchmod(&open_directory(parent, leaf)?, Mode::from_raw_mode(mode))
}

/// Whether it is a directory.
pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    const POLICY: ModePolicy = ModePolicy { umask: 0o022, keep_special_bits: false };

    fn place() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    fn path(name: &str) -> RelativePath {
        RelativePath::parse(name.as_bytes()).unwrap()
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 5).unwrap()
    }

    #[test]
    fn a_link_is_made_with_its_time_and_never_followed() {
        let (directory, root) = place();
        let there = directory.path().join("link");
        let link = path("link");
        make_link(&root, &link, b"no\xffwhere", time(7), Landing::Free).unwrap();
        let metadata = fs::symlink_metadata(&there).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (7, 5));
        make_link(&root, &link, b"no\xffwhere", time(8), Landing::Free).unwrap_err();
        assert_eq!(fs::symlink_metadata(&there).unwrap().mtime(), 7);
    }

    #[test]
    fn a_link_lands_beside_or_in_place_of_what_is_there() {
        let (directory, root) = place();
        fs::write(directory.path().join("file.txt"), "old").unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        let make = |name, landing| make_link(&root, &path(name), b"target", time(7), landing);
        let beside = make("file.txt", Landing::Beside).unwrap();
        assert_eq!(beside.as_deref(), Some(&b"file (1).txt"[..]));
        assert_eq!(fs::read(directory.path().join("file.txt")).unwrap(), b"old");
        assert_eq!(make("file.txt", Landing::Replacing).unwrap(), None);
        for name in ["file.txt", "file (1).txt"] {
            let link = directory.path().join(name);
            assert_eq!(fs::read_link(&link).unwrap().as_os_str(), "target");
            assert_eq!(fs::symlink_metadata(&link).unwrap().mtime(), 7);
        }
        let error = make("directory", Landing::Replacing).unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing is left behind");
    }

    #[test]
    fn a_link_replaces_nothing_unless_it_is_to() {
        let (directory, root) = place();
        fs::write(directory.path().join("file"), "old").unwrap();
        symlink("other", directory.path().join("link")).unwrap();
        for name in ["file", "link"] {
            let error =
                make_link(&root, &path(name), b"target", time(0), Landing::Free).unwrap_err();
            assert!(matches!(error, FileError::Exists { .. }), "{error}");
        }
    }

    #[test]
    fn directories_get_their_modes_and_times_at_the_end() {
        let (directory, root) = place();
        let there = |name: &str| fs::metadata(directory.path().join(name)).unwrap();
        let mut directories = Directories::default();
        for (name, mode, seconds) in [("a", 0o555, 1), ("a/b", 0o2777, 2), ("a/b/c", 0, 3)] {
            let made = directories.make(&root, &path(name), mode, time(seconds), &POLICY).unwrap();
            assert_eq!(made, Made::Created);
            assert_eq!(there(name).mode() & 0o700, 0o700, "open while receiving");
        }
        fs::write(directory.path().join("a/b/file"), "").unwrap();
        assert!(directories.finish(&root, false).is_empty());
        for (name, mode, seconds) in [("a/b/c", 0, 3), ("a/b", 0o755, 2), ("a", 0o555, 1)] {
            assert_eq!(there(name).mode() & 0o7777, mode, "{name}");
            assert_eq!((there(name).mtime(), there(name).mtime_nsec()), (seconds, 5), "{name}");
        }
        let open = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory.path().join("a/b/c"), open.clone()).unwrap();
        fs::set_permissions(directory.path().join("a"), open).unwrap();
    }

    #[test]
    fn a_directory_that_was_there_is_merged_and_keeps_its_mode() {
        let (directory, root) = place();
        let there = directory.path().join("d");
        fs::create_dir(&there).unwrap();
        fs::write(there.join("mine"), "").unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o700)).unwrap();
        let mut directories = Directories::default();
        let made = directories.make(&root, &path("d"), 0o755, time(1), &POLICY).unwrap();
        assert_eq!(made, Made::AlreadyThere);
        assert!(directories.finish(&root, false).is_empty());
        assert_eq!(fs::metadata(&there).unwrap().mode() & 0o7777, 0o700);
        assert!(there.join("mine").exists());
    }

    #[test]
    fn a_directory_that_was_removed_or_moved_since_is_not_the_one_that_is_written_to() {
        let (directory, root) = place();
        let there = |name: &str| directory.path().join(name);
        let make = |name: &str| {
            Directories::default().make(&root, &path(name), 0o755, time(1), &POLICY).unwrap()
        };
        let open_file = |name: &str| {
            root.in_parent(&path(name), "create", |parent, leaf| {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                rustix::fs::openat(parent, leaf, flags, Mode::RUSR).map(drop)
            })
        };
        make("d");
        open_file("d/first").unwrap();
        fs::rename(there("d"), there("moved")).unwrap();
        fs::create_dir(there("d")).unwrap();
        assert_eq!(make("d"), Made::AlreadyThere);
        open_file("d/second").unwrap();
        assert!(there("d/second").exists() && !there("moved/second").exists());
        fs::remove_dir_all(there("d")).unwrap();
        assert_eq!(make("d"), Made::Created);
        root.in_parent(&path("d/third"), "link", |parent, leaf| {
            let flags = OFlags::TMPFILE | OFlags::WRONLY;
            let file = rustix::fs::openat(parent, c".", flags, Mode::RUSR)?;
            crate::io::naming::link_nameless(&file, parent, leaf)
        })
        .unwrap();
        assert!(there("d/third").exists());
    }

    #[test]
    fn a_file_or_a_link_is_no_directory_to_merge() {
        let (directory, root) = place();
        fs::write(directory.path().join("file"), "").unwrap();
        symlink(".", directory.path().join("link")).unwrap();
        for name in ["file", "link"] {
            let outcome = Directories::default().make(&root, &path(name), 0o755, time(0), &POLICY);
            assert!(matches!(outcome, Err(FileError::Exists { .. })), "{name}");
        }
    }

    #[test]
    fn a_directory_swapped_for_a_link_before_the_end_is_named_and_left_alone() {
        let (directory, root) = place();
        let outside = tempfile::tempdir().unwrap();
        let before = fs::metadata(outside.path()).unwrap();
        let mut directories = Directories::default();
        directories.make(&root, &path("d"), 0o500, time(1), &POLICY).unwrap();
        fs::remove_dir(directory.path().join("d")).unwrap();
        symlink(outside.path(), directory.path().join("d")).unwrap();
        assert_eq!(directories.finish(&root, false).len(), 1);
        let after = fs::metadata(outside.path()).unwrap();
        assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
    }
}
