//! The sender's files: which PATH lands under which name, and reading a file as long as it is
//! the one that was announced.
//!
//! What lies below the PATHs is listed by `walk`. Files are never mapped into memory: one that
//! is shortened meanwhile would kill the process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;

use super::confine::{FileError, Root};
use super::exclude::Excludes;
use super::listed::{self, Listed};
use super::metadata::Identity;
use super::name::{Links, NameError, RelativePath, escape_path};
use super::pipe::Pipe;
use super::recent::Recent;
use super::source_file::{Content, SourceFile};
use super::walk::{Walk, WalkItem};
use crate::proto::Attributes;

/// Directories that PATHs lie in which are held open at once.
const PLACES_KEPT: usize = 8;
/// Directories below each of them which are held open at once.
const DIRECTORIES_KEPT: usize = 16;
/// Source files held open at once: the ones being read, and those a lost chunk comes back to.
const FILES_KEPT: usize = 32;
/// From this size on the kernel is told to read ahead further; below, the call costs more than
/// it brings.
const ADVISED_BYTES_MIN: u64 = 1 << 20;

/// A PATH that cannot be sent as it was given.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// `/`, or something that means it: it has no name to land under.
    #[error("{path} is the root directory, which has no name to send it under")]
    RootDirectory {
        /// The PATH as given.
        path: String,
    },
    /// Two PATHs would land under one name.
    #[error("{first} and {second} would both land as {name}")]
    SameName {
        /// The name they share.
        name: String,
        /// The PATH that came first.
        first: String,
        /// The other one.
        second: String,
    },
    /// The name is one that no receiver takes.
    #[error("cannot send {path}: {reason}")]
    Name {
        /// The PATH as given.
        path: String,
        /// What is wrong with its name.
        reason: NameError,
    },
    /// It is not there, or may not be looked at.
    #[error("cannot send {path}: {source}")]
    Io {
        /// The PATH as given.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a file that was announced cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not the file, or not the state of it, that was announced.
    #[error("{path} changed while it was sent")]
    Changed {
        /// The local path.
        path: String,
    },
    /// It is gone.
    #[error("{path} vanished before it was sent")]
    Vanished {
        /// The local path.
        path: String,
    },
    /// A system call failed; most often a missing permission.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being tried, as a verb.
        action: &'static str,
        /// The local path.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the sender announces of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An ordinary file of `Identity::size` bytes.
    File {
        /// Whether parts may have no data; see [`SourceFile::data_ranges`].
        may_have_holes: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its text.
    Link {
        /// The bytes of the text, which stays inside the tree.
        target: Vec<u8>,
    },
    /// A file that can be read only once, and whose size is not known before its end:
    /// `Identity::size` is that of its first block.
    Pipe,
    /// A further name of a file that was announced before.
    HardLink {
        /// The name that it was announced under.
        first: RelativePath,
    },
}

/// One file, directory or link to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntry {
    /// Which of the sources' directories `name` is relative to.
    pub place: Place,
    /// The name at the receiver, and locally relative to `place`.
    pub name: RelativePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Size, times and where it is stored.
    pub identity: Identity,
    /// Owner and extended attributes, if those are sent.
    pub attributes: Attributes,
    /// Whether it is a file that has other names as well.
    pub has_other_names: bool,
}

impl SourceEntry {
    /// Bytes that it takes in the body.
    pub fn body_bytes(&self) -> u64 {
        match self.kind {
            EntryKind::File { .. } | EntryKind::Pipe => self.identity.size,
            EntryKind::Directory | EntryKind::Link { .. } | EntryKind::HardLink { .. } => 0,
        }
    }
}

/// A directory that one or more PATHs lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// The directory that the user stands in, where names are listed one by one.
    pub(super) const CURRENT: Place = Place(0);
    /// No directory: standard input.
    pub(super) const STDIN: Place = Place(u32::MAX);
}

