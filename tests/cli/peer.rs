//! The binary and the Python peer, which was written from proto.md alone, understand each other.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::content::{room, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, send_command};
use crate::support::tree::assert_same_trees;

fn python_peer(words: &[&str]) -> Command {
    let script: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "peer", "ufx_peer.py"].iter().collect();
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).args(words);
    command
}

/// A tree small enough for Python's pure XXH3.
fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("deep/empty")).unwrap();
    for (seed, bytes) in [0, 1, 1_452, 1_453, 100_000, (1 << 20) + 1].into_iter().enumerate() {
        write_random(&root.join(format!("deep/{bytes}.bin")), bytes, seed as u64);
    }
    symlink("deep/1.bin", root.join("link")).unwrap();
}

#[test]
fn the_python_peer_sends_to_the_binary() {
    for (digest, drop) in [("none", "0"), ("xxh3", "0"), ("xxh3", "0.05"), ("none", "0.2")] {
        let room = room();
        let source = room.path().join("tree");
        make_tree(&source);
        let dir = room.path().join("to");
        let receiver = Receiver::start(&dir, &["--once"]);
        let port = receiver.port.to_string();
        let tree = source.to_str().unwrap();
        let words = [
            &["send", "--digest", digest, "--drop", drop, "--seed", "7"][..],
            &[tree, "127.0.0.1", &port],
        ];
        Program::start(&mut python_peer(&words.concat())).wait().expect_code(0);
        let report = report_of(&receiver.program.wait().expect_code(0));
        assert_eq!(report["verified"], if digest == "none" { "crc" } else { "digest" });
        assert_same_trees(&source, &dir.join("tree"));
    }
}

#[test]
fn the_binary_sends_to_the_python_peer() {
    for (digest, drop) in [("none", "0"), ("xxh3", "0"), ("xxh3", "0.05"), ("none", "0.2")] {
        let room = room();
        let source = room.path().join("tree");
        make_tree(&source);
        let dir = room.path().join("to");
        std::fs::create_dir(&dir).unwrap();
        // The peer names no port of its own; one that was just free will do. The sender waits
        // until it listens.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (to, on) = (dir.to_str().unwrap(), port.to_string());
        let words = ["recv", "--drop", drop, "--seed", "8", to, &on];
        let peer = Program::start(&mut python_peer(&words));
        let options = ["--digest", digest];
        let sender = Program::start(&mut send_command(&[&source], &options, "127.0.0.1", port));
        let report = report_of(&sender.wait().expect_code(0));
        peer.wait().expect_code(0);
        assert_eq!(report["failed"].as_array().map(Vec::len), Some(0));
        assert_same_trees(&source, &dir.join("tree"));
    }
}

#[test]
fn the_binary_sends_standard_input_to_the_python_peer() {
    for (digest, drop, bytes) in [("none", "0", 3 << 20), ("xxh3", "0.05", (1 << 20) + 5)] {
        let room = room();
        let source = write_random(&room.path().join("source"), bytes, 9);
        let dir = room.path().join("to");
        std::fs::create_dir(&dir).unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (to, on) = (dir.to_str().unwrap(), port.to_string());
        let peer =
            Program::start(&mut python_peer(&["recv", "--drop", drop, "--seed", "8", to, &on]));
        let mut command = send_command(&["-"], &["--digest", digest], "127.0.0.1", port);
        let input = std::fs::File::open(&source).unwrap();
        Program::start_between(input, Stdio::piped(), &mut command).wait().expect_code(0);
        peer.wait().expect_code(0);
        assert!(same_bytes(&source, &dir.join("stdin")));
    }
}
