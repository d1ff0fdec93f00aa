//! Hostile peers against the real binary: who speaks the protocol well enough to be heard, and
//! then breaks one rule after another. Each misdeed is a row of a table, with the sentence of
//! proto.md that says what must come of it.
//!
//! Whatever they do: the program lives, nothing is written outside `--dir`, no final name holds
//! anything half, memory grows by at most 8 MiB, and an honest transfer beside it ends well.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

// A hostile sender, told what to do step by step.
mod sender;
// Records and packets that the library would not make.
mod forge;
// Somebody who sends under the honest sender's address and port.
mod impostor;
// What must hold after every misdeed against `ufx recv`.
mod bystander;
// Misdeeds of senders: before and around START.
mod strangers;
// Misdeeds of senders: names and links.
mod names;
// Misdeeds of senders: records, bytes and digests.
mod contents;
// Misdeeds of senders: floods, and packets that make no sense.
mod floods;

// A hostile receiver, told what to do step by step.
mod receiver;
// Misdeeds of receivers: ACKs, credit, answers.
mod liars;

// The same support as the honest tests of the binary.
#[path = "../cli/support/mod.rs"]
#[expect(dead_code, reason = "shared with the honest tests, which use more of it")]
mod support;