/// The PATHs of one transfer. Each lands under its last component, so a name below it is also
/// its local path relative to the directory that the PATH lies in.
#[derive(Debug)]
pub struct Sources {
    places: Vec<Arc<Path>>,
    /// The PATHs in the order given.
    starts: Vec<(Place, RelativePath)>,
    /// Which symbolic links are sent.
    pub links: Links,
    /// What is left out.
    pub excludes: Excludes,
    /// Owners and extended attributes are sent.
    pub archive: bool,
    /// The names to send instead of PATHs.
    list: Option<Listed>,
    /// Standard input, to be sent instead of PATHs.
    pipe: Option<Arc<Pipe>>,
    roots: Mutex<Recent<u32, Arc<Root>>>,
}

impl Sources {
    /// Resolves `.` and `..`, drops trailing slashes, and checks that each PATH is there and
    /// lands under a name of its own. A PATH that is a link stands for the link.
    ///
    /// # Errors
    /// For the first PATH that is wrong; nothing was opened then.
    pub fn new(paths: &[PathBuf]) -> Result<Sources, PathError> {
        let mut places = BTreeMap::new();
        let mut given: BTreeMap<RelativePath, &PathBuf> = BTreeMap::new();
        let mut starts = Vec::with_capacity(paths.len());
        for path in paths {
            let (parent, name) = landing(path)?;
            let name = RelativePath::parse(&name)
                .map_err(|reason| PathError::Name { path: escape_path(path), reason })?;
            std::fs::symlink_metadata(local_path(&parent, &name))
                .map_err(|source| PathError::Io { path: escape_path(path), source })?;
            if let Some(first) = given.insert(name.clone(), path) {
                return Err(PathError::SameName {
                    name: name.to_string(),
                    first: escape_path(first),
                    second: escape_path(path),
                });
            }
            // Command lines are far shorter than 2^32 words.
            let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
            let place = *places.entry(parent).or_insert(next);
            starts.push((Place(place), name));
        }
        let mut places: Vec<(PathBuf, u32)> = places.into_iter().collect();
        places.sort_by_key(|(_, number)| *number);
        Ok(Sources {
            places: places.into_iter().map(|(path, _)| path.into()).collect(),
            starts,
            ..Sources::without_places()
        })
    }

    /// The names of a list, instead of PATHs.
    pub fn listed(list: Listed) -> Sources {
        let current = Path::new("").into();
        Sources { places: vec![current], list: Some(list), ..Sources::without_places() }
    }

    /// Standard input, instead of PATHs.
    pub fn piped(pipe: Arc<Pipe>) -> Sources {
        Sources { pipe: Some(pipe), ..Sources::without_places() }
    }

    /// Standard input, if that is what is sent.
    pub fn pipe(&self) -> Option<&Arc<Pipe>> {
        self.pipe.as_ref()
    }

    /// Whether all can be read from the beginning.
    pub fn can_begin_anew(&self) -> bool {
        self.pipe.as_ref().is_none_or(|pipe| pipe.is_held_from_start())
    }

    fn without_places() -> Sources {
        Sources {
            places: Vec::new(),
            starts: Vec::new(),
            links: Links::default(),
            excludes: Excludes::default(),
            archive: false,
            list: None,
            pipe: None,
            roots: Mutex::new(Recent::new(PLACES_KEPT)),
        }
    }

