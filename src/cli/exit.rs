//! The exit codes, which are stable, and [`Failure`], the one form in which the command line
//! tells what went wrong. Leaves printing to `output`.

use std::fmt;
use std::process::ExitCode;

use crate::io::report::Outcome;

/// Why the program ends: one number per kind of ending, never to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was committed and verified.
    Success = 0,
    /// What no other code says.
    Other = 1,
    /// The command line made no sense.
    Usage = 2,
    /// The peer could not be reached, or was lost.
    Unreachable = 3,
    /// The peer does not allow it.
    NotAllowed = 4,
    /// A file or disk of this side.
    LocalFile = 5,
    /// A file or disk of the other side.
    RemoteFile = 6,
    /// Some was done; what was not is named.
    Partial = 7,
    /// Data did not verify.
    Integrity = 8,
    /// SIGINT: 128 + 2, as shells have it.
    Interrupted = 130,
    /// SIGTERM: 128 + 15.
    Terminated = 143,
}

/// The exit codes as help prints them.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  all files committed and verified        5  a file or disk on this side
  1  any other failure                       6  a file or disk on the other side
  2  wrong usage                             7  partly done; the rest is named
  3  the other side unreachable or lost      8  data did not verify
  4  the other side does not allow it        130, 143  interrupted (SIGINT, SIGTERM)";

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Committed | Outcome::Listed | Outcome::Measured => Exit::Success,
            Outcome::Failed => Exit::Other,
            Outcome::Usage => Exit::Usage,
            Outcome::Unreachable => Exit::Unreachable,
            Outcome::NotAllowed => Exit::NotAllowed,
            Outcome::LocalFile => Exit::LocalFile,
            Outcome::RemoteFile => Exit::RemoteFile,
            Outcome::Partial => Exit::Partial,
            Outcome::Integrity => Exit::Integrity,
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Terminated => Exit::Terminated,
        }
    }
}

/// One thing that went wrong, in the user's words: what, why, and what to do next.
/// Displayed as `what: why (next step)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, which decides the exit code.
    pub outcome: Outcome,
    /// What it is about: an option, a file, a host. May be empty.
    pub what: String,
    /// Why it cannot be done.
    pub why: String,
    /// What to do next; none where there is nothing to do.
    pub next_step: Option<String>,
}

impl Failure {
    /// A failure without advice; `what` and `why` become one sentence.
    pub fn new(outcome: Outcome, what: impl Into<String>, why: impl Into<String>) -> Failure {
        Failure { outcome, what: what.into(), why: why.into(), next_step: None }
    }

    /// A mistake on the command line.
    pub fn usage(what: impl Into<String>, why: impl Into<String>) -> Failure {
        Failure::new(Outcome::Usage, what, why)
    }

    /// The same failure with advice.
    #[must_use]
    pub fn advise(mut self, next_step: impl Into<String>) -> Failure {
        self.next_step = Some(next_step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.what.is_empty() {
            write!(formatter, "{}: ", self.what)?;
        }
        formatter.write_str(&self.why)?;
        match &self.next_step {
            Some(next_step) => write!(formatter, " ({next_step})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_what_the_readme_promises() {
        let table = [
            (Outcome::Committed, 0),
            (Outcome::Listed, 0),
            (Outcome::Failed, 1),
            (Outcome::Usage, 2),
            (Outcome::Unreachable, 3),
            (Outcome::NotAllowed, 4),
            (Outcome::LocalFile, 5),
            (Outcome::RemoteFile, 6),
            (Outcome::Partial, 7),
            (Outcome::Integrity, 8),
            (Outcome::Interrupted, 130),
            (Outcome::Terminated, 143),
        ];
        for (outcome, code) in table {
            assert_eq!(Exit::from(outcome).code(), code, "{outcome:?}");
            assert!(EXIT_CODES_HELP.contains(&code.to_string()), "help lacks {code}");
        }
    }

    #[test]
    fn a_failure_says_what_why_and_the_next_step() {
        let failure = Failure::usage("--port", "is not a number");
        assert_eq!(failure.to_string(), "--port: is not a number");
        assert_eq!(
            failure.advise("see --help").to_string(),
            "--port: is not a number (see --help)"
        );
        assert_eq!(Failure::usage("", "no command").to_string(), "no command");
    }
}
