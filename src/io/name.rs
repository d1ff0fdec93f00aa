//! Names as ufx takes them from strangers: relative paths of bytes, checked before use, and
//! their form on a terminal.
//!
//! It knows nothing of the file system; `confine` opens what these names mean.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Longest component in bytes: `NAME_MAX` of every Linux file system.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Longest path in bytes: `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Most components of a path. A walk holds one descriptor per level, and a process may open
/// 1,024 files unless told otherwise; no tree that people made comes near.
pub const DEPTH_MAX: usize = 256;

/// A name below the directory of a transfer, such as `photos/2024/a.jpg`.
///
/// Always relative, at least one component, none of them empty, `.`, `..`, over-long, holding a
/// NUL, or of the form of ufx's own temporary names. Bytes, not text: any other byte is allowed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Arc<[u8]>);

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No byte at all.
    #[error("the name is empty")]
    Empty,
    /// Begins with a slash.
    #[error("the name is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the name has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("the name has the component \".\" or \"..\"")]
    Dots,
    /// A byte 0, which no system call can take.
    #[error("the name holds a NUL byte")]
    Nul,
    /// More than [`COMPONENT_BYTES_MAX`].
    #[error("a component of the name is longer than 255 bytes")]
    ComponentTooLong,
    /// More than [`PATH_BYTES_MAX`].
    #[error("the name is longer than 4,096 bytes")]
    PathTooLong,
    /// More than [`DEPTH_MAX`].
    #[error("the name has more than 256 components")]
    TooDeep,
    /// The form of ufx's own unfinished files, see [`temporary_name`].
    #[error("the name is one that ufx gives to unfinished files")]
    Reserved,
}

impl RelativePath {
    /// Checks `bytes` and keeps a copy.
    pub fn parse(bytes: &[u8]) -> Result<RelativePath, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(NameError::PathTooLong);
        }
        if bytes.contains(&0) {
            return Err(NameError::Nul);
        }
        if bytes.starts_with(b"/") {
            return Err(NameError::Absolute);
        }
        let mut depth = 0;
        for component in bytes.split(|&byte| byte == b'/') {
            depth += 1;
            match component {
                b"" => return Err(NameError::EmptyComponent),
                b"." | b".." => return Err(NameError::Dots),
                long if long.len() > COMPONENT_BYTES_MAX => {
                    return Err(NameError::ComponentTooLong);
                }
                ours if is_temporary_name(ours) => return Err(NameError::Reserved),
                _ => {}
            }
        }
        if depth > DEPTH_MAX {
            return Err(NameError::TooDeep);
        }
        Ok(RelativePath(bytes.into()))
    }

    /// The bytes, as they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components from the top down; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }

    /// How many components the path has; at least 1.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The path of `leaf` in the same directory, if that is a valid name.
    pub fn with_leaf(&self, leaf: &[u8]) -> Option<RelativePath> {
        let (directory, _) = self.split();
        let mut bytes = directory.to_vec();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(leaf);
        RelativePath::parse(&bytes).ok()
    }

    /// The directory the path lies in, empty for the top, and the last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => {
                let (parent, rest) = self.0.split_at(slash);
                (parent, rest.get(1..).unwrap_or_default())
            }
            None => (&[], &self.0),
        }
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(formatter)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

const TEMPORARY_PREFIX: &[u8] = b".ufx-";
const TEMPORARY_SUFFIX: &[u8] = b".part";
const JOURNAL_SUFFIX: &[u8] = b".journal";

/// The name of an unfinished file, `.ufx-<16 hexadecimal digits>.part`: short enough for every
/// file system, the same on a rerun. No sender may use this form, or a file it sent earlier
/// would be taken for a leftover and overwritten.
pub fn temporary_name(hash: u64) -> String {
    format!(".ufx-{hash:016x}.part")
}

/// The name of its journal: `.journal` instead of `.part`.
pub fn journal_name(hash: u64) -> String {
    format!(".ufx-{hash:016x}.journal")
}

fn is_temporary_name(component: &[u8]) -> bool {
    component
        .strip_prefix(TEMPORARY_PREFIX)
        .and_then(|rest| {
            rest.strip_suffix(TEMPORARY_SUFFIX).or_else(|| rest.strip_suffix(JOURNAL_SUFFIX))
        })
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Which symbolic links are sent, or taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// Those that stay inside their tree, see [`link_stays_inside`].
    #[default]
    Inside,
    /// All, wherever they point: for who trusts the other side. Links are never followed anyway.
    All,
}

impl Links {
    /// Whether a link at `path` that says `target` may pass.
    pub fn allow(self, path: &RelativePath, target: &[u8]) -> bool {
        match self {
            Links::Inside => link_stays_inside(path, target),
            Links::All => {
                !target.is_empty() && target.len() < PATH_BYTES_MAX && !target.contains(&0)
            }
        }
    }
}

/// Whether a symbolic link that lies at `path` and says `target` stays inside its tree, the
/// first component of `path`; a link that lies at the top stays inside the receiver's directory.
///
/// Decided without the file system, so `..` counts only in front: in `sub/../x`, `sub` may be a
/// link itself, and then `..` leads elsewhere. With this rule each link goes up through real
/// directories and down through links that stay inside too, so no chain of them leads out.
pub fn link_stays_inside(path: &RelativePath, target: &[u8]) -> bool {
    if target.is_empty() || target.len() >= PATH_BYTES_MAX || target.contains(&0) {
        return false;
    }
    if target.starts_with(b"/") {
        return false;
    }
    let floor = usize::from(path.depth() > 1);
    let mut depth = path.depth() - 1;
    let mut went_down = false;
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if went_down || depth == floor => return false,
            b".." => depth -= 1,
            _ => went_down = true,
        }
    }
    true
}

