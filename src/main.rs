//! The `ufx` program: runs the command line and turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ufx::cli::run(std::env::args_os())
}
