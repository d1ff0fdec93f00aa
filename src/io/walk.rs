//! Lists what lies below the PATHs of a sender: one entry at a time, in a fixed order, with
//! everything that cannot be sent named.
//!
//! Each PATH in the order given; a directory before what is in it; names within a directory in
//! the order of their bytes. Memory holds the names of the directories on the way down to the
//! present entry, and nothing else. Links are never followed.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::attributes;
use super::metadata::{Identity, may_have_holes};
use super::name::{Escaped, NameError, RelativePath};
use super::source::{EntryKind, Place, SourceEntry, SourceError, Sources};
use crate::proto::Attributes;

/// Permission bits of a file that anybody may read.
const READABLE_BY_ALL: u32 = 0o444;

/// How much of a directory is read at once; what the C library uses too.
const LISTING_BYTES: usize = 32 << 10;

/// What a walk comes across.
#[derive(Debug)]
pub enum WalkItem {
    /// Something to send.
    Entry(SourceEntry),
    /// Something that is not sent; the walk goes on behind it.
    Skipped(Skipped),
    /// The last entry, a pipe, goes on for another block of so many bytes.
    More(u32),
    /// The last entry, a pipe, cannot be read to its end.
    Broken(SourceError),
}

/// Something that is not sent, and why.
#[derive(Debug)]
pub struct Skipped {
    /// Its name below the PATHs, as the receiver would have it; it need not be a valid one.
    pub name: Vec<u8>,
    /// Why.
    pub reason: SkipReason,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", Escaped(&self.name), self.reason)
    }
}

/// Why something is not sent.
#[derive(Debug, thiserror::Error)]
pub enum SkipReason {
    /// No file, directory or link.
    #[error("is a {}", special_name(*.0))]
    Special(FileType),
    /// A link that is absolute or leads out of its PATH.
    #[error("is a link that leaves the tree")]
    LinkLeavesTree,
    /// It cannot be opened or looked at.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// No receiver takes the name, or the tree is too deep.
    #[error("cannot be sent: {0}")]
    Name(NameError),
    /// Its extended attributes cannot be read, or are too large.
    #[error("its extended attributes cannot be read: {0}")]
    Attributes(Errno),
    /// It was listed, and then it was gone.
    #[error("vanished")]
    Vanished,
}

fn special_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "special file",
    }
}

impl From<Errno> for SkipReason {
    fn from(errno: Errno) -> SkipReason {
        match errno {
            Errno::NOENT => SkipReason::Vanished,
            other => SkipReason::Unreadable(other.into()),
        }
    }
}

/// The iterator over everything below the PATHs of [`Sources`].
#[derive(Debug)]
pub struct Walk<'a> {
    sources: &'a Sources,
    /// How many PATHs were begun.
    begun: usize,
    /// The directories on the way to the present entry, the deepest last.
    levels: Vec<Level>,
    /// The name of the deepest directory.
    path: Vec<u8>,
    /// Where listings are read into; its length stays 0.
    listing: Vec<u8>,
}

/// An open directory and those of its names that are still to come.
#[derive(Debug)]
struct Level {
    place: Place,
    directory: OwnedFd,
    names: Names,
    /// Length of the path of the directory above.
    parent_bytes: usize,
}

