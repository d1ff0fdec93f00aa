//! System calls that fail: every errno that a call of a transfer may give, at its first, its last
//! and three drawn occurrences, at either end. Each run ends with one of the documented exit codes
//! and says what and why; no final name is wrong; the same command again completes.
//!
//! A plain run draws a sample of the faults; with `UFX_LONG=1` every one is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::content::{Random, names, room, same_bytes, write_random};
use crate::support::process::{Finished, Program, ufx};
use crate::support::report::report_of;
use crate::support::root::{is_installed, skip};
use crate::support::transfer::{Receiver, both_succeed, recv_words, send_command, send_words};
use crate::support::tree::assert_same_trees;

/// What a packet may meet on its way out: firewalls, routes, full queues, interfaces without
/// checksums for segments, notes about earlier packets.
const SEND: &[Fault] = &[
    ("EPERM", Errno::PERM),
    ("ENOBUFS", Errno::NOBUFS),
    ("EAGAIN", Errno::AGAIN),
    ("ECONNREFUSED", Errno::CONNREFUSED),
    ("ENETUNREACH", Errno::NETUNREACH),
    ("EHOSTUNREACH", Errno::HOSTUNREACH),
    ("EIO", Errno::IO),
    ("EINVAL", Errno::INVAL),
    ("EMSGSIZE", Errno::MSGSIZE),
    ("ENOMEM", Errno::NOMEM),
    ("EINTR", Errno::INTR),
];

const RECEIVE: &[Fault] = &[
    ("EAGAIN", Errno::AGAIN),
    ("ECONNREFUSED", Errno::CONNREFUSED),
    ("EHOSTUNREACH", Errno::HOSTUNREACH),
    ("ENOMEM", Errno::NOMEM),
    ("EINTR", Errno::INTR),
];

const OPEN: &[Fault] = &[
    ("EMFILE", Errno::MFILE),
    ("ENFILE", Errno::NFILE),
    ("EACCES", Errno::ACCESS),
    ("ENOENT", Errno::NOENT),
    ("ENOSPC", Errno::NOSPC),
    ("EROFS", Errno::ROFS),
    ("EIO", Errno::IO),
    ("EAGAIN", Errno::AGAIN),
    ("EINTR", Errno::INTR),
    ("ENOMEM", Errno::NOMEM),
];

const READ: &[Fault] = &[("EIO", Errno::IO), ("EAGAIN", Errno::AGAIN), ("EINTR", Errno::INTR)];

const WRITE: &[Fault] = &[
    ("ENOSPC", Errno::NOSPC),
    ("EDQUOT", Errno::DQUOT),
    ("EFBIG", Errno::FBIG),
    ("EIO", Errno::IO),
    ("EINTR", Errno::INTR),
];

const SYNC: &[Fault] = &[("EIO", Errno::IO), ("ENOSPC", Errno::NOSPC), ("EDQUOT", Errno::DQUOT)];

const RENAME: &[Fault] = &[
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EACCES", Errno::ACCESS),
    ("EXDEV", Errno::XDEV),
    ("EINVAL", Errno::INVAL),
    ("EROFS", Errno::ROFS),
];

/// Calls around these, and what is most likely to be wrong with each.
const LOOK: &[Fault] = &[("EIO", Errno::IO), ("EACCES", Errno::ACCESS), ("ENOMEM", Errno::NOMEM)];
const CHANGE: &[Fault] = &[("EIO", Errno::IO), ("EROFS", Errno::ROFS)];
const LOCK: &[Fault] = &[("ENOLCK", Errno::NOLCK), ("EINTR", Errno::INTR)];
const SOCKET: &[Fault] = &[
    ("EMFILE", Errno::MFILE),
    ("ENOBUFS", Errno::NOBUFS),
    ("EACCES", Errno::ACCESS),
    ("EADDRNOTAVAIL", Errno::ADDRNOTAVAIL),
];
const OPTION: &[Fault] = &[("ENOPROTOOPT", Errno::NOPROTOOPT), ("EPERM", Errno::PERM)];
const THREAD: &[Fault] = &[("EAGAIN", Errno::AGAIN), ("ENOMEM", Errno::NOMEM)];
const WAIT: &[Fault] = &[("EINTR", Errno::INTR), ("ENOMEM", Errno::NOMEM)];

