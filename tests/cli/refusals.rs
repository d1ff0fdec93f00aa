//! What is refused, left alone or left out: files that are there, disks that are full or
//! read-only, names that would escape. Exit codes say which, and the names are named.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::content::{names, room, room_for, same_bytes, write_random};
use crate::support::process::{Program, wait_until};
use crate::support::report::report_of;
use crate::support::root::{Mount, is_root_with, run};
use crate::support::transfer::{Receiver, transfer};

/// Asserts that exactly `path` is named in `list`, with `reason` in the reason.
#[track_caller]
fn assert_named(list: &Value, path: &str, reason: &str) {
    let named = list.as_array().unwrap();
    assert_eq!(named.len(), 1, "{list}");
    assert_eq!(named[0]["path"], path);
    assert!(named[0]["reason"].as_str().unwrap().contains(reason), "{list}");
}

/// Sends `paths` into `dir` and returns both reports; the exit codes must be these.
#[track_caller]
fn fail<P: AsRef<Path>>(paths: &[P], dir: &Path, codes: [i32; 2]) -> [Value; 2] {
    let receiver = Receiver::start(dir, &["--once"]);
    let sender = receiver.send(paths, &[]).expect_code(codes[0]);
    let receiver = receiver.program.wait().expect_code(codes[1]);
    [report_of(&sender), report_of(&receiver)]
}

#[test]
fn a_different_file_is_refused_and_stays_untouched() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 100_000, 1);
    let other = write_random(&room.path().join("b.bin"), 50_000, 2);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("a.bin"), "precious").unwrap();

    let [sender, receiver] = fail(&[&source], &dir, [6, 5]);
    assert_named(&sender["failed"], "a.bin", "exists");
    assert_named(&receiver["failed"], "a.bin", "exists");
    assert_eq!(names(&dir), ["a.bin"]);

    // With something committed beside it, it is partly done.
    let [sender, receiver] = fail(&[&source, &other], &dir, [7, 7]);
    assert_named(&sender["failed"], "a.bin", "exists");
    assert_eq!((&sender["files"], &receiver["files"]), (&1.into(), &1.into()));
    assert!(same_bytes(&other, &dir.join("b.bin")));
    assert_eq!(std::fs::read(dir.join("a.bin")).unwrap(), b"precious");
    assert_eq!(names(&dir), ["a.bin", "b.bin"]);
}

#[test]
fn an_equal_file_is_already_there() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 3_000_000, 3);
    let dir = room.path().join("to");
    transfer(&[&source], &dir, &[], &[]);
    let reports = transfer(&[&source], &dir, &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        assert_eq!((&report["files"], &report["already_there"]), (&0.into(), &1.into()));
        assert_eq!(report["result"], "committed");
    }
}

#[test]
fn a_dry_run_lists_what_would_move_and_uses_nothing_up() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("deep")).unwrap();
    write_random(&source.join("deep/new.bin"), 100_000, 4);
    write_random(&source.join("old.bin"), 1_000, 5);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let port = receiver.port.to_string();
    let tree = source.to_str().unwrap();
    let list = || {
        let words = ["send", "-n", "--port", &port, tree, "127.0.0.1"];
        Program::start(&mut crate::support::process::ufx(words)).wait().expect_code(0)
    };
    let listed = list();
    let mut lines: Vec<&str> = listed.stdout.lines().collect();
    lines.sort_unstable();
    let expected = [
        "tree/deep/new.bin: would be sent",
        "tree/deep: would be sent",
        "tree/old.bin: would be sent",
        "tree: would be sent",
    ];
    assert_eq!(lines, expected);
    assert_eq!(names(&dir), [""; 0], "a dry run creates nothing");

    let json = receiver.send(&[&source], &["-n"]).expect_code(0);
    assert_eq!(report_of(&json)["result"], "listed");

    // The receiver is still there for the one transfer that it was started for.
    receiver.send(&[&source], &[]).expect_code(0);
    let ended = receiver.program.wait().expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 3, "an object for each: {}", ended.stdout);
    crate::support::tree::assert_same_trees(&source, &dir.join("tree"));
}

#[test]
fn special_files_are_left_out_and_named() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir(&source).unwrap();
    write_random(&source.join("file.bin"), 1_000, 6);
    run("mkfifo", [source.join("pipe")]);
    let _socket = UnixListener::bind(source.join("socket")).unwrap();
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let skipped = reports.sender["skipped"].to_string();
    assert!(skipped.contains("pipe") && skipped.contains("is a named pipe"), "{skipped}");
    assert!(skipped.contains("is a socket"), "{skipped}");
    assert_eq!(reports.sender["skipped"].as_array().unwrap().len(), 2);
    assert_eq!(names(&dir.join("tree")), ["file.bin"]);
}

#[test]
fn a_path_that_is_left_out_and_nothing_else_is_no_success() {
    let room = room();
    let pipe = room.path().join("pipe");
    run("mkfifo", [&pipe]);
    let receiver = Receiver::start(&room.path().join("to"), &[]);
    let sender = receiver.send(&[&pipe], &[]).expect_code(5);
    let report = report_of(&sender);
    assert_eq!(report["skipped"][0]["reason"], "is a named pipe");
    let error = "send: nothing of it can be sent (the reasons are named above)";
    assert_eq!(report["error"], error);
}

#[test]
fn links_that_leave_the_tree_are_left_out_and_named() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("deep")).unwrap();
    write_random(&source.join("file.bin"), 1_000, 7);
    symlink("../file.bin", source.join("deep/inside")).unwrap();
    symlink("/etc/passwd", source.join("absolute")).unwrap();
    symlink("../../outside", source.join("deep/up")).unwrap();
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let skipped = reports.sender["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    for named in skipped {
        assert_eq!(named["reason"], "is a link that leaves the tree");
    }
    assert_eq!(names(&dir.join("tree")), ["deep", "file.bin"]);
    assert_eq!(names(&dir.join("tree/deep")), ["inside"]);
}

