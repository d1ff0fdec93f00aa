//! What `ufx bench HOST` does and shows: the same bytes from memory to a waiting receiver that
//! drops them, by ufx and by plain TCP, over the path that is there. Leaves taking turns and
//! printing to the command line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::report::{Machine, Spread, round, times};
use super::table::{aligned, quoted, significant};
use super::tcp::TcpError;
use crate::io::batch::Offload;
use crate::io::clock::Clock;
use crate::io::report::{Counters, Limit, Report};
use crate::io::send::{SendError, SendRequest, send};
use crate::io::source::Sources;
use crate::io::stop::Stop;
use crate::io::sys;
use crate::io::wait::{Interest, wait};
use crate::proto::SenderConfig;
use crate::wire::DigestAlgorithm;

/// How long the receiver may take to answer a connection. Longer than two lost SYNs.
const CONNECT_SPAN: Duration = Duration::from_secs(4);

/// A connection over which nothing moves for so long is given up. What the kernel holds when
/// a run is cut drains in this time at 1 Mbit/s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Asked of `sendfile` at once; it returns when the socket's buffer is full anyway.
const SENDFILE_BYTES_MAX: u64 = 1 << 30;

/// Two that differ by no more count as level: runs do as much.
const LEVEL_SHARE: f64 = 0.02;

/// One run that moved something.
#[derive(Clone, Debug)]
pub struct HostRun {
    /// Bytes that the receiver has said it got.
    pub bytes: u64,
    /// From the first packet to that answer.
    pub span: Duration,
    /// Processor time of this process meanwhile.
    pub cpu: Duration,
    /// The share of what was sent that had been sent before, where that is known.
    pub resent_share: Option<f64>,
    /// What held it back most, where that is known.
    pub limited_by: Option<Limit>,
}

/// Sends a file by ufx to the first of these addresses that answers. The report says which one.
///
/// # Errors
/// As of any sender.
pub fn run_ufx(
    file: &Path,
    addresses: &[SocketAddr],
    config: &SenderConfig,
    stop: &Stop<'_>,
) -> (Report, Result<HostRun, SendError>) {
    let sources = match Sources::new(&[file.to_path_buf()]) {
        Ok(sources) => sources,
        Err(error) => return (Report::new(crate::io::report::Operation::Send), Err(error.into())),
    };
    let request = SendRequest {
        sources: Arc::new(sources),
        addresses: addresses.to_vec(),
        config: SenderConfig { digest: DigestAlgorithm::None, discard: true, ..config.clone() },
        mtu_bytes: None,
        offload: Offload::default(),
    };
    let before = processor_time();
    let (report, result) = send(&request, &Counters::default(), stop, &mut |_, _| {}, &mut || {});
    let cpu = processor_time().saturating_sub(before);
    let run = HostRun {
        bytes: report.bytes,
        span: Duration::try_from_secs_f64(report.seconds).unwrap_or_default(),
        cpu,
        resent_share: report.packets.resent.zip(report.packets.sent).map(|(a, b)| share(a, b)),
        limited_by: report.limited_by,
    };
    (report, result.map(|()| run))
}

/// Sends a file by TCP with the kernel's own congestion control, whose name is returned, until all
/// is sent or `cap` is over; what the receiver has got by then counts.
///
/// # Errors
/// Nobody takes connections there, or the connection broke.
pub fn run_tcp(
    file: &Path,
    to: SocketAddr,
    cap: Duration,
    stop: &Stop<'_>,
) -> Result<(HostRun, String), TcpError> {
    let source = File::open(file).map_err(|error| failed("open the file", error))?;
    let size = source.metadata().map_err(|error| failed("look at the file", error))?.len();
    let (clock, before) = (Clock::start(), processor_time());
    let started = clock.now();
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_SPAN)
        .map_err(|error| failed("connect to its TCP port", error))?;
    let congestion = rustix::net::sockopt::tcp_congestion(&stream)
        .map_err(|errno| failed("ask for the congestion control", errno.into()))?;
    stream.set_nonblocking(true).map_err(|error| failed("set up the connection", error))?;
    let mut offset = 0;
    while offset < size && clock.now().saturating_since(started) < cap {
        let wanted = (size - offset).min(SENDFILE_BYTES_MAX) as usize;
        match sendfile(&stream, &source, Some(&mut offset), wanted) {
            Ok(0) => return Err(failed("send", io::ErrorKind::UnexpectedEof.into())),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_ready(&stream, true, stop)?,
            Err(errno) => return Err(failed("send", errno.into())),
        }
    }
    stream.shutdown(Shutdown::Write).map_err(|error| failed("end", error))?;
    let bytes = read_count(&mut stream, stop)?;
    let span = clock.now().saturating_since(started);
    let cpu = processor_time().saturating_sub(before);
    // All is acknowledged: what the kernel has sent by now is all that it will.
    let sent = sys::tcp::tcp_sent(stream.as_fd()).ok().flatten();
    let resent_share = sent.map(|sent| share(sent.resent_bytes, sent.bytes));
    Ok((HostRun { bytes, span, cpu, resent_share, limited_by: None }, congestion))
}

