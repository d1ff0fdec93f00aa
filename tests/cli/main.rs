//! The binary as a user runs it: one module per subcommand.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

// Command lines that neither subcommand gets to see.
mod top;
// `ufx send`.
mod send;
// `ufx recv`.
mod recv;
// Single files: sizes, names, digests, ways through the kernel.
mod files;

// Much data: trees, sparse files, gigabytes; memory.
mod large;
// Loss on real sockets.
mod loss;

// Cut transfers: killed processes, signals, nobody there.
mod ends;
// `--archive`.
mod archive;
// `--existing`.
mod existing;
// Standard input and output instead of files.
mod pipes;
// Interrupted transfers that go on where they were cut.
mod resume;
// SIGKILL at each system call.
mod kills;
// Power cuts.
mod power;
// System calls that fail.
mod faults;
// Descriptors and inodes that run out.
mod shortages;
// What is refused, left alone or left out.
mod refusals;

// Hard links and holes.
mod links;
// Links that others put into the way.
mod races;
// Wrong and odd command lines, sources and destinations: the table.
mod wrong;
// `--exclude`, `--files-from`.
mod selection;
// What a run tells of directories, names and notes.
mod reports;

// Sources that change, vanish or cannot be read.
mod sources;

// Many senders at once, and strangers.
mod many;
// The Python peer.
mod peer;

// Memory of both processes.
mod memory;
// Disks that hang.
mod stalls;
// A receiver that serves for long.
mod soak;
// `ufx bench HOST`.
mod measure;
// What people read at the end.
mod output;
// Streams that are closed, full or no terminal.
mod streams;

mod support;

use std::process::{Command, Output, Stdio};

/// Runs `ufx` with `words` and nothing on standard input.
pub fn ufx(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ufx"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test starts")
}

/// What a program printed; all of it must be UTF-8, whatever names it speaks of.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}
