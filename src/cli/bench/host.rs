//! `ufx bench HOST`: turns of ufx and TCP to a waiting `ufx recv`, which drops what comes. Leaves
//! the runs and their figures to `compare::host`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;

use super::args::BenchArguments;
use super::options::{parse_runs, parse_size};
use super::{make_scratch, print, progress, write_noise};
use crate::cli::destination::Host;
use crate::cli::exit::Failure;
use crate::cli::options::parse_port;
use crate::cli::output::Console;
use crate::cli::send;
use crate::cli::signals::Signals;
use crate::compare::host::{HostCell, HostReport, HostRun, limit_of, run_tcp, run_ufx};
use crate::compare::report::Machine;
use crate::io::defaults;
use crate::io::report::Outcome;
use crate::io::stop::Stop;
use crate::proto::SenderConfig;

/// Without `--size` this much is tried first, ...
const FIRST_BYTES: u64 = 1_000_000;

/// ... then up to so many times more, ...
const GROWTH_MAX: f64 = 16.0;

/// ... aiming at a run that takes so many seconds, ...
const SECONDS_WANTED: f64 = 3.0;

/// ... until one takes so many, behind which every start-up is a small part, ...
const SECONDS_ENOUGH: f64 = 1.0;

/// ... or this much, which any memory has, is reached.
const LAST_BYTES: u64 = 512_000_000;

/// A run of TCP is cut after so many times what ufx took, and what arrived counts, ...
const TCP_CAP_FACTOR: u32 = 4;

/// ... but not before this.
const TCP_CAP_MIN: Duration = Duration::from_secs(10);

/// Runs and prints what came of it.
pub fn run(typed: &BenchArguments, host: &OsStr, console: &Console) -> Result<(), Failure> {
    let report = measure(typed, host, console)?;
    let text = if typed.json {
        serde_json::to_string(&report)
            .map_err(|error| Failure::new(Outcome::Failed, "the report", error.to_string()))?
    } else if typed.csv {
        report.csv()
    } else {
        report.table()
    };
    print(&text, console)
}

fn measure(typed: &BenchArguments, host: &OsStr, console: &Console) -> Result<HostReport, Failure> {
    let runs = parse_runs(&typed.runs)?;
    let size = typed.size.as_deref().map(parse_size).transpose()?;
    let port = match &typed.port {
        Some(port) => parse_port(port, 1..=65_535)?,
        None => defaults::PORT,
    };
    let addresses = Host::parse(host)?.resolve(port)?;
    let signals = Signals::install()
        .map_err(|error| Failure::new(Outcome::Failed, "signals", error.to_string()))?;
    let scratch = make_scratch()?;
    let bar = progress(console, 2 * runs);
    let mut path = PathToHost { addresses, port, signals: &signals, bar: &bar };
    let sample = Sample { path: scratch.path.join("sample") };
    let file_bytes = match size {
        Some(bytes) => sample.write(bytes).map(|()| bytes)?,
        None => path.find_size(&sample)?,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut congestion = String::new();
    let mut no_tcp = None;
    for _ in 0..runs {
        let run = path.ufx(&sample.path, "ufx")?;
        let cap = (run.span * TCP_CAP_FACTOR).max(TCP_CAP_MIN);
        ours.push(run);
        bar.inc(1);
        if no_tcp.is_none() {
            match path.tcp(&sample.path, cap)? {
                Ok((run, name)) => {
                    theirs.push(run);
                    congestion = name;
                }
                Err(why) => no_tcp = Some(why),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let cells = [HostCell::of("ufx", &ours), HostCell::of(&format!("TCP {congestion}"), &theirs)];
    Ok(HostReport {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(),
        host: path.addresses.first().map(ToString::to_string).unwrap_or_default(),
        file_bytes,
        runs,
        contestants: cells.into_iter().flatten().collect(),
        limited_by: limit_of(&ours),
        no_tcp,
    })
}

/// The file to send.
struct Sample {
    path: PathBuf,
}

impl Sample {
    fn write(&self, bytes: u64) -> Result<(), Failure> {
        write_noise(&self.path, bytes, 1)
    }
}

/// Where to, and what may end it.
struct PathToHost<'a> {
    /// After the first run only the one that answered.
    addresses: Vec<SocketAddr>,
    port: u16,
    signals: &'a Signals,
    bar: &'a ProgressBar,
}

impl PathToHost<'_> {
    fn stop(&self) -> Stop<'_> {
        Stop { flag: self.signals.flag(), wake: self.signals.wake() }
    }

    /// Writes samples until one takes long enough; returns its size.
    fn find_size(&mut self, sample: &Sample) -> Result<u64, Failure> {
        let mut bytes = FIRST_BYTES;
        loop {
            sample.write(bytes)?;
            let seconds = self.ufx(&sample.path, "looking for a size")?.span.as_secs_f64();
            if seconds >= SECONDS_ENOUGH || bytes == LAST_BYTES {
                return Ok(bytes);
            }
            let growth = (SECONDS_WANTED / seconds.max(1e-6)).min(GROWTH_MAX);
            bytes = ((bytes as f64 * growth) as u64).min(LAST_BYTES);
        }
    }

    fn ufx(&mut self, file: &Path, message: &'static str) -> Result<HostRun, Failure> {
        self.bar.set_message(message);
        let config = SenderConfig {
            wait: defaults::WAIT,
            timeout: defaults::TIMEOUT,
            ..SenderConfig::default()
        };
        let (report, result) = run_ufx(file, &self.addresses, &config, &self.stop());
        self.interrupted()?;
        let run = result.map_err(|error| {
            self.bar.finish_and_clear();
            send::failure(&error, self.port, defaults::WAIT, &report, self.signals)
        })?;
        if let Some(peer) = report.peer.and_then(|peer| peer.parse().ok()) {
            self.addresses = vec![peer];
        }
        Ok(run)
    }

    /// A run of TCP, or why there is none.
    fn tcp(
        &self,
        file: &Path,
        cap: Duration,
    ) -> Result<Result<(HostRun, String), String>, Failure> {
        let Some(&to) = self.addresses.first() else { return Ok(Err("no address".into())) };
        self.bar.set_message("TCP");
        let run = run_tcp(file, to, cap, &self.stop());
        self.interrupted()?;
        Ok(run.map_err(|error| error.to_string()))
    }

    /// An error once the user wants an end.
    fn interrupted(&self) -> Result<(), Failure> {
        super::interrupted(self.signals, self.bar)
    }
}
