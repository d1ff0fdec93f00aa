//! `--existing`: what becomes of a file whose name something different has.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::content::{names, room, same_bytes, write_random};
use crate::support::process::{Program, ufx, wait_until};
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, transfer};

/// A file as it was modified that many seconds after 2020.
fn write_at(path: &Path, content: &str, seconds: u64) -> PathBuf {
    std::fs::write(path, content).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800 + seconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    path.to_owned()
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn counts(report: &Value) -> [u64; 4] {
    ["files", "already_there", "kept", "failed_total"].map(|key| report[key].as_u64().unwrap())
}

/// Sends `paths` into `dir` under a policy; both ends must report these codes and these counts of
/// files stored, already there, kept and failed.
#[track_caller]
fn send(policy: &str, paths: &[&Path], dir: &Path, codes: [i32; 2], expected: [u64; 4]) -> Value {
    let receiver = Receiver::start(dir, &["--once", "--existing", policy]);
    let sender = report_of(&receiver.send(paths, &[]).expect_code(codes[0]));
    let receiver = report_of(&receiver.program.wait().expect_code(codes[1]));
    assert_eq!(counts(&sender), expected, "{policy}: {sender}");
    assert_eq!(counts(&receiver), expected, "{policy}: {receiver}");
    receiver
}

#[test]
fn each_policy_does_with_a_different_file_what_it_says() {
    let room = room();
    let source = write_at(&room.path().join("a.txt"), "new", 100);
    // Policy, seconds of what is there, codes, counts, the file afterwards, all names.
    type Case<'a> = (&'a str, u64, [i32; 2], [u64; 4], &'a str, &'a [&'a str]);
    let table: &[Case] = &[
        ("refuse", 50, [6, 5], [0, 0, 0, 1], "there", &["a.txt"]),
        ("skip", 50, [0, 0], [0, 0, 1, 0], "there", &["a.txt"]),
        ("rename", 50, [0, 0], [1, 0, 0, 0], "there", &["a (1).txt", "a.txt"]),
        ("replace", 50, [0, 0], [1, 0, 0, 0], "new", &["a.txt"]),
        ("replace", 150, [0, 0], [1, 0, 0, 0], "new", &["a.txt"]),
        ("update", 50, [0, 0], [1, 0, 0, 0], "new", &["a.txt"]),
        ("update", 100, [0, 0], [0, 0, 1, 0], "there", &["a.txt"]),
        ("update", 150, [0, 0], [0, 0, 1, 0], "there", &["a.txt"]),
    ];
    for (policy, seconds, codes, expected, content, all) in table {
        let dir = room.path().join(format!("{policy} {seconds}"));
        std::fs::create_dir(&dir).unwrap();
        write_at(&dir.join("a.txt"), "there", *seconds);
        send(policy, &[&source], &dir, *codes, *expected);
        assert_eq!(text(dir.join("a.txt")), *content, "{policy} {seconds}");
        assert_eq!(names(&dir), *all, "{policy} {seconds}");
    }
}

#[test]
fn what_is_equal_is_already_there_and_what_is_absent_is_stored_under_every_policy() {
    let room = room();
    let equal = write_at(&room.path().join("equal.txt"), "equal", 100);
    let absent = write_at(&room.path().join("absent.txt"), "absent", 100);
    for policy in ["refuse", "skip", "rename", "replace", "update"] {
        let dir = room.path().join(policy);
        std::fs::create_dir(&dir).unwrap();
        write_at(&dir.join("equal.txt"), "EQUAL", 100);
        send(policy, &[&equal, &absent], &dir, [0, 0], [1, 1, 0, 0]);
        assert_eq!(text(dir.join("equal.txt")), "EQUAL", "only size and time are compared");
        assert_eq!(text(dir.join("absent.txt")), "absent");
    }
}

#[test]
fn a_renamed_file_is_named_and_found_again() {
    let room = room();
    let source = write_at(&room.path().join("a.tar.gz"), "new", 100);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    write_at(&dir.join("a.tar.gz"), "there", 1);
    write_at(&dir.join("a.tar (1).gz"), "there, too", 2);
    let report = send("rename", &[&source], &dir, [0, 0], [1, 0, 0, 0]);
    assert_eq!(report["notes"][0]["path"], "a.tar.gz");
    assert_eq!(report["notes"][0]["reason"], "stored as a.tar (2).gz");
    assert_eq!(text(dir.join("a.tar (2).gz")), "new");
    send("rename", &[&source], &dir, [0, 0], [0, 1, 0, 0]);
    assert_eq!(names(&dir).len(), 3);
}

#[test]
fn many_senders_of_one_name_take_a_name_each() {
    let room = room();
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--existing", "rename"]);
    let mut senders = Vec::new();
    for number in 0..12_u64 {
        let from = room.path().join(number.to_string());
        std::fs::create_dir(&from).unwrap();
        let source = write_at(&from.join("a.txt"), &format!("number {number}"), number);
        senders.push(Program::start(&mut receiver.sender(&[&source], &[])));
    }
    for sender in senders {
        sender.wait().expect_code(0);
    }
    let mut found: Vec<String> = names(&dir).iter().map(|name| text(dir.join(name))).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 12, "{found:?}");
}

#[test]
fn links_follow_the_policy_and_directories_never_give_way() {
    let room = room();
    let from = room.path().join("from");
    std::fs::create_dir(&from).unwrap();
    let link = from.join("link");
    symlink("new", &link).unwrap();
    let file = write_at(&from.join("file"), "new", 100);
    let paths: [&Path; 2] = [&link, &file];
    // Where a link and a directory are in the way of a link and a file.
    let make = |name: &str| {
        let dir = room.path().join(name);
        std::fs::create_dir_all(dir.join("file")).unwrap();
        symlink("there", dir.join("link")).unwrap();
        dir
    };
    let target = |dir: &Path| std::fs::read_link(dir.join("link")).unwrap();

    let dir = make("refuse");
    send("refuse", &paths, &dir, [6, 5], [0, 0, 0, 2]);
    let dir = make("skip");
    send("skip", &paths, &dir, [0, 0], [0, 0, 2, 0]);
    assert_eq!(target(&dir).as_os_str(), "there");
    let dir = make("rename");
    send("rename", &paths, &dir, [0, 0], [2, 0, 0, 0]);
    assert_eq!(names(&dir), ["file", "file (1)", "link", "link (1)"]);
    assert_eq!(target(&dir).as_os_str(), "there");
    for policy in ["replace", "update"] {
        let dir = make(policy);
        // The link is newer than the one there only where the clock has moved on.
        let path = dir.join("link");
        std::fs::remove_file(&path).unwrap();
        symlink("there", &path).unwrap();
        std::process::Command::new("touch")
            .args(["-h", "-d", "2001-01-01"])
            .arg(&path)
            .status()
            .unwrap();
        send(policy, &paths, &dir, [7, 7], [1, 0, 0, 1]);
        assert_eq!(target(&dir).as_os_str(), "new", "{policy}");
        assert_eq!(names(&dir), ["file", "link"], "{policy}");
        assert!(dir.join("file").is_dir(), "{policy}");
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let room = room();
    let source = write_at(&room.path().join("a.txt"), "new", 100);
    let victim = write_at(&room.path().join("victim"), "precious", 1);
    let dir = room.path().join("to");
    std::fs::create_dir(&dir).unwrap();
    symlink(&victim, dir.join("a.txt")).unwrap();
    send("replace", &[&source], &dir, [0, 0], [1, 0, 0, 0]);
    assert_eq!(text(&victim), "precious");
    assert!(!dir.join("a.txt").is_symlink());
    assert_eq!(text(dir.join("a.txt")), "new");
}

#[test]
fn a_file_is_replaced_only_once_the_new_one_is_complete() {
    let room = room();
    for (bytes, seed) in [(8 << 20, 1), (900_000, 2)] {
        let source = write_random(&room.path().join("a.bin"), bytes, seed);
        let dir = room.path().join(format!("to {seed}"));
        std::fs::create_dir(&dir).unwrap();
        write_at(&dir.join("a.bin"), "precious", 1);
        let receiver = Receiver::start(&dir, &["--existing", "replace"]);
        let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "4M"]));
        receiver.wait_for_written(200_000);
        sender.signal(Signal::KILL);
        sender.wait();
        assert_eq!(text(dir.join("a.bin")), "precious");
        receiver.send(&[&source], &[]).expect_code(0);
        assert!(same_bytes(&source, &dir.join("a.bin")));
        wait_until("nothing is left behind", || names(&dir) == ["a.bin"]);
    }
}

