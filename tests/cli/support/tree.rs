//! Trees compared as `diff -r` does, and in modes, times, links and kinds beside.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::content::same_bytes;

/// Everything below `root`, by relative path; links are not followed.
fn listing(root: &Path) -> BTreeMap<PathBuf, Metadata> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(root.join(&directory));
        let entries = entries.unwrap_or_else(|error| panic!("{directory:?} of {root:?}: {error}"));
        for entry in entries {
            let entry = entry.expect("a directory can be read");
            let path = directory.join(entry.file_name());
            let metadata = entry.metadata().expect("an entry has metadata");
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    found
}

/// How many regular files there are below `root`, and their bytes.
pub fn size_of_tree(root: &Path) -> (u64, u64) {
    let files = listing(root).into_values().filter(Metadata::is_file);
    files.fold((0, 0), |(files, bytes), metadata| (files + 1, bytes + metadata.len()))
}

/// Asserts that two directories hold the same: names, kinds, bytes, modes, times, link targets.
/// Returns how many regular files there are, and their bytes.
#[track_caller]
pub fn assert_same_trees(left: &Path, right: &Path) -> (u64, u64) {
    let (ours, theirs) = (listing(left), listing(right));
    let (our_names, their_names): (Vec<_>, Vec<_>) =
        (ours.keys().collect(), theirs.keys().collect());
    assert_eq!(our_names, their_names, "names below {left:?} and {right:?}");
    let (mut files, mut bytes) = (0, 0);
    for (path, metadata) in &ours {
        let other = &theirs[path];
        assert_eq!(metadata.file_type(), other.file_type(), "kind of {path:?}");
        if metadata.is_symlink() {
            let target = |root: &Path| std::fs::read_link(root.join(path)).expect("it is a link");
            assert_eq!(target(left), target(right), "target of {path:?}");
            continue;
        }
        assert_eq!(metadata.mode(), other.mode(), "mode of {path:?}");
        assert_eq!(
            (metadata.mtime(), metadata.mtime_nsec()),
            (other.mtime(), other.mtime_nsec()),
            "time of {path:?}"
        );
        if metadata.is_file() {
            assert!(same_bytes(&left.join(path), &right.join(path)), "bytes of {path:?}");
            files += 1;
            bytes += metadata.len();
        }
    }
    (files, bytes)
}
