//! `ufx recv`: from options to reports. Leaves the transfers themselves to `io`.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ipnet::IpNet;

use super::args::RecvArguments;
use super::exit::{Exit, Failure};
use super::options::{self, RecvOptions};
use super::output::{self, Console};
use super::progress::Progress;
use super::signals::Signals;
use crate::io::confine::Root;
use crate::io::recv::{Ended, RecvError, RecvRequest, Watcher, receive};
use crate::io::report::{Counters, Operation, Outcome, Report};
use crate::io::socket::SocketOptions;
use crate::io::stop::Stop;
use crate::proto;

/// Runs `ufx recv`.
pub fn run(typed: &RecvArguments) -> Exit {
    let console = options::console(&typed.common);
    match RecvOptions::resolve(typed).and_then(|options| serve(&options, &console)) {
        Ok(exit) => exit,
        Err(failure) => console.finish(Report::new(Operation::Recv), Some(&failure)),
    }
}

/// Receives until told to stop.
fn serve(options: &RecvOptions, console: &Console) -> Result<Exit, Failure> {
    let root = Root::create(&options.dir)
        .map_err(|error| Failure::new(Outcome::LocalFile, "--dir", error.to_string()))?;
    let signals = Signals::install()
        .map_err(|error| Failure::new(Outcome::Failed, "signals", error.to_string()))?;
    let request = RecvRequest {
        root: Arc::new(root),
        output: options.to_stdout.then(stdout).transpose()?,
        bind: options.bind,
        port: options.port,
        once: options.once,
        allow: options.allow.clone(),
        fsync: options.fsync,
        links: options.links,
        existing: options.existing,
        archive: options.archive,
        socket: socket_options(options),
        timeout: options.timeout,
    };
    let counters = Arc::new(Counters::default());
    let (progress, shown) = Progress::start(console, Operation::Recv, Arc::clone(&counters));
    let stop = Stop { flag: signals.flag(), wake: signals.wake() };
    let mut watch = Watch { console: &shown, signals: &signals, options, last_exit: Exit::Success };
    let ended = receive(&request, &counters, &stop, &mut watch);
    let last_exit = watch.last_exit;
    drop(progress);
    match ended {
        Ok(Ended::Once) => Ok(last_exit),
        Ok(Ended::Idle) => Ok(Exit::Success),
        Ok(Ended::Cut) => Ok(signals.outcome().map_or(Exit::Interrupted, Exit::from)),
        Err(error) => Err(listen_failure(&error, options)),
    }
}

/// Where the one file goes that is not stored.
fn stdout() -> Result<Arc<OwnedFd>, Failure> {
    let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
        Failure::new(Outcome::LocalFile, "standard output", format!("cannot be used: {error}"))
    })?;
    Ok(Arc::new(out))
}

/// What is asked of sockets.
fn socket_options(options: &RecvOptions) -> SocketOptions {
    let defaults = SocketOptions::default();
    SocketOptions {
        receive_buffer_bytes: options.buffer_bytes.unwrap_or(defaults.receive_buffer_bytes),
        offload: options.offload,
        ..defaults
    }
}

/// Tells the user what happens.
struct Watch<'a> {
    console: &'a Console,
    signals: &'a Signals,
    options: &'a RecvOptions,
    last_exit: Exit,
}

impl Watcher for Watch<'_> {
    fn listening(&mut self, address: SocketAddr, receive_buffer_bytes: usize) {
        let place = match self.options.to_stdout {
            true => "one file to standard output".to_owned(),
            false => {
                let dir = output::escape_name(self.options.dir.as_os_str().as_encoded_bytes());
                format!("into {dir}")
            }
        };
        self.console.say(&format!(
            "receiving {place} on port {}/udp, open to {}",
            address.port(),
            open_to(&self.options.allow)
        ));
        self.console.detail(&format!(
            "listening on {address}, the kernel granted {} of socket buffer",
            output::bytes(receive_buffer_bytes as u64)
        ));
    }

    fn turned_away(&mut self, peer: SocketAddr) {
        self.console.detail(&format!("turned {peer} away: not a local network, see --allow"));
    }

    fn began(&mut self, peer: SocketAddr) {
        self.console.detail(&format!("{peer} begins to send"));
    }

    fn ended(&mut self, report: Report, result: Result<(), RecvError>) {
        let failure = result.err().map(|error| failure(&error, &report, self.signals));
        self.last_exit = self.console.finish(report, failure.as_ref());
    }
}

/// Who may send, in words.
fn open_to(allowed: &[IpNet]) -> String {
    let is_any = |network: &IpNet| network.prefix_len() == 0;
    if allowed.iter().filter(|network| is_any(network)).count() == 2 {
        return "everybody".to_owned();
    }
    let mut text = "local networks".to_owned();
    allowed.iter().for_each(|network| text += &format!(", {network}"));
    text
}

fn failure(error: &RecvError, report: &Report, signals: &Signals) -> Failure {
    let peer = report.peer.clone().unwrap_or_else(|| "the sender".into());
    let outcome = match error {
        RecvError::Interrupted => signals.outcome().unwrap_or(Outcome::Interrupted),
        _ => error.outcome(),
    };
    let failure = match error {
        RecvError::Ended(proto::Error::Silence { silence, .. }) => {
            let why = format!("was lost: nothing was heard for {}", output::duration(*silence));
            Failure::new(outcome, peer, why)
        }
        RecvError::Interrupted => {
            Failure::new(outcome, "interrupted", format!("the transfer from {peer} was cut"))
        }
        _ => Failure::new(outcome, peer, error.to_string()),
    };
    match error {
        RecvError::Partial { .. } | RecvError::Refused => {
            failure.advise("the reasons are named above")
        }
        RecvError::Integrity => failure.advise("check memory and disks on both sides"),
        _ => failure.advise("the sender may run the same command again"),
    }
}

fn listen_failure(error: &RecvError, options: &RecvOptions) -> Failure {
    let failure = Failure::new(error.outcome(), "recv", error.to_string());
    match error {
        RecvError::Socket(socket) if socket.is_address_in_use() => {
            let why = format!("another program has port {}/udp", options.port);
            Failure::new(Outcome::Failed, "recv", why)
                .advise("is \"ufx recv\" running already? else choose another --port")
        }
        _ => failure,
    }
}
