//! The only place with sockets, files, threads, the clock, entropy and `unsafe`.

pub mod batch;
pub mod buffer;
pub mod clock;
pub mod confine;
pub mod defaults;
mod descriptors;
pub mod digest;
mod entropy;
pub mod existing;
pub mod files;
pub mod metadata;
pub mod name;
mod recent;
pub mod recv;
pub mod report;
pub mod send;
pub mod socket;
pub mod source;
pub mod space;
pub mod stop;
pub mod sys;
pub mod tree;
pub mod wait;
pub mod walk;
