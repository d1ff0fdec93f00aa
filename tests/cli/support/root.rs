//! Tests that need root: network namespaces, firewall rules, mounts. What cannot be had is
//! skipped aloud; with UFX_REQUIRE_ROOT=1 a skip is a failure.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says that a test is skipped and why, on the real stderr: the test harness would swallow it.
///
/// # Panics
/// With UFX_REQUIRE_ROOT=1.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("UFX_REQUIRE_ROOT").is_none_or(|value| value != "1"),
        "{test} must not be skipped here: {reason}"
    );
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes());
}

/// Whether the test may go on as root with these programs; says so if not.
pub fn is_root_with(programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("needs root");
        return false;
    }
    for program in programs {
        if !is_installed(program) {
            skip(&format!("needs the program {program}"));
            return false;
        }
    }
    true
}

/// Whether a program can be found.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Runs a program that must succeed.
#[track_caller]
pub fn run<I: AsRef<OsStr>>(program: &str, words: impl IntoIterator<Item = I>) {
    let mut command = Command::new(program);
    command.args(words);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// `ip` with the words of `line`.
#[track_caller]
fn ip(line: &str) {
    run("ip", line.split_whitespace());
}

/// A network namespace with loopback up; it goes away on drop.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; none, aloud, where that is impossible.
    pub fn new() -> Option<Namespace> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !is_root_with(&["ip"]) {
            return None;
        }
        remove_leftovers();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ufx-test-{}-{number}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.unwrap_or_else(|error| panic!("ip netns: {error}"));
        if !made.status.success() {
            skip(&format!("no namespace: {}", String::from_utf8_lossy(&made.stderr)));
            return None;
        }
        let namespace = Namespace { name };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// `ip` inside of it, with the words of `line`.
    #[track_caller]
    pub fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.name));
    }

    /// A program inside of it.
    #[track_caller]
    pub fn run(&self, line: &str) {
        ip(&format!("netns exec {} {line}", self.name));
    }

    /// `ufx` inside of it.
    pub fn ufx(&self, words: Vec<OsString>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, env!("CARGO_BIN_EXE_ufx")]).args(words);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Removes namespaces of test runs that were killed.
fn remove_leftovers() {
    let Ok(listing) = std::fs::read_dir("/run/netns") else { return };
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("ufx-test-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Two namespaces joined by a veth pair: a sender's at 10.77.0.1, a receiver's at 10.77.0.2.
pub struct Pair {
    /// Where the sender runs.
    pub sender: Namespace,
    /// Where the receiver runs.
    pub receiver: Namespace,
}

impl Pair {
    /// The receiver's address.
    pub const RECEIVER: &'static str = "10.77.0.2";

    /// Makes a pair with this MTU; none, aloud, where that is impossible.
    pub fn new(mtu: u32) -> Option<Pair> {
        let pair = Pair { sender: Namespace::new()?, receiver: Namespace::new()? };
        let (left, right) = (&pair.sender.name, &pair.receiver.name);
        ip(&format!(
            "link add eth0 mtu {mtu} netns {left} type veth peer name eth0 mtu {mtu} \
                     netns {right}"
        ));
        for (end, address) in [(&pair.sender, "10.77.0.1/24"), (&pair.receiver, "10.77.0.2/24")] {
            end.ip(&format!("address add {address} dev eth0"));
            end.ip("link set eth0 up");
        }
        Some(pair)
    }
}

/// A mounted file system; unmounted on drop.
pub struct Mount {
    /// Where.
    pub path: PathBuf,
}

impl Mount {
    /// Mounts with the words of `line`, then the directory.
    #[track_caller]
    pub fn new(line: &str, path: &Path) -> Mount {
        let words = line.split_whitespace().map(OsString::from);
        run("mount", words.chain([path.into()]));
        Mount { path: path.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
