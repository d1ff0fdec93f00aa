//! ufx copies files between machines over UDP with its own reliability layer.
//!
//! The layers, from the bottom up; each names only those before it (`tests/tidy.rs` checks that):
//!
//! - [`wire`]: bytes to values and back, as proto.md lays them out. No state, no time.
//! - [`proto`]: the protocol as two pure machines, [`proto::Sender`] and [`proto::Receiver`].
//! - [`sim`]: both machines in a network and a disk of virtual time, decided by a seed.
//! - [`io`]: sockets, files, threads and the clock around the machines.
//! - [`compare`]: measures ufx against other ways to copy.
//! - [`cli`]: the command line; the only layer that parses words, prints, and ends the program.
//!
//! ```text
//! file -> io::source -> wire -> socket ~~~> socket -> wire -> proto::Receiver -> io (sink) -> file
//!                        ^                                         |
//!                  proto::Sender  <~~~~~~~ ACK, answers <~~~~~~~~~~'
//! ```
//!
//! Where to start reading: the run loop in [`proto`], then [`io::send`] and [`io::recv`], which
//! drive it. proto.md is the protocol; ARCHITECTURE.md says where things are and what never
//! happens.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "ufx is built for Linux only: its data path needs UDP_SEGMENT, openat2 and renameat2"
);

pub mod cli;
pub mod compare;
pub mod io;
pub mod proto;
pub mod sim;
pub mod wire;
