//! proto.md as tests, over the simulation: one module per section.

// Goals: whatever a network does, for any size.
mod endurance;
// Pacing and congestion control: goodput by loss and round trip.
mod goodput;
// Circumstances drawn from seeds.
mod random;
// Handshake: HELLO, WELCOME, START under loss; the cookie; who is not there.
mod handshake;

/// 1 KiB.
pub const KIB: u64 = 1 << 10;

/// 1 MiB.
pub const MIB: u64 = 1 << 20;

/// 1 GiB.
pub const GIB: u64 = 1 << 30;
