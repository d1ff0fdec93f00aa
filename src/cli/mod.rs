//! The command line: the only place that parses, prints and exits.
//!
//! `args` holds what was typed, `options` what it means, `send` and `recv` run it, `output` and
//! `progress` tell about it, `exit` names how it may end.

pub mod args;
pub mod bench;
pub mod destination;
pub mod exit;
pub mod options;
pub mod output;
pub mod progress;
pub mod signals;
pub mod units;

mod recv;
mod send;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::io::report::{Operation, Report};
use args::{Arguments, Command};
use exit::{Exit, Failure};
use output::{Console, Verbosity};

/// Runs the program for `arguments` (the first is the program's name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let exit = match Arguments::try_parse_from(&arguments) {
        Ok(Arguments { command: Command::Send(typed), .. }) => send::run(&typed),
        Ok(Arguments { command: Command::Recv(typed), .. }) => recv::run(&typed),
        Ok(Arguments { command: Command::Bench(typed), .. }) => bench::run(&typed),
        Ok(Arguments { command: Command::TcpCopy(typed), .. }) => bench::tcp_copy(&typed),
        Err(error) if !error.use_stderr() => {
            // Help or version was asked for. A reader who went away does not matter.
            let _ = error.print();
            Exit::Success
        }
        Err(error) => refuse(&arguments, &error),
    };
    ExitCode::from(exit)
}

/// Ends a run whose command line clap did not take. Even then, `--json` gets its object.
fn refuse(arguments: &[OsString], error: &clap::Error) -> Exit {
    let command = arguments.get(1).and_then(|word| word.to_str());
    let failure = usage_failure(command, error);
    let mut options = arguments.iter().take_while(|word| *word != "--");
    let json = options.any(|word| word == "--json");
    let op = match command {
        Some("send") => Operation::Send,
        Some("recv") => Operation::Recv,
        // No subcommand, so nobody to promise JSON.
        _ => {
            Console::new(Verbosity::Normal, false).error(&failure);
            return Exit::Usage;
        }
    };
    Console::new(Verbosity::Normal, json).finish(Report::new(op), Some(&failure))
}

/// clap's error in our one-line form. The subcommand decides which help it points to.
pub fn usage_failure(command: Option<&str>, error: &clap::Error) -> Failure {
    let help = match command {
        Some(command @ ("send" | "recv" | "bench")) => format!("see \"ufx {command} --help\""),
        _ => "see \"ufx --help\"".to_owned(),
    };
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Failure::usage("", "nothing to do: say send, recv or bench").advise(help)
        }
        _ => {
            // clap's first paragraph says what is wrong; tips and usage follow.
            let rendered = error.to_string();
            let paragraph = rendered.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = paragraph.split_whitespace().collect();
            let sentence = words.join(" ");
            let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned();
            Failure::usage("", sentence).advise(help)
        }
    }
}
