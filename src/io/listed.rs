//! Names that the user lists one by one (`--files-from`), instead of PATHs that are walked.
//!
//! Each is relative to the current directory and lands under the name as listed. A directory is
//! sent without what is in it, as lists from `find` have that, too; directories on the way to a
//! name are sent with it. A name listed twice is sent once.

use std::collections::HashSet;
use std::io::{self, Read};

use rustix::io::Errno;
use twox_hash::XxHash3_128;

use super::confine::FileError;
use super::name::RelativePath;
use super::source::{Place, Sources};
use super::walk::{self, SkipReason, WalkItem};

/// The list, as it was read.
#[derive(Debug)]
pub struct Listed {
    bytes: Vec<u8>,
    separator: u8,
}

impl Listed {
    /// Reads all of `list`, whose names `separator` ends.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(mut list: impl Read, separator: u8) -> io::Result<Listed> {
        let mut bytes = Vec::new();
        list.read_to_end(&mut bytes)?;
        Ok(Listed { bytes, separator })
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let names = self.bytes.split(|&byte| byte == self.separator);
        names.map(plain).filter(|name| !name.is_empty())
    }
}

/// `name` without what `find` puts in front, and without slashes at its end.
fn plain(mut name: &[u8]) -> &[u8] {
    if name.iter().all(|byte| *byte == b'/') {
        return name;
    }
    while let Some(shorter) = name.strip_suffix(b"/") {
        name = shorter;
    }
    while let Some(shorter) = name.strip_prefix(b"./") {
        name = shorter;
    }
    // The current directory itself has no name to land under, and is there anyway.
    if name == b"." { b"" } else { name }
}

/// What there is under the names of `list`, in their order.
pub fn look_up<'a>(sources: &'a Sources, list: &'a Listed) -> impl Iterator<Item = WalkItem> + 'a {
    let listing = walk::listing_buffer();
    let mut search = Search { sources, listing, seen: HashSet::new() };
    list.names().flat_map(move |name| search.items(name))
}

struct Search<'a> {
    sources: &'a Sources,
    listing: Vec<u8>,
    /// Hashes of the names that were handed out: a list may have a million of them.
    seen: HashSet<u128>,
}

impl Search<'_> {
    /// What is under `name`, after the directories on the way to it.
    fn items(&mut self, name: &[u8]) -> Vec<WalkItem> {
        let mut items = Vec::new();
        if let Err(error) = RelativePath::parse(name) {
            return vec![walk::skipped(name, SkipReason::Name(error))];
        }
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for prefix in slashes.filter_map(|(end, _)| name.get(..end)) {
            if self.sources.excludes.match_path(prefix, true) {
                return items;
            }
            let hash = XxHash3_128::oneshot(prefix);
            if self.seen.contains(&hash) {
                continue;
            }
            match self.look(prefix) {
                Ok(Some((entry, Some(_)))) => items.push(WalkItem::Entry(entry)),
                // What is wrong with it shows at the name itself.
                _ => break,
            }
            self.seen.insert(hash);
        }
        if self.seen.insert(XxHash3_128::oneshot(name)) {
            match self.look(name) {
                Ok(found) => items.extend(found.map(|(entry, _)| WalkItem::Entry(entry))),
                Err(reason) => items.push(walk::skipped(name, reason)),
            }
        }
        items
    }

    fn look(&mut self, name: &[u8]) -> Result<Option<walk::Found>, SkipReason> {
        let path = RelativePath::parse(name).map_err(SkipReason::Name)?;
        let root = self.sources.root(Place::CURRENT).map_err(reason)?;
        let looked = root.in_parent(&path, "look at", |parent, leaf| {
            let (sources, listing) = (self.sources, &mut self.listing);
            Ok(walk::look(sources, Place::CURRENT, parent, leaf, name, listing))
        });
        looked.map_err(reason)?.map_err(|reason| match reason {
            // It may never have been there.
            SkipReason::Vanished => SkipReason::Unreadable(Errno::NOENT.into()),
            reason => reason,
        })
    }
}

fn reason(error: FileError) -> SkipReason {
    match error {
        FileError::Io { source, .. } => SkipReason::Unreadable(source),
        error => SkipReason::Unreadable(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_find_prints_them() {
        let names = |text: &str, separator| -> Vec<String> {
            let list = Listed::read(text.as_bytes(), separator).unwrap();
            list.names().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
        };
        assert_eq!(names(".\n./a\n././b/c/\n\nd e \n", b'\n'), ["a", "b/c", "d e "]);
        assert_eq!(names("a\nb\0c", 0), ["a\nb", "c"]);
        assert_eq!(names("/\n/etc/\n../x", b'\n'), ["/", "/etc", "../x"]);
        assert_eq!(names("", b'\n'), [""; 0]);
    }
}
