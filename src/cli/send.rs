//! `ufx send`: from options to a report. Leaves the transfer itself to `io`.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use super::args::{ControllerKind, SendArguments};
use super::exit::{Exit, Failure};
use super::options::{self, SendOptions, What};
use super::output::{self, Console};
use super::progress::Progress;
use super::signals::Signals;
use crate::io::listed::Listed;
use crate::io::pipe::Pipe;
use crate::io::report::{Counters, Operation, Outcome, Report};
use crate::io::send::{SendError, SendRequest, send};
use crate::io::source::{PathError, Sources};
use crate::io::stop::Stop;
use crate::proto::{self, Algorithm, SenderConfig};
use crate::wire::CloseCode;

/// Runs `ufx send`.
pub fn run(typed: &SendArguments) -> Exit {
    let console = options::console(&typed.common);
    let mut report = Report::new(Operation::Send);
    let result =
        SendOptions::resolve(typed).and_then(|options| transfer(&options, &console, &mut report));
    console.finish(report, result.as_ref().err())
}

/// Sends everything and fills in the report, as far as it got.
fn transfer(options: &SendOptions, console: &Console, report: &mut Report) -> Result<(), Failure> {
    let mut sources = sources(&options.what)?;
    sources.links = options.links;
    sources.excludes = options.excludes.clone();
    sources.archive = options.archive && !options.dry_run;
    let addresses = options.host.resolve(options.port)?;
    report.peer = addresses.first().map(ToString::to_string);
    console.detail(&format!("trying {addresses:?}"));
    let signals = Signals::install()
        .map_err(|error| Failure::new(Outcome::Failed, "signals", error.to_string()))?;
    let request = SendRequest {
        sources: Arc::new(sources),
        addresses,
        config: SenderConfig {
            digest: options.digest,
            dry_run: options.dry_run,
            algorithm: match options.controller {
                ControllerKind::Auto => Algorithm::Auto,
                ControllerKind::Bbr => Algorithm::Bbr,
                ControllerKind::Cubic => Algorithm::Cubic,
                ControllerKind::Fixed => Algorithm::Fixed,
            },
            rate_bytes_max: options.rate_bits_per_second.map(|bits| bits / 8),
            wait: options.wait,
            timeout: options.timeout,
            ..SenderConfig::default()
        },
        mtu_bytes: options.mtu_bytes,
        offload: options.offload,
    };
    let counters = Arc::new(Counters::default());
    let (progress, shown) = Progress::start(console, Operation::Send, Arc::clone(&counters));
    let stop = Stop { flag: signals.flag(), wake: signals.wake() };
    let mut listing = |path: &[u8], what: &str| {
        // In JSON mode the object says how many; standard output carries nothing else.
        if !shown.is_json() {
            let _ = shown.data(&format!("{}: {what}", output::escape_name(path)));
        }
    };
    let mut begins_anew = || {
        shown.warn("the receiver was restarted: going on with what it does not have");
    };
    let (filled, result) = send(&request, &counters, &stop, &mut listing, &mut begins_anew);
    drop(progress);
    *report = filled;
    result.map_err(|error| failure(&error, options.port, options.wait, report, &signals))
}

fn sources(what: &What) -> Result<Sources, Failure> {
    match what {
        What::Paths(paths) => Sources::new(paths).map_err(|error| path_failure(&error)),
        What::Stdin { name } => {
            let input = std::io::stdin().as_fd().try_clone_to_owned();
            let pipe = input.and_then(|input| Pipe::start(name.clone(), input));
            pipe.map(Sources::piped).map_err(|error| {
                Failure::new(
                    Outcome::LocalFile,
                    "standard input",
                    format!("cannot be read: {error}"),
                )
            })
        }
        What::Listed { list, separator } => {
            let read = match list.as_os_str() == "-" {
                true => Listed::read(std::io::stdin().lock(), *separator),
                false => File::open(list).and_then(|file| Listed::read(file, *separator)),
            };
            let shown = output::escape_name(list.as_os_str().as_encoded_bytes());
            let what = format!("--files-from {shown}");
            let listed = read.map_err(|error| {
                Failure::new(Outcome::LocalFile, what, format!("cannot be read: {error}"))
            })?;
            Ok(Sources::listed(listed))
        }
    }
}

fn path_failure(error: &PathError) -> Failure {
    let outcome = match error {
        PathError::Io { .. } => Outcome::LocalFile,
        PathError::RootDirectory { .. } | PathError::SameName { .. } | PathError::Name { .. } => {
            Outcome::Usage
        }
    };
    let failure = Failure::new(outcome, "", error.to_string());
    match error {
        PathError::RootDirectory { .. } => failure.advise("name the directories in it"),
        PathError::SameName { .. } => failure.advise("send them one after the other"),
        PathError::Name { .. } => failure.advise("rename it"),
        PathError::Io { .. } => failure,
    }
}

/// What went wrong, in the user's words. The receiver's port was to answer within `wait`.
pub(super) fn failure(
    error: &SendError,
    port: u16,
    wait: Duration,
    report: &Report,
    signals: &Signals,
) -> Failure {
    let peer = report.peer.clone().unwrap_or_else(|| "the host".into());
    let outcome = signals.outcome().unwrap_or_else(|| error.outcome());
    match error {
        SendError::Path(error) => path_failure(error),
        SendError::Interrupted => {
            Failure::new(outcome, "interrupted", "what was committed stays at the receiver")
                .advise("run the same command again to send the rest")
        }
        SendError::Ended(proto::Error::NoAnswer { refused: true, .. }) => {
            let why = format!("nobody listens on port {port}/udp there");
            Failure::new(outcome, peer, why).advise("start \"ufx recv\" on it")
        }
        SendError::Ended(proto::Error::NoAnswer { .. }) => {
            let wait = output::duration_typed(wait);
            let why = format!("port {port}/udp did not answer within {wait}");
            Failure::new(outcome, peer, why)
                .advise("is \"ufx recv\" running there, and does a firewall let UDP through?")
        }
        SendError::Ended(proto::Error::Silence { silence, .. }) => {
            let why = format!("was lost: nothing was heard for {}", output::duration(*silence));
            Failure::new(outcome, peer, why).advise("run the same command again to send the rest")
        }
        SendError::Ended(proto::Error::ClosedByPeer { code: CloseCode::Forbidden, .. }) => {
            Failure::new(outcome, peer, "does not take files from this address")
                .advise("start it as: ufx recv --allow ADDRESS")
        }
        SendError::Ended(proto::Error::ClosedByPeer { code: CloseCode::Busy, .. }) => {
            Failure::new(outcome, peer, "has too many transfers at the moment")
                .advise("try again later")
        }
        SendError::Ended(proto::Error::ClosedByPeer { code: CloseCode::Cancelled, .. }) => {
            Failure::new(outcome, peer, "was stopped there").advise("run the same command again")
        }
        SendError::Ended(error) => Failure::new(outcome, peer, error.to_string())
            .advise("run the same command again; if it stays, report it"),
        SendError::Partial { .. } | SendError::Refused | SendError::Source => {
            Failure::new(outcome, "send", error.to_string()).advise("the reasons are named above")
        }
        SendError::Integrity => Failure::new(outcome, "send", error.to_string())
            .advise("check memory and disks on both sides"),
        SendError::NoAddress | SendError::Socket(_) | SendError::System(_) => {
            Failure::new(outcome, "send", error.to_string())
        }
    }
}
