//! `ufx recv`: from options to reports. Leaves the transfers themselves to `io`.

use super::args::RecvArguments;
use super::exit::{Exit, Failure};
use super::options::{self, RecvOptions};
use super::output::Console;
use crate::io::report::{Operation, Outcome, Report};

/// Runs `ufx recv`.
pub fn run(typed: &RecvArguments) -> Exit {
    let console = options::console(&typed.common);
    let report = Report::new(Operation::Recv);
    let result = RecvOptions::resolve(typed).and_then(|options| serve(&options, &console));
    console.finish(report, result.as_ref().err())
}

/// Receives until told to stop.
fn serve(options: &RecvOptions, console: &Console) -> Result<(), Failure> {
    console.detail(&format!("receiving into {:?}", options.dir));
    Err(Failure::new(Outcome::Failed, "recv", "this build cannot transfer anything yet"))
}
