//! What was typed, resolved: every value checked and turned into what the transfer works with.
//! Leaves the forms of numbers to `units`, those of hosts to `destination`, defaults to `io`.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::args::{
    CommonArguments, ControllerKind, DigestKind, ExistingKind, LinkKind, OffloadKind,
    RecvArguments, SendArguments,
};
use super::destination::{self, Host};
use super::exit::Failure;
use super::output::{self, Console, Verbosity};
use super::units;
use crate::io::batch::Offload;
use crate::io::defaults;
use crate::io::exclude::Excludes;
use crate::io::existing::OnExisting;
use crate::io::name::{Links, RelativePath};
use crate::wire::DigestAlgorithm;

/// What `ufx send` is to do.
#[derive(Debug)]
pub struct SendOptions {
    /// What to send.
    pub what: What,
    /// What is left out.
    pub excludes: Excludes,
    /// The host, not looked up yet: that may take its time and fail by itself.
    pub host: Host,
    /// The receiver's UDP port.
    pub port: u16,
    /// The most to send in bits per second; none for no limit.
    pub rate_bits_per_second: Option<u64>,
    /// The largest IP packet in bytes; none to find it out.
    pub mtu_bytes: Option<u32>,
    /// What blocks are verified by.
    pub digest: DigestAlgorithm,
    /// How the rate is found. Fixed comes with a rate.
    pub controller: ControllerKind,
    /// How datagrams are handed to the kernel.
    pub offload: Offload,
    /// How long to wait for the first answer.
    pub wait: Duration,
    /// The silence that ends a transfer.
    pub timeout: Duration,
    /// Which symbolic links are sent.
    pub links: Links,
    /// Send owners and extended attributes.
    pub archive: bool,
    /// List only.
    pub dry_run: bool,
}

/// What `ufx send` is to send.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// PATHs as typed; at least one.
    Paths(Vec<PathBuf>),
    /// Standard input, as one file.
    Stdin {
        /// What it lands under.
        name: RelativePath,
    },
    /// The names that a file lists, `-` for standard input.
    Listed {
        /// Where the list is.
        list: PathBuf,
        /// What ends a name.
        separator: u8,
    },
}

impl What {
    fn resolve(typed: &SendArguments, paths: &[OsString]) -> Result<What, Failure> {
        match &typed.files_from {
            Some(_) if !paths.is_empty() => {
                Err(Failure::usage("--files-from", "stands instead of PATHs")
                    .advise("add those to the list"))
            }
            Some(list) => {
                let separator = if typed.null { 0 } else { b'\n' };
                Ok(What::Listed { list: list.clone(), separator })
            }
            None if paths.is_empty() => Err(no_operands()),
            None if paths.iter().any(|path| path == "-") => What::stdin(typed, paths),
            None if typed.name.is_some() => {
                Err(Failure::usage("--name", "names standard input, and goes with the PATH \"-\""))
            }
            None => {
                paths.iter().try_for_each(|path| check_path(path))?;
                Ok(What::Paths(paths.iter().map(PathBuf::from).collect()))
            }
        }
    }
}

impl What {
    fn stdin(typed: &SendArguments, paths: &[OsString]) -> Result<What, Failure> {
        if paths.len() > 1 {
            return Err(Failure::usage("-", "standard input is sent alone")
                .advise("a file called \"-\" is ./-"));
        }
        if typed.dry_run {
            return Err(Failure::usage("-", "standard input is not there to be listed")
                .advise("leave out --dry-run"));
        }
        let name = typed.name.as_deref().unwrap_or(OsStr::new("stdin"));
        match RelativePath::parse(name.as_bytes()) {
            Ok(name) if name.depth() == 1 => Ok(What::Stdin { name }),
            Ok(name) => Err(refuse("--name", &name.to_string(), "is no name but a path")),
            Err(error) => {
                let shown = output::escape_name(name.as_bytes());
                Err(Failure::usage(format!("--name {shown}"), error.to_string()))
            }
        }
    }
}

