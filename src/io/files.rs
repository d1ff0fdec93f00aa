//! What a receiver does to one file: write it under a temporary name, commit it to its final name
//! without replacing anything, or leave no trace. How it begins is in `starting`.
//!
//! Directories and links are made in `tree`; which bytes go where is decided by the caller.

mod starting;

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FallocateFlags, Mode};
use rustix::io::Errno;

pub use self::starting::Resumed;
use super::attributes;
use super::confine::{FileError, io_error, shown_below};
use super::existing::Landing;
use super::journal::{Journal, Place};
use super::metadata::Timestamp;
use super::name::RelativePath;
use super::naming::{link_nameless, rename_without_replacing, replace_by_nameless, sync_directory};
use super::space::{self, Refusal};
use super::whole::read_full;
use crate::proto::Attributes;
use crate::wire::Digest;

/// Bytes written to a file without blocks of its own between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// What became of a committed file otherwise than it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its name, if it is another one.
    pub other_name: Option<Vec<u8>>,
    /// Whether it has its mode.
    pub has_mode: bool,
}

/// A file being received, under a temporary name in its final directory, locked against every
/// other receiver. Dropped without [`commit`](TempFile::commit), it is kept for another run if its
/// journal vouches for any block of it, else removed.
#[derive(Debug)]
pub struct TempFile {
    file: OwnedFd,
    parent: Arc<OwnedFd>,
    /// None if the file is nameless.
    place: Option<Place>,
    /// None if nothing of the file is worth being kept.
    journal: Option<Journal>,
    /// The final path below the root, and the root's for messages.
    path: RelativePath,
    root_path: Arc<Path>,
    size: u64,
    /// Whether the file has blocks for all of its bytes already.
    reserved: bool,
    /// Bytes written since the free space was last looked at, unless `reserved`.
    unchecked: AtomicU64,
    /// Its permissions, where they are known.
    mode: Option<u32>,
    /// Whether the temporary name is gone, so that nothing is left to remove.
    committed: bool,
}

impl TempFile {
    /// More was announced of it: it has so many bytes by now, and no room was made for them.
    pub fn grow(&mut self, size: u64) {
        self.size = size;
        self.reserved = false;
    }

    /// Writes all of `buffers`, one after the other, from byte `offset` on. Leaves `buffers`
    /// empty.
    ///
    /// # Errors
    /// [`FileError::BeyondEnd`] before anything is written, [`FileError::NoSpace`], or what the
    /// kernel says.
    pub fn write_at(
        &self,
        mut buffers: &mut [IoSlice<'_>],
        mut offset: u64,
    ) -> Result<(), FileError> {
        let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        self.check_end(bytes, offset)?;
        self.check_space(bytes)?;
        // Empty slices in front would make a write of 0 bytes look like an error.
        IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            match rustix::io::pwritev(&self.file, buffers, offset) {
                Ok(0) => return Err(self.error("write to", Errno::IO)),
                Ok(written) => {
                    IoSlice::advance_slices(&mut buffers, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("write to", errno)),
            }
        }
        Ok(())
    }

    /// Gives back the blocks of a range that turned out to have no data. Where the file system
    /// cannot, the range keeps its blocks; it reads as zeros either way.
    ///
    /// # Errors
    /// If the file cannot get its length.
    pub fn punch_hole(&self, offset: u64, bytes: u64) -> Result<(), FileError> {
        // A nameless file has its length from its last byte, which may be in the hole.
        rustix::fs::ftruncate(&self.file, self.size)
            .map_err(|errno| self.error("lengthen", errno))?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&self.file, flags, offset, bytes);
        Ok(())
    }

