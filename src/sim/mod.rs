//! A network and a disk in virtual time, driven by a seed.
//!
//! Pure: time comes in as `proto::Time`, chance as a seed. A `Link` is one direction of a network
//! path and carries packets of any type; the bench's emulator drives it with real ones.

mod disk;
mod impairment;
mod link;
pub mod preset;
mod shaper;

pub use disk::{Disk, DiskCompletion, DiskConfig, DiskOutcome};
pub use impairment::{
    BurstLoss, Corrupting, Corruption, CorruptionKind, Direction, Duplication, Fate, Fates,
    Impairments, Jitter, JitterShape, LossCause, Reordering, TimeWindow,
};
pub use link::{Delivery, Link, LinkChange, LinkConfig, LinkCounters, LossCounters, NewValue};
pub use preset::Path;
pub use shaper::{Policer, QueueLimit};
