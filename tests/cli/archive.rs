//! `--archive`: owners, extended attributes, setuid, setgid and sticky bits.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::content::{names, room, write_random};
use crate::support::process::{Program, ufx};
use crate::support::report::report_of;
use crate::support::root::{is_root_with, skip};
use crate::support::transfer::{Receiver, transfer};

/// A list that gives user 5 a right to read: version 2, then tag, right and number of each entry in
/// the byte order of the machine.
const LIST: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 255, 255, 255, 255, // user::rwx
    2, 0, 4, 0, 5, 0, 0, 0, // user:5:r--
    4, 0, 5, 0, 255, 255, 255, 255, // group::r-x
    16, 0, 5, 0, 255, 255, 255, 255, // mask::r-x
    32, 0, 0, 0, 255, 255, 255, 255, // other::---
];

/// CAP_NET_RAW, permitted: revision 2.
const CAPABILITY: [u8; 20] = [0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn set(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

fn get(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 70_000];
    let bytes = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(bytes);
    Some(value)
}

const NAMES: [&str; 5] = [
    "user.note",
    "user.empty",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
];

/// A tree of [`make_tree`], and where it may go; none where this test cannot run.
fn rooms() -> Option<(TempDir, PathBuf, PathBuf)> {
    if !is_root_with(&[]) {
        return None;
    }
    let room = room();
    let (tree, to) = (room.path().join("tree"), room.path().join("to"));
    if !make_tree(&tree) {
        skip("needs a file system with attributes of users");
        return None;
    }
    Some((room, tree, to))
}

/// A tree with everything; false where the file system has no attributes.
fn make_tree(tree: &Path) -> bool {
    fs::create_dir_all(tree.join("shared")).unwrap();
    let (program, large) = (tree.join("program"), tree.join("large"));
    write_random(&program, 1_000, 1);
    write_random(&large, 3 << 20, 2);
    write_random(&tree.join("shared/plain"), 10, 3);
    symlink("program", tree.join("link")).unwrap();
    chown(&program, Some(1_234), Some(5_678)).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o6755)).unwrap();
    if set(&program, "user.note", b"kept") == Err(Errno::OPNOTSUPP) {
        return false;
    }
    set(&program, "user.empty", b"").unwrap();
    set(&program, "security.capability", &CAPABILITY).unwrap();
    set(&large, "user.note", &vec![7; 40_000]).unwrap();
    chown(&large, Some(1), Some(2)).unwrap();
    lchown(tree.join("link"), Some(3), Some(4)).unwrap();
    chown(tree.join("shared"), Some(5), Some(6)).unwrap();
    fs::set_permissions(tree.join("shared"), Permissions::from_mode(0o3750)).unwrap();
    set(&tree.join("shared"), "system.posix_acl_default", &LIST).unwrap();
    set(&large, "system.posix_acl_access", &LIST).unwrap();
    true
}

#[test]
fn owners_attributes_and_special_bits_are_kept_if_both_sides_say_so() {
    let Some((_room, tree, to)) = rooms() else { return };
    transfer(&[&tree], &to, &["-a"], &["--archive"]);
    for name in ["", "program", "large", "shared", "shared/plain", "link"] {
        let (ours, theirs) = (tree.join(name), to.join("tree").join(name));
        let of = |path: &Path| {
            let metadata = fs::symlink_metadata(path).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode(), metadata.mtime_nsec())
        };
        assert_eq!(of(&ours), of(&theirs), "{name}");
        for attribute in NAMES.into_iter().filter(|_| name != "link") {
            assert!(get(&ours, attribute) == get(&theirs, attribute), "{attribute} of {name}");
        }
    }
    assert_eq!(get(&to.join("tree/program"), "user.note").unwrap(), b"kept");
}

#[test]
fn a_receiver_without_archive_keeps_none_of_it_and_says_so() {
    let Some((room, tree, to)) = rooms() else { return };
    let reports = transfer(&[&tree], &to, &["-a"], &[]);
    let metadata = fs::metadata(to.join("tree/program")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7000), (0, 0, 0));
    assert_eq!(get(&to.join("tree/program"), "user.note"), None);
    let notes = reports.receiver["notes"].as_array().unwrap();
    let reason = notes[0]["reason"].as_str().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(reason.contains("the receiver runs without --archive"), "{reason}");
    // A sender without it announces none of it, whatever the receiver would keep.
    let plain = room.path().join("plain");
    transfer(&[&tree], &plain, &[], &["-a"]);
    let metadata = fs::metadata(plain.join("tree/program")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7000), (0, 0));
}

#[test]
fn what_cannot_be_kept_is_named_and_not_committed() {
    const NOBODY: u32 = 65_534;
    if !is_root_with(&[]) {
        return;
    }
    let room = room();
    fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    let to = room.path().join("to");
    fs::create_dir(&to).unwrap();
    chown(&to, Some(NOBODY), Some(NOBODY)).unwrap();
    let mine = write_random(&room.path().join("mine"), 10, 1);
    let theirs = write_random(&room.path().join("theirs"), 2 << 20, 2);
    chown(&mine, Some(NOBODY), Some(NOBODY)).unwrap();
    chown(&theirs, Some(1), Some(1)).unwrap();
    let words = ["recv", "--json", "--once", "--port", "0", "-a", "--dir"];
    let mut command = ufx(words);
    let command = command.arg(&to).uid(NOBODY).gid(NOBODY);
    let receiver = Receiver::listening(Program::start(command));
    let sender = receiver.send(&[&mine, &theirs], &["-a"]).expect_code(7);
    receiver.program.wait().expect_code(7);
    let report = report_of(&sender);
    let failed = &report["failed"].as_array().unwrap()[0];
    assert_eq!(failed["path"], "theirs");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("set the owner of") && reason.contains("not permitted"), "{reason}");
    assert_eq!(names(&to), ["mine"]);
}