impl SendOptions {
    /// Resolves what was typed.
    ///
    /// # Errors
    /// The first value that makes no sense, with the range or the forms it should have.
    pub fn resolve(typed: &SendArguments) -> Result<SendOptions, Failure> {
        let [paths @ .., host] = typed.operands.as_slice() else {
            return Err(no_operands());
        };
        let options = SendOptions {
            what: What::resolve(typed, paths)?,
            excludes: parse_excludes(&typed.exclude)?,
            host: Host::parse(host)?,
            port: parse_port(&typed.port, 1..=65_535)?,
            rate_bits_per_second: typed.rate.as_deref().map(parse_rate).transpose()?,
            mtu_bytes: typed.mtu.as_deref().map(parse_mtu).transpose()?,
            digest: typed.digest.into(),
            controller: typed.cc,
            offload: typed.common.offload.into(),
            wait: parse_duration("--wait", &typed.wait, &defaults::WAIT_RANGE)?,
            timeout: parse_timeout(&typed.common)?,
            links: typed.common.links.into(),
            archive: typed.common.archive,
            dry_run: typed.dry_run,
        };
        if options.controller == ControllerKind::Fixed && options.rate_bits_per_second.is_none() {
            return Err(Failure::usage("--cc fixed", "needs a rate").advise("add --rate RATE"));
        }
        Ok(options)
    }
}

/// What `ufx recv` is to do.
#[derive(Debug)]
pub struct RecvOptions {
    /// The directory that everything is received into.
    pub dir: PathBuf,
    /// One file is handed on to standard output instead.
    pub to_stdout: bool,
    /// The one address to listen on; none for all, IPv4 and IPv6.
    pub bind: Option<SocketAddr>,
    /// The UDP port to listen on; 0 for any free one.
    pub port: u16,
    /// End after one transfer.
    pub once: bool,
    /// Who may send beside local networks. `any` is here as 0.0.0.0/0 and ::/0.
    pub allow: Vec<IpNet>,
    /// Make each file safe against a power cut before it counts as committed.
    pub fsync: bool,
    /// Which symbolic links are taken.
    pub links: Links,
    /// What becomes of a file or link whose name something different has.
    pub existing: OnExisting,
    /// Keep owners and extended attributes.
    pub archive: bool,
    /// The socket receive buffer to ask for, in bytes; none for the default.
    pub buffer_bytes: Option<usize>,
    /// How datagrams are taken from the kernel.
    pub offload: Offload,
    /// The silence that ends a transfer.
    pub timeout: Duration,
}

impl RecvOptions {
    /// Resolves what was typed.
    ///
    /// # Errors
    /// The first value that makes no sense, with the range or the forms it should have.
    pub fn resolve(typed: &RecvArguments) -> Result<RecvOptions, Failure> {
        let port = parse_port(&typed.port, 0..=65_535)?;
        let bind = typed.bind.as_deref().map(|bind| destination::parse_bind(bind, port));
        if let Some(place) = typed.output.as_ref().filter(|place| *place != "-") {
            let shown = output::escape_name(place.as_bytes());
            return Err(Failure::usage(format!("--output {shown}"), "can only be standard output")
                .advise("write --output -, or --dir DIR"));
        }
        let mut allow = Vec::new();
        for network in &typed.allow {
            allow.extend(parse_allow(network)?);
        }
        Ok(RecvOptions {
            dir: typed.dir.clone(),
            to_stdout: typed.output.is_some(),
            bind: bind.transpose()?,
            port,
            once: typed.once || typed.output.is_some(),
            allow,
            fsync: typed.fsync,
            links: typed.common.links.into(),
            existing: typed.existing.into(),
            archive: typed.common.archive,
            buffer_bytes: typed.buffer.as_deref().map(parse_buffer).transpose()?,
            offload: typed.common.offload.into(),
            timeout: parse_timeout(&typed.common)?,
        })
    }
}

impl From<DigestKind> for DigestAlgorithm {
    fn from(typed: DigestKind) -> DigestAlgorithm {
        match typed {
            DigestKind::Xxh3 => DigestAlgorithm::Xxh3,
            DigestKind::Blake3 => DigestAlgorithm::Blake3,
            DigestKind::None => DigestAlgorithm::None,
        }
    }
}