#[test]
fn a_disk_without_room_refuses_before_it_is_full() {
    if !is_root_with(&["mount", "umount"]) {
        return;
    }
    let room = room();
    let source = write_random(&room.path().join("big.bin"), 40 << 20, 8);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    let disk = Mount::new("-t tmpfs -o size=16M ufx-test", &dir);
    let [sender, receiver] = fail(&[&source], &disk.path, [6, 5]);
    assert_named(&sender["failed"], "big.bin", "");
    assert_named(&receiver["failed"], "big.bin", "");
    assert_eq!(names(&disk.path), [""; 0]);
}

#[test]
fn a_disk_that_fills_up_on_the_way_leaves_nothing_half_written() {
    if !is_root_with(&["mount", "umount"]) {
        return;
    }
    let room = room_for(200 << 20);
    let source = write_random(&room.path().join("big.bin"), 60 << 20, 9);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    let disk = Mount::new("-t tmpfs -o size=160M ufx-test", &dir);
    let receiver = Receiver::start(&disk.path, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "200M"]));
    wait_until("the receiver began", || names(&disk.path).len() == 1);
    // Somebody else takes what was free.
    let filler = disk.path.join("filler");
    let filled = std::fs::write(&filler, vec![1; 160 << 20]);
    assert!(filled.is_err(), "the file system is full now");
    let sender = sender.wait().expect_code(6);
    let receiver = receiver.program.wait().expect_code(5);
    assert_named(&report_of(&sender)["failed"], "big.bin", "");
    assert_named(&report_of(&receiver)["failed"], "big.bin", "");
    assert!(!disk.path.join("big.bin").exists());
}

#[test]
fn a_read_only_directory_is_named_by_both_ends() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 1_000, 10);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    if rustix::process::geteuid().is_root() {
        // Permissions do not stop root; a read-only file system does.
        let disk = Mount::new("-t tmpfs -o ro ufx-test", &dir);
        let [sender, receiver] = fail(&[&source], &disk.path, [6, 5]);
        assert_named(&sender["failed"], "a.bin", "");
        assert_named(&receiver["failed"], "a.bin", "ead-only");
        return;
    }
    std::fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
    let [sender, receiver] = fail(&[&source], &dir, [6, 5]);
    assert_named(&sender["failed"], "a.bin", "");
    assert_named(&receiver["failed"], "a.bin", "ermission");
    std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(names(&dir), [""; 0]);
}

/// Everything below `directory` but `except`, to see that a hostile sender changed nothing.
fn outside(directory: &Path, except: &str) -> Vec<String> {
    names(directory).into_iter().filter(|name| name != except).collect()
}

#[test]
fn a_hostile_sender_reaches_nothing_outside_the_directory() {
    let table = [
        "../x",
        "a/../../x",
        "/tmp/ufx-test-x",
        "",
        ".",
        "..",
        "a//b",
        "a/",
        "x\0y",
        // A link that was there, and then a file through it.
        "out/x",
        "out",
    ];
    for name in table {
        let room = room();
        let dir = room.path().join("to");
        std::fs::create_dir_all(room.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&dir).unwrap();
        symlink("../elsewhere", dir.join("out")).unwrap();
        let source = write_random(&room.path().join("source.bin"), 1_000, 11);
        let before = outside(room.path(), "to");
        let receiver = Receiver::start(&dir, &["--once"]);
        let sender = hostile(&source, name, receiver.port);
        let sender = Program::start(&mut { sender }).wait();
        assert_ne!(sender.code, Some(0), "{name:?}");
        let receiver = receiver.program.wait();
        assert!(matches!(receiver.code, Some(1 | 5)), "{name:?}: {receiver:?}");
        report_of(&receiver);
        assert_eq!(outside(room.path(), "to"), before, "{name:?}");
        assert_eq!(names(&room.path().join("elsewhere")), [""; 0], "{name:?}");
        assert_eq!(names(&dir), ["out"], "{name:?}");
        assert!(!Path::new("/tmp/ufx-test-x").exists());
    }
}

#[test]
fn a_hostile_link_is_not_made_and_not_followed() {
    let room = room();
    let dir = room.path().join("to");
    std::fs::create_dir_all(room.path().join("elsewhere")).unwrap();
    let source = write_random(&room.path().join("source.bin"), 1_000, 12);
    for target in ["../elsewhere", "/etc", "a/../../elsewhere"] {
        let receiver = Receiver::start(&dir, &["--once"]);
        let mut command = hostile(&source, "link/x", receiver.port);
        command.args(["--link", "link", target]);
        let sender = Program::start(&mut command).wait();
        assert_ne!(sender.code, Some(0), "{target}");
        let receiver = receiver.program.wait().expect_code(5);
        assert!(report_of(&receiver)["failed"].to_string().contains("link"), "{receiver:?}");
        assert_eq!(names(&room.path().join("elsewhere")), [""; 0], "{target}");
        assert_eq!(names(&dir), [""; 0], "{target}");
    }
}

/// A sender, built from the Python peer, that announces `source` under any name.
fn hostile(source: &Path, name: &str, port: u16) -> Command {
    let script: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "cli", "support", "hostile_sender.py"]
            .iter()
            .collect();
    let hexadecimal: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("python3");
    command.arg(script).arg(source).arg(port.to_string()).arg(hexadecimal);
    command
}
