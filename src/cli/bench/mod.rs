//! `ufx bench`: from options to a table. Leaves running contestants to `compare`.

pub mod args;
mod host;
pub mod options;
mod scratch;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::exit::{Exit, Failure};
use super::output::{self, Console, Verbosity};
use super::signals::Signals;
use crate::compare::check::{self, Measured};
use crate::compare::contest::{self, ContestError, Contestant, Run, Sample, Setup, Wiring};
use crate::compare::report::{Cell, LinkFigures, Machine, Report};
use crate::compare::{lab, svg, table, tcp};
use crate::io::name::RelativePath;
use crate::io::report::Outcome;
use args::{BenchArguments, TcpCopyArguments, TcpEnd};
use options::{BenchOptions, ContestantOptions, LinkOptions};
use scratch::Scratch;

/// Runs `ufx bench`.
pub fn run(typed: &BenchArguments) -> Exit {
    let verbosity = if typed.quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let console = Console::new(verbosity, typed.json);
    let done = match &typed.host {
        Some(host) => host::run(typed, host, &console),
        None => BenchOptions::resolve(typed)
            .and_then(|options| compete(&options, &console))
            .and_then(|report| show(&report, typed, &console)),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(failure) => {
            console.error(&failure);
            Exit::from(failure.outcome)
        }
    }
}

/// Lets all contestants run on all links.
fn compete(options: &BenchOptions, console: &Console) -> Result<Report, Failure> {
    // First of all, while the process has one thread.
    lab::acquire_rights().map_err(|error| lab_failure(&error))?;
    let signals = Signals::install()
        .map_err(|error| Failure::new(Outcome::Failed, "signals", error.to_string()))?;
    let program = options::own_program()?;
    let scratch = make_scratch()?;
    let sample = make_sample(&scratch, options)?;
    let contestants = options.contestants.len() as u64;
    let bar = progress(console, options.links.len() as u64 * options.runs * contestants);
    let mut bench = Bench {
        options,
        program: &program,
        scratch: &scratch,
        sample: &sample,
        signals: &signals,
        bar: &bar,
        repeated: 0,
    };
    let mut checks = Vec::new();
    let mut cells = Vec::new();
    for link in &options.links {
        if let Wiring::Emulated(path) = &link.wiring {
            bar.set_message(describe(link, "checking the link"));
            checks.push(bench.check(path)?);
        }
        cells.extend(bench.link(link)?);
    }
    bar.finish_and_clear();
    let wiring = &options.links[0].wiring;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(),
        file_bytes: options.file_bytes,
        files: scratch.kind(),
        runs: options.runs,
        seed: options.seed,
        devices: devices(wiring)?,
        packets_one_by_one: matches!(wiring, Wiring::Emulated(_)),
        checks,
        repeated: bench.repeated,
        cells,
    })
}

/// How often a check or a run is tried again that found the link not to be the one asked for:
/// something else may have kept the machine busy for a moment.
const TRIES: u32 = 3;

/// A bench that goes on.
struct Bench<'a> {
    options: &'a BenchOptions,
    program: &'a str,
    scratch: &'a Scratch,
    sample: &'a Sample,
    signals: &'a Signals,
    bar: &'a ProgressBar,
    repeated: u64,
}

impl Bench<'_> {
    /// Measures a link until it is what was asked for.
    fn check(&self, path: &crate::sim::Path) -> Result<Measured, Failure> {
        let mut tries = 0;
        loop {
            let measured =
                check::measure(path, self.options.seed).map_err(|error| failure(&error))?;
            self.interrupted()?;
            tries += 1;
            match measured.complaint() {
                None => return Ok(measured),
                Some(complaint) if tries == TRIES => return Err(too_slow(&complaint)),
                Some(_) => {}
            }
        }
    }

    /// Lets all contestants take their turns on a link.
    fn link(&mut self, link: &LinkOptions) -> Result<Vec<Cell>, Failure> {
        let contestants = &self.options.contestants;
        let mut runs: Vec<Vec<Run>> = contestants.iter().map(|_| Vec::new()).collect();
        for turn in 0..self.options.runs {
            for (contestant, runs) in contestants.iter().zip(&mut runs) {
                let contestant = contestant.on(link, self.program);
                self.bar.set_message(describe(link, &contestant.name));
                runs.push(self.run(link, &contestant, turn)?);
                self.bar.inc(1);
            }
        }
        let figures = LinkFigures::of(&link.wiring, link.loss, link.burst_packets, link.cap);
        let cell = |(contestant, runs): (&ContestantOptions, &Vec<Run>)| {
            Cell::of(figures.clone(), &contestant.name(), runs, self.options.file_bytes)
        };
        Ok(contestants.iter().zip(&runs).map(cell).collect())
    }

    /// One turn of one contestant, again if the link was not the one asked for.
    fn run(
        &mut self,
        link: &LinkOptions,
        contestant: &Contestant,
        turn: u64,
    ) -> Result<Run, Failure> {
        let setup = Setup {
            wiring: link.wiring.clone(),
            // Other fates in every turn, the same for all who take it.
            seed: self.options.seed.wrapping_add(turn),
            sample: self.sample,
            scratch: &self.scratch.path,
            cap: link.cap,
            wake: self.signals.wake(),
        };
        let mut tries = 0;
        loop {
            let run = contest::run(&setup, contestant).map_err(|error| failure(&error))?;
            self.interrupted()?;
            tries += 1;
            let complaint = match &link.wiring {
                Wiring::Emulated(path) => run.complaint(path),
                Wiring::Veth | Wiring::Loopback => None,
            };
            match complaint {
                None => return Ok(run),
                Some(complaint) if tries == TRIES => {
                    return Err(too_slow(&format!("with {}, {complaint}", contestant.name)));
                }
                Some(_) => self.repeated += 1,
            }
        }
    }

    /// An error once the user wants an end.
    fn interrupted(&self) -> Result<(), Failure> {
        interrupted(self.signals, self.bar)
    }
}