impl From<LinkKind> for Links {
    fn from(typed: LinkKind) -> Links {
        match typed {
            LinkKind::Inside => Links::Inside,
            LinkKind::All => Links::All,
        }
    }
}

impl From<ExistingKind> for OnExisting {
    fn from(typed: ExistingKind) -> OnExisting {
        match typed {
            ExistingKind::Refuse => OnExisting::Refuse,
            ExistingKind::Skip => OnExisting::Skip,
            ExistingKind::Rename => OnExisting::Rename,
            ExistingKind::Replace => OnExisting::Replace,
            ExistingKind::Update => OnExisting::Update,
        }
    }
}

impl From<OffloadKind> for Offload {
    fn from(typed: OffloadKind) -> Offload {
        match typed {
            OffloadKind::Gso => Offload::Segmentation,
            OffloadKind::Batch => Offload::Batch,
            OffloadKind::Single => Offload::Single,
        }
    }
}

/// The console that was asked for.
pub fn console(typed: &CommonArguments) -> Console {
    let verbosity = match (typed.quiet, typed.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    Console::new(verbosity, typed.json)
}

fn no_operands() -> Failure {
    Failure::usage("send", "needs at least one PATH and, last, a HOST")
        .advise("as in: ufx send photos nas")
}

/// Refuses paths that can be no source whatever the file system says.
fn check_path(path: &OsStr) -> Result<(), Failure> {
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return Err(Failure::usage("", "a PATH is empty").advise("\".\" is the current directory"));
    }
    if bytes.iter().all(|byte| *byte == b'/') {
        return Err(
            Failure::usage("/", "has no name to land under").advise("name the directories in it")
        );
    }
    Ok(())
}

/// A mistake in the value of an option.
fn refuse(option: &str, typed: &str, why: &str) -> Failure {
    Failure::usage(format!("{option} {}", output::escape_name(typed.as_bytes())), why)
}

pub(super) fn parse_port(typed: &str, range: RangeInclusive<u64>) -> Result<u16, Failure> {
    let port = units::parse_integer(typed, &range).map_err(|why| refuse("--port", typed, &why))?;
    u16::try_from(port).map_err(|_| refuse("--port", typed, "is no port"))
}

fn parse_excludes(typed: &[OsString]) -> Result<Excludes, Failure> {
    let refusal = |pattern: &[u8], why: String| {
        Failure::usage(format!("--exclude {}", output::escape_name(pattern)), why)
            .advise("a pattern looks like *.tmp, photos/raw or cache/")
    };
    let mut patterns = Vec::with_capacity(typed.len());
    for pattern in typed {
        let text = pattern.to_str().ok_or_else(|| {
            refusal(pattern.as_bytes(), "is not UTF-8; write ? for such a byte".to_owned())
        })?;
        patterns.push(text);
    }
    Excludes::new(patterns).map_err(|(pattern, why)| refusal(pattern.as_bytes(), why))
}

fn parse_rate(typed: &str) -> Result<u64, Failure> {
    units::parse_rate(typed, &defaults::RATE_RANGE).map_err(|why| refuse("--rate", typed, &why))
}

fn parse_mtu(typed: &str) -> Result<u32, Failure> {
    let mtu = units::parse_integer(typed, &defaults::MTU_RANGE)
        .map_err(|why| refuse("--mtu", typed, &why))?;
    u32::try_from(mtu).map_err(|_| refuse("--mtu", typed, "is no MTU"))
}

fn parse_buffer(typed: &str) -> Result<usize, Failure> {
    let bytes = units::parse_size(typed, &defaults::BUFFER_RANGE)
        .map_err(|why| refuse("--buffer", typed, &why))?;
    usize::try_from(bytes).map_err(|_| refuse("--buffer", typed, "is more than memory"))
}

fn parse_timeout(typed: &CommonArguments) -> Result<Duration, Failure> {
    parse_duration("--timeout", &typed.timeout, &defaults::TIMEOUT_RANGE)
}

