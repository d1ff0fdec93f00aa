//! A network and a disk in virtual time, driven by a seed.
//!
//! Pure: time comes in as `proto::Time`, chance as a seed. A `Link` is one direction of a network
//! path and carries packets of any type; the bench's emulator drives it with real ones.
//! A [`Simulation`] puts whole machines on both ends of such paths and checks what they do.

mod attempts;
mod connection;
mod corruption;
mod counters;
mod disk;
mod host;
mod hostile;
mod impairment;
mod jobs;
mod journal;
mod link;
mod outcome;
mod plan;
pub mod preset;
mod receiving_host;
mod running;
mod sending_host;
mod shaper;
mod simulation;
mod source;
mod storage;
mod trace;
mod under_way;
mod watch;

pub use corruption::{Corruption, CorruptionKind};
pub use counters::Counters;
pub use disk::{Disk, DiskCompletion, DiskConfig, DiskOutcome};
pub use host::{HostConfig, LateTimers, SendErrors};
pub use hostile::{Hostile, HostileKind};
pub use impairment::{
    BurstLoss, Corrupting, Direction, Duplication, Fate, Fates, Impairments, Jitter, JitterShape,
    LossCause, Reordering, TimeWindow,
};
pub use link::{Delivery, Link, LinkChange, LinkConfig, LinkCounters, LossCounters, NewValue};
pub use outcome::{Outcome, TransferOutcome};
pub use plan::{Again, ReceiverPlan, Restart, TransferPlan};
pub use preset::Path;
pub use shaper::{Policer, QueueLimit};
pub use simulation::Simulation;
pub use source::{Decision, SimFile};
pub use storage::Stored;
