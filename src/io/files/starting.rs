//! How a file that is received begins: taken up where an interrupted run has left it, made anew
//! under its temporary name, or nameless. What is written to it, and its end, are in `files`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::{SPACE_CHECK_BYTES, TempFile};
use crate::io::claim::{Claim, claim};
use crate::io::confine::{FileError, Root};
use crate::io::journal::{self, Found, Journal, Kept, Place, Subject};
use crate::io::metadata::{SPECIAL_BITS, size_of};
use crate::io::name::{RelativePath, journal_name, temporary_name};
use crate::io::space;
use crate::wire::DigestAlgorithm;

/// Files up to this (one block) have no temporary name: they are written nameless and linked to
/// their final name. There is nothing to resume, nothing to lock and nothing to leave behind, at
/// half the system calls.
const NAMELESS_BYTES_MAX: u64 = 1 << 20;

/// What an earlier run has left of a file.
#[derive(Debug)]
pub enum Resumed {
    /// Nothing that is of use.
    Nothing,
    /// A part of what the source was before it changed; it is removed.
    Changed,
    /// The file, and the blocks of it that are verified.
    Kept(Box<TempFile>, Kept),
}

impl TempFile {
    /// Starts the file for `path`, as long as its source, and gives it room.
    ///
    /// A file of at most one block has no temporary name. That of others is the same whenever
    /// something is sent to the same path; a leftover of that name is emptied and used again.
    /// With `has_holes` no blocks are allocated ahead of the data. `mode` is what it will be
    /// committed with: only a guess, which saves a system call.
    ///
    /// # Errors
    /// [`FileError::Busy`] while another receiver holds the name, [`FileError::Occupied`] if it
    /// is no leftover of ours, [`FileError::NoSpace`], or what the kernel says.
    pub fn create(
        root: &Root,
        path: &RelativePath,
        subject: &Subject,
        mode: u32,
        has_holes: bool,
    ) -> Result<TempFile, FileError> {
        let size = subject.source.size;
        if size <= NAMELESS_BYTES_MAX
            && !has_holes
            && let Some(nameless) = TempFile::nameless(root, path, size, mode)?
        {
            return Ok(nameless);
        }
        TempFile::named(root, path, subject, has_holes)
    }

    /// Takes up what an interrupted run has left of the file for `path`.
    ///
    /// # Errors
    /// [`FileError::Busy`] while another receiver holds it, or what the kernel says.
    pub fn resume(
        root: &Root,
        path: &RelativePath,
        subject: &Subject,
    ) -> Result<Resumed, FileError> {
        if !is_resumable(subject) {
            return Ok(Resumed::Nothing);
        }
        let (place, claim) = root.in_parent(path, "look at", |parent, leaf| {
            let place = place(parent, leaf);
            let claim = match journal::is_there(&place) {
                true => Some(claim(parent, &place.temporary)?),
                false => None,
            };
            Ok((place, claim))
        })?;
        let file = match claim {
            None | Some(Claim::Occupied) => return Ok(Resumed::Nothing),
            Some(Claim::Busy) => return Err(FileError::Busy { path: root.shown(path) }),
            Some(Claim::New(file) | Claim::Leftover(file)) => file,
        };
        let mut found = TempFile::under(root, path, place, file, subject.source.size);
        let stat = rustix::fs::fstat(&found.file).map_err(|errno| found.error("look at", errno))?;
        let Some(place) = &found.place else { return Ok(Resumed::Nothing) };
        // A file that did not get its size was cut before its first byte.
        let journal = match size_of(&stat) == found.size {
            true => Journal::find(place, subject, stat.st_ino),
            false => Found::Nothing,
        };
        let unusable = match journal {
            Found::Blocks(journal, kept) => {
                found.journal = Some(*journal);
                found.reserved = u64::try_from(stat.st_blocks).unwrap_or(0) * 512 >= found.size;
                return Ok(Resumed::Kept(Box::new(found), kept));
            }
            Found::Nothing => Resumed::Nothing,
            Found::OfAnother => Resumed::Changed,
        };
        journal::remove(place);
        found.abandon();
        Ok(unusable)
    }

    /// Removes what an interrupted run may have left of the file for `path`, if nobody has it.
    pub fn remove_leftover(root: &Root, path: &RelativePath) {
        let removed = root.in_parent(path, "look at", |parent, leaf| {
            let place = place(parent, leaf);
            if !place.is_taken() {
                return Ok(());
            }
            if let Claim::New(_) | Claim::Leftover(_) = claim(parent, &place.temporary)? {
                journal::remove(&place);
                rustix::fs::unlinkat(parent, &*place.temporary, AtFlags::empty())?;
            }
            Ok(())
        });
        // It is in nobody's way.
        let _ = removed;
    }