#[test]
fn a_dry_run_tells_what_each_policy_would_do() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir(&source).unwrap();
    write_at(&source.join("different"), "new", 100);
    write_at(&source.join("equal"), "equal", 100);
    write_at(&source.join("new"), "new", 100);
    let table: [(&str, i32, &[&str]); 3] = [
        ("refuse", 7, &["tree/equal: is already there", "tree/new: would be sent"]),
        (
            "skip",
            0,
            &[
                "tree/different: is kept as it is there",
                "tree/equal: is already there",
                "tree/new: would be sent",
            ],
        ),
        (
            "replace",
            0,
            &[
                "tree/different: would be sent",
                "tree/equal: is already there",
                "tree/new: would be sent",
            ],
        ),
    ];
    for (policy, code, files) in table {
        let dir = room.path().join(policy);
        std::fs::create_dir_all(dir.join("tree")).unwrap();
        write_at(&dir.join("tree/different"), "there", 50);
        write_at(&dir.join("tree/equal"), "EQUAL", 100);
        let receiver = Receiver::start(&dir, &["--existing", policy]);
        let port = receiver.port.to_string();
        let words = ["send", "-n", "--port", &port, source.to_str().unwrap(), "127.0.0.1"];
        let listed = Program::start(&mut ufx(words)).wait().expect_code(code);
        let mut lines: Vec<&str> = listed.stdout.lines().collect();
        lines.sort_unstable();
        let expected = [files, &["tree: is already there"]].concat();
        assert_eq!(lines, expected, "{policy}");
        assert_eq!(text(dir.join("tree/different")), "there");
        assert_eq!(names(&dir.join("tree")), ["different", "equal"]);
    }
}

