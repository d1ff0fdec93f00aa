//! Much data: a real tree, a sparse file, 2 GiB over loopback and over veth pairs. Memory stays
//! small all the while.

use std::ffi::OsString;
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::content::{Random, alone, room_for, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::root::{Pair, skip};
use crate::support::transfer::{Receiver, both_succeed, send_words, transfer};
use crate::support::tree::{assert_same_trees, size_of_tree};

const MEBIBYTE: u64 = 1 << 20;

/// A tree as a home directory has them: 5,600 files, most of them small, 1 GB altogether.
fn make_tree(root: &Path) {
    const MODES: [u32; 6] = [0o644, 0o755, 0o600, 0o444, 0o640, 0o711];
    let mut random = Random::new(5);
    for directory in 0..280 {
        let depth = 1 + directory % 5;
        let mut path = root.to_owned();
        for level in 0..depth {
            path.push(format!("level {level} of {}", directory / 5 % 8));
        }
        path.push(format!("directory {directory}"));
        std::fs::create_dir_all(&path).unwrap();
        for number in 0..20 {
            let bytes = match random.below(100) {
                0..5 => 0,
                5..70 => random.below(8_000),
                70..95 => random.below(100_000),
                _ => random.below(7_500_000),
            };
            let seed = random.next_u64();
            let file = write_random(&path.join(format!("file {number}.txt")), bytes, seed);
            let mode = MODES[random.below(MODES.len() as u64) as usize];
            let age = Duration::new(random.below(1_700_000_000), random.below(1 << 29) as u32);
            File::options()
                .append(true)
                .open(&file)
                .unwrap()
                .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + age))
                .unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        symlink("file 0.txt", path.join("link to a file")).unwrap();
        symlink("../no such place", path.join("dangling link")).unwrap();
        std::fs::create_dir(path.join("empty")).unwrap();
        let mode = if directory % 3 == 0 { 0o750 } else { 0o755 };
        std::fs::set_permissions(path.join("empty"), Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_tree_of_thousands_of_files_arrives_with_modes_times_and_links() {
    let _alone = alone();
    let room = room_for(2_600 * MEBIBYTE);
    let source = room.path().join("tree");
    make_tree(&source);
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let (files, bytes) = assert_same_trees(&source, &dir.join("tree"));
    assert!(files >= 5_000 && bytes >= 1_000_000_000, "{files} files, {bytes} bytes");
    assert_eq!(reports.sender["bytes"], bytes);
    assert_eq!(reports.receiver["files"], reports.sender["files"]);
    reports.assert_small();

    // Once more: all of it is there already.
    let reports = transfer(&[&source], &dir, &[], &[]);
    assert_eq!(reports.sender["files"], 0);
    assert!(reports.sender["already_there"].as_u64().unwrap() > files);
    assert_same_trees(&source, &dir.join("tree"));
}

/// Directories that a machine which builds Rust has, until together they hold 5,000 files and 1 GB.
fn real_trees() -> Option<Vec<PathBuf>> {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let toolchain = PathBuf::from(OsString::from_vec(asked.stdout.trim_ascii_end().to_vec()));
    let mut trees = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for tree in [toolchain, PathBuf::from("/usr/share"), PathBuf::from("/usr/include")] {
        let (more_files, more_bytes) = size_of_tree(&tree);
        (files, bytes) = (files + more_files, bytes + more_bytes);
        trees.push(tree);
        if files >= 5_000 && bytes >= 1_000_000_000 {
            return Some(trees);
        }
    }
    None
}

#[test]
fn real_trees_of_this_machine_arrive_the_same() {
    let _alone = alone();
    let Some(trees) = real_trees() else {
        skip("needs a Rust toolchain, /usr/share and /usr/include of 1 GB together");
        return;
    };
    let room = room_for(6_000 * MEBIBYTE);
    let dir = room.path().join("to");
    let reports = transfer(&trees, &dir, &["--links", "all"], &["--links", "all"]);
    for tree in &trees {
        assert_same_trees(tree, &dir.join(tree.file_name().unwrap()));
    }
    reports.assert_small();
}

#[test]
fn a_sparse_file_keeps_its_holes() {
    let _alone = alone();
    let room = room_for(700 * MEBIBYTE);
    let source = room.path().join("sparse.img");
    let file = File::create(&source).unwrap();
    file.set_len(5 << 30).unwrap();
    let mut random = Random::new(9);
    // 300 MiB in pieces of 4 KiB to 2 MiB, anywhere; some overlap, which costs a few MiB.
    let mut left = 300 * MEBIBYTE;
    while left > 0 {
        let bytes = (4_096 << random.below(10)).min(left);
        let at = random.below((5 << 30) - bytes) / 4_096 * 4_096;
        file.write_all_at(&random.bytes(bytes as usize), at).unwrap();
        left -= bytes;
    }
    file.sync_all().unwrap();
    let blocks = file.metadata().unwrap().blocks();
    assert!(blocks * 512 < 310 * MEBIBYTE, "the source is not sparse here: {blocks} blocks");

    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let copy = dir.join("sparse.img");
    assert!(same_bytes(&source, &copy));
    let copied = copy.metadata().unwrap().blocks();
    // Extent trees may cost a few blocks more or less.
    assert!(copied.abs_diff(blocks) <= 64 + blocks / 1_000, "{copied} blocks for {blocks}");
    reports.assert_small();
}

#[test]
fn two_gibibytes_go_over_loopback() {
    let _alone = alone();
    let room = room_for(4_100 * MEBIBYTE);
    let source = write_random(&room.path().join("large.bin"), 2 << 30, 21);
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    assert!(same_bytes(&source, &dir.join("large.bin")));
    reports.assert_small();
}

#[test]
fn two_gibibytes_go_over_a_veth_pair_at_any_mtu() {
    let _alone = alone();
    for mtu in [1_500, 9_000] {
        let Some(pair) = Pair::new(mtu) else { return };
        let room = room_for(4_100 * MEBIBYTE);
        let source = write_random(&room.path().join("large.bin"), 2 << 30, 22);
        let dir = room.path().join("to");
        let receiver = Receiver::start_in(&pair.receiver, &dir, &["--once"]);
        let words = send_words(&[&source], &[], Pair::RECEIVER, receiver.port);
        let sender = Program::start(&mut pair.sender.ufx(words));
        let reports = both_succeed(sender, receiver);
        assert_eq!(reports.sender["mtu"], mtu);
        assert!(same_bytes(&source, &dir.join("large.bin")), "{mtu}");
        reports.assert_small();
    }
}
