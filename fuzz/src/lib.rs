//! What a hostile peer may try, as functions of arbitrary bytes: each takes its choices from the
//! bytes, drives a part of ufx with them, and panics where a rule of proto.md is broken.
//!
//! `cargo run --release --manifest-path fuzz/Cargo.toml` runs all of them on any compiler, with
//! mutations drawn from a seed (see `main.rs`); the programs in `fuzz_targets` hand the same
//! functions to libFuzzer. A target returns a signature of what it reached: inputs that reach
//! something new are kept and mutated further.

pub mod admission;
pub mod answers;
pub mod command_line;
pub mod escaper;
pub mod forge;
pub mod input;
pub mod journal;
pub mod names;
pub mod packets;
pub mod receiver;
pub mod records;
pub mod sender;

/// A target: its name, which is that of its folder in `corpus`, and its function.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]) -> u64,
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "packets", run: packets::run },
    Target { name: "records", run: records::run },
    Target { name: "names", run: names::run },
    Target { name: "escaper", run: escaper::run },
    Target { name: "command_line", run: command_line::run },
    Target { name: "journal", run: journal::run },
    Target { name: "admission", run: admission::run },
    Target { name: "receiver", run: receiver::run },
    Target { name: "sender", run: sender::run },
];
