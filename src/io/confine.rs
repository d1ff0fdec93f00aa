//! Keeps every path below one directory, by held descriptors.
//!
//! A path is never handed to the kernel as a whole: its directory is opened beneath the held
//! root without following any link, and the last component is then used relative to that
//! descriptor. Whatever another process swaps meanwhile, nothing outside is touched. What is
//! done to files is the business of `files`; names are checked in `name`.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::name::{RelativePath, escape_path};
use super::recent::Recent;

/// Open directories kept for the next file in them. Trees come directory by directory, so a few
/// would do; 64 leave most of the usual 1,024 descriptors to files and sockets.
const DIRECTORIES_KEPT: usize = 64;

/// How often an open is tried again when the kernel could not rule out a race (EAGAIN).
const RACE_RETRIES: usize = 128;

/// What went wrong with a file, by path. Paths are local and escaped for a terminal.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being tried, as a verb: "create", "write to".
        action: &'static str,
        /// The path it was tried on.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory on the way is a symbolic link or no directory; it was not followed.
    #[error("{path} lies behind a symbolic link or behind something that is no directory")]
    Blocked {
        /// The path that was to be reached.
        path: String,
    },
    /// Something is there already; it was left as it is.
    #[error("{path} exists already and was left untouched")]
    Exists {
        /// The path of what is there.
        path: String,
    },
    /// The receive directory itself, which a sender of this machine walked into.
    #[error("{path} would be the receive directory in itself")]
    Itself {
        /// The path of what was to be received.
        path: String,
    },
    /// A hard link to a file that was not stored.
    #[error("{path} would be a further name of a file that is not there")]
    Fileless {
        /// The path of the link.
        path: String,
    },
    /// A symbolic link that says it leads out of its tree; it was not made.
    #[error("the link {path} would lead out of its tree")]
    LinkLeavesTree {
        /// The path of the link.
        path: String,
    },
    /// Another process, or another transfer of this one, writes the same file now.
    #[error("{path} is already being received")]
    Busy {
        /// The final path of the file.
        path: String,
    },
    /// The temporary name is taken by something that ufx would not have left there.
    #[error("{path} is in the way: it is no unfinished file of this user; remove it")]
    Occupied {
        /// The temporary path.
        path: String,
    },
    /// Too little space.
    #[error(
        "no space for {path}: {wanted} bytes are needed, {available} are free, \
         of which {kept} stay free"
    )]
    NoSpace {
        /// The final path of the file.
        path: String,
        /// Bytes the file still needs.
        wanted: u64,
        /// Bytes free for this user.
        available: u64,
        /// Bytes that ufx leaves free, see `space_to_keep`.
        kept: u64,
    },
    /// A write or a read reached over the end that was announced.
    #[error("{path} was announced with {size} bytes, not {end}")]
    BeyondEnd {
        /// The final path of the file.
        path: String,
        /// Where the write or the read would have ended.
        end: u64,
        /// The announced size.
        size: u64,
    },
}

impl FileError {
    /// Whether no descriptor was to be had: that may be otherwise a moment later.
    pub fn is_shortage(&self) -> bool {
        let FileError::Io { source, .. } = self else { return false };
        [Errno::MFILE, Errno::NFILE]
            .map(Errno::raw_os_error)
            .map(Some)
            .contains(&source.raw_os_error())
    }
}

/// How directories below the root are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// One `openat2` for the whole path; the kernel refuses links and leaving the root.
    Kernel,
    /// Component by component with held descriptors, where `openat2` is missing (before Linux
    /// 5.6) or forbidden (seccomp of older containers). As safe, and slower by the depth.
    Steps,
}

/// One held directory; nothing outside it is ever opened, created or changed through it.
#[derive(Debug)]
pub struct Root {
    directory: Arc<OwnedFd>,
    /// As the user wrote it; for messages only.
    path: Arc<Path>,
    lookup: Lookup,
    /// Directories by their path. A held descriptor stays beneath the root, whatever takes its
    /// name, so an entry can be out of date but never unsafe.
    parents: Mutex<Recent<Vec<u8>, Arc<OwnedFd>>>,
    /// Bytes of small files since the free space was last looked at.
    unchecked: AtomicU64,
    /// Where a new file had the mode that it was made with, and which that was. The directory is
    /// not held open for it.
    keeps_mode: Mutex<Option<(Weak<OwnedFd>, u32)>>,
}