fn share(resent: u64, sent: u64) -> f64 {
    resent as f64 / sent.max(1) as f64
}

/// What the receiver says it has got.
fn read_count(stream: &mut TcpStream, stop: &Stop<'_>) -> Result<u64, TcpError> {
    let mut answer = Vec::new();
    loop {
        match stream.by_ref().take(8).read_to_end(&mut answer) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                await_ready(stream, false, stop)?;
            }
            Err(error) => return Err(failed("read the answer", error)),
        }
    }
    let answer = <[u8; 8]>::try_from(answer);
    answer
        .map(u64::from_be_bytes)
        .map_err(|_| failed("read the answer", io::ErrorKind::UnexpectedEof.into()))
}

/// Waits until the connection moves, or the run shall end.
fn await_ready(stream: &TcpStream, to_write: bool, stop: &Stop<'_>) -> Result<(), TcpError> {
    let interest = match to_write {
        true => Interest::Write(stream.as_fd()),
        false => Interest::Read(stream.as_fd()),
    };
    let mut ready = Vec::new();
    wait(&[interest, Interest::Read(stop.wake)], Some(SILENCE_MAX), &mut ready)
        .map_err(|error| failed("wait", error))?;
    if stop.is_asked() {
        return Err(failed("go on", io::ErrorKind::Interrupted.into()));
    }
    match ready.is_empty() {
        true => Err(failed("go on", io::ErrorKind::TimedOut.into())),
        false => Ok(()),
    }
}

fn failed(step: &'static str, error: io::Error) -> TcpError {
    TcpError::Io { step, error }
}

/// What all threads of this process have used so far.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// What the runs showed. Names are stable; new ones may be added.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// The version of ufx.
    pub version: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// The receiver's address and port.
    pub host: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Runs of each contestant.
    pub runs: u64,
    /// ufx, and TCP where the receiver took connections.
    pub contestants: Vec<HostCell>,
    /// What held most of ufx's runs back.
    pub limited_by: Option<Limit>,
    /// Why there are no runs of TCP, or no more.
    pub no_tcp: Option<String>,
}

/// What one contestant did: medians.
#[derive(Clone, Debug, Serialize)]
pub struct HostCell {
    /// `ufx`, or TCP's congestion control.
    pub contestant: String,
    /// Bits a second.
    pub goodput: Spread,
    /// Processor seconds of this end for a GB.
    pub sender_cpu_per_gb: f64,
    /// The share of what was sent that had been sent before.
    pub resent_share: Option<f64>,
}

impl HostCell {
    /// Puts runs together; none without any.
    pub fn of(contestant: &str, runs: &[HostRun]) -> Option<HostCell> {
        let seconds = |run: &HostRun| run.span.as_secs_f64().max(1e-9);
        let gigabytes = |run: &HostRun| run.bytes.max(1) as f64 / 1e9;
        let cpu = Spread::of(runs.iter().map(|run| run.cpu.as_secs_f64() / gigabytes(run)))?;
        let resent = Spread::of(runs.iter().filter_map(|run| run.resent_share));
        Some(HostCell {
            contestant: contestant.to_owned(),
            goodput: Spread::of(runs.iter().map(|run| run.bytes as f64 * 8.0 / seconds(run)))?,
            sender_cpu_per_gb: cpu.median,
            resent_share: resent.map(|share| share.median),
        })
    }
}

/// What held most of the runs back.
pub fn limit_of(runs: &[HostRun]) -> Option<Limit> {
    let mut counts: BTreeMap<&str, (usize, Limit)> = BTreeMap::new();
    for limit in runs.iter().filter_map(|run| run.limited_by) {
        counts.entry(words(limit)).or_insert((0, limit)).0 += 1;
    }
    counts.into_values().max_by_key(|(count, _)| *count).map(|(_, limit)| limit)
}

/// Who limits a run that meets no disk.
fn words(limit: Limit) -> &'static str {
    match limit {
        Limit::SenderCpu | Limit::SourceDisk => "this end's processor",
        Limit::ReceiverBuffer | Limit::ReceiverDisk => "the receiver's processor or socket buffer",
        Limit::Network | Limit::RateCap | Limit::SenderOrNetwork => "the network",
    }
}

