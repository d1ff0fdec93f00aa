//! What `ufx bench` runs: contestants that copy the same file, the emulated link between them,
//! and what is told about it.
//!
//! `lab` makes two hosts, `emulator` carries packets between them as `sim`'s links say, `tcp` is
//! the plain copy that ufx is compared with, `contest` lets them take turns, `report` and `svg`
//! tell the result. `host` is the same to a real host, over the path that is there.
//! Leaves the meaning of options and all printing to the command line.

pub mod check;
pub mod contest;
pub mod defaults;
pub mod emulator;
pub mod host;
pub mod lab;
mod netlink;
mod packet;
mod port;
pub mod process;
pub mod report;
pub mod svg;
pub mod table;
pub mod tcp;
