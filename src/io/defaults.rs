//! What a run uses when nothing else was asked for, and the ranges a user may choose from.
//! The command line prints these and never repeats them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The UDP port of a receiver: U-F-X on a telephone's keypad, and 0.
pub const PORT: u16 = 8390;

/// How long a sender waits for the first answer of a receiver that may be just starting.
pub const WAIT: Duration = Duration::from_secs(10);
/// What `--wait` may be. Below 100 ms the second HELLO (after 20 ms) has hardly had a chance.
pub const WAIT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);

/// A silence this long ends a running transfer.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// What `--timeout` may be. Keepalives come once a second, so two of them must fit.
pub const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(2)..=Duration::from_secs(86_400);

/// A silence this long is shown to the user, without ending anything.
pub const SILENCE_SHOWN: Duration = Duration::from_secs(3);

/// What `--mtu` may be, in bytes of the IP packet: from IPv6's minimum (RFC 8200, section 5) to
/// the MTU of Linux's loopback device.
pub const MTU_RANGE: RangeInclusive<u64> = 1_280..=65_536;

/// What `--rate` may be, in bits per second. At 100 kbit/s a full-sized Ethernet packet takes
/// 0.12 s, which every timer of the protocol still bears.
pub const RATE_RANGE: RangeInclusive<u64> = 100_000..=1_000_000_000_000;

/// What `--buffer` may be, in bytes: Linux raises less than 2,304 by itself, and takes no more
/// than half of `INT_MAX`.
pub const BUFFER_RANGE: RangeInclusive<u64> = 4_096..=1_073_741_823;