impl HostReport {
    /// The whole text for people.
    pub fn table(&self) -> String {
        let heads = ["", "goodput Mbit/s", "CPU s/GB here", "resent"].map(str::to_owned).to_vec();
        let row = |cell: &HostCell| {
            let Spread { median, min, max } = cell.goodput;
            let megabits = |bits: f64| significant(bits / 1e6);
            let resent = |share: f64| format!("{} %", significant(share * 100.0));
            vec![
                format!("  {}", cell.contestant),
                format!("{} [{}-{}]", megabits(median), megabits(min), megabits(max)),
                significant(cell.sender_cpu_per_gb),
                cell.resent_share.map_or_else(|| "-".to_owned(), resent),
            ]
        };
        let rows: Vec<Vec<String>> =
            [heads].into_iter().chain(self.contestants.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
        let mut lines = vec![
            format!("ufx {}, Linux {}", self.version, self.machine.kernel),
            format!(
                "{} MB from memory to {}, which drops them; runs of each: {}, in turns.",
                round(self.file_bytes as f64 / 1e6),
                self.host,
                self.runs
            ),
            String::new(),
        ];
        lines.extend(rows.iter().map(|row| aligned(row, &widths)));
        lines.extend([String::new(), self.verdict()]);
        lines.join("\n")
    }

    /// Which is faster, and what limits it.
    fn verdict(&self) -> String {
        let median = |cell: &HostCell| cell.goodput.median;
        let mut text = match self.contestants.as_slice() {
            [ufx, tcp, ..] => {
                let ratio = median(ufx) / median(tcp).max(1.0);
                let name = &tcp.contestant;
                if (ratio - 1.0).abs() <= LEVEL_SHARE {
                    format!("ufx and {name} are level")
                } else if ratio > 1.0 {
                    format!("ufx is faster: {} {name}", times(ratio))
                } else {
                    format!("{name} is faster: {} ufx", times(1.0 / ratio.max(1e-9)))
                }
            }
            _ => "There is no TCP to compare with".to_owned(),
        };
        if let Some(why) = &self.no_tcp {
            text += &format!(" ({why})");
        }
        if let Some(limit) = self.limited_by {
            text += &format!("; {} limits ufx", words(limit));
        }
        text += ".\nNo disk took part: where copies of files are slower than this, a disk is the ";
        text + "limit."
    }

    /// One line for each contestant, with a head.
    pub fn csv(&self) -> String {
        let head = "contestant,goodput_median,goodput_min,goodput_max,sender_cpu_per_gb,\
                    resent_share";
        let row = |cell: &HostCell| {
            let Spread { median, min, max } = cell.goodput;
            let (name, cpu) = (quoted(&cell.contestant), cell.sender_cpu_per_gb);
            let resent = cell.resent_share.map_or_else(String::new, |share| share.to_string());
            format!("{name},{median},{min},{max},{cpu},{resent}")
        };
        let rows = self.contestants.iter().map(row);
        [head.to_owned()].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(megabits: u64, limit: Option<Limit>) -> HostRun {
        HostRun {
            bytes: megabits * 125_000,
            span: Duration::from_secs(1),
            cpu: Duration::from_millis(50),
            resent_share: limit.map(|_| 0.01),
            limited_by: limit,
        }
    }

    fn report(ufx: u64, tcp: Option<u64>, limit: Limit) -> HostReport {
        let ours = [run(ufx, Some(limit))];
        let theirs: Vec<HostRun> = tcp.map(|megabits| run(megabits, None)).into_iter().collect();
        HostReport {
            version: "0",
            machine: Machine::here(),
            host: "10.0.0.2:8390".into(),
            file_bytes: 1_000_000,
            runs: 1,
            contestants: [HostCell::of("ufx", &ours), HostCell::of("TCP cubic", &theirs)]
                .into_iter()
                .flatten()
                .collect(),
            limited_by: limit_of(&ours),
            no_tcp: tcp.is_none().then(|| "cannot connect: refused".into()),
        }
    }

    #[test]
    fn the_sentence_says_who_is_faster_and_what_the_limit_is() {
        let text = report(900, Some(600), Limit::Network).table();
        assert!(
            text.contains("ufx is faster: 1.50 x TCP cubic; the network limits ufx."),
            "{text}"
        );
        let text = report(400, Some(800), Limit::SenderCpu).table();
        assert!(text.contains("TCP cubic is faster: 2.00 x ufx; this end's processor"), "{text}");
        let text = report(99, Some(100), Limit::ReceiverDisk).table();
        assert!(text.contains("ufx and TCP cubic are level; the receiver's processor"), "{text}");
        let text = report(99, None, Limit::Network).table();
        assert!(text.contains("no TCP to compare with (cannot connect: refused);"), "{text}");
    }

    #[test]
    fn the_limit_is_what_held_most_of_the_runs() {
        let limits = [Limit::Network, Limit::SenderCpu, Limit::Network];
        let runs: Vec<HostRun> = limits.into_iter().map(|limit| run(1, Some(limit))).collect();
        assert_eq!(limit_of(&runs), Some(Limit::Network));
        assert_eq!(limit_of(&[run(1, None)]), None);
    }

    #[test]
    fn every_line_of_csv_has_as_many_fields_as_the_head() {
        let text = report(900, Some(600), Limit::Network).csv();
        let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [6; 3]);
    }
}