    /// Everything there is to send, and what cannot be sent.
    pub fn items(&self) -> Box<dyn Iterator<Item = WalkItem> + '_> {
        match (&self.list, &self.pipe) {
            (_, Some(pipe)) => Box::new(pipe.items()),
            (Some(list), None) => Box::new(listed::look_up(self, list)),
            (None, None) => Box::new(Walk::new(self)),
        }
    }

    /// The PATHs as places and names, in the order given.
    pub(super) fn starts(&self) -> &[(Place, RelativePath)] {
        &self.starts
    }

    /// Where a name lies locally, relative to where the user stands if the PATH was.
    pub fn local_path(&self, place: Place, name: &[u8]) -> PathBuf {
        self.directory(place).join(OsStr::from_bytes(name))
    }

    /// Opens the file of `entry` for reading, if it is still as announced.
    ///
    /// # Errors
    /// [`SourceError::Changed`] also when a directory on the way became a link.
    pub fn open(&self, entry: &SourceEntry) -> Result<SourceFile, SourceError> {
        let file = self.open_unchecked(entry)?;
        file.check_once()?;
        Ok(file)
    }

    /// The same without a look at what was opened: [`SourceFile::check_once`] has to follow before
    /// anything is made of what is read.
    ///
    /// # Errors
    /// As there.
    pub fn open_unchecked(&self, entry: &SourceEntry) -> Result<SourceFile, SourceError> {
        let identity = entry.identity;
        let opened = |content| SourceFile {
            is_checked: AtomicBool::new(matches!(content, Content::Pipe(_))),
            content,
            identity,
            directory: self.directory(entry.place),
            name: entry.name.clone(),
        };
        if let Some(pipe) = &self.pipe {
            return Ok(opened(Content::Pipe(Arc::clone(pipe))));
        }
        // Without O_NONBLOCK opening a pipe that took the file's place would wait for a writer.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.root(entry.place).and_then(|root| {
            root.in_parent(&entry.name, "open", |parent, leaf| {
                rustix::fs::openat(parent, leaf, flags, Mode::empty())
            })
        });
        let file = file.map_err(|error| {
            let path = self.local_path(entry.place, entry.name.as_bytes());
            source_error(error, escape_path(&path))
        })?;
        if identity.size >= ADVISED_BYTES_MIN {
            // Advice only: where it is not taken, reading works all the same.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        }
        Ok(opened(Content::File(file)))
    }

    /// The held directory of a place; opened again if it was not used for long.
    pub(super) fn root(&self, place: Place) -> Result<Arc<Root>, FileError> {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = roots.get(&place.0) {
            return Ok(root);
        }
        let directory = self.directory(place);
        let is_current = directory.as_os_str().is_empty();
        let directory = if is_current { Path::new(".") } else { &directory };
        let root = Arc::new(Root::keeping(directory, DIRECTORIES_KEPT)?);
        roots.insert(place.0, Arc::clone(&root));
        Ok(root)
    }

    fn directory(&self, place: Place) -> Arc<Path> {
        // Places are only made here, from the list itself; standard input has none.
        self.places.get(place.0 as usize).map_or_else(|| Path::new("").into(), Arc::clone)
    }
}

/// The directory `path` lies in (empty: the current one), and the name it lands under.
fn landing(path: &Path) -> Result<(PathBuf, Vec<u8>), PathError> {
    let mut bytes = path.as_os_str().as_bytes();
    let is_absolute = bytes.starts_with(b"/");
    while let Some(shorter) = bytes.strip_suffix(b"/") {
        bytes = shorter;
    }
    if bytes.is_empty() && is_absolute {
        return Err(PathError::RootDirectory { path: escape_path(path) });
    }
    let (parent, name) = match bytes.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (parent, rest) = bytes.split_at(slash);
            let parent = if parent.is_empty() { b"/" } else { parent };
            (parent, rest.get(1..).unwrap_or_default())
        }
        None => (&b""[..], bytes),
    };
    if name != b"." && name != b".." {
        return Ok((PathBuf::from(OsStr::from_bytes(parent)), name.to_vec()));
    }
    let real = std::fs::canonicalize(path)
        .map_err(|source| PathError::Io { path: escape_path(path), source })?;
    match (real.parent(), real.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.as_bytes().to_vec())),
        _ => Err(PathError::RootDirectory { path: escape_path(path) }),
    }
}

fn local_path(parent: &Path, name: &RelativePath) -> PathBuf {
    parent.join(OsStr::from_bytes(name.as_bytes()))
}

/// What an error on the way to an announced file means for the transfer.
fn source_error(error: FileError, path: String) -> SourceError {
    match error {
        FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            SourceError::Vanished { path }
        }
        // A link or a socket took the file's place.
        FileError::Io { source, .. }
            if [Errno::LOOP, Errno::NXIO]
                .iter()
                .any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            SourceError::Changed { path }
        }
        FileError::Io { action, source, .. } => SourceError::Io { action, path, source },
        _ => SourceError::Changed { path },
    }
}

/// Open files by the number that the caller gives their entry, the last used ones kept.
#[derive(Debug)]
pub struct OpenSources {
    recent: Recent<u64, Arc<SourceFile>>,
}