fn parse_duration(
    option: &str,
    typed: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, Failure> {
    units::parse_duration(typed, range).map_err(|why| refuse(option, typed, &why))
}

/// A network, one address, or `any`.
fn parse_allow(typed: &str) -> Result<Vec<IpNet>, Failure> {
    if typed == "any" {
        return Ok(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
    }
    let address = typed.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    match address.or_else(|_| typed.parse::<IpNet>()) {
        Ok(network) => Ok(vec![network.trunc()]),
        Err(_) => Err(refuse(
            "--allow",
            typed,
            "a network looks like 203.0.113.0/24, 2001:db8::/32, 203.0.113.7 or any",
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Arguments, Command};
    use super::*;

    fn send(words: &str) -> Result<SendOptions, String> {
        let words = ["ufx", "send"].into_iter().chain(words.split(' '));
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Send(typed) => SendOptions::resolve(&typed).map_err(|error| error.to_string()),
            _ => unreachable!("the words say send"),
        }
    }

    fn recv(words: &str) -> Result<RecvOptions, String> {
        let words = ["ufx", "recv"].into_iter().chain(words.split(' '));
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Recv(typed) => RecvOptions::resolve(&typed).map_err(|error| error.to_string()),
            _ => unreachable!("the words say recv"),
        }
    }

    #[test]
    fn defaults_are_the_library_s() {
        let options = send("a -v b --json nas").unwrap();
        assert_eq!(options.what, What::Paths(vec!["a".into(), "b".into()]));
        assert_eq!(options.host, Host::Name("nas".into()));
        assert_eq!(options.port, defaults::PORT);
        assert_eq!(options.wait, defaults::WAIT);
        assert_eq!(options.timeout, defaults::TIMEOUT);
        assert_eq!(options.offload, Offload::default());
        assert_eq!((options.rate_bits_per_second, options.mtu_bytes), (None, None));
        let options = recv("--once").unwrap();
        assert_eq!((options.bind, options.port), (None, defaults::PORT));
        assert_eq!(options.dir, PathBuf::from("."));
        assert!(options.once && options.allow.is_empty() && options.buffer_bytes.is_none());
    }

    #[test]
    fn what_is_typed_is_resolved() {
        let options = send(
            "--port 9 --rate 1.5G --mtu 9000 --digest blake3 --cc fixed --offload single \
             --wait 1m --timeout 5s --links all -n a ::1",
        )
        .unwrap();
        assert_eq!(options.port, 9);
        assert_eq!(options.rate_bits_per_second, Some(1_500_000_000));
        assert_eq!(options.mtu_bytes, Some(9_000));
        assert_eq!(options.digest, DigestAlgorithm::Blake3);
        assert_eq!(options.controller, ControllerKind::Fixed);
        assert_eq!(options.offload, Offload::Single);
        assert_eq!(options.wait, Duration::from_secs(60));
        assert_eq!(options.timeout, Duration::from_secs(5));
        assert_eq!(options.links, Links::All);
        assert!(options.dry_run);

        let options = recv(
            "--dir in --bind 10.0.0.1 --port 0 --allow 203.0.113.9/24 --allow any --allow ::1 \
             --fsync --buffer 64KiB",
        )
        .unwrap();
        assert_eq!(options.bind, Some("10.0.0.1:0".parse().unwrap()));
        let allowed: Vec<String> = options.allow.iter().map(IpNet::to_string).collect();
        assert_eq!(allowed, ["203.0.113.0/24", "0.0.0.0/0", "::/0", "::1/128"]);
        assert_eq!(options.buffer_bytes, Some(65_536));
        assert!(options.fsync && !options.once);
    }

    #[test]
    fn a_path_that_can_be_no_source_is_refused() {
        let path = |text: &str| check_path(OsStr::new(text)).map_err(|error| error.to_string());
        assert_eq!(path("./-"), Ok(()));
        assert_eq!(path("/etc/"), Ok(()));
        assert!(path("").unwrap_err().starts_with("a PATH is empty"));
        assert!(path("//").unwrap_err().starts_with("/: has no name"));
    }
}
