//! What becomes of a file or link whose name something different has: the receiver's policy, and
//! the names that `rename` chooses from. Leaves making files and links to `files` and `tree`.

use std::iter::once;

use rustix::io::Errno;

use super::confine::{FileError, Root};
use super::metadata::{Timestamp, is_regular, size_of};
use super::name::{COMPONENT_BYTES_MAX, RelativePath};
use super::tree::is_link_to;

/// Names tried beside a taken one. Somebody who has as many copies wants none of them any more.
const NAMES_MAX: u32 = 9_999;

/// What lies where a file is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Absent,
    /// A file of this size and modification time: taken to be the same file.
    Equal,
    /// A file that differs in size or time. It will not be replaced.
    Different,
    /// A directory, a link or a special file. It will not be replaced.
    NotAFile,
}

/// Looks what lies at `path`, where a file of `size` bytes from `modified` is to go.
///
/// # Errors
/// The directory of `path` cannot be reached.
pub fn check_existing(
    root: &Root,
    path: &RelativePath,
    size: u64,
    modified: Timestamp,
) -> Result<Existing, FileError> {
    Ok(match root.stat(path)? {
        None => Existing::Absent,
        Some(stat) if !is_regular(&stat) => Existing::NotAFile,
        Some(stat) if size_of(&stat) == size && Timestamp::modified(&stat) == modified => {
            Existing::Equal
        }
        Some(_) => Existing::Different,
    })
}

/// What to do where something different has the name. Directories are always merged, never
/// replaced, and never give way to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// Refuse, which is a failure.
    #[default]
    Refuse,
    /// Keep what is there, which is no failure.
    Skip,
    /// Store under another name beside it.
    Rename,
    /// Replace it once what came is complete and verified.
    Replace,
    /// The same, if what came was modified later than what is there; otherwise keep that.
    Update,
}

/// How a file or link gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Under a name that nothing has.
    Free,
    /// Under its name, or the first free one beside it.
    Beside,
    /// Under its name, whatever file or link has it.
    Replacing,
}

/// What is to be done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    Store(Landing),
    /// It is there already.
    Present,
    /// Something different is there, and is kept.
    Keep,
}

impl OnExisting {
    /// How to land where nothing is. It may be there later: a matter of the policy alone.
    pub fn landing(self) -> Landing {
        match self {
            OnExisting::Refuse | OnExisting::Skip | OnExisting::Update => Landing::Free,
            OnExisting::Replace => Landing::Replacing,
            OnExisting::Rename => Landing::Beside,
        }
    }

    /// What is to be done with a file of `size` bytes from `modified` that is to go to `path`.
    ///
    /// # Errors
    /// [`FileError::Exists`] if it is to be refused, or the directory of `path` cannot be reached.
    pub fn judge_file(
        self,
        root: &Root,
        path: &RelativePath,
        size: u64,
        modified: Timestamp,
    ) -> Result<Verdict, FileError> {
        let look = |path: &RelativePath| check_existing(root, path, size, modified);
        self.judge(root, path, modified, look(path)?, look)
    }

    /// Where a file of `size` bytes from `modified` that was to go to `path` is; none if it is not
    /// there.
    ///
    /// # Errors
    /// The directory of `path` cannot be reached.
    pub fn find_file(
        self,
        root: &Root,
        path: &RelativePath,
        size: u64,
        modified: Timestamp,
    ) -> Result<Option<RelativePath>, FileError> {
        let look = |path: &RelativePath| check_existing(root, path, size, modified);
        match look(path)? {
            Existing::Equal => Ok(Some(path.clone())),
            _ if self == OnExisting::Rename => find_beside(path, look),
            _ => Ok(None),
        }
    }

    /// What is to be done with a symbolic link from `modified` that says `target`.
    ///
    /// # Errors
    /// As for a file.
    pub fn judge_link(
        self,
        root: &Root,
        path: &RelativePath,
        target: &[u8],
        modified: Timestamp,
    ) -> Result<Verdict, FileError> {
        let look = |path: &RelativePath| {
            Ok(match root.stat(path)? {
                None => Existing::Absent,
                Some(_) if is_link_to(root, path, target)? => Existing::Equal,
                Some(_) => Existing::Different,
            })
        };
        self.judge(root, path, modified, look(path)?, look)
    }