impl Default for OpenSources {
    fn default() -> OpenSources {
        OpenSources { recent: Recent::new(FILES_KEPT) }
    }
}

impl OpenSources {
    /// The open file of `entry`, which is number `number`; it may not be checked yet.
    ///
    /// # Errors
    /// As [`Sources::open_unchecked`], when it was not kept.
    pub fn get(
        &mut self,
        sources: &Sources,
        number: u64,
        entry: &SourceEntry,
    ) -> Result<Arc<SourceFile>, SourceError> {
        if let Some(open) = self.recent.get(&number) {
            return Ok(open);
        }
        let open = Arc::new(sources.open_unchecked(entry)?);
        self.recent.insert(number, Arc::clone(&open));
        Ok(open)
    }

    /// Closes the file of entry `number`, which is done with.
    pub fn close(&mut self, number: u64) {
        self.recent.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::IoSliceMut;
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::absolute;

    use super::super::source_file::{DataRange, ReadNow};
    use super::*;

    /// The entries of a walk over one file, and the means to open it.
    fn announce(path: &Path) -> (Sources, SourceEntry) {
        let sources = Sources::new(&[path.to_owned()]).unwrap();
        let item = Walk::new(&sources).next();
        let Some(WalkItem::Entry(entry)) = item else { panic!("{item:?}") };
        (sources, entry)
    }

    fn lands_as(path: &Path) -> String {
        let sources = Sources::new(&[path.to_owned()]).unwrap();
        sources.starts[0].1.to_string()
    }

    #[test]
    fn a_path_lands_under_its_last_component_whatever_its_form() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        symlink("a", base.join("link")).unwrap();
        let table = [
            ("a", "a"),
            ("a/", "a"),
            ("a///", "a"),
            ("a/b", "b"),
            ("a//b/", "b"),
            ("a/.", "a"),
            ("a/b/..", "a"),
            ("./a/../a/./b", "b"),
            ("link", "link"),
            ("link/", "link"),
            ("link/.", "a"),
            ("link/b", "b"),
        ];
        for (given, name) in table {
            assert_eq!(lands_as(&base.join(given)), name, "{given}");
        }
        let here = absolute(".").unwrap();
        let name = here.file_name().unwrap().to_string_lossy();
        assert_eq!(lands_as(Path::new(".")), name);
    }