/// An error once the user wants an end.
fn interrupted(signals: &Signals, bar: &ProgressBar) -> Result<(), Failure> {
    match signals.outcome() {
        None => Ok(()),
        Some(outcome) => {
            bar.finish_and_clear();
            Err(Failure::new(outcome, "", "interrupted"))
        }
    }
}

/// No figures from a link that was not emulated as asked.
fn too_slow(complaint: &str) -> Failure {
    Failure::new(Outcome::Failed, "this machine is too slow or too busy for the link", complaint)
        .advise("stop what else runs, or ask for less: --rate 100M, --rtt 10ms")
}

fn show(report: &Report, typed: &BenchArguments, console: &Console) -> Result<(), Failure> {
    let text = if typed.json {
        serde_json::to_string(report)
            .map_err(|error| Failure::new(Outcome::Failed, "the report", error.to_string()))?
    } else if typed.csv {
        table::csv(report)
    } else {
        table::table(report)
    };
    if let Some(path) = &typed.svg {
        fs::write(path, svg::chart(report)).map_err(|error| {
            let path = output::escape_name(path.as_os_str().as_encoded_bytes());
            Failure::new(Outcome::LocalFile, path, error.to_string())
        })?;
    }
    print(&text, console)
}

fn print(text: &str, console: &Console) -> Result<(), Failure> {
    console
        .data(text)
        .map_err(|error| Failure::new(Outcome::Failed, "standard output", error.to_string()))
}

/// One of the hidden commands that plain TCP copies run as.
pub fn tcp_copy(typed: &TcpCopyArguments) -> Exit {
    let done = match &typed.end {
        TcpEnd::Send { congestion, file, host, port } => {
            tcp::send(file, (*host, *port).into(), congestion).map_err(|error| error.to_string())
        }
        TcpEnd::Recv { congestion, dir, name, port } => RelativePath::parse(name.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|name| {
                tcp::receive(dir, &name, *port, congestion).map_err(|error| error.to_string())
            }),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(why) => {
            let console = Console::new(Verbosity::Normal, false);
            console.error(&Failure::new(Outcome::Failed, "", why));
            Exit::Other
        }
    }
}

fn make_scratch() -> Result<Scratch, Failure> {
    Scratch::make().map_err(|error| {
        Failure::new(Outcome::LocalFile, "a directory for the files", error.to_string())
    })
}

/// Writes the file to copy.
fn make_sample(scratch: &Scratch, options: &BenchOptions) -> Result<Sample, Failure> {
    let name = "sample";
    let path = scratch.path.join(name);
    write_noise(&path, options.file_bytes, options.seed)?;
    let digest = contest::digest(&path).map_err(|error| sample_failure(&error))?;
    Ok(Sample { path, name: name.into(), bytes: options.file_bytes, digest })
}

/// Writes a file of noise, so that nothing on the way could shorten it.
fn write_noise(path: &Path, bytes: u64, seed: u64) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        let mut noise = StdRng::seed_from_u64(seed);
        let mut block = vec![0; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            noise.fill(&mut block[..]);
            let length = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&block[..length])?;
            left -= length as u64;
        }
        Ok(())
    };
    write().map_err(|error| sample_failure(&error))
}

fn sample_failure(error: &io::Error) -> Failure {
    Failure::new(Outcome::LocalFile, "the file to copy", error.to_string())
        .advise("a smaller --size may fit")
}

/// How hosts are connected on this machine, in a word.
fn devices(wiring: &Wiring) -> Result<String, Failure> {
    Ok(match wiring {
        Wiring::Loopback => "loopback".into(),
        Wiring::Veth => "a pair of Ethernet devices".into(),
        Wiring::Emulated(_) => {
            let lab = lab::Lab::emulated().map_err(|error| lab_failure(&error))?;
            let kind = lab.ports.as_ref().map_or("none", |[port, _]| port.kind());
            format!("emulated link ({kind})")
        }
    })
}

/// A live line on stderr, where that is a terminal.
fn progress(console: &Console, total: u64) -> ProgressBar {
    let target = match console.verbosity {
        Verbosity::Quiet => ProgressDrawTarget::hidden(),
        _ => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {msg} [{elapsed}, left {eta}]") {
        bar.set_style(style);
    }
    bar
}

fn describe(link: &LinkOptions, contestant: &str) -> String {
    match &link.wiring {
        Wiring::Emulated(path) => format!(
            "{contestant} at {}, {}, {} % loss",
            output::rate(path.forward.rate_bits_per_second.unwrap_or(0)),
            output::duration(path.rtt()),
            crate::compare::report::round(link.loss * 100.0)
        ),
        Wiring::Veth | Wiring::Loopback => contestant.to_owned(),
    }
}

fn failure(error: &ContestError) -> Failure {
    match error {
        ContestError::Lab(error) => lab_failure(error),
        ContestError::Io { .. } => Failure::new(Outcome::Failed, "bench", error.to_string()),
    }
}

fn lab_failure(error: &lab::LabError) -> Failure {
    Failure::new(Outcome::Failed, "bench", error.to_string()).advise(error.advice())
}