impl<'a> Walk<'a> {
    /// Starts at the first PATH.
    pub fn new(sources: &'a Sources) -> Walk<'a> {
        Walk { sources, begun: 0, levels: Vec::new(), path: Vec::new(), listing: listing_buffer() }
    }

    /// Begins the next PATH. None if there is no more, or nothing to say of this one.
    fn begin(&mut self) -> Option<WalkItem> {
        let sources = self.sources;
        let (place, name) = sources.starts().get(self.begun)?;
        self.begun += 1;
        let root = match sources.root(*place) {
            Ok(root) => root,
            Err(error) => {
                let reason = SkipReason::Unreadable(io::Error::other(error));
                return Some(skipped(name.as_bytes(), reason));
            }
        };
        let (item, below) = self.visit(*place, root.as_directory().as_fd(), name.as_bytes());
        self.levels.extend(below);
        item
    }

    /// Makes of `name` in `directory` what the caller gets, and the level below it if it is a
    /// directory.
    fn visit(
        &mut self,
        place: Place,
        directory: BorrowedFd<'_>,
        name: &[u8],
    ) -> (Option<WalkItem>, Option<Level>) {
        let parent_bytes = self.path.len();
        if parent_bytes > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let listing = &mut self.listing;
        let (item, below) = match look(self.sources, place, directory, name, &self.path, listing) {
            Ok(Some((entry, below))) => (Some(WalkItem::Entry(entry)), below),
            Ok(None) => (None, None),
            Err(reason) => (Some(skipped(&self.path, reason)), None),
        };
        if below.is_none() {
            self.path.truncate(parent_bytes);
        }
        let level = |(directory, names)| Level { place, directory, names, parent_bytes };
        (item, below.map(level))
    }
}

/// What the caller gets for something that is not sent.
pub(super) fn skipped(name: &[u8], reason: SkipReason) -> WalkItem {
    WalkItem::Skipped(Skipped { name: name.to_vec(), reason })
}

/// What [`look`] reads listings into.
pub(super) fn listing_buffer() -> Vec<u8> {
    Vec::with_capacity(LISTING_BYTES)
}

impl Iterator for Walk<'_> {
    type Item = WalkItem;

    fn next(&mut self) -> Option<WalkItem> {
        loop {
            let Some(mut level) = self.levels.pop() else {
                if self.begun == self.sources.starts().len() {
                    return None;
                }
                match self.begin() {
                    None => continue,
                    found => return found,
                }
            };
            let Some(name) = level.names.next() else {
                self.path.truncate(level.parent_bytes);
                continue;
            };
            let (item, below) = self.visit(level.place, level.directory.as_fd(), name);
            self.levels.push(level);
            self.levels.extend(below);
            if item.is_some() {
                return item;
            }
        }
    }
}

/// An entry, and what lies below it if it is a directory.
pub(super) type Found = (SourceEntry, Option<(OwnedFd, Names)>);

/// Looks at `name` in `directory`, which is `path` below `place`. A directory is opened and
/// listed. None for what the user wants left out.
pub(super) fn look(
    sources: &Sources,
    place: Place,
    directory: impl AsFd,
    name: &[u8],
    path: &[u8],
    listing: &mut Vec<u8>,
) -> Result<Option<Found>, SkipReason> {
    let directory = directory.as_fd();
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    if sources.excludes.match_path(path, file_type == FileType::Directory) {
        return Ok(None);
    }
    let path = RelativePath::parse(path).map_err(SkipReason::Name)?;
    let found = |name, kind, stat: &Stat, below: Option<(OwnedFd, Names)>| {
        let (mode, identity) = (stat.st_mode & 0o7777, Identity::of(stat));
        let has_other_names = file_type == FileType::RegularFile && stat.st_nlink > 1;
        let mut attributes = Attributes::default();
        if sources.archive {
            attributes.owner = attributes::owner(stat);
            if let Some((opened, _)) = &below {
                attributes.extended = attributes::read(opened).map_err(SkipReason::Attributes)?;
            }
        }
        let entry = SourceEntry { place, name, kind, mode, identity, attributes, has_other_names };
        Ok(Some((entry, below)))
    };
    match file_type {
        FileType::RegularFile => {
            // Better named now than in the middle of the transfer, if it does not cost a system
            // call for every file. Whatever else is wrong shows when the file is opened.
            if stat.st_mode & READABLE_BY_ALL != READABLE_BY_ALL
                && let Err(errno @ (Errno::ACCESS | Errno::PERM)) =
                    rustix::fs::accessat(directory, name, Access::READ_OK, AtFlags::EACCESS)
            {
                return Err(errno.into());
            }
            let kind = EntryKind::File { may_have_holes: may_have_holes(&stat) };
            found(path, kind, &stat, None)
        }
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            // Of the directory that was opened, should it be another one by now.
            let stat = rustix::fs::fstat(&opened)?;
            let names = Names::list(&opened, listing)?;
            found(path, EntryKind::Directory, &stat, Some((opened, names)))
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes();
            if !sources.links.allow(&path, &target) {
                return Err(SkipReason::LinkLeavesTree);
            }
            found(path, EntryKind::Link { target }, &stat, None)
        }
        special => Err(SkipReason::Special(special)),
    }
}