impl Root {
    /// Counts bytes about to be written in files too small to look at the free space for each;
    /// returns how many they are since it was last looked at. The first time counts as many.
    pub(super) fn count_unchecked(&self, bytes: u64) -> u64 {
        self.unchecked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// The free space was looked at.
    pub(super) fn reset_unchecked(&self) {
        self.unchecked.store(0, Ordering::Relaxed);
    }

    /// Whether `file`, made with `mode` in `parent`, has it: an access control list of the
    /// directory may say otherwise. It does so for all files alike: the first one is looked at.
    pub(super) fn keeps_mode(&self, parent: &Arc<OwnedFd>, file: &OwnedFd, mode: u32) -> bool {
        let mut known = self.keeps_mode.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |at: &Weak<OwnedFd>| std::ptr::eq(at.as_ptr(), Arc::as_ptr(parent));
        if known.as_ref().is_some_and(|(at, kept)| here(at) && *kept == mode) {
            return true;
        }
        let has_it = rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & 0o7777 == mode);
        *known = has_it.then(|| (Arc::downgrade(parent), mode));
        has_it
    }

    /// Holds `path`, and creates it if only its last component is missing.
    ///
    /// Links in `path` are followed: it is the user's own word, not a stranger's.
    ///
    /// # Errors
    /// The directory can neither be opened nor created.
    pub fn create(path: &Path) -> Result<Root, FileError> {
        match DirBuilder::new().create(path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                let action = "create the directory";
                Err(FileError::Io { action, path: escape_path(path), source })
            }
            _ => Root::open(path),
        }
    }

    /// Holds the existing directory `path`.
    ///
    /// # Errors
    /// There is no such directory, or it may not be searched.
    pub fn open(path: &Path) -> Result<Root, FileError> {
        Root::keeping(path, DIRECTORIES_KEPT)
    }

    /// The same, with another number of open directories kept.
    pub(super) fn keeping(path: &Path, directories_kept: usize) -> Result<Root, FileError> {
        let lookup = if openat2_works() { Lookup::Kernel } else { Lookup::Steps };
        Root::with(path, lookup, directories_kept)
    }

    fn with(path: &Path, lookup: Lookup, directories_kept: usize) -> Result<Root, FileError> {
        let directory = rustix::fs::open(path, DIRECTORY_FLAGS, Mode::empty())
            .map_err(|errno| io_error("open the directory", escape_path(path), errno))?;
        Ok(Root {
            directory: Arc::new(directory),
            path: path.into(),
            lookup,
            parents: Mutex::new(Recent::new(directories_kept)),
            unchecked: AtomicU64::new(u64::MAX / 2),
            keeps_mode: Mutex::default(),
        })
    }

    /// Whether the root is the directory of this device and inode of this machine.
    pub fn is(&self, device: u64, inode: u64) -> bool {
        rustix::fs::fstat(&self.directory)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
    }

    /// Makes all of its file system survive a power cut.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync_file_system(&self) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, c".", flags, Mode::empty());
        opened
            .and_then(rustix::fs::syncfs)
            .map_err(|errno| io_error("sync the file system of", self.shown_bytes(b"."), errno))
    }

    /// The directory as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The full local path of `path`, escaped, for messages.
    pub fn shown(&self, path: &RelativePath) -> String {
        self.shown_bytes(path.as_bytes())
    }

    /// The same for a name of our own, which no `RelativePath` can be.
    pub(super) fn shown_bytes(&self, path: &[u8]) -> String {
        shown_below(&self.path, path)
    }

    /// For a message that is made later, if at all.
    pub(super) fn shared_path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// The descriptor of the root itself, good for `*at` calls and `fstatfs` only.
    pub fn as_directory(&self) -> impl AsFd + '_ {
        self.directory.as_fd()
    }

    /// What lies at `path`, a link not followed; `None` if nothing does.
    ///
    /// # Errors
    /// The directory of `path` cannot be reached, or the kernel refuses.
    pub fn stat(&self, path: &RelativePath) -> Result<Option<Stat>, FileError> {
        let outcome = self.in_parent(path, "look at", |parent, leaf| {
            match rustix::fs::statat(parent, leaf, AtFlags::SYMLINK_NOFOLLOW) {
                // A name too long for this file system cannot be there.
                Err(Errno::NAMETOOLONG) => Ok(None),
                outcome => outcome.map(Some),
            }
        });
        match outcome {
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            outcome => outcome,
        }
    }

    /// Runs `operation` on the directory that `path` lies in and on its last component; an error
    /// of it names `action` and the path.
    ///
    /// Tried a second time when the directory was a kept one that has been removed meanwhile.
    pub(super) fn in_parent<T>(
        &self,
        path: &RelativePath,
        action: &'static str,
        mut operation: impl FnMut(&Arc<OwnedFd>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T, FileError> {
        let (directory, leaf) = path.split();
        let parent = self.directory_at(directory).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                FileError::Blocked { path: self.shown(path) }
            }
            errno => io_error("reach the directory of", self.shown(path), errno),
        })?;
        let mut outcome = operation(&parent, leaf);
        if matches!(outcome, Err(Errno::NOENT)) && was_removed(&parent) && !directory.is_empty() {
            self.parents().remove(directory);
            if let Ok(parent) = self.directory_at(directory) {
                outcome = operation(&parent, leaf);
            }
        }
        if matches!(outcome, Err(Errno::MFILE | Errno::NFILE)) && self.let_go() {
            outcome = operation(&parent, leaf);
        }
        outcome.map_err(|errno| io_error(action, self.shown(path), errno))
    }

    /// The directory of the given path (empty: the root itself), from the cache if it is there.
    fn directory_at(&self, path: &[u8]) -> rustix::io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.directory));
        }
        if let Some(known) = self.parents().get(path) {
            return Ok(known);
        }
        let open = || match self.lookup {
            Lookup::Kernel => open_beneath(&self.directory, path),
            Lookup::Steps => open_in_steps(&self.directory, path),
        };
        let opened = Arc::new(match open() {
            Err(Errno::MFILE | Errno::NFILE) if self.let_go() => open()?,
            opened => opened?,
        });
        self.parents().insert(path.to_vec(), Arc::clone(&opened));
        Ok(opened)
    }

    /// The directory `path` is looked up again when it is needed next: whoever owns it may have
    /// removed or moved the one that is kept.
    pub(super) fn forget(&self, path: &RelativePath) {
        self.parents().remove(path.as_bytes());
    }

    /// Closes the kept directories: descriptors are short. False if there were none.
    fn let_go(&self) -> bool {
        self.parents().clear()
    }

    fn parents(&self) -> MutexGuard<'_, Recent<Vec<u8>, Arc<OwnedFd>>> {
        // A cache is whole between any two of its calls, so a panic elsewhere spoils nothing.
        self.parents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of `name` below `root`, escaped, for messages.
