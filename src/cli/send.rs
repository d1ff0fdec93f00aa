//! `ufx send`: from options to a report. Leaves the transfer itself to `io`.

use super::args::SendArguments;
use super::exit::{Exit, Failure};
use super::options::{self, SendOptions};
use super::output::Console;
use crate::io::report::{Operation, Outcome, Report};

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
    let addresses = options.host.resolve(options.port)?;
    report.peer = addresses.first().map(ToString::to_string);
    console.detail(&format!("trying {addresses:?}"));
    Err(Failure::new(Outcome::Failed, "send", "this build cannot transfer anything yet"))
}