    #[test]
    fn the_root_a_missing_path_and_two_of_one_name_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let paths = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().map(|name| place.path().join(name)).collect()
        };
        for root in ["/", "///", "/..", "/tmp/..", "/."] {
            let error = Sources::new(&[root.into()]).unwrap_err();
            assert!(matches!(error, PathError::RootDirectory { .. }), "{error}");
        }
        for missing in ["", "none", "none/.."] {
            let error = Sources::new(&[missing.into()]).unwrap_err();
            assert!(!matches!(error, PathError::RootDirectory { .. }), "{missing}: {error}");
        }
        fs::create_dir_all(place.path().join("x/same")).unwrap();
        fs::create_dir_all(place.path().join("y/same")).unwrap();
        let error = Sources::new(&paths(&["x/same", "y/same/"])).unwrap_err().to_string();
        assert!(error.contains("x/same") && error.contains("y/same"), "{error}");
        assert!(Sources::new(&paths(&["x", "x/."])).is_err());
    }

    #[test]
    fn a_file_is_read_from_any_offset() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        let (sources, entry) = announce(&path);
        let file = sources.open(&entry).unwrap();
        let (mut first, mut none, mut second) = ([0; 2], [0; 0], [0; 3]);
        let mut buffers = [&mut none[..], &mut first, &mut second].map(IoSliceMut::new);
        file.read_at(&mut buffers, 4).unwrap();
        assert_eq!((&first, &second), (b"45", b"678"));
        file.check_unchanged().unwrap();
    }

    #[test]
    fn a_file_that_shrinks_or_changes_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, "0123456789").unwrap();
        let (sources, entry) = announce(&path);
        let file = sources.open(&entry).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        let error = file.read_at(&mut [IoSliceMut::new(&mut [0; 6])], 0).unwrap_err();
        assert!(matches!(error, SourceError::Changed { .. }), "{error}");
        assert!(matches!(file.check_unchanged(), Err(SourceError::Changed { .. })));
        assert!(matches!(sources.open(&entry), Err(SourceError::Changed { .. })));
    }

    #[test]
    fn what_took_the_place_of_a_file_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        let other = place.path().join("other");
        fs::write(&path, "text").unwrap();
        fs::write(&other, "text").unwrap();
        let (sources, entry) = announce(&path);
        let changed = || matches!(sources.open(&entry), Err(SourceError::Changed { .. }));

        fs::rename(&path, place.path().join("aside")).unwrap();
        assert!(matches!(sources.open(&entry), Err(SourceError::Vanished { .. })));
        symlink(&other, &path).unwrap();
        assert!(changed(), "a link");
        fs::remove_file(&path).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(changed(), "another file");
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR).unwrap();
        assert!(changed(), "a pipe");
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(changed(), "a socket");
        drop(socket);
    }

    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("t");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/f"), "text").unwrap();
        let sources = Sources::new(std::slice::from_ref(&tree)).unwrap();
        let Some(WalkItem::Entry(entry)) = Walk::new(&sources).last() else { panic!() };
        fs::rename(tree.join("sub"), tree.join("aside")).unwrap();
        symlink("aside", tree.join("sub")).unwrap();
        assert!(matches!(sources.open(&entry), Err(SourceError::Changed { .. })));
    }

    #[test]
    fn the_data_of_a_sparse_file_is_found_and_a_dense_one_is_all_data() {
        const MEBIBYTE: u64 = 1 << 20;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(64 * MEBIBYTE).unwrap();
        for offset in [8, 40] {
            file.write_all_at(&[1; MEBIBYTE as usize], offset * MEBIBYTE).unwrap();
        }
        let (sources, entry) = announce(&path);
        assert_eq!(entry.kind, EntryKind::File { may_have_holes: true });
        let open = sources.open(&entry).unwrap();
        let found: Vec<DataRange> = open.data_ranges().map(Result::unwrap).collect();
        let expected = [8, 40].map(|start| DataRange { start: start * MEBIBYTE, bytes: MEBIBYTE });
        assert_eq!(found, expected);

        let path = place.path().join("dense");
        fs::write(&path, [1; 5_000]).unwrap();
        let (sources, entry) = announce(&path);
        let open = sources.open(&entry).unwrap();
        let found: Vec<DataRange> = open.data_ranges().map(Result::unwrap).collect();
        assert_eq!(found, [DataRange { start: 0, bytes: 5_000 }]);

        let path = place.path().join("hole");
        File::create(&path).unwrap().set_len(MEBIBYTE).unwrap();
        let (sources, entry) = announce(&path);
        assert_eq!(sources.open(&entry).unwrap().data_ranges().count(), 0);
    }

    #[test]
    fn a_kept_file_is_not_opened_again_until_it_is_closed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, "text").unwrap();
        let (sources, entry) = announce(&path);
        let mut open = OpenSources::default();
        let first = open.get(&sources, 0, &entry).unwrap();
        fs::remove_file(&path).unwrap();
        let again = open.get(&sources, 0, &entry).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        open.close(0);
        assert!(open.get(&sources, 0, &entry).is_err());
    }

    #[test]
    fn what_was_just_written_is_read_without_waiting_where_the_file_system_can_say() {
        let room = tempfile::tempdir().unwrap();
        fs::write(room.path().join("file"), b"content").unwrap();
        let sources = Sources::new(&[room.path().join("file")]).unwrap();
        let Some(WalkItem::Entry(entry)) = Walk::new(&sources).next() else { panic!("no file") };
        let file = sources.open(&entry).unwrap();
        let mut bytes = [0; 7];
        match file.read_now(&mut [IoSliceMut::new(&mut bytes)], 0) {
            ReadNow::Read => assert_eq!(&bytes, b"content"),
            other => assert_eq!(other, ReadNow::Never),
        }
        let beyond = file.read_now(&mut [IoSliceMut::new(&mut [0; 8])], 0);
        assert_ne!(beyond, ReadNow::Read, "the file is shorter");
    }
}