/// Foreign bytes in a form that a terminal shows and does not obey: printable characters as they
/// are, everything else (control codes, bidirectional overrides, bytes that are no UTF-8, the
/// backslash) as escapes.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        for piece in self.0.utf8_chunks() {
            for character in piece.valid().chars() {
                match character {
                    '"' | '\'' => formatter.write_char(character)?,
                    other => write!(formatter, "{}", other.escape_debug())?,
                }
            }
            for byte in piece.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A local path in the form of [`Escaped`].
pub fn escape_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;

    Escaped(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelativePath {
        RelativePath::parse(bytes).unwrap()
    }

    #[test]
    fn every_dangerous_name_is_refused_with_its_reason() {
        let deep = ["d"; DEPTH_MAX + 1].join("/");
        let table: &[(&[u8], NameError)] = &[
            (b"", NameError::Empty),
            (b"/", NameError::Absolute),
            (b"/etc/passwd", NameError::Absolute),
            (b"//a", NameError::Absolute),
            (b"a//b", NameError::EmptyComponent),
            (b"a/", NameError::EmptyComponent),
            (b".", NameError::Dots),
            (b"..", NameError::Dots),
            (b"../x", NameError::Dots),
            (b"a/../b", NameError::Dots),
            (b"a/..", NameError::Dots),
            (b"a/./b", NameError::Dots),
            (b"a\0b", NameError::Nul),
            (b"\0", NameError::Nul),
            (&[b'n'; COMPONENT_BYTES_MAX + 1], NameError::ComponentTooLong),
            (&[b'n'; PATH_BYTES_MAX + 1], NameError::PathTooLong),
            (deep.as_bytes(), NameError::TooDeep),
            (b".ufx-0123456789abcdef.part", NameError::Reserved),
            (b"a/.ufx-0123456789ABCDEF.part/b", NameError::Reserved),
        ];
        for (bytes, reason) in table {
            assert_eq!(RelativePath::parse(bytes), Err(*reason), "{}", Escaped(bytes));
        }
    }

    #[test]
    fn odd_but_harmless_names_are_taken_as_they_are() {
        let deep = ["d"; DEPTH_MAX].join("/");
        let table: &[&[u8]] = &[
            b"a",
            b"...",
            b"..a/.b",
            b"new\nline",
            b"\x1b[31mred",
            b"\xff\xfe",
            b"-rf",
            b"a\\b",
            b" ",
            b".ufx-0123.part",
            &[0xff; COMPONENT_BYTES_MAX],
            deep.as_bytes(),
        ];
        for bytes in table {
            assert_eq!(path(bytes).as_bytes(), *bytes);
        }
    }

    #[test]
    fn a_path_splits_into_its_directory_and_its_last_component() {
        assert_eq!(path(b"a").split(), (&b""[..], &b"a"[..]));
        assert_eq!(path(b"a/b/c").split(), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(path(b"a/b/c").depth(), 3);
    }

    #[test]
    fn a_temporary_name_is_one_that_no_sender_may_use() {
        let name = temporary_name(0xfeed);
        assert_eq!(name, ".ufx-000000000000feed.part");
        assert_eq!(RelativePath::parse(name.as_bytes()), Err(NameError::Reserved));
        let name = journal_name(0xfeed);
        assert_eq!(name, ".ufx-000000000000feed.journal");
        assert_eq!(RelativePath::parse(name.as_bytes()), Err(NameError::Reserved));
    }

    #[test]
    fn names_are_shown_without_anything_a_terminal_would_obey() {
        let table: &[(&[u8], &str)] = &[
            (b"plain name.txt", "plain name.txt"),
            ("größe 日本".as_bytes(), "größe 日本"),
            (b"it's \"so\"", "it's \"so\""),
            (b"a\nb\r\t", "a\\nb\\r\\t"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            ("\u{9b}31m\u{7f}".as_bytes(), "\\u{9b}31m\\u{7f}"),
            ("\u{202e}gpj.exe".as_bytes(), "\\u{202e}gpj.exe"),
            (b"\xffa\\", "\\xffa\\\\"),
        ];
        for (bytes, shown) in table {
            assert_eq!(Escaped(bytes).to_string(), *shown);
        }
    }

    #[test]
    fn only_links_that_stay_inside_their_tree_pass() {
        let table: &[(&[u8], &[u8], bool)] = &[
            (b"tree/link", b"file", true),
            (b"tree/link", b"./sub//file/", true),
            (b"tree/link", b".", true),
            (b"tree/link", b"..", false),
            (b"tree/link", b"../other", false),
            (b"tree/link", b"../tree/file", false),
            (b"tree/sub/link", b"../file", true),
            (b"tree/sub/link", b"..", true),
            (b"tree/sub/link", b"../..", false),
            (b"tree/sub/link", b"../../other", false),
            (b"tree/sub/link", b"x/../file", false),
            (b"tree/link", b"/etc/passwd", false),
            (b"tree/link", b"", false),
            (b"tree/link", b"a\0b", false),
            (b"link", b"file", true),
            (b"link", b"..", false),
            (b"link", b"../file", false),
        ];
        for (name, target, inside) in table {
            let shown = Escaped(target);
            assert_eq!(link_stays_inside(&path(name), target), *inside, "{shown}");
        }
        assert!(!link_stays_inside(&path(b"t/l"), &[b'a'; PATH_BYTES_MAX]));
    }
}
