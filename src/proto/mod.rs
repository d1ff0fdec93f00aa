//! The protocol as two pure state machines, one per role: [`Sender`] and [`Receiver`].
//!
//! They know no socket, file, clock or thread. Time comes as an argument, chance as a seed, and
//! file bytes never come at all: the machines decide on ranges, the shell moves the bytes.
//!
//! # The run loop
//!
//! ```text
//! loop {
//!     while let Some(transmit) = machine.poll_transmit(now) { send it }
//!     while let Some(event) = machine.poll_event() { act on it }
//!     wait for a datagram, for the disk, or until machine.poll_timeout(now)
//!     machine.handle_datagram(now, ..)   // or handle_packet and handle_body, a batch at a time
//!     machine.handle_timeout(now)        // harmless when nothing is due
//! }
//! ```
//!
//! # Verbs
//!
//! `handle_*(now, …)`: something happened outside. `poll_*`: what should happen outside. `on_*`:
//! one component tells another. Other verbs are commands (`cancel`), nouns are getters.
//!
//! # Invariants
//!
//! proto.md, "Invariants", lists them; the simulation checks them. In short: a packet number is
//! used once; nothing counts as acknowledged that was not sent; only what the shell reports as
//! committed is answered as committed; credit never retreats; every wait has an end.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod config;
mod entry_window;
mod error;
mod event;
mod handshake;
mod range_set;
mod receiver;
mod sabotage;
mod sender;
mod stats;
mod stream;
mod time;
mod transcript;

pub use config::{ReceiverConfig, SenderConfig};
pub use entry_window::EntryWindow;
pub use error::Error;
pub use event::{Attributes, Outcome, ReceivedEntry, ReceiverEvent, SenderEvent};
pub use handshake::{Accepted, Admission};
pub use range_set::{Gaps, RangeSet};
pub use receiver::{Place, Progress, ReceivedRun, Receiver};
pub use sabotage::{Bug, Sabotage};
pub use sender::congestion::Algorithm;
pub use sender::{BodyRun, Sender, Transmit};
pub use stats::{Held, HeldTimes, ReceiverStats, SenderStats};
pub use time::Time;