pub(super) fn shown_below(root: &Path, name: &[u8]) -> String {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    escape_path(&root.join(OsStr::from_bytes(name)))
}

/// The form of an error of rustix with its path.
pub(super) fn io_error(action: &'static str, path: String, errno: Errno) -> FileError {
    FileError::Io { action, path, source: errno.into() }
}

/// For directories that are only walked through and created in. O_PATH needs no permission to
/// read them, and O_NOFOLLOW with O_DIRECTORY refuses a link (ENOTDIR).
const DIRECTORY_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_beneath(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, DIRECTORY_FLAGS, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RACE_RETRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

fn open_in_steps(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = DIRECTORY_FLAGS | OFlags::NOFOLLOW;
    let mut current: Option<OwnedFd> = None;
    for component in path.split(|&byte| byte == b'/') {
        let here = current.as_ref().unwrap_or(root);
        current = Some(rustix::fs::openat(here, component, flags, Mode::empty())?);
    }
    current.ok_or(Errno::INVAL)
}

/// Whether this kernel has `openat2` and lets us use it: ENOSYS before Linux 5.6, EPERM or
/// ENOSYS from seccomp filters that do not know it.
fn openat2_works() -> bool {
    let resolve = ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, c"/", DIRECTORY_FLAGS, Mode::empty(), resolve).is_ok()
}