    /// A file under its temporary name.
    pub(super) fn named(
        root: &Root,
        path: &RelativePath,
        subject: &Subject,
        has_holes: bool,
    ) -> Result<TempFile, FileError> {
        let (place, claim) = root.in_parent(path, "create", |parent, leaf| {
            let place = place(parent, leaf);
            let claim = claim(parent, &place.temporary)?;
            Ok((place, claim))
        })?;
        let (file, is_leftover) = match claim {
            Claim::New(file) => (file, false),
            Claim::Leftover(file) => (file, true),
            Claim::Busy => return Err(FileError::Busy { path: root.shown(path) }),
            Claim::Occupied => {
                let beside = beside(path, &place.temporary);
                return Err(FileError::Occupied { path: root.shown_bytes(&beside) });
            }
        };
        let size = subject.source.size;
        let mut started = TempFile::under(root, path, place, file, size);
        if let Some(place) = &started.place {
            // Before the file is touched: a journal must never speak of what is not there.
            journal::remove(place);
        }
        if is_resumable(subject)
            && let Some(place) = &started.place
        {
            let stat = rustix::fs::fstat(&started.file)
                .map_err(|errno| started.error("look at", errno))?;
            started.journal = Some(Journal::new(place, subject, stat.st_ino));
        }
        if is_leftover {
            rustix::fs::ftruncate(&started.file, 0)
                .map_err(|errno| started.error("empty", errno))?;
        }
        started.reserved = space::reserve(&started.file, size, has_holes)
            .map_err(|refusal| started.refusal(refusal))?;
        Ok(started)
    }

    /// A file whose temporary name is claimed.
    fn under(root: &Root, path: &RelativePath, place: Place, file: OwnedFd, size: u64) -> TempFile {
        TempFile {
            file,
            parent: Arc::clone(&place.parent),
            place: Some(place),
            journal: None,
            path: path.clone(),
            root_path: root.shared_path(),
            size,
            reserved: false,
            unchecked: AtomicU64::new(0),
            mode: None,
            committed: false,
        }
    }

    /// A file without a name, in the directory of `path`; none where there is no such thing.
    fn nameless(
        root: &Root,
        path: &RelativePath,
        size: u64,
        mode: u32,
    ) -> Result<Option<TempFile>, FileError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Nobody else can open it yet. Writing would take special bits away again.
        let first_mode = Mode::from_raw_mode(mode & !SPECIAL_BITS);
        let opened = root.in_parent(path, "create", |parent, _| {
            match rustix::fs::openat(parent, c".", flags, first_mode) {
                Ok(file) => Ok(Some((Arc::clone(parent), file))),
                // NFS, many of FUSE's, kernels before 3.11.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Ok(None),
                Err(errno) => Err(errno),
            }
        })?;
        let Some((parent, file)) = opened else { return Ok(None) };
        let keeps_mode = mode & SPECIAL_BITS == 0 && root.keeps_mode(&parent, &file, mode);
        let started = TempFile {
            file,
            parent,
            place: None,
            journal: None,
            path: path.clone(),
            root_path: root.shared_path(),
            size,
            reserved: true,
            unchecked: AtomicU64::new(0),
            mode: keeps_mode.then_some(mode),
            committed: false,
        };
        if root.count_unchecked(size) >= SPACE_CHECK_BYTES {
            space::require(&started.file, size).map_err(|refusal| started.refusal(refusal))?;
            root.reset_unchecked();
        }
        Ok(Some(started))
    }
}

/// Whether anything of a file is worth being kept: several blocks, verified by a digest.
fn is_resumable(subject: &Subject) -> bool {
    subject.source.size > NAMELESS_BYTES_MAX && subject.digest != DigestAlgorithm::None
}

/// The temporary names of the file `leaf` in `parent`: the same in every run, so that there is at
/// most one unfinished file for each final name.
pub(super) fn place(parent: &Arc<OwnedFd>, leaf: &[u8]) -> Place {
    let hash = XxHash3_64::oneshot(leaf);
    Place {
        parent: Arc::clone(parent),
        temporary: temporary_name(hash),
        journal: journal_name(hash),
    }
}

/// The bytes of the path of `name` in the directory of `path`.
fn beside(path: &RelativePath, name: &str) -> Vec<u8> {
    let (directory, _) = path.split();
    let mut bytes = directory.to_vec();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes
}