/// As strace calls it, and as ufx does.
type Fault = (&'static str, Errno);

/// The calls of each end, and how they fail.
const SENDER: &[(&str, &[Fault])] = &[
    ("sendto", SEND),
    ("sendmsg", SEND),
    ("sendmmsg", SEND),
    ("recvmsg", RECEIVE),
    ("recvmmsg", RECEIVE),
    ("openat", OPEN),
    ("openat2", OPEN),
    ("preadv2", READ),
    ("pread64", READ),
    ("getdents64", LOOK),
    ("readlinkat", LOOK),
    ("newfstatat", LOOK),
    ("fstat", LOOK),
    ("statx", LOOK),
    ("lseek", LOOK),
    ("socket", SOCKET),
    ("bind", SOCKET),
    ("connect", SOCKET),
    ("setsockopt", OPTION),
    ("getsockopt", OPTION),
    ("clone3", THREAD),
    ("ppoll", WAIT),
    ("poll", WAIT),
];

const RECEIVER: &[(&str, &[Fault])] = &[
    ("sendto", SEND),
    ("sendmsg", SEND),
    ("sendmmsg", SEND),
    ("recvmsg", RECEIVE),
    ("recvmmsg", RECEIVE),
    ("openat", OPEN),
    ("openat2", OPEN),
    ("pwrite64", WRITE),
    ("pwritev", WRITE),
    ("fallocate", WRITE),
    ("fsync", SYNC),
    ("renameat2", RENAME),
    ("linkat", RENAME),
    ("mkdirat", RENAME),
    ("symlinkat", RENAME),
    ("ftruncate", WRITE),
    ("utimensat", CHANGE),
    ("fchmod", CHANGE),
    ("unlinkat", CHANGE),
    ("flock", LOCK),
    ("newfstatat", LOOK),
    ("fstat", LOOK),
    ("statx", LOOK),
    ("fstatfs", LOOK),
    ("socket", SOCKET),
    ("bind", SOCKET),
    ("connect", SOCKET),
    ("setsockopt", OPTION),
    ("getsockopt", OPTION),
    ("clone3", THREAD),
    ("ppoll", WAIT),
    ("poll", WAIT),
];

/// Calls that fail for want of something on this host, and so must be said to fail.
const FILE_CALLS: [&str; 9] = [
    "openat",
    "openat2",
    "pwrite64",
    "pwritev",
    "fallocate",
    "fsync",
    "renameat2",
    "linkat",
    "mkdirat",
];

/// Runs at the same time.
const WORKERS: usize = 6;

/// What an end may end with here.
const CODES: [i32; 6] = [0, 1, 3, 5, 6, 7];

/// Where a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Sender,
    Receiver,
}

/// One fault: the `count`th such call of each thread at that end fails, or all from then on.
struct Case {
    end: End,
    call: &'static str,
    fault: Fault,
    count: usize,
    lasts: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { end, call, fault: (name, _), count, lasts } = self;
        let from = if *lasts { "from" } else { "of" };
        write!(formatter, "{name} {from} {call} {count} at the {end:?}")
    }
}

/// A tree with files of every kind: nameless, with a journal, empty, with further names.
struct Tree {
    room: TempDir,
    source: PathBuf,
    /// Its receivers listen here: senders that look for one that is gone must not find another's.
    address: String,
}