    /// Reads back what was written from byte `offset` on, filling `buffer`. Bytes that were
    /// never written read as zeros.
    ///
    /// # Errors
    /// [`FileError::BeyondEnd`], or what the kernel says.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FileError> {
        self.check_end(buffer.len() as u64, offset)?;
        match read_full(&self.file, &mut [IoSliceMut::new(buffer)], offset) {
            Ok(true) => Ok(()),
            // Somebody else shortened the file.
            Ok(false) => Err(self.error("read back", Errno::IO)),
            Err(errno) => Err(self.error("read back", errno)),
        }
    }

    /// Sets owner and extended attributes; to be called when all is written, before the commit.
    ///
    /// # Errors
    /// What could not be set.
    pub fn set_attributes(&mut self, attributes: &Attributes) -> Result<(), FileError> {
        // An access control list changes it.
        self.mode = None;
        attributes::set(&self.file, attributes, &self.shown())
    }

    /// A block was written and is verified: another run need not be sent it.
    pub fn on_verified(&mut self, block: u32, digest: &Digest) {
        if let Some(journal) = &mut self.journal {
            journal.record(block, digest);
        }
    }

    /// The same as [`TempFile::commit_as`] under the final name; never replaces anything.
    ///
    /// # Errors
    /// As there.
    pub fn commit(self, mode: u32, modified: Timestamp, fsync: bool) -> Result<(), FileError> {
        self.commit_as(mode, modified, fsync, Landing::Free).map(|_| ())
    }

    /// Gives the file its final mode (see `ModePolicy::apply`), time and name; with `fsync` so
    /// that it survives a power cut.
    ///
    /// # Errors
    /// [`FileError::Exists`] if the final name is taken, or what the kernel says. Unless the
    /// file was renamed already and only its directory could not be synced, it is gone then.
    pub fn commit_as(
        mut self,
        mode: u32,
        modified: Timestamp,
        fsync: bool,
        landing: Landing,
    ) -> Result<Committed, FileError> {
        let outcome = self.finish(mode, modified, fsync, landing);
        if !self.committed {
            self.abandon();
            return outcome;
        }
        // Behind the rename: were it to go first, a kill in between would lose a whole file.
        if let Some(journal) = &mut self.journal {
            journal.remove();
        }
        outcome
    }

    fn finish(
        &mut self,
        mode: u32,
        modified: Timestamp,
        fsync: bool,
        landing: Landing,
    ) -> Result<Committed, FileError> {
        rustix::fs::futimens(&self.file, &modified.as_modification())
            .map_err(|errno| self.error("set the time of", errno))?;
        let has_mode = self.mode == Some(mode)
            || self.set_mode(mode).map_err(|errno| self.error("set the mode of", errno))?;
        if fsync {
            // Not fdatasync: with the bytes but another time, a rerun would find a different file.
            rustix::fs::fsync(&self.file).map_err(|errno| self.error("sync", errno))?;
        }
        let (file, parent) = (&self.file, &self.parent);
        let named =
            landing.land(self.path.split().1, |leaf, replace| match (&self.place, replace) {
                (Some(place), false) => rename_without_replacing(parent, &place.temporary, leaf),
                (Some(place), true) => {
                    rustix::fs::renameat(parent, &*place.temporary, parent, leaf)
                }
                (None, false) => link_nameless(file, parent, leaf),
                (None, true) => {
                    let temporary = starting::place(parent, leaf).temporary;
                    replace_by_nameless(file, parent, &temporary, leaf)
                }
            });
        let other_name = match named {
            Ok(other_name) => other_name,
            Err(Errno::EXIST) => {
                return Err(FileError::Exists { path: self.shown() });
            }
            Err(errno) => return Err(self.error("rename to", errno)),
        };
        self.committed = true;
        if fsync {
            sync_directory(&self.parent)
                .map_err(|errno| self.error("sync the directory of", errno))?;
        }
        Ok(Committed { other_name, has_mode })
    }

    /// Whether the file has the mode then.
    fn set_mode(&self, mode: u32) -> rustix::io::Result<bool> {
        match rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)) {
            Ok(()) => Ok(true),
            // FAT and some network file systems know no modes; the bytes are worth having there.
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                Ok(rustix::fs::fstat(&self.file)?.st_mode & 0o7777 == mode)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Removes the file, whatever of it is verified.
    pub fn abandon(mut self) {
        if let Some(mut journal) = self.journal.take() {
            journal.remove();
        }
    }

    fn check_end(&self, bytes: u64, offset: u64) -> Result<(), FileError> {
        let end = offset.saturating_add(bytes);
        if end <= self.size {
            return Ok(());
        }
        Err(FileError::BeyondEnd { path: self.shown(), end, size: self.size })
    }

    /// Looks at the free space from time to time, where writing still takes some.
    fn check_space(&self, bytes: u64) -> Result<(), FileError> {
        if self.reserved {
            return Ok(());
        }
        let unchecked = self.unchecked.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unchecked >= SPACE_CHECK_BYTES {
            self.unchecked.store(0, Ordering::Relaxed);
            space::require(&self.file, bytes).map_err(|refusal| self.refusal(refusal))?;
        }
        Ok(())
    }

    /// The final path, for messages.
    fn shown(&self) -> String {
        shown_below(&self.root_path, self.path.as_bytes())
    }

    fn error(&self, action: &'static str, errno: Errno) -> FileError {
        io_error(action, self.shown(), errno)
    }

    fn refusal(&self, refusal: Refusal) -> FileError {
        match refusal {
            Refusal::Kernel(errno) => self.error("make room for", errno),
            Refusal::Full { wanted, space } => FileError::NoSpace {
                path: self.shown(),
                wanted,
                available: space.available,
                kept: space.kept(),
            },
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        if self.committed {
            return;
        }
        if let Some(journal) = &mut self.journal {
            if journal.persist() {
                return;
            }
            journal.remove();
        }
        // The name is ours while the lock is held, and the descriptor closes after this.
        // Nobody is left to tell if it fails; the next run finds the leftover.
        let _ = rustix::fs::unlinkat(&self.parent, &*place.temporary, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::existing::{Existing, check_existing};
    use super::*;
    use crate::io::confine::Root;
    use crate::io::journal::Subject;
    use crate::wire::DigestAlgorithm;

    /// A source of `size` bytes whose copy is worth being kept.
    fn subject(size: u64) -> Subject {
        Subject { digest: DigestAlgorithm::Xxh3, ..Subject::not_kept(size) }
    }

    fn place() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    fn path(name: &[u8]) -> RelativePath {
        RelativePath::parse(name).unwrap()
    }

    fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp::new(seconds, nanoseconds).unwrap()
    }

    fn start(root: &Root, name: &[u8], size: u64) -> Result<TempFile, FileError> {
        TempFile::named(root, &path(name), &subject(size), false)
    }

    fn write(file: &TempFile, bytes: &[u8], offset: u64) {
        file.write_at(&mut [IoSlice::new(bytes)], offset).unwrap();
    }

    fn names(directory: &tempfile::TempDir) -> Vec<std::ffi::OsString> {
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_committed_file_has_its_bytes_mode_time_and_only_its_final_name() {
        for fsync in [false, true] {
            let (directory, root) = place();
            let file = start(&root, b"f", 11).unwrap();
            write(&file, b"world", 6);
            let mut parts = [IoSlice::new(b""), IoSlice::new(b"hel"), IoSlice::new(b"lo ")];
            file.write_at(&mut parts, 0).unwrap();
            let mut back = [0; 7];
            file.read_at(&mut back, 3).unwrap();
            assert_eq!(&back, b"lo worl");
            file.commit(0o640, time(-5, 123_456_789), fsync).unwrap();

            assert_eq!(names(&directory), ["f"]);
            let there = directory.path().join("f");
            assert_eq!(fs::read(&there).unwrap(), b"hello world");
            let metadata = fs::metadata(&there).unwrap();
            assert_eq!(metadata.mode() & 0o7777, 0o640);
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-5, 123_456_789));
        }
    }

    #[test]
    fn odd_names_and_files_of_no_bytes_are_committed() {
        let long = [0xfe; 255];
        for name in [&b"new\nline"[..], b"\xff\xfe", b"\x1b[2J", &long] {
            let (_directory, root) = place();
            start(&root, name, 0).unwrap().commit(0o600, time(1, 0), false).unwrap();
            let found = check_existing(&root, &path(name), 0, time(1, 0)).unwrap();
            assert_eq!(found, Existing::Equal);
        }
    }

    #[test]
    fn what_is_there_already_is_told_by_size_and_time() {
        let (directory, root) = place();
        let check =
            |name: &str| check_existing(&root, &path(name.as_bytes()), 0, time(9, 9)).unwrap();
        assert_eq!(check("f"), Existing::Absent);
        start(&root, b"f", 0).unwrap().commit(0o600, time(9, 9), false).unwrap();
        assert_eq!(check("f"), Existing::Equal);
        start(&root, b"later", 0).unwrap().commit(0o600, time(9, 10), false).unwrap();
        assert_eq!(check("later"), Existing::Different);
        start(&root, b"longer", 1).unwrap().commit(0o600, time(9, 9), false).unwrap();
        assert_eq!(check("longer"), Existing::Different);
        symlink("f", directory.path().join("link")).unwrap();
        assert_eq!(check("link"), Existing::NotAFile);
        fs::create_dir(directory.path().join("d")).unwrap();
        assert_eq!(check("d"), Existing::NotAFile);
    }

    #[test]
    fn a_commit_never_replaces_anything() {
        let (directory, root) = place();
        let there = |name: &str| directory.path().join(name);
        fs::write(there("file"), "old").unwrap();
        symlink("nowhere", there("link")).unwrap();
        fs::create_dir(there("directory")).unwrap();
        for name in ["file", "link", "directory"] {
            let file = start(&root, name.as_bytes(), 3).unwrap();
            let error = file.commit(0o600, time(0, 0), false).unwrap_err();
            assert!(matches!(error, FileError::Exists { .. }), "{error}");
        }
        assert_eq!(fs::read(there("file")).unwrap(), b"old");
        assert_eq!(fs::read_link(there("link")).unwrap().as_os_str(), "nowhere");
        assert_eq!(names(&directory).len(), 3, "and leaves no temporary file");
    }

    #[test]
    fn an_abandoned_file_leaves_nothing() {
        let (directory, root) = place();
        let file = start(&root, b"f", 4).unwrap();
        write(&file, b"half", 0);
        assert_eq!(names(&directory).len(), 1);
        file.abandon();
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn one_file_is_received_once_at_a_time() {
        let (_directory, root) = place();
        let first = start(&root, b"f", 1).unwrap();
        let second = start(&root, b"f", 1).unwrap_err();
        assert!(matches!(second, FileError::Busy { .. }), "{second}");
        drop(first);
        start(&root, b"f", 1).unwrap();
    }

    #[test]
    fn a_small_file_has_no_name_before_its_final_one() {
        let (directory, root) = place();
        let file = TempFile::create(&root, &path(b"f"), &subject(3), 0o640, false).unwrap();
        write(&file, b"new", 0);
        assert!(names(&directory).is_empty());
        file.commit(0o640, time(5, 6), true).unwrap();
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"new");
        assert_eq!(fs::metadata(directory.path().join("f")).unwrap().mode() & 0o7777, 0o640);

        let second = TempFile::create(&root, &path(b"f"), &subject(3), 0o640, false).unwrap();
        write(&second, b"two", 0);
        let error = second.commit(0o640, time(5, 6), false).unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"new");
        assert_eq!(names(&directory), ["f"]);
    }

    #[test]
    fn a_leftover_is_found_again_and_emptied() {
        let (directory, root) = place();
        let file = start(&root, b"f", 9).unwrap();
        write(&file, b"old bytes", 0);
        let leftover = directory.path().join(&file.place.as_ref().unwrap().temporary);
        drop(file);
        fs::write(&leftover, "old bytes").unwrap();
        let inode = fs::metadata(&leftover).unwrap().ino();

        let file = start(&root, b"f", 4).unwrap();
        assert_eq!(rustix::fs::fstat(&file.file).unwrap().st_ino, inode);
        write(&file, b"n", 0);
        file.commit(0o600, time(0, 0), false).unwrap();
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"n\0\0\0");
    }

    #[test]
    fn what_only_looks_like_a_leftover_is_not_touched() {
        let (directory, root) = place();
        let file = start(&root, b"f", 1).unwrap();
        let temporary = directory.path().join(&file.place.as_ref().unwrap().temporary);
        drop(file);
        let precious = directory.path().join("precious");
        fs::write(&precious, "precious").unwrap();

        symlink(&precious, &temporary).unwrap();
        assert!(matches!(start(&root, b"f", 1), Err(FileError::Occupied { .. })));
        fs::remove_file(&temporary).unwrap();
        fs::hard_link(&precious, &temporary).unwrap();
        assert!(matches!(start(&root, b"f", 1), Err(FileError::Occupied { .. })));
        fs::remove_file(&temporary).unwrap();
        fs::create_dir(&temporary).unwrap();
        assert!(matches!(start(&root, b"f", 1), Err(FileError::Occupied { .. })));
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
    }

    #[test]
    fn receivers_racing_for_one_file_commit_it_exactly_once() {
        for _ in 0..50 {
            let (directory, root) = place();
            let outcomes: Vec<bool> = std::thread::scope(|scope| {
                let race = |text: &'static [u8]| {
                    let root = &root;
                    scope.spawn(move || {
                        let Ok(file) = start(root, b"f", 4) else {
                            return false;
                        };
                        write(&file, text, 0);
                        file.commit(0o600, time(0, 0), false).is_ok()
                    })
                };
                let racers = [race(b"1111"), race(b"2222"), race(b"3333")];
                racers.map(|racer| racer.join().unwrap()).into()
            });
            assert_eq!(outcomes.iter().filter(|done| **done).count(), 1);
            assert_eq!(names(&directory), ["f"]);
            assert_eq!(fs::read(directory.path().join("f")).unwrap().len(), 4);
        }
    }

    #[test]
    fn what_a_kill_leaves_of_a_replacement_is_found_under_the_name_of_every_leftover() {
        let (directory, root) = place();
        fs::write(directory.path().join("f"), "old").unwrap();
        let nameless = || TempFile::create(&root, &path(b"f"), &subject(3), 0o600, false).unwrap();
        let replace = |file: TempFile| {
            write(&file, b"new", 0);
            file.commit_as(0o600, time(1, 0), false, Landing::Replacing)
        };
        // As between the link and the rename.
        let killed = nameless();
        let temporary = starting::place(&killed.parent, b"f").temporary;
        link_nameless(&killed.file, &killed.parent, temporary.as_bytes()).unwrap();
        drop(killed);
        assert_eq!(names(&directory), [temporary.as_str(), "f"]);
        // Nothing is replaced by way of a name that something has.
        assert!(replace(nameless()).is_err());
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"old");
        TempFile::remove_leftover(&root, &path(b"f"));
        assert_eq!(names(&directory), ["f"]);
        // What another transfer is at work on stays.
        let other = TempFile::named(&root, &path(b"f"), &subject(2 << 20), false).unwrap();
        TempFile::remove_leftover(&root, &path(b"f"));
        assert!(replace(nameless()).is_err());
        assert_eq!(names(&directory), [temporary.as_str(), "f"]);
        drop(other);
        let committed = replace(nameless()).unwrap();
        assert_eq!(committed, Committed { other_name: None, has_mode: true });
        assert_eq!(names(&directory), ["f"]);
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"new");
    }

    #[test]
    fn a_small_file_has_its_mode_whatever_its_directory_gives_to_new_ones() {
        let (directory, root) = place();
        let commit = |name: &[u8], mode| {
            let file = TempFile::create(&root, &path(name), &subject(1), mode, false).unwrap();
            file.commit(mode, time(1, 2), false).unwrap();
            let name = std::str::from_utf8(name).unwrap();
            fs::metadata(directory.path().join(name)).unwrap().mode() & 0o7777
        };
        for directory_name in ["plain", "listed"] {
            fs::create_dir(directory.path().join(directory_name)).unwrap();
        }
        // A default access control list: everything for the user, nothing for anybody else.
        let entries = [(1_u16, 7_u16), (4, 0), (0x20, 0)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            list.extend(
                [tag.to_le_bytes(), permissions.to_le_bytes(), [0xff; 2], [0xff; 2]].concat(),
            );
        }
        let listed = fs::File::open(directory.path().join("listed")).unwrap();
        let name = c"system.posix_acl_default";
        // Where there are no such lists, nothing can be otherwise.
        let _ = rustix::fs::fsetxattr(listed, name, &list, rustix::fs::XattrFlags::empty());
        for (number, mode) in [0o644, 0o644, 0o600, 0o666, 0o4755, 0o755].into_iter().enumerate() {
            for directory_name in ["plain", "listed"] {
                let name = format!("{directory_name}/{number}");
                assert_eq!(commit(name.as_bytes(), mode), mode, "{name}");
            }
        }
    }

    #[test]
    fn nothing_is_written_beyond_the_announced_end() {
        let (_directory, root) = place();
        let file = start(&root, b"f", 4).unwrap();
        for (bytes, offset) in [(&b"12345"[..], 0), (b"1", 4), (b"1", u64::MAX)] {
            let error = file.write_at(&mut [IoSlice::new(bytes)], offset).unwrap_err();
            assert!(matches!(error, FileError::BeyondEnd { .. }), "{error}");
        }
        assert!(file.read_at(&mut [0; 2], 3).is_err());
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused_and_leaves_nothing() {
        let (directory, root) = place();
        let error = start(&root, b"f", 1 << 47).unwrap_err();
        assert!(matches!(error, FileError::NoSpace { .. }), "{error}");
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_file_that_does_not_get_its_length_for_a_hole_at_its_end_is_no_file() {
        let (directory, root) = place();
        let create = |name| TempFile::create(&root, &path(name), &subject(9), 0o600, false);
        let mut file = create(b"f").unwrap();
        write(&file, b"front", 0);
        file.punch_hole(5, 4).unwrap();
        file.commit(0o600, time(0, 0), false).unwrap();
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"front\0\0\0\0");
        file = create(b"g").unwrap();
        file.file = fs::File::open("/dev/null").unwrap().into();
        let error = file.punch_hole(5, 4).unwrap_err();
        assert!(error.to_string().starts_with("cannot lengthen"), "{error}");
    }

    #[test]
    fn writing_around_a_hole_takes_no_space_for_it() {
        let (directory, root) = place();
        let file = TempFile::create(&root, &path(b"f"), &subject(1 << 33), 0o600, true).unwrap();
        write(&file, b"end", (1 << 33) - 3);
        file.commit(0o600, time(0, 0), false).unwrap();
        let metadata = fs::metadata(directory.path().join("f")).unwrap();
        assert_eq!(metadata.len(), 1 << 33);
        assert!(metadata.blocks() * 512 < 1 << 20);
    }
}
