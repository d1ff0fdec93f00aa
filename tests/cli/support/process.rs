//! A child process under a hard time limit: killed on drop, its output read line by line while
//! it runs, its peak of resident memory watched.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// No step of a test takes longer, unless it says so: a hang is a failure, not a stop.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How often the peak of resident memory is read; the kernel keeps the peak itself, so that only
/// what is new in the last moment before the end is missed.
const MEMORY_INTERVAL: Duration = Duration::from_millis(20);

/// A running child.
pub struct Program {
    name: String,
    child: Child,
    handle: OwnedFd,
    stdout: Lines,
    stderr: Lines,
    peak_bytes: u64,
}

/// How a child ended.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub name: String,
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
    /// The peak of resident memory.
    pub peak_bytes: u64,
}

impl Finished {
    /// Asserts the exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "exit code of {}: {self:#?}", self.name);
        self
    }
}

/// One output stream: what came so far, and a channel of what comes.
struct Lines {
    coming: Receiver<Vec<u8>>,
    seen: Vec<Vec<u8>>,
}

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> Lines {
        let (send, coming) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(bytes) if bytes > 0) {
                if send.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Lines { coming, seen: Vec::new() }
    }

    fn next_with(&mut self, what: &str, deadline: Instant) -> Option<String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.coming.recv_timeout(left).ok()?;
            let text = String::from_utf8(line.clone()).expect("output is UTF-8");
            self.seen.push(line);
            if text.contains(what) {
                return Some(text);
            }
        }
    }

    /// Everything until the end of the stream, which must be near: the child has ended.
    fn all(&mut self) -> String {
        while let Ok(line) = self.coming.recv_timeout(LIMIT) {
            self.seen.push(line);
        }
        self.so_far()
    }

    fn so_far(&self) -> String {
        String::from_utf8(self.seen.concat()).expect("output is UTF-8")
    }
}

impl Program {
    /// Starts `command` with nothing on standard input.
    pub fn start(command: &mut Command) -> Program {
        Program::start_between(Stdio::null(), Stdio::piped(), command)
    }

    /// Starts `command` with these ends; standard output is read here only if it is piped.
    pub fn start_between(
        input: impl Into<Stdio>,
        output: impl Into<Stdio>,
        command: &mut Command,
    ) -> Program {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("the child is there");
        let stdout = match child.stdout.take() {
            Some(stdout) => Lines::read(stdout),
            None => Lines::read(std::io::empty()),
        };
        let stderr = Lines::read(child.stderr.take().expect("it was piped"));
        Program { name, child, handle, stdout, stderr, peak_bytes: 0 }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of stderr with `what` in it.
    #[track_caller]
    pub fn stderr_line(&mut self, what: &str) -> String {
        let line = self.stderr.next_with(what, Instant::now() + LIMIT);
        line.unwrap_or_else(|| panic!("{} never said {what}: {}", self.name, self.stderr.so_far()))
    }

    /// The next line of stdout.
    #[track_caller]
    pub fn stdout_line(&mut self) -> String {
        let line = self.stdout.next_with("", Instant::now() + LIMIT);
        line.unwrap_or_else(|| panic!("{} said nothing: {}", self.name, self.stderr.so_far()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).expect("the child takes signals");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.wait_for(LIMIT)
    }

    /// Waits for its end, `limit` at most.
    #[track_caller]
    pub fn wait_for(mut self, limit: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        while !self.has_ended(MEMORY_INTERVAL) {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                let (out, err) = (self.stdout.all(), self.stderr.all());
                panic!("{} did not end within {limit:?}\n{out}{err}", self.name);
            }
        }
        let status = self.child.wait().expect("the child was not waited for before");
        Finished {
            name: self.name.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
            peak_bytes: self.peak_bytes,
        }
    }

    /// Whether it ends within `span`. Looks at its memory, too.
    pub fn has_ended(&mut self, span: Duration) -> bool {
        self.peak_bytes = self.peak_bytes.max(peak_bytes(self.id()).unwrap_or(0));
        let mut polled = [PollFd::new(&self.handle, PollFlags::IN)];
        let span = Timespec::try_from(span).expect("a short span");
        matches!(poll(&mut polled, Some(&span)), Ok(1))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peak of a process's resident memory; none once it has ended.
pub fn peak_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// `ufx` with these words.
pub fn ufx<I: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ufx"));
    command.args(words);
    command
}

/// The memory that a process has at the moment.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kibibytes << 10
}

/// Waits until something outside of this process has happened, which nothing announces.
#[track_caller]
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
