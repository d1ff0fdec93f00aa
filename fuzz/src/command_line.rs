//! Any words as a command line: understood, or refused in one harmless line; what is understood
//! lies in its range. Nothing is sent, opened or looked up.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Parser;
use ufx::cli::args::{Arguments, Command};
use ufx::cli::bench::options::BenchOptions;
use ufx::cli::destination::Host;
use ufx::cli::exit::Failure;
use ufx::cli::options::{RecvOptions, SendOptions};
use ufx::cli::usage_failure;

use crate::escaper::assert_harmless;

/// Runs one input: words, each ended by a line break.
pub fn run(bytes: &[u8]) -> u64 {
    let words = bytes.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    let typed: Vec<OsString> =
        [OsStr::new("ufx")].into_iter().chain(words).map(OsStr::to_owned).collect();
    let arguments = match Arguments::try_parse_from(&typed) {
        Ok(arguments) => arguments,
        // Help and version are texts of our own.
        Err(error) if !error.use_stderr() => return 1,
        Err(error) => return refused(&usage_failure(None, &error)),
    };
    match arguments.command {
        Command::Send(typed) => match SendOptions::resolve(&typed) {
            Ok(options) => {
                assert!(options.port > 0);
                assert!((1_280..=65_536).contains(&options.mtu_bytes.unwrap_or(1_500)));
                let rate = options.rate_bits_per_second.unwrap_or(100_000);
                assert!((100_000..=1_000_000_000_000).contains(&rate), "a rate of {rate}");
                assert_patient(options.timeout);
                let _ = options.excludes.match_path(b"photos/2024/a.tmp", false);
                2 | host(&options.host) << 8
            }
            Err(failure) => refused(&failure),
        },
        Command::Recv(typed) => match RecvOptions::resolve(&typed) {
            Ok(options) => {
                assert_patient(options.timeout);
                3 | (options.allow.len().min(7) as u64) << 8
                    | u64::from(options.bind.is_some()) << 11
            }
            Err(failure) => refused(&failure),
        },
        Command::Bench(typed) => match BenchOptions::resolve(&typed) {
            Ok(_) => 4,
            Err(failure) => refused(&failure),
        },
        Command::TcpCopy(_) => 5,
    }
}

fn assert_patient(timeout: Duration) {
    assert!(timeout >= Duration::from_secs(2), "a timeout of {timeout:?}");
    assert!(timeout <= Duration::from_secs(24 * 3_600), "a timeout of {timeout:?}");
}

fn host(host: &Host) -> u64 {
    match host {
        Host::Address { address, scope } => {
            1 | u64::from(address.is_ipv6()) << 1 | u64::from(*scope > 0) << 2
        }
        Host::Name(name) => {
            assert!(name.is_ascii() && !name.is_empty());
            0
        }
    }
}

/// The line that a user would see, as the console prints it.
fn refused(failure: &Failure) -> u64 {
    let line = ufx::cli::output::printable(&failure.to_string());
    assert_harmless(&line);
    assert!(!line.is_empty());
    // The words of the refusal, without the user's.
    let shape: String = line.chars().filter(char::is_ascii_lowercase).take(24).collect();
    u64::from(crc32fast::hash(shape.as_bytes())) << 12
}
