//! One contestant, one run: a fresh lab, a receiver, a sender, a cap on the time, and
//! verification after the clock has stopped.
//!
//! Every run has its own namespaces, so that nothing of an earlier one (packets under way,
//! sockets, what TCP remembers of a path) reaches it. Command lines come from the caller.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use twox_hash::XxHash3_128;

use super::check::lateness_max;
use super::emulator::{Emulator, EmulatorConfig, Tally};
use super::lab::{Lab, LabError};
use super::process::{ProcessEnd, Running};
use crate::io::clock::Clock;
use crate::io::wait::doze;
use crate::proto::Time;
use crate::sim::Path;

/// How long a receiver may take to listen.
const START_SPAN: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const START_LOOK: Duration = Duration::from_millis(1);

/// How long a receiver may take to end by itself after its sender has, to tell what it cost.
const LINGER_SPAN: Duration = Duration::from_secs(1);

/// The end of the run whose time is told apart: the last 5 % of what arrived. Of what arrived, not
/// of the file: headers and repetitions, of which each contestant has its own share, would move
/// the mark.
const TAIL_DIVISOR: u64 = 20;

/// The time is noted for every 1 / this of the file.
const PROGRESS_STEPS: u64 = 1_000;

/// A program to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contestant {
    /// What the table calls it.
    pub name: String,
    /// What kind of program it is.
    pub kind: Kind,
    /// The receiver's command line. In every word `{dir}` stands for the directory to write
    /// into, `{name}` for the file's name, `{file}` for its path and `{host}` for the receiver.
    pub receive: Vec<String>,
    /// The sender's, with the same placeholders.
    pub send: Vec<String>,
}

/// What is known of a contestant's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ufx: prints a report as JSON.
    Ufx,
    /// Our plain copy over TCP.
    Tcp,
    /// Somebody else's program: its receiver may be a server that does not end.
    Tool,
}

/// What connects the hosts.
#[derive(Clone, Debug, PartialEq)]
pub enum Wiring {
    /// The emulated link.
    Emulated(Box<Path>),
    /// A pair of Ethernet devices, as fast as it goes, with offloads.
    Veth,
    /// One host that talks to itself.
    Loopback,
}

/// A file to copy.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Where it is.
    pub path: PathBuf,
    /// Its last component.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its xxh3-128.
    pub digest: u128,
}

/// Everything that runs to be compared have in common.
#[derive(Debug)]
pub struct Setup<'a> {
    /// What connects the hosts.
    pub wiring: Wiring,
    /// Names the fates of packets.
    pub seed: u64,
    /// What is copied.
    pub sample: &'a Sample,
    /// A directory for what is received, which is emptied after the run.
    pub scratch: &'a FilePath,
    /// A run that takes longer is ended.
    pub cap: Duration,
    /// Becomes readable when the user wants an end.
    pub wake: BorrowedFd<'a>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The file arrived.
    Finished,
    /// The time was over.
    TimedOut,
    /// A program failed, with its last words.
    Failed(String),
    /// The file that arrived is another one.
    Differs,
    /// The user ended it.
    Interrupted,
}

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// From the start of the sender to its exit.
    pub span: Duration,
    /// What the sender cost.
    pub sender: ProcessEnd,
    /// What the receiver cost.
    pub receiver: ProcessEnd,
    /// What the link did; none without an emulated one.
    pub tally: Option<Tally>,
    /// From the arrival of 95 % of the bytes to the sender's exit.
    pub tail: Option<Duration>,
    /// The share of the packets (ufx) or of the bytes (TCP) that were sent before.
    pub resent_share: Option<f64>,
    /// Whether a file arrived that could be compared.
    pub verified: bool,
    /// Packets that the emulated link's devices dropped, which no seed has named.
    pub device_drops: u64,
}

/// Why no run could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum ContestError {
    /// No lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Something on this machine.
    #[error("cannot {step}: {error}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// Runs a contestant once.