    fn judge(
        self,
        root: &Root,
        path: &RelativePath,
        modified: Timestamp,
        existing: Existing,
        look: impl Fn(&RelativePath) -> Result<Existing, FileError>,
    ) -> Result<Verdict, FileError> {
        let refusal = || Err(FileError::Exists { path: root.shown(path) });
        match (self, existing) {
            (_, Existing::Equal) => Ok(Verdict::Present),
            (_, Existing::Absent) => Ok(Verdict::Store(self.landing())),
            (OnExisting::Refuse, _) => refusal(),
            (OnExisting::Skip, _) => Ok(Verdict::Keep),
            (OnExisting::Rename, _) => beside(path, look),
            (OnExisting::Replace | OnExisting::Update, _) => match replaceable(root, path)? {
                None => refusal(),
                Some(theirs) if self == OnExisting::Update && theirs >= modified => {
                    Ok(Verdict::Keep)
                }
                Some(_) => Ok(Verdict::Store(Landing::Replacing)),
            },
        }
    }
}

/// What is to be done beside `path`: an earlier run may have stored it there already.
fn beside(
    path: &RelativePath,
    look: impl Fn(&RelativePath) -> Result<Existing, FileError>,
) -> Result<Verdict, FileError> {
    Ok(match find_beside(path, look)? {
        Some(_) => Verdict::Present,
        None => Verdict::Store(Landing::Beside),
    })
}

/// The first name beside `path` under which something equal is.
fn find_beside(
    path: &RelativePath,
    look: impl Fn(&RelativePath) -> Result<Existing, FileError>,
) -> Result<Option<RelativePath>, FileError> {
    let (_, leaf) = path.split();
    for name in names_beside(leaf) {
        // A name too long with its number shows when it is stored.
        let Some(candidate) = path.with_leaf(&name) else { break };
        match look(&candidate)? {
            Existing::Equal => return Ok(Some(candidate)),
            Existing::Absent => break,
            Existing::Different | Existing::NotAFile => {}
        }
    }
    Ok(None)
}

/// When the file or link at `path` was modified; none for anything else.
fn replaceable(root: &Root, path: &RelativePath) -> Result<Option<Timestamp>, FileError> {
    use rustix::fs::FileType;

    let stat = root.stat(path)?;
    Ok(stat.and_then(|stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => Some(Timestamp::modified(&stat)),
        _ => None,
    }))
}

