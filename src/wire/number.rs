//! Packet numbers: 64 bits in memory, the low 32 of them on the wire. See proto.md, "Header".

use std::fmt;

/// The number of a packet in its direction. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(pub u64);

/// Numbers with the same low 32 bits are this far apart.
const PERIOD: u64 = 1 << 32;

impl PacketNumber {
    /// The number after this one. The last one has no successor and stays: at a billion packets a
    /// second it is reached after 584 years.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The part that is on the wire.
    #[must_use]
    pub const fn low(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The part that is not on the wire but in the check.
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The 64-bit number with these low 32 bits that is closest to `expected`, which is one more
    /// than the largest accepted (0 before the first); of two equally close ones the larger.
    #[must_use]
    pub const fn expand(low: u32, expected: Self) -> Self {
        //= proto.md#header
        //# the receiving peer takes the 64-bit number with the given low 32 bits that is closest
        let ahead = low.wrapping_sub(expected.low()) as u64;
        let above = expected.0.checked_add(ahead);
        let below = expected.0.checked_sub(PERIOD.saturating_sub(ahead));
        match (above, below) {
            // At exactly half a period both are equally close: the larger one.
            (Some(above), Some(below)) => Self(if ahead <= PERIOD / 2 { above } else { below }),
            (Some(above), None) => Self(above),
            (None, Some(below)) => Self(below),
            // Above is out of range only if expected > 2^64 - 2^32, below only if it is < 2^32.
            (None, None) => expected,
        }
    }
}

impl fmt::Display for PacketNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