///
/// # Errors
/// No lab, no process, no file. What the contestant's programs do wrong is a result.
pub fn run(setup: &Setup<'_>, contestant: &Contestant) -> Result<Run, ContestError> {
    let mut lab = match &setup.wiring {
        Wiring::Emulated(_) => Lab::emulated()?,
        Wiring::Veth => Lab::veth()?,
        Wiring::Loopback => Lab::loopback()?,
    };
    let clock = Clock::start();
    let emulator = match (&setup.wiring, lab.ports.take()) {
        (Wiring::Emulated(path), Some(ports)) => {
            let bytes = setup.sample.bytes;
            let config = EmulatorConfig {
                path: Path::clone(path),
                seed: setup.seed,
                step_bytes: bytes / PROGRESS_STEPS,
            };
            Some(Emulator::start(ports, &config, clock).map_err(io_error("start the emulator"))?)
        }
        _ => None,
    };
    let dir = setup.scratch.join("received");
    fs::create_dir(&dir).map_err(io_error("make a directory"))?;
    let files = Files { setup, dir: &dir, host: lab.receiver().address.to_string() };
    let result = copy(&files, contestant, &lab, clock);
    let device_drops = match emulator {
        Some(_) => lab.sender.device_drops()? + lab.receiver().device_drops()?,
        None => 0,
    };
    let tally = emulator.map(Emulator::finish);
    let result = result.map(|copied| {
        let arrived = dir.join(&setup.sample.name);
        let run = copied.judge(setup.sample, contestant.kind, tally, &arrived);
        Run { device_drops: device_drops + run.device_drops, ..run }
    });
    fs::remove_dir_all(&dir).map_err(io_error("remove a directory"))?;
    result
}

/// What the placeholders of a command line stand for.
struct Files<'a> {
    setup: &'a Setup<'a>,
    dir: &'a FilePath,
    host: String,
}

impl Files<'_> {
    fn fill(&self, words: &[String]) -> Vec<String> {
        let sample = self.setup.sample;
        words
            .iter()
            .map(|word| {
                word.replace("{dir}", &self.dir.to_string_lossy())
                    .replace("{file}", &sample.path.to_string_lossy())
                    .replace("{name}", &sample.name)
                    .replace("{host}", &self.host)
            })
            .collect()
    }

    /// A file for what a program prints.
    fn output(&self, name: &str) -> Result<(PathBuf, File), ContestError> {
        let path = self.setup.scratch.join(name);
        let file = File::create(&path).map_err(io_error("make a file"))?;
        Ok((path, file))
    }
}

/// What came out of the two programs, before the link is asked.
struct Copied {
    end: End,
    started: Time,
    ended: Time,
    sender: ProcessEnd,
    receiver: ProcessEnd,
    /// What the sender printed.
    output: String,
}

/// Lets the receiver listen, then the sender send.
fn copy(
    files: &Files<'_>,
    contestant: &Contestant,
    lab: &Lab,
    clock: Clock,
) -> Result<Copied, ContestError> {
    let (_, output) = files.output("receiver.out")?;
    let (receiver_words, errors) = files.output("receiver.err")?;
    let words = files.fill(&contestant.receive);
    let receiver = Running::start(lab.receiver(), &words, output, errors)
        .map_err(io_error("start the receiver"))?;
    let deadline = clock.now() + START_SPAN;
    while !receiver.listens() {
        if clock.now() > deadline || ready(receiver.as_fd(), Duration::ZERO) {
            receiver.kill();
            let end = End::Failed(last_words("the receiver", &receiver_words));
            return Ok(Copied::failed(end, clock.now()));
        }
        doze(START_LOOK);
    }
    let (sender_output, output) = files.output("sender.out")?;
    let (sender_words, errors) = files.output("sender.err")?;
    let words = files.fill(&contestant.send);
    let started = clock.now();
    let sender = Running::start(&lab.sender, &words, output, errors)
        .map_err(io_error("start the sender"))?;
    let waited = wait(&sender, &receiver, files.setup, contestant.kind)?;
    let ended = clock.now();
    sender.kill();
    let sender = sender.finish().map_err(io_error("wait for the sender"))?;
    let end = match waited {
        Waited::Ended if sender.exit_code == Some(0) => End::Finished,
        Waited::Ended => End::Failed(last_words("the sender", &sender_words)),
        Waited::ReceiverEnded => End::Failed(last_words("the receiver", &receiver_words)),
        Waited::TimedOut => End::TimedOut,
        Waited::Interrupted => End::Interrupted,
    };
    if end == End::Finished && contestant.kind != Kind::Tool {
        ready(receiver.as_fd(), LINGER_SPAN);
    }
    receiver.kill();
    let receiver = receiver.finish().map_err(io_error("wait for the receiver"))?;
    let output = fs::read_to_string(sender_output).unwrap_or_default();
    Ok(Copied { end, started, ended, sender, receiver, output })
}