/// The names in a directory, in the order of their bytes. Kept in one piece: a directory of a
/// million files takes 30 MB this way, and would take three times that as separate strings.
#[derive(Debug)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each name starts and how long it is, in reverse order.
    places: Vec<(u32, u16)>,
}

impl Names {
    fn list(directory: &OwnedFd, listing: &mut Vec<u8>) -> rustix::io::Result<Names> {
        let mut names = Names { bytes: Vec::new(), places: Vec::new() };
        let mut entries = RawDir::new(directory, listing.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            names.push(entry?.file_name())?;
        }
        let bytes = &names.bytes;
        names
            .places
            .sort_unstable_by(|one, other| name_at(bytes, *other).cmp(name_at(bytes, *one)));
        Ok(names)
    }

    fn push(&mut self, name: &CStr) -> rustix::io::Result<()> {
        let name = name.to_bytes();
        if name == b"." || name == b".." {
            return Ok(());
        }
        // 4 GiB of names in one directory, or a name of 64 KiB: no file system has that.
        let start = u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.bytes.extend_from_slice(name);
        self.places.push((start, length));
        Ok(())
    }

    /// Takes the next name.
    fn next(&mut self) -> Option<&[u8]> {
        let place = self.places.pop()?;
        Some(name_at(&self.bytes, place))
    }
}

