//! The directory of a bench's files: in memory where that can be had, and gone with its owner.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

/// Files in memory on every Linux that has it mounted.
const MEMORY: &str = "/dev/shm";

/// What the directories of all benches are called, before their process's number.
const PREFIX: &str = "ufx-bench-";

/// A directory that is removed on drop. While it is held it is locked, so that the next bench
/// can tell what one that was killed has left behind.
#[derive(Debug)]
pub struct Scratch {
    /// Where it is.
    pub path: PathBuf,
    in_memory: bool,
    _lock: OwnedFd,
}

impl Scratch {
    /// Makes one, and removes those that nobody holds any more.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn make() -> io::Result<Scratch> {
        let in_memory = Path::new(MEMORY).is_dir();
        let parent = if in_memory { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
        remove_leftovers(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path)?;
        let lock = lock(&path)?;
        Ok(Scratch { path, in_memory, _lock: lock })
    }

    /// Where files lie, in words.
    pub fn kind(&self) -> String {
        if self.in_memory { "memory".into() } else { self.path.display().to_string() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now, the next bench tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty())?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        if is_ours && lock(&entry.path()).is_ok() {
            // Another user's stays: his next bench removes it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed_and_what_somebody_holds_stays() {
        let parent = tempfile::tempdir().unwrap();
        let [left, held, foreign] =
            ["ufx-bench-1", "ufx-bench-2", "other"].map(|name| parent.path().join(name));
        for directory in [&left, &held, &foreign] {
            fs::create_dir(directory).unwrap();
        }
        let lock = lock(&held).unwrap();
        remove_leftovers(parent.path());
        assert_eq!([left.exists(), held.exists(), foreign.exists()], [false, true, true]);
        drop(lock);
    }
}