/// Whether a held directory has lost its last name.
fn was_removed(directory: &OwnedFd) -> bool {
    rustix::fs::fstat(directory).is_ok_and(|stat| stat.st_nlink == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LOOKUPS: [Lookup; 2] = [Lookup::Kernel, Lookup::Steps];

    fn path(name: &str) -> RelativePath {
        RelativePath::parse(name.as_bytes()).unwrap()
    }

    fn create_file(root: &Root, name: &str) -> Result<OwnedFd, FileError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        root.in_parent(&path(name), "create", |parent, leaf| {
            rustix::fs::openat(parent, leaf, flags, Mode::RUSR)
        })
    }

    #[test]
    fn a_directory_whose_files_keep_their_mode_is_not_held_open_for_that() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let parent = Arc::new(OwnedFd::from(fs::File::open(directory.path()).unwrap()));
        let file = OwnedFd::from(fs::File::create(directory.path().join("file")).unwrap());
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o640)).unwrap();
        assert!(!root.keeps_mode(&parent, &file, 0o600));
        assert!(root.keeps_mode(&parent, &file, 0o640));
        assert!(root.keeps_mode(&parent, &file, 0o640));
        assert_eq!(Arc::strong_count(&parent), 1);
    }

    #[test]
    fn the_directory_is_created_if_only_its_last_component_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let wanted = place.path().join("new");
        Root::create(&wanted).unwrap();
        assert!(wanted.is_dir());
        Root::create(&wanted).unwrap();

        let error = Root::create(&place.path().join("a/b")).unwrap_err();
        assert!(error.to_string().contains("cannot create the directory"), "{error}");
        fs::write(place.path().join("file"), "").unwrap();
        assert!(Root::create(&place.path().join("file")).is_err());
    }

    #[test]
    fn a_link_on_the_way_is_never_followed() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("sub")).unwrap();
        fs::create_dir_all(place.path().join("real/sub")).unwrap();
        symlink(outside.path(), place.path().join("absolute")).unwrap();
        symlink("real", place.path().join("relative")).unwrap();
        symlink("/proc/self/cwd", place.path().join("magic")).unwrap();
        symlink(outside.path(), place.path().join("real/deep")).unwrap();

        for lookup in LOOKUPS {
            let root = Root::with(place.path(), lookup, 8).unwrap();
            for name in ["absolute/x", "relative/x", "magic/x", "absolute/sub/x", "real/deep/sub/x"]
            {
                let error = create_file(&root, name).unwrap_err();
                assert!(matches!(error, FileError::Blocked { .. }), "{lookup:?} {error}");
                assert!(root.stat(&path(name)).is_err());
            }
            let inside = format!("real/sub/{lookup:?}");
            create_file(&root, &inside).unwrap();
            assert!(root.stat(&path(&inside)).unwrap().is_some());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn even_a_path_that_was_never_checked_does_not_lead_out() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        fs::create_dir(place.path().join("sub")).unwrap();
        for name in [&b".."[..], b"sub/../..", b"/", b"/etc"] {
            assert!(open_beneath(&root.directory, name).is_err());
        }
    }

    #[test]
    fn a_file_on_the_way_and_a_missing_directory_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        for lookup in LOOKUPS {
            let root = Root::with(place.path(), lookup, 8).unwrap();
            let blocked = create_file(&root, "file/x").unwrap_err();
            assert!(matches!(blocked, FileError::Blocked { .. }), "{blocked}");
            let missing = create_file(&root, "none/x").unwrap_err();
            assert!(matches!(missing, FileError::Io { .. }), "{missing}");
            assert!(root.stat(&path("none/x")).unwrap().is_none());
        }
    }

    #[test]
    fn a_kept_directory_that_was_replaced_is_opened_anew() {
        let place = tempfile::tempdir().unwrap();
        let sub = place.path().join("sub");
        fs::create_dir(&sub).unwrap();
        let root = Root::open(place.path()).unwrap();
        assert!(root.stat(&path("sub/x")).unwrap().is_none());
        fs::remove_dir(&sub).unwrap();
        fs::create_dir(&sub).unwrap();
        create_file(&root, "sub/x").unwrap();
        assert!(sub.join("x").exists());
    }

    #[test]
    fn a_directory_swapped_for_a_link_all_the_time_lets_nothing_out() {
        for (lookup, kept) in [(Lookup::Kernel, 0), (Lookup::Steps, 0), (Lookup::Kernel, 8)] {
            let place = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            let (swapped, aside) = (place.path().join("a"), place.path().join("aside"));
            fs::create_dir_all(swapped.join("b")).unwrap();
            fs::create_dir(outside.path().join("b")).unwrap();
            let root = Root::with(place.path(), lookup, kept).unwrap();
            let done = AtomicBool::new(false);
            let mut created = 0;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        fs::rename(&swapped, &aside).unwrap();
                        symlink(outside.path(), &swapped).unwrap();
                        fs::remove_file(&swapped).unwrap();
                        fs::rename(&aside, &swapped).unwrap();
                    }
                });
                for number in 0..2_000 {
                    created += usize::from(create_file(&root, &format!("a/b/{number}")).is_ok());
                }
                done.store(true, Ordering::Relaxed);
            });
            assert_eq!(fs::read_dir(outside.path().join("b")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(swapped.join("b")).unwrap().count(), created);
        }
    }
}