fn name_at(bytes: &[u8], (start, length): (u32, u16)) -> &[u8] {
    let start = start as usize;
    bytes.get(start..start + usize::from(length)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use super::super::name::{DEPTH_MAX, Escaped};
    use super::*;

    /// The walk as lines: a letter for the kind and the name; `-`, name and reason if skipped.
    fn listing(base: &Path, names: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = names.iter().map(|name| base.join(name)).collect();
        let sources = Sources::new(&paths).unwrap();
        let line = |item| match item {
            WalkItem::Entry(SourceEntry { name, kind, .. }) => match kind {
                EntryKind::File { .. } => format!("f {name}"),
                EntryKind::Directory => format!("d {name}"),
                EntryKind::Link { target } => format!("l {name} {}", Escaped(&target)),
                EntryKind::HardLink { first } => format!("h {name} {first}"),
                EntryKind::Pipe => unreachable!("nothing here is a pipe"),
            },
            WalkItem::Skipped(Skipped { name, reason }) => {
                format!("- {} {reason}", Escaped(&name))
            }
            WalkItem::More(_) | WalkItem::Broken(_) => unreachable!("nothing here is a pipe"),
        };
        Walk::new(&sources).map(line).collect()
    }

    fn entry(path: &Path) -> SourceEntry {
        let sources = Sources::new(&[path.to_owned()]).unwrap();
        match Walk::new(&sources).next() {
            Some(WalkItem::Entry(entry)) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tree_is_listed_in_order_and_what_cannot_be_sent_is_named() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("sub/empty")).unwrap();
        for name in ["b", "a", "sub.txt", "sub/x", "Z", "sub/\n", ".ufx-0123456789abcdef.part"] {
            fs::write(tree.join(name), "").unwrap();
        }
        fs::write(tree.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("sub/x", tree.join("inside")).unwrap();
        symlink("sub", tree.join("directory")).unwrap();
        symlink("/etc/passwd", tree.join("absolute")).unwrap();
        symlink("../other", tree.join("outside")).unwrap();
        symlink("../../other", tree.join("sub/outside")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("pipe"), Mode::RUSR).unwrap();
        let _socket = UnixListener::bind(tree.join("socket")).unwrap();

        let expected = [
            "d tree",
            "- tree/.ufx-0123456789abcdef.part cannot be sent: the name is one that ufx gives \
             to unfinished files",
            "f tree/Z",
            "f tree/a",
            "- tree/absolute is a link that leaves the tree",
            "f tree/b",
            "l tree/directory sub",
            "l tree/inside sub/x",
            "- tree/outside is a link that leaves the tree",
            "- tree/pipe is a named pipe",
            "- tree/socket is a socket",
            "d tree/sub",
            "f tree/sub/\\n",
            "d tree/sub/empty",
            "- tree/sub/outside is a link that leaves the tree",
            "f tree/sub/x",
            "f tree/sub.txt",
            "f tree/\\xff",
        ];
        assert_eq!(listing(place.path(), &["tree"]), expected);
    }

    #[test]
    fn paths_come_in_the_order_given_and_a_link_given_as_path_is_a_link() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("b/in")).unwrap();
        fs::write(place.path().join("a"), "").unwrap();
        symlink("b", place.path().join("link")).unwrap();
        symlink("/", place.path().join("out")).unwrap();
        let found = listing(place.path(), &["link/", "b", "out", "a", "b/in/."]);
        let expected =
            ["l link b", "d b", "d b/in", "- out is a link that leaves the tree", "f a", "d in"];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_entry_carries_mode_times_and_identity() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, "12345").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let entry = entry(&path);
        assert_eq!(entry.mode, 0o4751);
        assert_eq!(entry.kind, EntryKind::File { may_have_holes: false });
        let identity = entry.identity;
        assert_eq!((identity.device, identity.inode), (metadata.dev(), metadata.ino()));
        assert_eq!(identity.size, 5);
        assert_eq!(identity.modified.seconds(), metadata.mtime());
        assert_eq!(i64::from(identity.changed.nanoseconds()), metadata.ctime_nsec());
    }

    #[test]
    fn what_may_not_be_read_is_named_and_the_walk_goes_on() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("t");
        fs::create_dir_all(tree.join("closed/in")).unwrap();
        for name in ["a", "secret", "z"] {
            fs::write(tree.join(name), "").unwrap();
        }
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(place.path(), 0o755);
        set(&tree.join("closed"), 0o000);
        set(&tree.join("secret"), 0o000);
        // Root may read everything, so the walk runs on a thread of another user; user ids
        // belong to threads in Linux.
        let walk = || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            listing(place.path(), &["t"])
        };
        let found = std::thread::scope(|scope| scope.spawn(walk).join().unwrap());
        set(&tree.join("closed"), 0o700);
        let denied = "cannot be read: Permission denied (os error 13)";
        let (closed, secret) = (format!("- t/closed {denied}"), format!("- t/secret {denied}"));
        assert_eq!(found, ["d t", "f t/a", &closed, &secret, "f t/z"]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_sent_down_to_the_limit() {
        let place = tempfile::tempdir().unwrap();
        let mut path = place.path().join("d");
        fs::create_dir(&path).unwrap();
        for _ in 1..DEPTH_MAX + 2 {
            path.push("d");
            fs::create_dir(&path).unwrap();
        }
        let found = listing(place.path(), &["d"]);
        assert_eq!(found.len(), DEPTH_MAX + 1);
        assert!(found[DEPTH_MAX].contains("more than 256 components"), "{}", found[DEPTH_MAX]);
    }

    #[test]
    fn a_directory_emptied_during_the_walk_has_its_names_skipped() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("t");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("gone"), "").unwrap();
        let sources = Sources::new(std::slice::from_ref(&tree)).unwrap();
        let mut walk = Walk::new(&sources);
        assert!(matches!(walk.next(), Some(WalkItem::Entry(_))));
        fs::remove_file(tree.join("gone")).unwrap();
        let item = walk.next();
        let Some(WalkItem::Skipped(skipped)) = item else { panic!("{item:?}") };
        assert_eq!(skipped.to_string(), "t/gone: vanished");
        assert!(walk.next().is_none());
    }
}
