//! What is sent of what is there: `--exclude`, `--files-from`, and `-n`, which lists exactly that.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::content::{room, write_random};
use crate::support::process::{Program, ufx};
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, transfer};

/// Everything below a directory, in order; directories end with a slash.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let is_directory = entry.file_type().unwrap().is_dir();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push(if is_directory { name + "/" } else { name });
            if is_directory {
                open.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

fn make(root: &Path, files: &[&str]) {
    for (seed, file) in files.iter().enumerate() {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_random(&path, 100, seed as u64);
    }
}

#[test]
fn what_a_pattern_matches_is_left_out_with_all_below_it() {
    let room = room();
    let tree = room.path().join("tree");
    let files =
        ["a.txt", "a.tmp", "cache/x", "deep/b.tmp", "deep/cache/y", "deep/keep/z", "raw/big"];
    make(&tree, &files);
    write_random(&tree.join("deep/raw"), 10, 9);
    let table: [(&[&str], &[&str]); 4] = [
        (
            &["*.tmp", "cache"],
            &[
                "tree/",
                "tree/a.txt",
                "tree/deep/",
                "tree/deep/keep/",
                "tree/deep/keep/z",
                "tree/deep/raw",
                "tree/raw/",
                "tree/raw/big",
            ],
        ),
        (&["tree/deep/*", "raw/", "a.*"], &["tree/", "tree/cache/", "tree/cache/x", "tree/deep/"]),
        (&["/tree/*"], &["tree/"]),
        (&["tree"], &[]),
    ];
    for (index, (patterns, expected)) in table.into_iter().enumerate() {
        let dir = room.path().join(index.to_string());
        let options: Vec<&str> =
            patterns.iter().flat_map(|pattern| ["--exclude", *pattern]).collect();
        let reports = transfer(&[&tree], &dir, &options, &[]);
        assert_eq!(listing(&dir), expected, "{patterns:?}");
        assert_eq!(reports.sender["skipped_total"], 0, "what is left out on demand is not named");
    }
}

/// `ufx` with `words` in `directory`, and `input` on its standard input.
fn with_input(directory: &Path, words: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ufx"));
    command.args(words).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who takes no input closes it.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn a_list_is_sent_name_by_name_under_the_names_listed() {
    let room = room();
    let from = room.path().join("from");
    make(&from, &["a.txt", "deep/deeper/b.txt", "deep/c.txt", "whole/d.txt", "new\nline/e.txt"]);
    symlink("a.txt", from.join("link")).unwrap();
    let table: [(&[&str], &[u8], &[&str]); 3] = [
        (
            &["--files-from", "-"],
            b".\n./deep/deeper/b.txt\na.txt\nwhole\n\na.txt\nlink\n",
            &["a.txt", "deep/", "deep/deeper/", "deep/deeper/b.txt", "link", "whole/"],
        ),
        (
            &["--files-from", "-", "-0"],
            b"new\nline/e.txt\0./deep\0",
            &["deep/", "new\nline/", "new\nline/e.txt"],
        ),
        (&["--null", "--files-from=-", "--exclude", "*.txt"], b"deep/c.txt\0a.txt", &["deep/"]),
    ];
    for (index, (options, input, expected)) in table.into_iter().enumerate() {
        let dir = room.path().join(index.to_string());
        let receiver = Receiver::start(&dir, &["--once"]);
        let port = receiver.port.to_string();
        let words = [&["send", "--port", &port], options, &["127.0.0.1"]].concat();
        let output = with_input(&from, &words, input);
        assert!(output.status.success(), "{output:?}");
        receiver.program.wait().expect_code(0);
        assert_eq!(listing(&dir), expected, "{options:?}");
    }
}

#[test]
fn what_a_list_names_and_cannot_be_sent_is_named_and_the_rest_is_sent() {
    let room = room();
    let from = room.path().join("from");
    make(&from, &["a.txt", "deep/b.txt"]);
    symlink("deep", from.join("link")).unwrap();
    let list = room.path().join("list");
    std::fs::write(&list, "missing\na.txt\n/etc/passwd\n../list\nlink/b.txt\na.txt/x\n").unwrap();
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let words = ["send", "--json", "--port", &receiver.port.to_string(), "--files-from"];
    let mut command = ufx(words);
    command.arg(&list).arg("127.0.0.1").current_dir(&from);
    let report = report_of(&Program::start(&mut command).wait().expect_code(7));
    let failed = report["failed"].as_array().unwrap();
    let pair = |one: &serde_json::Value| {
        (one["path"].as_str().unwrap().to_owned(), one["reason"].as_str().unwrap().to_owned())
    };
    let found: Vec<(String, String)> = failed.iter().map(pair).collect();
    let expected = [
        ("missing", "cannot be read: No such file or directory (os error 2)"),
        ("/etc/passwd", "cannot be sent: the name is absolute"),
        ("../list", "cannot be sent: the name has the component \".\" or \"..\""),
        (
            "link/b.txt",
            "cannot be read: ./link/b.txt lies behind a symbolic link or behind something that is \
             no directory",
        ),
        (
            "a.txt/x",
            "cannot be read: ./a.txt/x lies behind a symbolic link or behind something that is no \
             directory",
        ),
    ];
    let expected = expected.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
    assert_eq!(found, expected, "{report}");
    receiver.program.wait().expect_code(0);
    assert_eq!(listing(&dir), ["a.txt"]);
}

#[test]
fn a_dry_run_lists_exactly_what_would_move() {
    let room = room();
    let from = room.path().join("from");
    make(&from, &["tree/a.txt", "tree/b.tmp", "tree/deep/c.txt"]);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &[]);
    let port = receiver.port.to_string();
    let run = |extra: &[&str], operands: &[&str], input: &[u8]| {
        let words =
            [&["send", "--port", &port, "--exclude", "*.tmp"], extra, operands, &["127.0.0.1"]];
        let output = with_input(&from, &words.concat(), input);
        assert!(output.status.success(), "{output:?}");
        let mut lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let some: (&[&str], &[u8]) = (&["--files-from", "-"], b"tree/deep/c.txt\n");
    let listed = run(&[&["-n"], some.0].concat(), &[], some.1);
    let would = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name}: would be sent")).collect()
    };
    assert_eq!(listed, would(&["tree/deep/c.txt", "tree/deep", "tree"]));
    assert_eq!(listing(&dir), [""; 0]);
    run(some.0, &[], some.1);
    assert_eq!(listing(&dir), ["tree/", "tree/deep/", "tree/deep/c.txt"]);
    let listed = run(&["-n"], &["tree"], b"");
    let there = ["tree/deep/c.txt", "tree/deep", "tree"];
    let mut expected = would(&["tree/a.txt"]);
    expected.extend(there.map(|name| format!("{name}: is already there")));
    assert_eq!(listed, expected);
}

#[test]
fn a_directory_that_holds_the_receive_directory_is_sent_without_it() {
    let room = room();
    let tree = room.path().join("tree");
    make(&tree, &["a.txt", "deep/b.txt"]);
    let dir = tree.join("incoming");
    std::fs::create_dir(&dir).unwrap();
    write_random(&dir.join("old.txt"), 100, 5);
    let receiver = Receiver::start(&dir, &["--once"]);
    let report = report_of(&receiver.send(&[&tree], &[]).expect_code(7));
    receiver.program.wait().expect_code(7);
    let failed = &report["failed"][0];
    assert_eq!(failed["path"], "tree/incoming");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.ends_with("/incoming/tree/incoming would be the receive directory in itself"));
    let expected = ["old.txt", "tree/", "tree/a.txt", "tree/deep/", "tree/deep/b.txt"];
    assert_eq!(listing(&dir), expected);

    // Left out by name, nothing fails.
    let dir = room.path().join("tree/incoming");
    let receiver = Receiver::start(&dir, &["--once"]);
    receiver.send(&[&tree], &["--exclude", "tree/incoming"]).expect_code(0);
    receiver.program.wait().expect_code(0);
}
