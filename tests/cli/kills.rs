//! SIGKILL at each of many system calls of a transfer of three files, at either end: whatever was
//! killed when, no final name is wrong, nothing piles up, and the same command completes.
//!
//! A plain run takes a sample of the calls; with `UFX_LONG=1` every one is killed.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::content::{Random, names, room_for, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::root::{is_installed, skip};
use crate::support::transfer::{Receiver, send_command, send_words, transfer};

/// What a receiver does to files and names, and how often it is killed there at most.
const RECEIVER_CALLS: &[(&str, u32)] = &[
    ("openat2", u32::MAX),
    ("openat", u32::MAX),
    ("flock", u32::MAX),
    ("fallocate", u32::MAX),
    ("ftruncate", u32::MAX),
    ("pwrite64", u32::MAX),
    ("pwritev", u32::MAX),
    ("utimensat", u32::MAX),
    ("fchmod", u32::MAX),
    ("fsync", u32::MAX),
    ("renameat2", u32::MAX),
    ("linkat", u32::MAX),
    ("unlinkat", u32::MAX),
    ("sendto", 20),
    ("sendmsg", 20),
    ("recvmsg", 20),
    ("recvmmsg", 20),
];

/// What a sender does to files and packets.
const SENDER_CALLS: &[(&str, u32)] =
    &[("openat2", u32::MAX), ("preadv", 40), ("sendto", 20), ("sendmsg", 20), ("recvmsg", 20)];

/// Three files: nameless until they have their final name, with and without a journal.
struct Files {
    room: TempDir,
    sources: Vec<PathBuf>,
}

impl Files {
    fn new(last: u64) -> Files {
        let room = room_for(3 * last);
        let sizes = [("a.bin", 5_000), ("b.bin", 1_200_000), ("c.bin", last)];
        let file = |(name, bytes)| write_random(&room.path().join(name), bytes, bytes);
        let sources = sizes.into_iter().map(file).collect();
        Files { room, sources }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }

