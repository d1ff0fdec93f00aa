//! Hard links stay hard links, sparse files stay sparse.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::support::content::{room, room_for, same_bytes, write_random};
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, transfer};
use crate::support::tree::assert_same_trees;

/// Inode and number of names.
fn inode(path: impl AsRef<Path>) -> (u64, u64) {
    let metadata = path.as_ref().metadata().unwrap();
    (metadata.ino(), metadata.nlink())
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let room = room();
    let tree = room.path().join("tree");
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    for (name, bytes) in [("a.bin", 3_000_000), ("empty", 0), ("small", 900)] {
        let first = write_random(&tree.join(name), bytes, bytes);
        std::fs::hard_link(&first, tree.join(format!("deep/{name}"))).unwrap();
        std::fs::hard_link(&first, tree.join(format!("z {name}"))).unwrap();
    }
    // One more name, outside of what is sent.
    std::fs::hard_link(tree.join("small"), room.path().join("elsewhere")).unwrap();
    let dir = room.path().join("to");
    let reports = transfer(&[&tree], &dir, &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        assert_eq!((&report["files"], &report["bytes"]), (&9.into(), &3_000_900.into()));
    }
    assert_same_trees(&tree, &dir.join("tree"));
    for name in ["a.bin", "empty", "small"] {
        let names = [name.to_owned(), format!("deep/{name}"), format!("z {name}")];
        let [first, deep, last] = names.map(|name| inode(dir.join("tree").join(name)));
        assert_eq!((first, deep), (deep, last), "{name}");
        assert_eq!(first.1, 3, "{name}");
    }
    let reports = transfer(&[&tree], &dir, &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        assert_eq!((&report["files"], &report["already_there"]), (&0.into(), &9.into()));
    }
}

#[test]
fn a_name_that_was_missing_is_linked_to_the_file_that_is_there() {
    let room = room();
    let tree = room.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let first = write_random(&tree.join("a.bin"), 5_000, 1);
    let dir = room.path().join("to");
    transfer(&[&tree], &dir, &[], &[]);
    std::fs::hard_link(&first, tree.join("b.bin")).unwrap();
    let reports = transfer(&[&tree], &dir, &[], &[]);
    assert_eq!((&reports.sender["files"], &reports.sender["bytes"]), (&1.into(), &0.into()));
    assert_eq!(inode(dir.join("tree/a.bin")), inode(dir.join("tree/b.bin")));
}

#[test]
fn a_hard_link_follows_the_policy_and_its_file() {
    let room = room();
    let tree = room.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let first = write_random(&tree.join("a.bin"), 5_000, 1);
    std::fs::hard_link(&first, tree.join("b.bin")).unwrap();
    // Policy, which of the two is taken, exit codes, files stored.
    let table = [
        ("refuse", "a.bin", [6, 5], 0),
        ("refuse", "b.bin", [7, 7], 1),
        ("skip", "b.bin", [0, 0], 1),
        ("rename", "a.bin", [0, 0], 2),
        ("rename", "b.bin", [0, 0], 2),
        ("replace", "a.bin", [0, 0], 2),
        ("replace", "b.bin", [0, 0], 2),
    ];
    for (policy, taken, codes, stored) in table {
        let what = format!("{policy} {taken}");
        let dir = room.path().join(&what);
        let here = |name: &str| dir.join("tree").join(name);
        std::fs::create_dir_all(here("")).unwrap();
        std::fs::write(here(taken), "there").unwrap();
        let receiver = Receiver::start(&dir, &["--once", "--existing", policy]);
        let report = report_of(&receiver.send(&[&tree], &[]).expect_code(codes[0]));
        receiver.program.wait().expect_code(codes[1]);
        assert_eq!(report["files"], stored, "{what}: {report}");
        let beside = taken.replace('.', " (1).");
        let other = if taken == "a.bin" { "b.bin" } else { "a.bin" };
        let (names, same) = match policy {
            "rename" => (3, inode(here(&beside)) == inode(here(other))),
            "replace" => (2, inode(here("a.bin")) == inode(here("b.bin"))),
            _ => continue,
        };
        assert!(same, "{what}");
        assert_eq!(std::fs::read_dir(here("")).unwrap().count(), names, "{what}");
    }
}

#[test]
fn a_file_of_many_holes_stays_sparse_and_its_holes_are_not_sent() {
    const PIECE: u64 = 4_096;
    const PIECES: u64 = 3_000;
    let room = room_for(64 << 20);
    let source = room.path().join("sparse.img");
    let file = File::create(&source).unwrap();
    file.set_len(PIECES * 64 * PIECE).unwrap();
    for piece in 0..PIECES {
        file.write_all_at(&[piece as u8 | 1; PIECE as usize], piece * 64 * PIECE).unwrap();
    }
    file.sync_all().unwrap();
    let used = file.metadata().unwrap().blocks() * 512;
    assert!(used < 2 * PIECES * PIECE, "the source is not sparse here: {used} bytes");
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let copy = dir.join("sparse.img");
    assert!(same_bytes(&source, &copy));
    let copied = copy.metadata().unwrap().blocks() * 512;
    assert!(copied <= used + used / 10, "{copied} bytes for {used}");
    // What went over the network beside the data: headers, 3,000 holes of 15 bytes, digests.
    let beside = reports.sender["overhead"]["header_bytes"].as_u64().unwrap();
    assert!(beside < PIECES * PIECE, "{beside} bytes beside {used}");
}