impl Tree {
    fn new() -> Tree {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let address = format!("127.0.77.{}", 1 + MADE.fetch_add(1, Ordering::Relaxed) % 250);
        let room = room();
        let source = room.path().join("tree");
        fs::create_dir_all(source.join("directory")).unwrap();
        for (name, bytes) in
            [("a", 5_000), ("b", 1_200_000), ("directory/c", 3_000_000), ("directory/d", 0)]
        {
            write_random(&source.join(name), bytes, bytes);
        }
        symlink("a", source.join("link")).unwrap();
        fs::hard_link(source.join("a"), source.join("directory/e")).unwrap();
        Tree { room, source, address }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }

    /// Starts both ends, either of them in the hands of strace.
    fn run(&self, end: End, strace: Vec<String>) -> [Finished; 2] {
        // Free a moment ago: a receiver that fails early cannot say its port.
        let free = UdpSocket::bind((self.address.as_str(), 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let once = ["--once", "--fsync", "--timeout", "3s", "--bind", &self.address];
        let words = recv_words(port, &self.dir(), &once);
        let receiver = Program::start(&mut under(&strace, end == End::Receiver, words));
        let options = ["--timeout", "3s", "--wait", "3s"];
        let words = send_words(&[&self.source], &options, &self.address, port);
        let sender = Program::start(&mut under(&strace, end == End::Sender, words)).wait();
        // One that never heard of the sender waits for the next.
        let mut receiver = receiver;
        if sender.code != Some(0) && !receiver.has_ended(Duration::from_secs(5)) {
            receiver.signal(Signal::TERM);
        }
        [sender, receiver.wait()]
    }

    /// How often a thread makes each call, of those that count.
    fn count(
        &self,
        end: End,
        calls: &[(&'static str, &[Fault])],
    ) -> BTreeMap<&'static str, Counts> {
        let trace = self.room.path().join("trace");
        let listed: Vec<&str> = calls.iter().map(|(call, _)| *call).collect();
        let strace = ["-f", "-y", "-qq", "-o", trace.to_str().unwrap(), "-e"].map(String::from);
        let strace = [&strace[..], &[format!("trace={}", listed.join(","))]].concat();
        for finished in self.run(end, strace) {
            finished.expect_code(0);
        }
        fs::remove_dir_all(self.dir()).unwrap();
        let text = fs::read_to_string(&trace).unwrap();
        let mut threads: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut counts: BTreeMap<&'static str, Counts> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
            let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
            let Some(call) = listed.iter().find(|one| **one == call) else { continue };
            let so_far = threads.entry((thread, call)).or_default();
            *so_far += 1;
            let counts = counts.entry(call).or_default();
            counts.last = counts.last.max(*so_far);
            // Before it is a program, it is none of its business.
            if line.contains("ld.so") || line.contains(".so.") {
                counts.of_loader = counts.of_loader.max(*so_far);
            }
        }
        counts
    }

    /// Every fault of one end, at the first, the last and three drawn occurrences.
    fn cases(&self, end: End, random: &mut Random) -> Vec<Case> {
        let calls = if end == End::Sender { SENDER } else { RECEIVER };
        let mut cases = Vec::new();
        for (call, counts) in self.count(end, calls) {
            let faults = calls.iter().find(|(name, _)| *name == call).unwrap().1;
            let first = counts.of_loader + 1;
            if first > counts.last {
                continue;
            }
            for &fault in faults {
                let span = (counts.last - first + 1) as u64;
                let drawn = [(); 3].map(|()| first + random.below(span) as usize);
                let at: BTreeSet<usize> = [first, counts.last].into_iter().chain(drawn).collect();
                let case = |count, lasts| Case { end, call, fault, count, lasts };
                cases.extend(at.into_iter().map(|count| case(count, false)));
                // Interruptions do not last: every program tries again at once.
                if fault.1 != Errno::INTR {
                    cases.push(case(first + random.below(span) as usize, true));
                }
            }
        }
        cases
    }

    /// Makes a fault and checks what must hold after it. Returns whether a run failed.
    fn survive(&self, case: &Case) -> bool {
        let Case { end, call, fault: (name, errno), count, lasts } = case;
        let on = if *lasts { "+" } else { "" };
        let inject = format!("inject={call}:error={name}:when={count}{on}");
        let strace = [
            // The program is our child, so that signals reach it and not strace.
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
        ];
        let ends = self.run(*end, strace.map(String::from).to_vec());
        let hit = &ends[usize::from(*end == End::Receiver)];
        for finished in &ends {
            assert!(finished.code.is_some_and(is_documented), "{case:?}: {finished:#?}");
            if finished.code != Some(0) || !finished.stdout.is_empty() {
                report_of(finished);
            }
        }
        if FILE_CALLS.contains(call) && hit.code != Some(0) {
            let errno = std::io::Error::from(*errno).to_string();
            let is_told = hit.stderr.contains(&errno)
                || (*name == "ENOENT" && hit.stderr.contains("vanished before it was sent"));
            assert!(is_told, "{case:?} does not say {errno}: {ends:#?}");
        }
        // What could not be set on a directory is noted, and no failure.
        let is_well = |finished: &Finished| {
            finished.code == Some(0) && !finished.stdout.contains("cannot set mode and time of")
        };
        self.check(case, ends.iter().all(is_well));
        ends.iter().any(|finished| finished.code != Some(0))
    }

    fn check(&self, case: &Case, succeeded: bool) {
        let to = self.dir().join("tree");
        if succeeded {
            assert_same_trees(&self.source, &to);
        }
        for directory in [to.clone(), to.join("directory")] {
            let there = if directory.exists() { names(&directory) } else { Vec::new() };
            for name in there.iter().filter(|name| !name.starts_with(".ufx-")) {
                let path = directory.join(name);
                let source = self.source.join(path.strip_prefix(&to).unwrap());
                let is_file = path.symlink_metadata().unwrap().is_file();
                assert!(!is_file || same_bytes(&source, &path), "{case:?}: {name} is wrong");
            }
        }
        let receiver = Receiver::start(&self.dir(), &["--once", "--bind", &self.address]);
        let mut sender = send_command(&[&self.source], &[], &self.address, receiver.port);
        both_succeed(Program::start(&mut sender), receiver);
        assert_same_trees(&self.source, &to);
        fs::remove_dir_all(self.dir()).unwrap();
    }
}

/// How often a thread makes a call, and how often of these before the program begins.
#[derive(Debug, Default)]
struct Counts {
    of_loader: usize,
    last: usize,
}

fn is_documented(code: i32) -> bool {
    // 143: it was told to end while it was idle no more.
    CODES.contains(&code) || code == 143
}

/// `ufx`, in the hands of strace or not.
fn under(strace: &[String], is_traced: bool, words: Vec<std::ffi::OsString>) -> Command {
    if !is_traced {
        return ufx(words);
    }
    let mut command = Command::new("strace");
    command.args(strace).arg(env!("CARGO_BIN_EXE_ufx")).args(words);
    command
}

/// Makes the faults of one end: all, or so many of them.
fn make_faults(end: End, most: usize) {
    if !is_installed("strace") || !Path::new("/proc/self").exists() {
        return skip("needs the program strace");
    }
    let seed = std::env::var("UFX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    println!("UFX_SEED={seed}");
    let mut random = Random::new(seed);
    let mut cases = Tree::new().cases(end, &mut random);
    let all = cases.len();
    while std::env::var_os("UFX_LONG").is_none() && cases.len() > most {
        cases.swap_remove(random.below(cases.len() as u64) as usize);
    }
    // Most of the time is spent on waiting for an end that nothing reaches any more.
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let tree = Tree::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("{case:?}");
                    failed.fetch_add(usize::from(tree.survive(case)), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} of {all} faults, {failed:?} ended a run", cases.len());
}

#[test]
fn whatever_fails_at_a_sender_is_survived_or_told_and_a_rerun_completes() {
    make_faults(End::Sender, 20);
}

#[test]
fn whatever_fails_at_a_receiver_is_survived_or_told_and_a_rerun_completes() {
    make_faults(End::Receiver, 30);
}
