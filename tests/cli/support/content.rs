//! Bytes and files made from a seed, in directories that go away with the test.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

/// Above this, memory is no place for a test's files unless plenty is free.
const SMALL_BYTES: u64 = 256 << 20;

/// An endless row of bytes that only depends on its seed (SplitMix64).
pub struct Random {
    state: u64,
}

impl Random {
    /// The row of `seed`.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next eight bytes.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}

/// One large test at a time, lest their files fill the memory together.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory for files of `bytes` altogether: in memory where there is plenty of it, else where
/// temporary files go.
pub fn room_for(bytes: u64) -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = match rustix::fs::statvfs(memory) {
        Ok(free) if bytes <= SMALL_BYTES || free.f_bavail * free.f_frsize > 2 * bytes => {
            memory.to_owned()
        }
        _ => std::env::temp_dir(),
    };
    let made = tempfile::Builder::new().prefix("ufx-test-").tempdir_in(&parent);
    made.unwrap_or_else(|error| panic!("no room in {}: {error}", parent.display()))
}

/// A directory for small files.
pub fn room() -> TempDir {
    room_for(0)
}

/// Makes a file of `bytes` from `seed`.
pub fn write_random(path: &Path, bytes: u64, seed: u64) -> PathBuf {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut random = Random::new(seed);
    let mut piece = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len() as u64) as usize;
        random.fill(&mut piece[..now]);
        file.write_all(&piece[..now]).expect("the file takes its bytes");
        left -= now as u64;
    }
    path.to_owned()
}

/// Whether two files have the same bytes.
pub fn same_bytes(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (left, right) = (open(left), open(right));
    let bytes = |file: &File| file.metadata().expect("an open file has metadata").len();
    if bytes(&left) != bytes(&right) {
        return false;
    }
    let mut pieces = [vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut at = 0;
    while at < bytes(&left) {
        let now = (bytes(&left) - at).min(1 << 20) as usize;
        left.read_exact_at(&mut pieces[0][..now], at).expect("the file can be read");
        right.read_exact_at(&mut pieces[1][..now], at).expect("the file can be read");
        if pieces[0][..now] != pieces[1][..now] {
            return false;
        }
        at += now as u64;
    }
    true
}

/// Names in a directory, in order; what is unfinished or hidden included.
pub fn names(directory: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(directory).expect("the directory is there");
    let mut names: Vec<String> = listing
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}