    /// `ufx` that is killed when it enters `call` for the `count`th time.
    fn killed_at(&self, call: &str, count: u32) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:signal=KILL:when={count}")]);
        command.arg(env!("CARGO_BIN_EXE_ufx"));
        command
    }

    /// Whether the receiver was killed at that call.
    fn kill_receiver(&self, call: &str, count: u32) -> bool {
        // Free a moment ago. Whoever takes it meanwhile makes the receiver end by itself.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut recv = self.killed_at(call, count);
        recv.args(["recv", "--fsync", "--once", "--port", &port.to_string(), "--dir"]);
        let receiver = Program::start(recv.arg(self.dir()));
        let sender = Program::start(&mut send_command(&self.sources, &[], "127.0.0.1", port));
        let is_killed = receiver.wait().code != Some(0);
        if is_killed {
            sender.signal(Signal::KILL);
        }
        let code = sender.wait().code;
        assert!(is_killed || code == Some(0), "{call} {count}: {code:?}");
        is_killed
    }

    /// Whether the sender was killed at that call.
    fn kill_sender(&self, call: &str, count: u32) -> bool {
        let receiver = Receiver::start(&self.dir(), &["--once"]);
        let mut send = self.killed_at(call, count);
        send.args(send_words(&self.sources, &[], "127.0.0.1", receiver.port));
        let is_killed = Program::start(&mut send).wait().code != Some(0);
        receiver.program.signal(Signal::TERM);
        receiver.program.wait();
        is_killed
    }

    /// What must hold after a kill, and after the same command again.
    fn check(&self, what: &str) {
        let dir = self.dir();
        let there = if dir.exists() { names(&dir) } else { Vec::new() };
        let count = |suffix: &str| there.iter().filter(|name| name.ends_with(suffix)).count();
        assert!(count(".part") <= 2 && count(".journal") <= 2, "{what}: {there:?}");
        for name in there.iter().filter(|name| !name.starts_with(".ufx-")) {
            let source = self.room.path().join(name);
            assert!(same_bytes(&source, &dir.join(name)), "{what}: {name} is wrong");
        }
        transfer(&self.sources, &dir, &[], &[]);
        assert_eq!(names(&dir), ["a.bin", "b.bin", "c.bin"], "{what}");
        for source in &self.sources {
            assert!(same_bytes(source, &dir.join(source.file_name().unwrap())), "{what}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    /// Kills at every call of the table, or at a sample of them.
    fn kill_at(&self, calls: &[(&str, u32)], kill: impl Fn(&Files, &str, u32) -> bool) {
        let all = std::env::var_os("UFX_LONG").is_some();
        let mut kills = 0;
        for &(call, most) in calls {
            let mut count = 1;
            while count <= most && kill(self, call, count) {
                self.check(&format!("{call} {count}"));
                kills += 1;
                count += if all { 1 } else { (count / 2).max(1) };
            }
            // What was not killed is complete: the next one starts with nothing.
            let _ = fs::remove_dir_all(self.dir());
        }
        assert!(kills > calls.len() as u32, "{kills} kills");
        println!("{kills} kills");
    }
}

fn strace_is_there() -> bool {
    let is_there = is_installed("strace") && Path::new("/proc/self").exists();
    if !is_there {
        skip("needs the program strace");
    }
    is_there
}

#[test]
fn a_receiver_killed_at_any_call_leaves_nothing_wrong_and_a_rerun_completes() {
    if strace_is_there() {
        Files::new(10 << 20).kill_at(RECEIVER_CALLS, Files::kill_receiver);
    }
}

#[test]
fn a_sender_killed_at_any_call_leaves_nothing_wrong_and_a_rerun_completes() {
    if strace_is_there() {
        Files::new(10 << 20).kill_at(SENDER_CALLS, Files::kill_sender);
    }
}

#[test]
fn kills_at_random_moments_leave_nothing_wrong_and_a_rerun_completes() {
    let files = Files::new(40 << 20);
    let most = if std::env::var_os("UFX_LONG").is_some() { 1_000 } else { 100 };
    let mut kills = 0;
    for seed in 0.. {
        if kills >= most {
            break;
        }
        let mut random = Random::new(seed);
        // Killed up to three times in a row before it may complete.
        for _ in 0..=random.below(3) {
            let receiver = Receiver::start(&files.dir(), &["--once"]);
            let sender = Program::start(&mut receiver.sender(&files.sources, &["--rate", "4G"]));
            // The moment is what is drawn; whatever has happened by then, all must be well.
            std::thread::sleep(Duration::from_micros(random.below(120_000)));
            match random.below(2) {
                0 => receiver.program.signal(Signal::KILL),
                _ => sender.signal(Signal::KILL),
            }
            // The other one has nothing left to do.
            receiver.program.signal(Signal::TERM);
            sender.signal(Signal::KILL);
            receiver.program.wait();
            sender.wait();
            kills += 1;
        }
        files.check(&format!("seed {seed}"));
    }
    println!("{kills} kills");
}

#[test]
fn with_fsync_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_answer() {
    if !strace_is_there() {
        return;
    }
    let files = Files::new(10 << 20);
    let trace = files.room.path().join("trace");
    let mut recv = Command::new("strace");
    recv.args(["-f", "-y", "-e", "trace=utimensat,fchmod,fsync,renameat2,linkat", "-o"]);
    recv.arg(&trace).arg(env!("CARGO_BIN_EXE_ufx"));
    recv.args(["recv", "--json", "--fsync", "--once", "--port", "0", "--dir"]).arg(files.dir());
    let receiver = Receiver::listening(Program::start(&mut recv));
    Program::start(&mut receiver.sender(&files.sources[2..], &[])).wait().expect_code(0);
    receiver.program.wait().expect_code(0);
    let text = fs::read_to_string(&trace).unwrap();
    let calls = text.lines().filter_map(|line| {
        let call = line.split_whitespace().nth(1)?.split_once('(')?.0;
        let is_file = line.contains(".part") || line.contains(".bin");
        Some(format!("{call} of the {}", if is_file { "file" } else { "directory" }))
    });
    let expected = [
        "utimensat of the file",
        "fchmod of the file",
        "fsync of the file",
        "renameat2 of the file",
        "fsync of the directory",
    ];
    assert_eq!(calls.collect::<Vec<_>>(), expected, "{text}");
}
