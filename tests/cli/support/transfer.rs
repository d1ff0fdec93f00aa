//! One receiver, and senders to it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::process::{Finished, Program, ufx, wait_until};
use super::report::report_of;
use super::root::Namespace;

/// `ufx recv` that listens.
pub struct Receiver {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub port: u16,
}

impl Receiver {
    /// Starts `ufx recv --json` on a free port and waits until it listens.
    pub fn start(dir: &Path, options: &[&str]) -> Receiver {
        Receiver::start_on(0, dir, options)
    }

    /// The same on a port of the caller's choice.
    pub fn start_on(port: u16, dir: &Path, options: &[&str]) -> Receiver {
        Receiver::listening(Program::start(&mut ufx(recv_words(port, dir, options))))
    }

    /// The same in a network namespace.
    pub fn start_in(namespace: &Namespace, dir: &Path, options: &[&str]) -> Receiver {
        Receiver::listening(Program::start(&mut namespace.ufx(recv_words(0, dir, options))))
    }

    /// Waits until `program` says on which port it listens.
    pub fn listening(mut program: Program) -> Receiver {
        let line = program.stderr_line("receiving ");
        let port = line
            .split_once(" on port ")
            .and_then(|(_, rest)| rest.split_once("/udp"))
            .and_then(|(port, _)| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line}"));
        Receiver { program, port }
    }

    /// `ufx send --json` of `paths` to it over loopback.
    pub fn sender<P: AsRef<Path>>(&self, paths: &[P], options: &[&str]) -> Command {
        send_command(paths, options, "127.0.0.1", self.port)
    }

    /// Sends and waits for the sender's end.
    #[track_caller]
    pub fn send<P: AsRef<Path>>(&self, paths: &[P], options: &[&str]) -> Finished {
        Program::start(&mut self.sender(paths, options)).wait()
    }

    /// How many bytes it has written so far, to files and elsewhere.
    pub fn written(&self) -> u64 {
        let counters = std::fs::read_to_string(format!("/proc/{}/io", self.program.id()));
        let counters = counters.unwrap_or_default();
        let written = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
        written.and_then(|written| written.parse().ok()).unwrap_or(0)
    }

    /// Waits until it has written that many bytes.
    #[track_caller]
    pub fn wait_for_written(&self, bytes: u64) {
        wait_until("the receiver writes", || self.written() >= bytes);
    }

    /// The report of the next transfer that is over.
    #[track_caller]
    pub fn next_report(&mut self) -> Value {
        super::report::checked(&self.program.stdout_line())
    }
}

/// The words of `ufx recv --json`.
pub fn recv_words(port: u16, dir: &Path, options: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["recv".into(), "--json".into(), "--port".into()];
    words.extend([port.to_string().into(), "--dir".into(), dir.into()]);
    words.extend(options.iter().map(OsString::from));
    words
}

/// The words of `ufx send --json`.
pub fn send_words<P: AsRef<Path>>(
    paths: &[P],
    options: &[&str],
    host: &str,
    port: u16,
) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["send".into(), "--json".into(), "--port".into()];
    words.push(port.to_string().into());
    words.extend(options.iter().map(OsString::from));
    words.push("--".into());
    words.extend(paths.iter().map(|path| path.as_ref().into()));
    words.push(host.into());
    words
}

/// `ufx send --json`.
pub fn send_command<P: AsRef<Path>>(
    paths: &[P],
    options: &[&str],
    host: &str,
    port: u16,
) -> Command {
    ufx(send_words(paths, options, host, port))
}

/// The reports of both ends of a transfer that went well.
pub struct Reports {
    /// The sender's.
    pub sender: Value,
    /// The receiver's.
    pub receiver: Value,
    /// Peaks of resident memory: sender, receiver.
    pub peaks: [u64; 2],
}

/// What a process may hold in memory, whatever it moves.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;

impl Reports {
    /// Asserts that neither process ever held much memory.
    #[track_caller]
    pub fn assert_small(&self) {
        let [sender, receiver] = self.peaks;
        assert!(sender < RESIDENT_BYTES_MAX, "the sender held {sender} bytes");
        assert!(receiver < RESIDENT_BYTES_MAX, "the receiver held {receiver} bytes");
    }
}

/// Sends `paths` into `dir` over loopback; both ends must exit with 0.
#[track_caller]
pub fn transfer<P: AsRef<Path>>(
    paths: &[P],
    dir: &Path,
    send_options: &[&str],
    recv_options: &[&str],
) -> Reports {
    let options: Vec<&str> = [&["--once"], recv_options].concat();
    let receiver = Receiver::start(dir, &options);
    let sender = Program::start(&mut receiver.sender(paths, send_options));
    both_succeed(sender, receiver)
}

/// Waits for both ends, which must exit with 0.
#[track_caller]
pub fn both_succeed(sender: Program, receiver: Receiver) -> Reports {
    let sender = sender.wait().expect_code(0);
    let receiver = receiver.program.wait().expect_code(0);
    Reports {
        peaks: [sender.peak_bytes, receiver.peak_bytes],
        sender: report_of(&sender),
        receiver: report_of(&receiver),
    }
}
