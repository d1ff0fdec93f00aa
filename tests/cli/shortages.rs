//! Too few descriptors, no inodes: what can be done is done, what cannot is named, and the same
//! command completes once there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::content::{names, room, write_random};
use crate::support::process::Program;
use crate::support::report::report_of;
use crate::support::root::{Mount, is_root_with, run};
use crate::support::transfer::{Receiver, both_succeed, recv_words, send_words, transfer};
use crate::support::tree::assert_same_trees;

/// `directories` with `files` each.
fn make_tree(root: &Path, directories: u64, files: u64) -> PathBuf {
    for directory in 0..directories {
        let path = root.join(format!("{directory}/deep/deeper"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..files {
            write_random(&path.join(file.to_string()), 1_000 * file, directory * files + file);
        }
    }
    root.to_owned()
}

#[test]
fn thirty_two_descriptors_are_enough_for_either_end() {
    let room = room();
    let source = make_tree(&room.path().join("tree"), 60, 10);
    write_random(&source.join("large.bin"), 5_000_000, 1);
    let dir = room.path().join("to");
    let few = |words: Vec<std::ffi::OsString>| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 32; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ufx")]);
        command.args(words);
        Program::start(&mut command)
    };
    let receiver = Receiver::listening(few(recv_words(0, &dir, &["--once"])));
    let sender = few(send_words(&[&source], &[], "127.0.0.1", receiver.port));
    let reports = both_succeed(sender, receiver);
    assert_eq!(reports.receiver["files"], 601);
    assert_same_trees(&source, &dir.join("tree"));
}

/// A file system without inodes for a whole tree, and then with more.
fn run_out_of_inodes(more: impl Fn(&Path), dir: &Path, source: &Path, whole: u64) {
    let receiver = Receiver::start(dir, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[source], &[])).wait().expect_code(7);
    let receiver = receiver.program.wait().expect_code(7);
    for finished in [&sender, &receiver] {
        let report = report_of(finished);
        let failed = report["failed_total"].as_u64().unwrap();
        assert!(failed > 0 && failed < whole, "{report}");
        for named in report["failed"].as_array().unwrap() {
            let reason = named["reason"].as_str().unwrap();
            // What lies in a directory that could not be made has nowhere to go.
            let is_told = reason.contains("No space left") || reason.contains("No such file");
            assert!(is_told, "{named}");
        }
    }
    assert!(names(dir).iter().all(|name| !name.starts_with(".ufx-")), "{:?}", names(dir));
    more(dir);
    transfer(&[source], dir, &[], &[]);
    assert_same_trees(source, &dir.join("tree"));
}

#[test]
fn a_file_system_without_inodes_takes_what_it_can_and_names_the_rest() {
    if !is_root_with(&["mount", "umount", "mkfs.ext4"]) {
        return;
    }
    let room = room();
    let source = make_tree(&room.path().join("tree"), 20, 8);
    let path = room.path().join("memory");
    fs::create_dir(&path).unwrap();
    let memory = Mount::new("-t tmpfs -o nr_inodes=90,size=256m none", &path);
    let remount =
        |dir: &Path| run("mount", ["-o", "remount,nr_inodes=1000", dir.to_str().unwrap()]);
    run_out_of_inodes(remount, &memory.path, &source, 241);

    let path = room.path().join("disk");
    fs::create_dir(&path).unwrap();
    let image = path.with_extension("img");
    fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    run("mkfs.ext4", ["-q", "-F", "-N", "400", image.to_str().unwrap()]);
    let disk = Mount::new(&format!("-o loop {}", image.display()), &path);
    // Inodes come by the block: somebody else has most of them.
    let fillers = path.join("fillers");
    fs::create_dir(&fillers).unwrap();
    let free = || rustix::fs::statvfs(&path).unwrap().f_ffree;
    for number in 0..free().saturating_sub(90) {
        fs::write(fillers.join(number.to_string()), "").unwrap();
    }
    let dir = path.join("to");
    let remove = |_: &Path| fs::remove_dir_all(&fillers).unwrap();
    run_out_of_inodes(remove, &dir, &source, 241);
    drop(disk);
}
