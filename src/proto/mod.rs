//! The protocol as two pure state machines, one per role.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod time;

pub use time::Time;