#[test]
fn a_dry_run_finds_what_is_in_the_way_of_a_directory() {
    let room = room();
    let source = room.path().join("tree");
    std::fs::create_dir_all(source.join("deep/deeper")).unwrap();
    write_at(&source.join("deep/deeper/a.txt"), "new", 100);
    let dir = room.path().join("to");
    std::fs::create_dir_all(dir.join("tree")).unwrap();
    for there in ["a file", "a link"] {
        let path = dir.join("tree/deep");
        match there {
            "a file" => std::fs::write(&path, "precious").unwrap(),
            _ => {
                std::fs::remove_file(&path).unwrap();
                symlink("/tmp", &path).unwrap();
            }
        }
        let receiver = Receiver::start(&dir, &["--once"]);
        for options in [&["-n"][..], &[]] {
            let report = report_of(&receiver.send(&[&source], options).expect_code(6));
            let failed = report["failed"].as_array().unwrap();
            let paths: Vec<&str> = failed.iter().map(|one| one["path"].as_str().unwrap()).collect();
            let expected = ["tree/deep", "tree/deep/deeper", "tree/deep/deeper/a.txt"];
            assert_eq!(paths, expected, "{there} {options:?}");
        }
        receiver.program.wait();
    }
    transfer(&[&source], &room.path().join("free"), &[], &[]);
}