impl Landing {
    /// Gives something its name by `attempt`, which is told the name and whether to replace what
    /// has it, and fails with EEXIST otherwise. Returns the name if it is not `leaf`.
    pub fn land(
        self,
        leaf: &[u8],
        mut attempt: impl FnMut(&[u8], bool) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<Option<Vec<u8>>> {
        match self {
            Landing::Free => attempt(leaf, false).map(|()| None),
            // A directory took the name.
            Landing::Replacing => match attempt(leaf, true) {
                Err(Errno::ISDIR | Errno::NOTEMPTY) => Err(Errno::EXIST),
                outcome => outcome.map(|()| None),
            },
            Landing::Beside => {
                for name in once(leaf.to_vec()).chain(names_beside(leaf)) {
                    match attempt(&name, false) {
                        Err(Errno::EXIST) => {}
                        outcome => return outcome.map(|()| (name != leaf).then_some(name)),
                    }
                }
                Err(Errno::EXIST)
            }
        }
    }
}

/// `photo (1).jpg`, `photo (2).jpg`, … for `photo.jpg`: the number stands in front of the last
/// extension. A name that would be too long loses the end of its stem.
fn names_beside(leaf: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    // A dot at the start begins a hidden name, no extension.
    let dot = leaf.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
    let (stem, extension) = leaf.split_at(dot.unwrap_or(leaf.len()));
    (1..=NAMES_MAX).map(move |number| {
        let number = format!(" ({number})");
        let room = COMPONENT_BYTES_MAX.saturating_sub(number.len() + extension.len());
        let mut kept = stem.len().min(room);
        // Not in the middle of a character.
        while kept > 0 && kept < stem.len() && stem[kept] & 0xc0 == 0x80 {
            kept -= 1;
        }
        [&stem[..kept], number.as_bytes(), extension].concat()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(name: &str) -> RelativePath {
        RelativePath::parse(name.as_bytes()).unwrap()
    }

    fn first_beside(name: &str) -> String {
        String::from_utf8(names_beside(name.as_bytes()).next().unwrap()).unwrap()
    }

    #[test]
    fn the_number_stands_in_front_of_the_last_extension() {
        let table = [
            ("photo.jpg", "photo (1).jpg"),
            ("a.tar.gz", "a.tar (1).gz"),
            ("README", "README (1)"),
            (".profile", ".profile (1)"),
            ("photo (1).jpg", "photo (1) (1).jpg"),
            ("ends.", "ends (1)."),
        ];
        for (name, beside) in table {
            assert_eq!(first_beside(name), beside);
        }
        let second = names_beside(b"a.b").nth(1).unwrap();
        assert_eq!(second, b"a (2).b");
    }

    #[test]
    fn a_name_of_full_length_is_cut_between_characters() {
        let name = format!("{}.jpg", "ü".repeat(125));
        let beside = first_beside(&name);
        assert!(beside.len() <= 255 && beside.ends_with("ü (1).jpg"), "{beside}");
        let extension = format!("a.{}", "x".repeat(253));
        assert!(
            names_beside(extension.as_bytes()).next().unwrap().len() > 255,
            "the kernel says so"
        );
    }

    #[test]
    fn each_policy_has_its_verdict() {
        use OnExisting::{Refuse, Rename, Replace, Skip, Update};
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        let time = |seconds| Timestamp::new(seconds, 0).unwrap();
        fs::create_dir(place.path().join("directory")).unwrap();
        symlink("nowhere", place.path().join("link")).unwrap();
        let file = fs::File::create(place.path().join("file")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(100)).unwrap();
        let judge = |policy: OnExisting, name: &str, modified| {
            policy.judge_file(&root, &path(name), 5, time(modified)).ok()
        };
        let store = |landing| Some(Verdict::Store(landing));
        for name in ["file", "link", "directory"] {
            assert_eq!(judge(Refuse, name, 200), None, "{name}");
            assert_eq!(judge(Skip, name, 200), Some(Verdict::Keep), "{name}");
            assert_eq!(judge(Rename, name, 200), store(Landing::Beside), "{name}");
        }
        assert_eq!(judge(Replace, "file", 50), store(Landing::Replacing));
        assert_eq!(judge(Replace, "link", 50), store(Landing::Replacing));
        assert_eq!(judge(Replace, "directory", 50), None);
        assert_eq!(judge(Update, "file", 101), store(Landing::Replacing));
        assert_eq!(judge(Update, "file", 100), Some(Verdict::Keep));
        assert_eq!(judge(Update, "directory", 200), None);
        assert_eq!(judge(Update, "none", 1), store(Landing::Free));
        for policy in [Refuse, Skip, Rename, Replace, Update] {
            let equal = policy.judge_file(&root, &path("file"), 0, time(100)).unwrap();
            assert_eq!(equal, Verdict::Present);
            let link = policy.judge_link(&root, &path("link"), b"nowhere", time(1)).unwrap();
            assert_eq!(link, Verdict::Present);
        }
    }

    #[test]
    fn what_an_earlier_run_stored_beside_is_there_already() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        fs::write(place.path().join("a.txt"), "different").unwrap();
        let copy = fs::File::create(place.path().join("a (1).txt")).unwrap();
        copy.set_modified(std::time::UNIX_EPOCH).unwrap();
        let judge = |size| {
            let modified = Timestamp::default();
            OnExisting::Rename.judge_file(&root, &path("a.txt"), size, modified).unwrap()
        };
        assert_eq!(judge(0), Verdict::Present);
        assert_eq!(judge(1), Verdict::Store(Landing::Beside));
    }
}