impl Copied {
    fn failed(end: End, now: Time) -> Copied {
        let (sender, receiver) = (ProcessEnd::default(), ProcessEnd::default());
        Copied { end, started: now, ended: now, sender, receiver, output: String::new() }
    }

    /// Compares what arrived with what was sent, and draws conclusions from the link's count.
    fn judge(self, sample: &Sample, kind: Kind, tally: Option<Tally>, arrived: &FilePath) -> Run {
        let mut end = self.end;
        let mut verified = false;
        if end == End::Finished {
            match digest(arrived) {
                Ok(digest) if digest == sample.digest => verified = true,
                // A tool that measures without writing a file is welcome, but marked.
                Err(error) if kind == Kind::Tool && error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) | Err(_) => end = End::Differs,
            }
        }
        let resent_share = match kind {
            Kind::Ufx => resent_by_report(&self.output),
            Kind::Tcp | Kind::Tool => {
                tally.as_ref().and_then(|tally| resent_by_count(tally, sample.bytes))
            }
        };
        let tail_began = tally.as_ref().and_then(|tally| tally.tail_began(TAIL_DIVISOR));
        Run {
            resent_share: resent_share.filter(|_| end == End::Finished),
            tail: tail_began
                .filter(|_| end == End::Finished)
                .map(|tail_began| self.ended.saturating_since(tail_began)),
            end,
            span: self.ended.saturating_since(self.started),
            sender: self.sender,
            receiver: self.receiver,
            device_drops: tally
                .as_ref()
                .map_or(0, |tally| tally.forward.device_drops + tally.backward.device_drops),
            tally,
            verified,
        }
    }
}

impl Run {
    /// Why the link was not the one asked for during the run, whoever is to blame; none if it
    /// was, or there is no emulated one.
    pub fn complaint(&self, path: &Path) -> Option<String> {
        if self.device_drops > 0 {
            return Some(format!("the devices dropped {} packets", self.device_drops));
        }
        let late = self.tally.as_ref()?.lateness.quantile(0.5);
        (late > lateness_max(path))
            .then(|| format!("half of the packets were up to {} us late", late.as_micros()))
    }

    /// Bits of the file a second; none if it did not finish.
    pub fn goodput(&self, file_bytes: u64) -> Option<f64> {
        (self.end == End::Finished).then(|| file_bytes as f64 * 8.0 / self.span.as_secs_f64())
    }

    /// Bits a second of what had arrived when the time was over, repetitions included.
    pub fn arrived_rate(&self) -> Option<f64> {
        let bytes = self.tally.as_ref()?.forward.payload_delivered;
        Some(bytes as f64 * 8.0 / self.span.as_secs_f64())
    }

    /// Bytes on the wire in both directions for a byte of the file.
    pub fn wire_ratio(&self, file_bytes: u64) -> Option<f64> {
        let tally = self.tally.as_ref()?;
        let bytes = tally.forward.link.wire_bytes + tally.backward.link.wire_bytes;
        Some(bytes as f64 / file_bytes.max(1) as f64)
    }
}

/// The xxh3-128 of a file.
pub fn digest(path: &FilePath) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish_128()),
            length => hasher.write(&buffer[..length]),
        }
    }
}

