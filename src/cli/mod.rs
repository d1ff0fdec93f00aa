//! The command line: the only place that parses, prints and exits.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program for `arguments` (the first is the program's name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = arguments.into_iter();
    ExitCode::from(2)
}
