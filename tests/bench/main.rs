//! `ufx bench`: the laboratory it builds, and the command as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

// The command: usage, results, what is left after Ctrl-C, kill and without rights.
mod command;
// Packets on the emulated link meet the fates their seed names.
mod fates;
// Delay and rate by the clock; processes that end with their host.
mod lab;

use std::io::Write as _;

/// Whether labs can be built without a user namespace, which a test with its many threads cannot
/// enter. Says so if not, on the real stderr; with UFX_REQUIRE_ROOT=1 that is a failure.
pub fn has_rights() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("UFX_REQUIRE_ROOT").is_none_or(|value| value != "1"),
        "{test} must not be skipped here: it needs root"
    );
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: needs root\n").as_bytes());
    false
}