/// What ended the wait for the sender.
enum Waited {
    Ended,
    ReceiverEnded,
    TimedOut,
    Interrupted,
}

fn wait(
    sender: &Running,
    receiver: &Running,
    setup: &Setup<'_>,
    kind: Kind,
) -> Result<Waited, ContestError> {
    let clock = Clock::start();
    let deadline = clock.now() + setup.cap;
    // Once the receiver has ended, only the sender and the user are waited for.
    let mut grace = deadline;
    let mut receiver_runs = true;
    loop {
        let left = grace.saturating_since(clock.now());
        let mut polled = [
            PollFd::new(sender, PollFlags::IN),
            PollFd::from_borrowed_fd(setup.wake, PollFlags::IN),
            PollFd::new(receiver, PollFlags::IN),
        ];
        let count = if receiver_runs { 3 } else { 2 };
        match poll(&mut polled[..count], Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(io_error("wait for a process")(errno.into())),
        }
        let [sender_ended, woken, receiver_ended] =
            polled.map(|polled| !polled.revents().is_empty());
        if sender_ended {
            return Ok(Waited::Ended);
        } else if woken {
            return Ok(Waited::Interrupted);
        } else if receiver_runs && receiver_ended {
            // Normal shortly before the sender's end; else the sender would wait for nobody.
            // A tool's receiver may be a command that left a server behind.
            receiver_runs = false;
            if kind != Kind::Tool {
                grace = grace.min(clock.now() + LINGER_SPAN);
            }
        } else if clock.now() >= grace {
            let timed_out = receiver_runs || kind == Kind::Tool || grace == deadline;
            return Ok(if timed_out { Waited::TimedOut } else { Waited::ReceiverEnded });
        }
    }
}

/// Whether the descriptor becomes readable within a span.
fn ready(fd: BorrowedFd<'_>, span: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut polled, Some(&timespec(span))).is_ok_and(|count| count > 0)
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) }
}

/// The last line that a program wrote to its standard error.
fn last_words(who: &str, path: &FilePath) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{who} said: {}", line.trim()),
        None => format!("{who} failed and said nothing"),
    }
}

/// From ufx's own report, the last line it printed.
fn resent_by_report(output: &str) -> Option<f64> {
    let report: serde_json::Value = serde_json::from_str(output.lines().last()?).ok()?;
    let packets = report.get("packets")?;
    let number = |key| packets.get(key)?.as_f64();
    Some(number("resent")? / number("sent")?.max(1.0))
}

/// From the bytes behind TCP headers: what exceeds the file was sent before. Says nothing about
/// a program that uses UDP, whose headers of its own are not known.
fn resent_by_count(tally: &Tally, file_bytes: u64) -> Option<f64> {
    let tcp = tally.forward.tcp_payload_offered;
    (tcp > tally.forward.udp_payload_offered)
        .then(|| tcp.saturating_sub(file_bytes) as f64 / tcp as f64)
}

fn io_error(step: &'static str) -> impl FnOnce(io::Error) -> ContestError {
    move |error| ContestError::Io { step, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resent_share_comes_from_the_last_line_of_ufx() {
        let output = "listing\n{\"packets\":{\"sent\":200,\"resent\":3}}\n";
        assert_eq!(resent_by_report(output), Some(0.015));
        for output in ["", "no json", "{}", "{\"packets\":{\"sent\":null,\"resent\":1}}"] {
            assert_eq!(resent_by_report(output), None, "{output}");
        }
    }

    #[test]
    fn the_resent_share_of_tcp_is_what_exceeds_the_file() {
        let mut tally = Tally::default();
        assert_eq!(resent_by_count(&tally, 100), None);
        tally.forward.tcp_payload_offered = 125;
        assert_eq!(resent_by_count(&tally, 100), Some(0.2));
        tally.forward.udp_payload_offered = 126;
        assert_eq!(resent_by_count(&tally, 100), None);
    }
}
