//! proto.md as tests, over the simulation: one module per section.

// Pacing and congestion control: each controller under every condition, and beside others.
mod controllers;
// Acknowledgement and Credit: when ACKs go back, and what they allow.
mod credit;
// End: END, CLOSE, linger, silence, deaths.
mod end;
// Goals: whatever a network does, for any size.
mod endurance;
// Pacing and congestion control: goodput by loss and round trip.
mod goodput;
// Handshake: HELLO, WELCOME, START under loss; who is not there.
mod handshake;
// Loss detection: what is sent again, and when.
mod loss_detection;
// Path MTU: testing upwards, and black holes.
mod path_mtu;
// Manifest records: a pipe, whose size shows at its end; and handing on in order.
mod pipes;
// Circumstances drawn from seeds.
mod random;
// Resume: what an interrupted transfer has left is not sent again.
mod resume;
// Spaces: entries, digests, answers.
mod spaces;

use std::time::Duration;

use ufx::proto::Time;
use ufx::sim::TimeWindow;

/// 1 KiB.
pub const KIB: u64 = 1 << 10;

/// 1 MiB.
pub const MIB: u64 = 1 << 20;

/// 1 GiB.
pub const GIB: u64 = 1 << 30;

/// Milliseconds.
pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// So many milliseconds after the simulation's start.
pub fn at(milliseconds: u64) -> Time {
    Time::ZERO + millis(milliseconds)
}

/// From a millisecond to another.
pub fn window(from: u64, until: u64) -> TimeWindow {
    TimeWindow { from: at(from), until: at(until) }
}
