//! Sources that cannot be sent as they were announced: changed, vanished, unreadable. They are
//! named, never silently wrong, and nothing of them is committed.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::content::{names, room, same_bytes, write_random};
use crate::support::process::{Program, ufx};
use crate::support::report::report_of;
use crate::support::root::is_root_with;
use crate::support::transfer::{Receiver, send_words, transfer};

#[track_caller]
fn assert_named(report: &Value, path: &str, reason: &str) {
    let failed = report["failed"].as_array().unwrap();
    let found = failed.iter().find(|named| named["path"].as_str().unwrap().ends_with(path));
    let found = found.unwrap_or_else(|| panic!("{path} is not named: {report}"));
    assert!(found["reason"].as_str().unwrap().contains(reason), "{found}");
}

/// Sends a large file, and a small one behind it. Once some of the large one is at the receiver,
/// `change` happens to it; it must be named at both ends, and only the other one be committed.
/// What is there then is sent by the same command again.
fn change_while_it_is_sent(seed: u64, change: impl Fn(&Path)) {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 8 << 20, seed);
    let other = write_random(&room.path().join("b.bin"), 1_000, seed);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&source, &other], &["--rate", "40M"]));
    receiver.wait_for_written(200_000);
    change(&source);
    let sender = sender.wait().expect_code(7);
    let receiver = receiver.program.wait().expect_code(7);
    assert_named(&report_of(&sender), "a.bin", "changed while it was sent");
    assert_named(&report_of(&receiver), "a.bin", "changed while it was sent");
    assert_eq!(names(&dir), ["b.bin"]);
    assert!(same_bytes(&other, &dir.join("b.bin")));
    if source.exists() {
        transfer(&[&source, &other], &dir, &[], &[]);
        assert!(same_bytes(&source, &dir.join("a.bin")));
    }
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

#[test]
fn a_file_that_is_written_while_it_is_sent_is_named_and_not_committed() {
    // What is written at the file's beginning has been read already.
    change_while_it_is_sent(1, |path| open(path).write_all_at(b"changed", 0).unwrap());
    // The same once more over the whole of it, with other bytes.
    change_while_it_is_sent(2, |path| {
        write_random(path, 8 << 20, 3);
    });
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_sent_is_named_and_not_committed() {
    change_while_it_is_sent(4, |path| open(path).set_len(100).unwrap());
    change_while_it_is_sent(5, |path| open(path).write_all_at(b"longer", 8 << 20).unwrap());
}

#[test]
fn a_file_that_is_replaced_or_deleted_while_it_is_sent_is_named_and_not_committed() {
    change_while_it_is_sent(6, |path| {
        let other = write_random(&path.with_extension("new"), 8 << 20, 7);
        std::fs::rename(other, path).unwrap();
    });
    change_while_it_is_sent(8, |path| std::fs::remove_file(path).unwrap());
}

#[test]
fn files_that_vanish_before_their_turn_are_named() {
    let room = room();
    let first = write_random(&room.path().join("a.bin"), 8 << 20, 4);
    let vanishing = write_random(&room.path().join("b.bin"), 8 << 20, 5);
    let last = write_random(&room.path().join("c.bin"), 1_000, 6);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let paths = [&first, &vanishing, &last];
    let sender = Program::start(&mut receiver.sender(&paths, &["--rate", "60M"]));
    receiver.wait_for_written(200_000);
    std::fs::remove_file(&vanishing).unwrap();
    let sender = sender.wait().expect_code(7);
    let receiver = receiver.program.wait().expect_code(7);
    assert_named(&report_of(&sender), "b.bin", "vanished");
    assert_named(&report_of(&receiver), "b.bin", "vanished");
    assert_eq!(names(&dir), ["a.bin", "c.bin"]);
    assert!(same_bytes(&first, &dir.join("a.bin")));
}

#[test]
fn a_path_that_is_not_there_is_named_before_anything_is_sent() {
    let room = room();
    let receiver = Receiver::start(room.path(), &[]);
    let missing = room.path().join("no such file");
    let sender = receiver.send(&[&missing], &[]).expect_code(5);
    let error = report_of(&sender)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("no such file") && error.contains("No such file"), "{error}");
}

/// `ufx` as a user whom permissions stop; none, aloud, where that is impossible.
fn as_nobody(room: &Path, words: Vec<std::ffi::OsString>) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(ufx(words));
    }
    if !is_root_with(&["setpriv"]) {
        return None;
    }
    // The build directory may be closed to others.
    let program = room.join("ufx");
    std::fs::copy(env!("CARGO_BIN_EXE_ufx"), &program).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(room, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(program).args(words);
    Some(command)
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_sent() {
    let room = room();
    let tree = room.path().join("tree");
    std::fs::create_dir_all(tree.join("closed directory")).unwrap();
    let closed = write_random(&tree.join("closed.bin"), 1_000, 7);
    write_random(&tree.join("closed directory/inside.bin"), 1_000, 8);
    write_random(&tree.join("open.bin"), 1_000, 9);
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(tree.join("closed directory"), Permissions::from_mode(0o000)).unwrap();

    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let words = send_words(&[&tree], &[], "127.0.0.1", receiver.port);
    let Some(mut command) = as_nobody(room.path(), words) else { return };
    let sender = Program::start(&mut command).wait().expect_code(7);
    let report = report_of(&sender);
    assert_named(&report, "tree/closed.bin", "ermission denied");
    let named = report["failed"].to_string();
    assert!(named.contains("closed directory"), "{named}");
    receiver.program.wait();
    assert!(dir.join("tree/open.bin").exists());
    assert!(!dir.join("tree/closed.bin").exists());

    // Else only root could remove it.
    std::fs::set_permissions(tree.join("closed directory"), Permissions::from_mode(0o755)).unwrap();

    // Alone, nothing is left to be sent.
    let receiver = Receiver::start(&dir, &["--once"]);
    let words = send_words(&[&closed], &[], "127.0.0.1", receiver.port);
    let Some(mut command) = as_nobody(room.path(), words) else { return };
    let sender = Program::start(&mut command).wait().expect_code(5);
    assert_named(&report_of(&sender), "closed.bin", "ermission denied");
}

#[test]
fn a_receiver_that_may_not_write_says_so_at_both_ends() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 1_000, 10);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
    let words = ["recv", "--json", "--once", "--port", "0", "--dir"].map(Into::into);
    let words = [&words[..], &[dir.clone().into()]].concat();
    let Some(mut command) = as_nobody(room.path(), words) else { return };
    let receiver = Receiver::listening(Program::start(&mut command));
    let sender = receiver.send(&[&source], &[]).expect_code(6);
    let receiver = receiver.program.wait().expect_code(5);
    assert_named(&report_of(&sender), "a.bin", "ermission denied");
    assert_named(&report_of(&receiver), "a.bin", "ermission denied");
    assert_eq!(names(&dir), [""; 0]);
}
