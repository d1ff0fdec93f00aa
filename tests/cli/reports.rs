//! What a run tells: directories are no files, a path reads alike at both ends, and what became
//! otherwise than its source is named.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use serde_json::Value;

use crate::support::content::{room, write_random};
use crate::support::process::{Program, ufx, wait_until};
use crate::support::report::report_of;
use crate::support::root::{is_installed, run, skip};
use crate::support::transfer::{Receiver, transfer};

/// Paths and reasons of a list, in order.
fn named(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |one: &Value| (text(&one["path"]), text(&one["reason"]));
    list.as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn directories_are_counted_apart_from_files() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("deep/deeper")).unwrap();
    write_random(&source.join("deep/a.bin"), 1_000, 1);
    std::os::unix::fs::symlink("deep", source.join("link")).unwrap();
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        assert_eq!((&report["files"], &report["directories"]), (&2.into(), &3.into()));
    }
    let reports = transfer(&[&source], &dir, &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        assert_eq!((&report["files"], &report["directories"]), (&0.into(), &0.into()));
        assert_eq!(report["already_there"], 2);
    }
}

#[test]
fn directories_alone_are_nothing_done_where_every_file_was_refused() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("new")).unwrap();
    write_random(&source.join("a.bin"), 1_000, 2);
    let dir = room.path().join("to");
    std::fs::create_dir_all(dir.join("tree")).unwrap();
    std::fs::write(dir.join("tree/a.bin"), "precious").unwrap();
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = receiver.send(&[&source], &[]).expect_code(6);
    let receiver = receiver.program.wait().expect_code(5);
    for report in [report_of(&sender), report_of(&receiver)] {
        assert_eq!((&report["files"], &report["directories"]), (&0.into(), &1.into()));
        assert_eq!(
            (&report["failed_total"], &report["failed"][0]["path"]),
            (&1.into(), &"tree/a.bin".into())
        );
    }
}

#[test]
fn a_path_in_a_report_is_the_receiver_s_at_both_ends() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("deep")).unwrap();
    write_random(&source.join("deep/a.bin"), 1_000, 3);
    run("mkfifo", [source.join("deep/pipe")]);
    // A name that ufx gives to unfinished files.
    write_random(&source.join("deep/.ufx-0123456789abcdef.part"), 10, 4);
    let dir = room.path().join("to");
    std::fs::create_dir_all(dir.join("tree/deep")).unwrap();
    std::fs::write(dir.join("tree/deep/a.bin"), "precious").unwrap();
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = report_of(&receiver.send(&[source.join(".")], &[]).expect_code(5));
    let receiver = report_of(&receiver.program.wait().expect_code(5));
    let paths = |list: &Value| named(list).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let failed = ["tree/deep/.ufx-0123456789abcdef.part", "tree/deep/a.bin"];
    assert_eq!(paths(&sender["failed"]), failed);
    assert_eq!(paths(&sender["skipped"]), ["tree/deep/pipe"]);
    assert_eq!(paths(&receiver["failed"]), failed[1..]);
}

#[test]
fn more_failures_than_are_named_are_counted() {
    let room = room();
    let source = room.path().join("tree");
    let dir = room.path().join("to");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::create_dir_all(dir.join("tree")).unwrap();
    for number in 0..10_050 {
        std::fs::write(source.join(number.to_string()), "new").unwrap();
        std::fs::write(dir.join("tree").join(number.to_string()), "other").unwrap();
    }
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = receiver.send(&[&source], &[]).expect_code(6);
    let receiver = receiver.program.wait().expect_code(5);
    assert!(sender.stderr.contains("ufx: 10030 more (-v or --json names more)"), "{sender:#?}");
    for report in [report_of(&sender), report_of(&receiver)] {
        assert_eq!(report["failed_total"], 10_050);
        assert_eq!(report["failed"].as_array().unwrap().len(), 10_000);
    }
}

#[test]
fn special_bits_are_dropped_and_named() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(&source).unwrap();
    let file = write_random(&source.join("a.bin"), 1_000, 5);
    std::fs::set_permissions(&source, Permissions::from_mode(0o1755)).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o6755)).unwrap();
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let notes = [("tree", "sticky not kept"), ("tree/a.bin", "setuid and setgid not kept")];
    let notes = notes.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
    assert_eq!(named(&reports.sender["notes"]), notes);
    assert_eq!(dir.join("tree").metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(dir.join("tree/a.bin").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_file_system_without_modes_takes_files_and_that_is_named() {
    if !is_installed("strace") {
        return skip("needs the program strace");
    }
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(&source).unwrap();
    let file = write_random(&source.join("a.bin"), 2_000_000, 8);
    std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    std::fs::set_permissions(&source, Permissions::from_mode(0o500)).unwrap();
    let dir = room.path().join("to");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fchmod"]);
    command.args(["-e", "inject=fchmod:error=EPERM", env!("CARGO_BIN_EXE_ufx")]);
    command.args(["recv", "--json", "--once", "--port", "0", "--dir"]).arg(&dir);
    let receiver = Receiver::listening(Program::start(&mut command));
    receiver.send(&[&source], &[]).expect_code(0);
    let report = report_of(&receiver.program.wait().expect_code(0));
    let notes = named(&report["notes"]);
    assert_eq!(notes[0], ("tree/a.bin".into(), "its mode is not kept here".into()), "{report}");
    assert_eq!((notes.len(), notes[1].0.as_str()), (2, "tree"), "{report}");
    assert!(notes[1].1.starts_with("cannot set mode and time of "), "{report}");
    let [ours, theirs] = [&source, &dir.join("tree")].map(|path| path.metadata().unwrap());
    assert_eq!(ours.mtime_nsec(), theirs.mtime_nsec(), "the time is kept all the same");
}

#[test]
fn a_directory_that_cannot_be_finished_is_named() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("a")).unwrap();
    write_random(&source.join("b.bin"), 4 << 20, 6);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "40M"]));
    wait_until("the directory is made", || dir.join("tree/a").exists());
    std::fs::remove_dir(dir.join("tree/a")).unwrap();
    sender.wait().expect_code(0);
    let report = report_of(&receiver.program.wait().expect_code(0));
    let notes = named(&report["notes"]);
    assert_eq!(notes.len(), 1, "{report}");
    assert_eq!(notes[0].0, "tree/a");
    assert!(notes[0].1.starts_with("cannot set mode and time of "), "{report}");
}

#[test]
fn a_receiver_says_to_whom_it_is_open() {
    let room = room();
    let dir = room.path().join("to");
    let table: [(&[&str], &str); 3] = [
        (&[], "local networks"),
        (&["--allow", "any"], "everybody"),
        (&["--allow", "203.0.113.7"], "local networks, 203.0.113.7/32"),
    ];
    for (options, whom) in table {
        let words = ["recv", "--port", "0", "--dir", dir.to_str().unwrap()];
        let mut program = Program::start(&mut ufx(words.iter().chain(options)));
        let line = program.stderr_line("receiving into");
        assert!(line.ends_with(&format!("/udp, open to {whom}\n")), "{line}");
    }
}

#[test]
fn the_overhead_of_a_tiny_transfer_counts_no_filling() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 10, 7);
    let reports = transfer(&[&source], &room.path().join("to"), &[], &[]);
    for report in [&reports.sender, &reports.receiver] {
        // Probes for larger datagrams alone would be 65,000 bytes over loopback.
        let bytes = report["overhead"]["header_bytes"].as_u64().unwrap();
        assert!((100..8_000).contains(&bytes), "{report}");
    }
}
