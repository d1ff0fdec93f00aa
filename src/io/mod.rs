//! The only place with sockets, files, threads, the clock, entropy and `unsafe`.

pub mod confine;
pub mod defaults;
pub mod files;
pub mod metadata;
pub mod name;
mod recent;
pub mod report;
pub mod space;
